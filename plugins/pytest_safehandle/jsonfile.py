"""`--handles-json`: what was found, in the format of `safehandle report`.

What comes from the processes that ran tests is plain data already, one finding
or one process each; here it becomes one document.  A finding has two keys more
than in reports on programs: `tests`, all tests that it was found in, and
`fixture`, whose handle it was.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

__all__ = ["check_path", "document", "write"]


def check_path(text: str) -> Path:
    """The absolute path of the file to be.

    Raises:
        pytest.UsageError: it cannot be written.
    """
    path = Path(os.path.abspath(text))
    if path.is_dir():
        raise pytest.UsageError(f"--handles-json: {path} is a folder: name a file in it")
    if not path.parent.is_dir():
        raise pytest.UsageError(f"--handles-json: there is no folder {path.parent}")
    target = path if path.exists() else path.parent
    if not os.access(target, os.W_OK):
        raise pytest.UsageError(f"--handles-json: cannot write {path}: choose another path")
    return path


def document(told: Iterable[dict[str, Any]], found: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """One document.

    Args:
        told: what each process said at its end: documents with its `processes`,
            and with findings that no test failed for.
        found: findings of tests, each with `json`, `test` and `fixture`.
    """
    from pytest_safehandle.groups import grouped
    from safehandle_debug.findings import to_json

    whole = to_json((), ())
    groups: dict[str, dict[str, Any]] = {
        group.fingerprint: {
            **group.first["json"],
            "fingerprint": group.fingerprint,
            "count": sum(one["json"]["count"] for one in group.found),
            "tests": group.tests,
            "fixture": group.first["fixture"],
        }
        for group in grouped(found)
    }
    for one in told:
        whole["session"] = whole["session"] or one["session"]
        whole["processes"] += one["processes"]
        for finding in one["findings"]:
            known = groups.get(finding["fingerprint"])
            if known is None:
                tests = [finding["test"]] if finding["test"] else []
                groups[finding["fingerprint"]] = {**finding, "tests": tests, "fixture": None}
            else:
                known["count"] += finding["count"]
    whole["findings"] = sorted(groups.values(), key=_rank)
    return whole


def write(path: Path, whole: dict[str, Any]) -> str | None:
    """Writes the file; returns one sentence when it cannot be written."""
    try:
        path.write_text(json.dumps(whole, indent=1) + "\n", encoding="utf-8")
    except OSError as error:
        return f"--handles-json: {path} was not written: {error.strerror or error}"
    return None


def _rank(finding: dict[str, Any]) -> tuple[bool, int]:
    return finding["severity"] != "error", -finding["count"]
