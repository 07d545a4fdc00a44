"""Does a body that runs again and again leave more and more handles open?

Judged by what is left at the end, by the iteration that opened it: a leak has
left some all along, a cache or pool that fills up only early ones, a cache
that forgets its oldest only late ones.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

__all__ = ["FEWEST_REPEATS", "by_iteration", "grows"]

_PARTS: Final = 4
FEWEST_REPEATS: Final = 1 + _PARTS  # the first one warms up what is made once


def by_iteration(serials: Iterable[int], ends: Sequence[int]) -> list[int]:
    """How many of `serials` each iteration has opened.

    Args:
        serials: handles that are open still.
        ends: the newest serial before the first iteration, and after each.
    """
    counts = [0] * (len(ends) - 1)
    for serial in serials:
        for number in range(len(counts)):
            if ends[number] < serial <= ends[number + 1]:
                counts[number] += 1
    return counts


def grows(counts: Sequence[int]) -> bool:
    """True when handles were left in every part of the run but its beginning."""
    rest = counts[1:]
    bounds = [len(rest) * part // _PARTS for part in range(_PARTS + 1)]
    return all(any(rest[bounds[part] : bounds[part + 1]]) for part in range(_PARTS))
