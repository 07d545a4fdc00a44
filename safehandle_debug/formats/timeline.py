"""How many handles a process had open, as time went by.

Ten million events are drawn while somebody waits: chunks of events are counted
as columns, and event by event only where threads did something at once.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Final

from safehandle_debug.ledger import Ledger
from safehandle_debug.recording import Recording
from safehandle_debug.recording import format as shd
from safehandle_debug.recording.format import EventKind
from safehandle_debug.recording.reader import Cursor

__all__ = ["Timeline", "timeline"]

POINTS: Final = 240
_TICKS, _SERIAL, _WORDS = 1, 2, shd.EVENT.size // 8  # of an event, in words of 8 bytes
_KIND_OFFSET: Final = 60  # bytes
# What a kind of event changes, as signed bytes.
_NOTHING, _END, _BEGIN = 0, 255, 1
_CHANGES: Final = bytes(
    _BEGIN
    if kind == EventKind.ACQUIRE
    else _END
    if kind in (EventKind.CLOSE, EventKind.INVALIDATE)
    else _NOTHING
    for kind in range(256)
)

_Part = tuple[Sequence[int], Sequence[int]]  # ticks of events, in order; what each changes


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
    recording = ledger.recording
    header = recording.header
    span = _span(recording)
    if span is None:
        return None
    first, last = span[0], max(span[1], header.ended_ticks)
    width = max(last - first, 1) / (points - 1)
    changes = [0] * points
    now = peak = 0  # beside what was open at the beginning
    for ticks, steps in _steps(recording):
        for number, (begin, end) in _in_buckets(ticks, first, width, points):
            changes[number] += sum(steps[begin:end])
        peak = max(peak, now + max(accumulate(steps)))
        now += sum(steps)
    start = ledger.process.live - now
    return Timeline(
        began_ns=recording.to_ns(first),
        ended_ns=recording.to_ns(last),
        counts=tuple(max(count, 0) for count in accumulate(changes, initial=start))[1:],
        most=max(start + peak, 0),
        complete=not header.dropped_events,
    )


def _span(recording: Recording) -> tuple[int, int] | None:
    """Ticks of the first and the last event that begins or ends a handle."""
    found: list[int] = []
    for data in _chunks(recording):
        kinds = data[_KIND_OFFSET :: shd.EVENT.size].translate(_CHANGES)
        ticks = memoryview(data).cast("Q")[_TICKS::_WORDS]
        before = len(kinds) - len(kinds.lstrip(bytes((_NOTHING,))))
        after = len(kinds.rstrip(bytes((_NOTHING,))))
        if before < after:
            found += (ticks[before], ticks[after - 1])
            found = [min(found), max(found)]
    return (found[0], found[1]) if found else None


def _chunks(recording: Recording) -> Iterator[bytes]:
    return (data for _, data in recording.read_new(Cursor()))


def _steps(recording: Recording) -> Iterator[_Part]:
    """All events in order, some at a time."""
    inherited = recording.header.inherited_serials
    together: list[_Part] = []
    until = 0
    for data in _chunks(recording):
        words = memoryview(data).cast("Q")
        ticks = words[_TICKS::_WORDS].tolist()
        changes = data[_KIND_OFFSET :: shd.EVENT.size].translate(_CHANGES)
        if inherited:
            serials = words[_SERIAL::_WORDS].tolist()
            changes = bytes(
                change if serial > inherited else _NOTHING
                for change, serial in zip(changes, serials, strict=True)
            )
        if ticks[0] > until and together:
            yield _merged(together)
            together = []
        together.append((ticks, memoryview(changes).cast("b")))
        until = max(until, ticks[-1])
    if together:
        yield _merged(together)


def _merged(parts: list[_Part]) -> _Part:
    """Chunks of several threads as one."""
    if len(parts) == 1:
        return parts[0]
    rows = sorted(row for ticks, changes in parts for row in zip(ticks, changes, strict=True))
    return [ticks for ticks, _ in rows], array("b", (change for _, change in rows))


def _in_buckets(
    ticks: Sequence[int], first: int, width: float, points: int
) -> Iterator[tuple[int, tuple[int, int]]]:
    """(bucket, (begin, end) of the events that fall into it)."""
    begin = 0
    while begin < len(ticks):
        number = max(0, min(int((ticks[begin] - first) / width), points - 1))
        end = len(ticks)
        if number < points - 1:
            end = bisect_left(ticks, first + (number + 1) * width, begin)
        end = max(end, begin + 1)
        yield number, (begin, end)
        begin = end
