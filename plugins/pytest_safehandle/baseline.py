"""`--handles-baseline`: leaks that are known and not failed for, fewer each time.

The file lists how many handles a test, or a fixture, leaks at a site:

    {"version": 1,
     "leaks": [{"kind": "leak", "where": "tests/test_a.py::test_b",
                "site": "app/store.py:open_index", "count": 2}]}

Sites are named without lines, so that other changes of a file do not matter.
Leaks beyond those listed fail.  Entries that are not met any more are stale:
they are named, and taken out on request; nothing is ever added to a file that
is there.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final, TypeVar

import pytest

__all__ = ["Baseline", "Key", "Tally"]

VERSION: Final = 1
MOST_NAMED: Final = 20  # stale entries

Key = tuple[str, str, str]  # kind, where, site
T = TypeVar("T")


class Baseline:
    """The file: what is known.

    Args:
        path: absolute.
        known: how many, by key.
        is_new: the file is to be made, with whatever leaks.
    """

    def __init__(self, path: Path, known: dict[Key, int], *, is_new: bool) -> None:
        self.path = path
        self.known = known
        self.is_new = is_new

    @classmethod
    def load(cls, path: Path, *, update: bool, must_be_writable: bool) -> Baseline:
        """Reads the file.

        Raises:
            pytest.UsageError: it cannot be read, understood or written.
        """
        where = f"--handles-baseline: {path}"
        if update and must_be_writable:
            target = path if path.exists() else path.parent
            if not os.access(target, os.W_OK):
                raise pytest.UsageError(f"{where} cannot be written: choose another path")
        try:
            text = path.read_text(encoding="utf-8")
        except FileNotFoundError:
            if update:
                return cls(path, {}, is_new=True)
            raise pytest.UsageError(
                f"{where} does not exist: make it with --handles-update-baseline"
            ) from None
        except (OSError, UnicodeDecodeError) as error:
            why = getattr(error, "strerror", None) or "it is not UTF-8 text"
            raise pytest.UsageError(f"{where} cannot be read: {why}") from None
        return cls(path, _parse(where, text), is_new=False)

    def stale(self, tally: Tally) -> dict[Key, int]:
        """The entries that promise more than was met, with the excess."""
        return {
            key: count - tally.met[key]
            for key, count in self.known.items()
            if key[1] in tally.judged and tally.met[key] < count
        }

    def stale_lines(self, tally: Tally) -> list[str]:
        """The stale entries for people."""
        stale = self.stale(tally)
        if not stale:
            return []
        entries = "1 entry" if len(stale) == 1 else f"{len(stale)} entries"
        lines = [
            f"stale in the baseline: {entries}; --handles-update-baseline takes them out",
            *(
                f"  {count} {kind}   {site}   {where}"
                for (kind, where, site), count in sorted(stale.items())
            ),
        ]
        if len(stale) > MOST_NAMED:
            lines[1 + MOST_NAMED :] = [f"  ... and {len(stale) - MOST_NAMED} more"]
        return lines

    def update(self, tally: Tally) -> str:
        """Writes the file anew without what is stale, or for the first time.

        Returns one sentence that says what was done.
        """
        stale = self.stale(tally)
        kept = (
            dict(tally.met)
            if self.is_new
            else {
                key: left
                for key, count in self.known.items()
                if (left := count - stale.get(key, 0)) > 0
            }
        )
        if not self.is_new and kept == self.known:
            return ""
        whole = {
            "version": VERSION,
            "leaks": [
                {"kind": kind, "where": where, "site": site, "count": count}
                for (kind, where, site), count in sorted(kept.items())
            ],
        }
        beside = self.path.with_name(f"{self.path.name}.{os.getpid()}")
        try:
            beside.write_text(json.dumps(whole, indent=1) + "\n", encoding="utf-8")
            beside.replace(self.path)
        except OSError as error:
            beside.unlink(missing_ok=True)
            return f"baseline not written: {self.path}: {error.strerror or error}"
        done = f"{len(kept)} known" if self.is_new else f"{len(stale)} stale taken out"
        return f"baseline written: {self.path.name}, {done}"


class Tally:
    """What was met of a baseline, in one process or in all."""

    def __init__(self) -> None:
        self.met: Counter[Key] = Counter()  # at most, when a test ran again
        self.judged: set[str] = set()  # tests and fixtures that were judged

    def unknown(self, baseline: Baseline, leaks: Iterable[tuple[Key, T]]) -> list[T]:
        """Those of one verdict's leaks that the baseline does not list."""
        counts: Counter[Key] = Counter()
        new: list[T] = []
        for key, leak in leaks:
            if baseline.is_new or counts[key] < baseline.known.get(key, 0):
                counts[key] += 1
            else:
                new.append(leak)
        for key, count in counts.items():
            self.met[key] = max(self.met[key], count)
        return new

    def plain(self) -> dict[str, Any]:
        """As plain data, for another process."""
        met = [[*key, count] for key, count in self.met.items()]
        return {"met": met, "judged": sorted(self.judged)}

    def add(self, plain: dict[str, Any]) -> None:
        """Takes in what another process has met."""
        for kind, where, site, count in plain["met"]:
            key = (kind, where, site)
            self.met[key] = max(self.met[key], count)
        self.judged.update(plain["judged"])


def _parse(where: str, text: str) -> dict[Key, int]:
    try:
        whole = json.loads(text)
        version = whole["version"]
    except (ValueError, TypeError, KeyError):
        raise pytest.UsageError(
            f"{where} is no baseline: make a new one with --handles-update-baseline"
        ) from None
    if type(version) is int and version > VERSION:
        raise pytest.UsageError(
            f"{where} has version {version}, this plugin reads up to {VERSION}:"
            " install a newer one"
        )
    known: dict[Key, int] = {}
    try:
        for entry in whole["leaks"]:
            count = entry["count"]
            key = (str(entry["kind"]), str(entry["where"]), str(entry["site"]))
            if version != VERSION or type(count) is not int or count < 1:
                raise ValueError
            known[key] = known.get(key, 0) + count
    except (ValueError, TypeError, KeyError):
        raise pytest.UsageError(
            f"{where}: an entry needs kind, where, site and a count from 1 up"
        ) from None
    return known
