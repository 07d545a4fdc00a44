"""How many descriptors a process has, and when it will have no more."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterable
from typing import Final

from safehandle_debug.ledger import ProcessInfo
from safehandle_tui.model.text import Span, age, count

__all__ = ["Limits", "descriptors"]

_EVERY_NS: Final = 2 * 10**9  # between two looks at a process
_WINDOW_NS: Final = 120 * 10**9  # that growth is measured over
_LEAST_NS: Final = 10 * 10**9
_LEAST: Final = 5  # descriptors: fewer are no growth
_FAR_NS: Final = 24 * 3600 * 10**9  # what lies behind is not foretold
_PARKED: Final = 256  # at most, unless more was asked for
_FULL: Final = 0.9
_FILLING: Final = 0.7


def descriptors(info: ProcessInfo | None) -> tuple[int, int] | None:
    """Descriptors open and their limit, of a process that runs; None when that
    may not be known."""
    if info is None or info.ended != "running":
        return None
    folder = f"/proc/{info.pid}"
    try:
        # Since Linux 6.2 the size is their number.
        used = os.stat(f"{folder}/fd").st_size or len(os.listdir(f"{folder}/fd"))
        with open(f"{folder}/limits", encoding="ascii") as file:
            line = next(each for each in file if each.startswith("Max open files"))
        # Those that the quarantine has parked it gives back before the limit.
        return max(min(used, info.live), used - _PARKED), int(line.split()[3])
    except (OSError, ValueError, StopIteration):
        return None


class Limits:
    """Follows how processes come nearer to their limits."""

    def __init__(self) -> None:
        self._seen: dict[int, deque[tuple[int, int, int]]] = {}  # pid: (ns, used, limit)

    def span(self, infos: Iterable[ProcessInfo], now_ns: int) -> Span | None:
        """Of the process that is nearest to its limit: "fds 812/1,024, full in
        5m44s"; None when none runs.

        `now_ns`: a clock that never jumps."""
        nearest: deque[tuple[int, int, int]] | None = None
        for info in infos:
            samples = self._look(info, now_ns)
            if samples and (nearest is None or _share(samples) > _share(nearest)):
                nearest = samples
        if nearest is None:
            return None
        _, used, limit = nearest[-1]
        text, left = f"fds {count(used)}/{count(limit)}", _left_ns(nearest)
        if left is not None:
            text += f", full in {age(left)}"
        if _share(nearest) > _FULL:
            return text, "bad"
        return text, "warn" if _share(nearest) > _FILLING or left is not None else "muted"

    def _look(self, info: ProcessInfo, now_ns: int) -> deque[tuple[int, int, int]] | None:
        samples = self._seen.setdefault(info.pid, deque())
        if samples and now_ns - samples[-1][0] < _EVERY_NS and info.ended == "running":
            return samples
        found = descriptors(info)
        if found is None or not found[1]:
            del self._seen[info.pid]
            return None
        samples.append((now_ns, *found))
        while now_ns - samples[0][0] > _WINDOW_NS:
            samples.popleft()
        return samples


def _share(samples: deque[tuple[int, int, int]]) -> float:
    return samples[-1][1] / samples[-1][2]


def _left_ns(samples: deque[tuple[int, int, int]]) -> int | None:
    """The time until the limit if it goes on so; None when it does not grow."""
    first_ns, before, _ = samples[0]
    last_ns, used, limit = samples[-1]
    # Growth that stopped half-way would foretell what never comes.
    halfway = samples[len(samples) // 2][1]
    if last_ns - first_ns < _LEAST_NS or used - before < _LEAST or used <= halfway:
        return None
    left = (limit - used) * (last_ns - first_ns) // (used - before)
    return left if 0 <= left < _FAR_NS else None
