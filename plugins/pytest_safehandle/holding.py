"""Who still holds a leaked handle: looked for where that tells something new.

A search walks the heap backward, which costs more than most tests.  Leaks of
one site have one reason, as a rule: it is looked for a few times, and then the
reader is sent to where it stands.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Final

import pytest

from safehandle_debug.findings.holders import Root, Target, search
from safehandle_debug.ledger import History

__all__ = ["Holding"]

SEARCHES: Final = 2  # for the leaks of one site, in different tests
_LONGEST_S: Final = 0.3  # of CPU time
_MOST: Final = 20  # leaks of one test whose holders are looked for


class Holding:
    """What a session knows of holders."""

    def __init__(self) -> None:
        self._searched: dict[Hashable, int] = {}  # by site: how often
        self._known: dict[Hashable, str] = {}  # by site: the test that tells the holder

    def of(self, item: pytest.Item, histories: Sequence[History]) -> dict[int, str]:
        """What holds leaked handles of a test, by serial: a line for each holder."""
        told: dict[int, str] = {}
        new: list[History] = []
        for history in histories:
            key = _key(history)
            if self._searched.get(key, 0) < SEARCHES:
                new.append(history)
            elif key in self._known:
                told[history.serial] = f"see {self._known[key]}"
        for key in {_key(history) for history in new}:
            self._searched[key] = self._searched.get(key, 0) + 1
        new = new[:_MOST]
        found = _search(item, new)
        for history in new:
            if history.serial in found:
                self._known.setdefault(_key(history), item.nodeid)
        return told | found


def _key(history: History) -> Hashable:
    return history.kind, history.owner, history.site


def _search(item: pytest.Item, histories: Sequence[History]) -> dict[int, str]:
    if not histories:
        return {}
    # Not item.instance: that would make a new one after a unittest's teardown.
    instance = vars(item).get("_instance")
    extra = [] if instance is None else [Root(f"{type(instance).__name__} self", instance)]
    targets = [Target(each.serial, each.owner, each.value) for each in histories]
    found = search(targets, seconds=_LONGEST_S, extra=extra)
    return {
        serial: "\n".join(holders.lines())
        for serial, holders in found.items()
        if holders.chains or holders.cycle or holders.beyond
    }
