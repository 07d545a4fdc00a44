"""What each place of a program opened, closed and still holds, at any moment.

The counting is done in C (`_index`): a second for ten million events, and
memory for the handles that are open at once, however many there have been.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from safehandle_debug.ledger._index import BUCKETS, Index, Slots
from safehandle_debug.ledger.verdict import Evidence
from safehandle_debug.recording import Recording
from safehandle_debug.recording.reader import Cursor

__all__ = ["BUCKETS", "Census", "Place", "Span", "evidence_of", "new_index"]

_MOST_LEFT: Final = 1 << 24  # handles that the interpreter's end closes
_FIRST_SPAN_NS: Final = 10**9  # that the buckets cover before they are widened


@dataclass(frozen=True, slots=True)
class Span:
    """The buckets that births are counted in, from the process's start on."""

    start_ns: int  # wall clock
    width_ns: float  # of one bucket

    def used(self, now_ns: int) -> int:
        """How many of them have begun by then."""
        return min(BUCKETS, max(1, int((now_ns - self.start_ns) / self.width_ns) + 1))


@dataclass(frozen=True, slots=True)
class Place:
    """The handles that were acquired with one stack and as one type."""

    stack: int  # stack id
    type: int  # TYPE id
    opened: int
    closed: int
    live: int
    finalized: int  # of those closed: by a finalizer
    importing: int  # of those opened: while a module was being imported
    first_ns: int  # wall clock of the first acquire
    newest_ns: int  # of the latest
    last_close_ns: int  # 0: none was closed
    close_stack: int  # stack id of that
    births: tuple[int, ...]  # of all: BUCKETS numbers over a Span
    survivors: tuple[int, ...]  # of those open, the same
    lives: tuple[tuple[int, int], ...]  # (at most so long, ns; handles closed)


class Census:
    """Counts the handles of one recording.  Not thread-safe."""

    def __init__(self, recording: Recording, index: Index | None = None) -> None:
        """Reads nothing yet.

        Args:
            index: a ledger's, which takes in the events; None: the census reads
                them itself.
        """
        self._recording = recording
        self._cursor = None if index is not None else Cursor()
        self._index = index if index is not None else new_index(recording)
        self._ns_per_tick = _ns_per_tick(recording)
        self._events = 0
        self._then: Census | None = None
        self._seq = 0  # of the last event that counts, if this is another's `_then`
        self._places: list[Place] | None = None

    def refresh(self) -> bool:
        """Takes in what was recorded since the last time; True when there was
        anything.  Raises RecordingError when the file was damaged meanwhile."""
        if self._cursor is not None:
            self._index.take(self._recording.read_new(self._cursor), None)
        events, self._events = self._events, self._index.events
        if events != self._events:
            self._places = None
        header = self._recording.header
        if header.dropped_events and self._index.open_count > 2 * header.live + 1000:
            # The events that closed them were dropped.
            self._index.prune({raw.serial for raw in self._recording.live()})
            self._places = None
        return events != self._events

    def at(self, seq: int) -> Census:
        """How things stood right after an event.

        One census serves all moments: it is moved with the next call, from
        where it is or from the nearest moment that the index kept."""
        then = self._then
        kept = self._index.before(seq)
        if then is None or not kept <= then._seq <= seq:
            then = self._then = Census(self._recording, self._index.restored(seq))
            then._seq = kept
        if then._seq < seq:
            then._index.take(self._recording.chunks_between(then._seq, seq), None)
            self._recording.release()
            then._seq = seq
            then._places = None
        return then

    @property
    def span(self) -> Span:
        """The buckets of births."""
        start, width, _ = self._index.span()
        return Span(self._recording.to_ns(start), width * self._ns_per_tick)

    def places(self) -> list[Place]:
        """All places, in the order of their first acquire."""
        if self._places is None:
            to_ns = self._recording.to_ns
            self._places = [
                Place(
                    stack=stack,
                    type=type,
                    opened=opened,
                    closed=closed,
                    live=sum(_numbers(survivors)),
                    finalized=finalized,
                    importing=importing,
                    first_ns=to_ns(first),
                    newest_ns=to_ns(newest),
                    last_close_ns=to_ns(last_close) if last_close else 0,
                    close_stack=close_stack,
                    births=_numbers(births),
                    survivors=_numbers(survivors),
                    lives=self._lives(_numbers(lifetimes)),
                )
                for (
                    stack,
                    type,
                    opened,
                    closed,
                    finalized,
                    importing,
                    first,
                    newest,
                    last_close,
                    close_stack,
                    births,
                    survivors,
                    lifetimes,
                ) in self._index.places()
            ]
        return self._places

    def slots(self) -> Slots:
        """The live slots of the handles that are open.

        What was open without an event of its own is not among them."""
        return self._index.open()

    def ended(self, after: int, until: int) -> tuple[bytes, bytes]:
        """The handles that only the interpreter's end closed, after one event
        and up to another: packed slots, and ticks of each close."""
        kept = self._index.before(after)
        then = self._index.restored(after, _MOST_LEFT)
        then.take(self._recording.chunks_between(kept, until), None)
        return then.ended(True)

    def alarms(self) -> list[int]:
        """The seqs of the events that are findings by themselves, by seq."""
        return sorted(memoryview(self._index.alarms()).cast("Q").tolist())

    def _lives(self, counts: Sequence[int]) -> tuple[tuple[int, int], ...]:
        return tuple(
            (round((2 << power) * self._ns_per_tick), number)
            for power, number in enumerate(counts)
            if number
        )


def new_index(
    recording: Recording,
    question: Callable[[int, int], object] | None = None,
    most_ended: int = 0,
) -> Index:
    """An index for the events of a recording; for the rest see its stub."""
    header = recording.header
    width = max(1, round(_FIRST_SPAN_NS / BUCKETS / _ns_per_tick(recording)))
    return Index(header.inherited_serials, header.first_ticks, width, question, most_ended)


def _ns_per_tick(recording: Recording) -> float:
    first = recording.header.first_ticks
    return (recording.to_ns(first + 10**9) - recording.to_ns(first)) / 10**9 or 1.0


def evidence_of(place: Place, span: Span, now_ns: int) -> Evidence:
    """The numbers of a place as they can be judged."""
    windows = span.used(now_ns)
    # Of a process that was killed the end may be told too early: what was born
    # was born before it.
    while any(place.births[windows:]):
        windows += 1
    return Evidence(
        opened=place.opened,
        closed=place.closed,
        live=place.live,
        births=place.births[:windows],
        survivors=place.survivors[:windows],
        lives=place.lives,
        window_ns=span.width_ns,
        age_ns=max(1, now_ns - span.start_ns),
        importing=place.importing == place.opened,
    )


def _numbers(packed: bytes) -> tuple[int, ...]:
    return tuple(memoryview(packed).cast("I"))
