"""How many handles a process had open, as time went by."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

from safehandle_debug.ledger import Ledger
from safehandle_debug.recording.format import EventKind
from safehandle_debug.recording.reader import Cursor

__all__ = ["Timeline", "timeline"]

POINTS: Final = 240
# ticks, serial and kind of an event; the rest is padding.
_ROW: Final = struct.Struct("=8xQQ36xB3x")
_KIND_OFFSET: Final = 60
_STEPS: Final = {EventKind.ACQUIRE: 1, EventKind.CLOSE: -1, EventKind.INVALIDATE: -1}
_OTHERS: Final = bytes(set(range(256)) - {int(kind) for kind in _STEPS})


@dataclass(frozen=True, slots=True)
class Timeline:
    """Open handles at moments of equal distance."""

    began_ns: int  # wall clock, ns since 1970
    ended_ns: int
    counts: tuple[int, ...]  # at least two
    most: int  # the most at once, between the moments too
    complete: bool  # False: events were dropped, and the beginning is a guess


def timeline(ledger: Ledger, points: int = POINTS) -> Timeline | None:
    """The open handles of one process; None when nothing was recorded.

    Counted from the end backwards, as what is open then is known whatever was
    dropped before."""
    header = ledger.recording.header
    steps: list[tuple[int, int]] = []  # ticks, +1 or -1
    inherited = header.inherited_serials
    for _, data in ledger.recording.read_new(Cursor()):
        if not data[_KIND_OFFSET :: _ROW.size].translate(None, _OTHERS):
            continue
        for ticks, serial, kind in _ROW.iter_unpack(data):
            step = _STEPS.get(kind)
            if step is not None and serial > inherited:
                steps.append((ticks, step))
    if not steps:
        return None
    steps.sort()
    first, last = steps[0][0], max(steps[-1][0], header.ended_ticks)
    width = max(last - first, 1) / (points - 1)
    changes = [0] * points
    for ticks, step in steps:
        changes[min(int((ticks - first) / width), points - 1)] += step
    end = ledger.process.live
    start = end - sum(changes)
    now, counts = start, []
    for change in changes:
        now += change
        counts.append(max(now, 0))
    peak = now = start
    for _, step in steps:
        now += step
        peak = max(peak, now)
    return Timeline(
        began_ns=ledger.recording.to_ns(first),
        ended_ns=ledger.recording.to_ns(last),
        counts=tuple(counts),
        most=max(peak, 0),
        complete=not header.dropped_events,
    )
