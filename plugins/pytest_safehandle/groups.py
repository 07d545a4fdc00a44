"""Which findings of many tests are one bug.

They are when kind, type of the handle and the way from the test to the place
agree: the program's frames between the test's function, which is left out, and
the one that opened the handle (and the one that did wrong, if another).  So a
helper that leaks in three tests is one group, and a line that two helpers reach
is two.  What a test opens itself has no such way: its place counts.  A fixture
is no part of a test: its frames count.

The fingerprint of a group is made as that of findings in programs is: of files
and functions, without numbers of lines; lines of one function that nothing else
tells apart are counted.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from safehandle_debug.findings.fingerprint import Place, fingerprint, lines, places
from safehandle_debug.ledger import Frame, is_ours, is_standard, site_of

__all__ = ["Group", "as_found", "grouped", "way_to"]

_Bug = tuple[str, str, tuple[Place, ...]]  # kind, type of the handle, way


@dataclass(frozen=True, slots=True)
class Group:
    """Equal findings."""

    fingerprint: str  # 16 hexadecimal digits, stable between runs
    found: Sequence[Mapping[str, Any]]

    @property
    def first(self) -> Mapping[str, Any]:
        return self.found[0]

    @property
    def tests(self) -> list[str]:
        """Those that it was found in, each once."""
        return list(dict.fromkeys(one["test"] for one in self.found))


def way_to(stack: tuple[Frame, ...], test: str) -> tuple[Frame, ...]:
    """The part of a stack, innermost frame first, that is alike in other tests.

    Args:
        test: name of the test's function.
    """
    ends = [n for n, frame in enumerate(stack) if _is_test(frame, test)]
    inner = stack[: ends[-1]] if ends else stack
    if any(not is_ours(frame.file) and not is_standard(frame.file) for frame in inner):
        return inner
    site = site_of(stack)
    return () if site is None else (site,)


def as_found(stacks: Iterable[tuple[Frame, ...]], test: str, folder: str) -> dict[str, Any]:
    """What `grouped` needs to know of a finding, as plain data."""
    ways = [way_to(stack, test) for stack in stacks]
    return {
        "where": [list(place) for way in ways for place in places(way, folder)],
        "lines": [line for way in ways for line in lines(way)],
    }


def grouped(found: Iterable[Mapping[str, Any]]) -> list[Group]:
    """Equal findings together, the most frequent first."""
    bugs: dict[_Bug, dict[tuple[int, ...], list[Mapping[str, Any]]]] = {}
    for one in found:
        where = tuple((file, function) for file, function in one["where"])
        by_lines = bugs.setdefault((one["kind"], one["owner"], where), {})
        by_lines.setdefault(tuple(one["lines"]), []).append(one)
    groups = [
        Group(fingerprint(kind, owner, where, number), by_lines[numbers])
        for (kind, owner, where), by_lines in bugs.items()
        for number, numbers in enumerate(sorted(by_lines))
    ]
    return sorted(groups, key=lambda group: -len(group.found))


def _is_test(frame: Frame, test: str) -> bool:
    return frame.function.rpartition(".")[2] == test or frame.file.startswith("<doctest ")
