"""Why something is alive that no root leads to: mostly a reference cycle."""

from __future__ import annotations

import gc
import time
import types
from collections.abc import Callable, Iterable, Mapping
from typing import Final

from safehandle_debug.findings.holders.links import type_name
from safehandle_debug.findings.holders.model import Holders

__all__ = ["why_alive"]

_CHUNK: Final = 1000
_LONGEST: Final = 50  # objects of a way back
MOST_NAMED: Final = 8  # classes of a cycle that are shown

Key = tuple[str, int]


def why_alive(
    lost: Mapping[Key, int],
    seen: Mapping[int, object],
    key_of: Callable[[object], Key | None],
    deadline: float,
) -> dict[int, Holders]:
    """What refers to owners that a whole walk has not met, by serial.

    Args:
        lost: (class name, value) -> serial.
        seen: all that the walk has met, by id.
        key_of: the first of these for an object, if it is an owner.
        deadline: when to give up, in time.thread_time()'s seconds.
    """
    hidden = [thing for thing in gc.get_objects() if id(thing) not in seen]
    # Our own dicts and lists hold much, and are no reason for anything.
    own = {id(hidden), id(seen), id(lost)}
    referrers: dict[int, list[object]] = {}
    owners: dict[Key, object] = {}
    for number, thing in enumerate(hidden):
        if not number % _CHUNK and time.thread_time() > deadline:
            return {
                serial: Holders(serial, cut="before garbage was looked at")
                for serial in lost.values()
            }
        # A module may count dead objects that it keeps for later among its own
        # (_asyncio in 3.12 does): to get hold of one would bring it to life.
        if id(thing) in own or issubclass(type(thing), types.ModuleType):
            continue
        for child in gc.get_referents(thing):
            if id(child) in seen:
                continue
            key = key_of(child)
            if key in lost:
                owners[key] = child  # type: ignore[index]
            referrers.setdefault(id(child), []).append(thing)
    return {
        serial: _explained(serial, owners.get(key), referrers, own) for key, serial in lost.items()
    }


def _explained(
    serial: int, owner: object, referrers: Mapping[int, list[object]], own: Iterable[int]
) -> Holders:
    if owner is None:
        return Holders(serial, beyond="nothing that Python can see")
    # A way back from the owner: everything that no root leads to is held by
    # something of its kind, until the way meets itself.
    way: list[object] = [owner]
    while len(way) < _LONGEST:
        before = [each for each in referrers.get(id(way[-1]), ()) if id(each) not in own]
        if not before:
            names = " \N{LEFTWARDS ARROW} ".join(type_name(each) for each in way[1:])
            return Holders(serial, beyond=f"{names}, which code that is not Python holds")
        at = next((n for n, each in enumerate(way) for b in before if b is each), None)
        if at is not None:
            return Holders(serial, cycle=_named(way[at:][::-1]))
        way.append(before[0])
    return Holders(serial, beyond=f"a long chain of garbage, {type_name(way[1])} first")


def _named(cycle: list[object]) -> tuple[str, ...]:
    names = [type_name(each) for each in cycle]
    # An object's dict is a part of it.
    plain = [name for name in names if name not in ("dict", "cell", "tuple")] or names
    if len(plain) > MOST_NAMED:
        plain[MOST_NAMED - 1 :] = ["..."]
    return (*plain, plain[0])
