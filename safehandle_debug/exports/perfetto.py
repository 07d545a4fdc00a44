"""Handles as a trace that ui.perfetto.dev opens.

A slice from acquire to close for each handle, on a track for its kind; an
instant for each misuse, on its thread's track; a counter of open handles.  In
Perfetto's own format, protobuf, and written as it is read, an event at a time:
what is kept are the handles that are open at that point.

A track's slices must lie in one another, and handles do not: each kind has as
many tracks as it had handles open at once, all of one name, which the viewer
shows as one.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import BinaryIO, Final

from safehandle_debug.exports.packets import Packets, Shape, Type
from safehandle_debug.ledger import Ledger, site_of
from safehandle_debug.ledger.histories import ENDINGS, KINDS, is_inherited
from safehandle_debug.ledger.sites import place
from safehandle_debug.recording import RawEvent, RawLive
from safehandle_debug.recording.format import EventKind

__all__ = ["write_perfetto"]

_EVERY: Final = 65_536  # events between two words on the progress
_ENDS: Final = (int(EventKind.CLOSE), int(EventKind.INVALIDATE))
_OWNED: Final = int(EventKind.OWNED)
_ACQUIRE: Final = int(EventKind.ACQUIRE)
_INSTANTS: Final = frozenset(
    {
        int(EventKind.DOUBLE_RELEASE),
        int(EventKind.USE_CLOSED),
        int(EventKind.RELEASE_FAILED),
        int(EventKind.DOUBLE_OWNER),
        int(EventKind.CLOSED_BEHIND),
        int(EventKind.RECYCLED),
        int(EventKind.EXHAUSTED),
    }
)

_MOST_FIELDS: Final = 65_536  # alike of many handles, kept in bytes


def write_perfetto(
    ledgers: Sequence[Ledger],
    file: BinaryIO,
    progress: Callable[[int], None] = lambda done: None,
) -> None:
    """Writes the trace of some processes.

    Raises:
        OSError: the file cannot be written.
    """
    began_ns = min((ledger.process.started_at_ns for ledger in ledgers), default=0)
    for number, ledger in enumerate(ledgers, 1):
        for packet in _Process(ledger, number, began_ns).packets(progress):
            file.write(packet)


class _Process:
    """The part of a trace that one process is."""

    def __init__(self, ledger: Ledger, number: int, began_ns: int) -> None:
        self._ledger = ledger
        self._recording = ledger.recording
        self._packets = Packets(number, began_ns)
        self._base = number << 40  # pids come again, so tracks are not named by them
        self._last = 0
        self._own = self._new_track()
        self._counter = self._new_track()
        self._threads: dict[int, int] = {}  # tracks
        self._fields: dict[Hashable, bytes] = {}
        self._lanes: dict[str, list[tuple[int, int]]] = {}  # free: track, free since
        self._begun: dict[int, tuple[str, int, int]] = {}  # serial -> kind, track, type

    def packets(self, progress: Callable[[int], None]) -> Iterator[bytes]:
        """All of them, in the order of the recording."""
        process = self._ledger.process
        packets = self._packets
        yield packets.clocks()
        name = " ".join(process.argv) or "?"
        yield packets.track(self._own, name, shape=Shape.PROCESS, ids=(process.pid,))
        yield packets.track(self._counter, "open handles", self._own, Shape.COUNTER)
        yield from self._open_before()
        done = 0
        for raw in self._recording.events():
            done += 1
            if done == _EVERY:
                progress(done)
                done = 0
            yield from self._event(raw)
        progress(done)
        # Their events were dropped, those of older handles were not.
        yield from self._open(
            raw for raw in self._recording.live() if raw.serial not in self._begun
        )

    def _open_before(self) -> Iterator[bytes]:
        """Handles whose events are no longer there."""
        first = next(self._recording.events(), None)
        if self._recording.header.dropped_events and first is not None:
            yield from self._open(raw for raw in self._recording.live() if raw.ticks < first.ticks)

    def _open(self, live: Iterator[RawLive]) -> Iterator[bytes]:
        for raw in live:
            if not is_inherited(raw.serial, raw.flags, self._recording):
                yield from self._begin(raw)

    def _event(self, raw: RawEvent) -> Iterator[bytes]:
        if raw.kind == _ACQUIRE:
            known = raw.serial in self._begun
            if known or is_inherited(raw.serial, raw.flags, self._recording):
                return
            yield from self._begin(raw)
        elif raw.kind in _ENDS:
            begun = self._begun.pop(raw.serial, None)
            if begun is None:
                return
            yield from self._end(raw, *begun)
        elif raw.kind == _OWNED and raw.serial in self._begun:
            kind, track, _ = self._begun[raw.serial]
            self._begun[raw.serial] = (kind, track, raw.type)
            return
        elif raw.kind in _INSTANTS:
            yield from self._instant(raw)
            return
        else:
            return
        at_ns = self._recording.to_ns(raw.ticks)
        yield self._packets.count(at_ns, self._counter, len(self._begun))

    def _begin(self, raw: RawEvent | RawLive) -> Iterator[bytes]:
        recording = self._recording
        at_ns = recording.to_ns(raw.ticks)
        info = recording.type(raw.type)
        free = self._lanes.setdefault(info.kind, [])
        # Threads write what they do in an order that is nearly, not quite, that of time.
        if free and free[0][1] <= at_ns:
            track, _ = heapq.heappop(free)
        else:
            track = self._new_track()
            yield self._packets.track(track, info.kind, self._own)
        self._begun[raw.serial] = (info.kind, track, raw.type)
        fields = self._packets.detail("serial", raw.serial)
        fields += self._packets.detail("value", raw.value)
        fields += self._alike(
            (raw.type, raw.detail, raw.stack, raw.thread, raw.task, raw.test),
            lambda: self._about(raw),
        )
        yield self._packets.event(Type.BEGIN, at_ns, track, fields)

    def _about(self, raw: RawEvent | RawLive) -> bytes:
        """What a slice says of its handle, but its number and value."""
        recording, packets = self._recording, self._packets
        shown = recording.string(raw.detail) or recording.type(raw.type).name
        fields = packets.name((raw.type, raw.detail), shown)
        fields += packets.detail("thread", recording.thread(raw.thread).name)
        fields += self._where("opened at", raw.stack)
        if raw.stack:
            frames = recording.stack(raw.stack)
            shown = "\n".join(place(frame, self._ledger.cwd) for frame in frames)
            fields += packets.detail("stack", (raw.stack, shown))
        for label, id in (("task", raw.task), ("test", raw.test)):
            if id:
                fields += packets.detail(label, recording.string(id))
        return fields

    def _end(self, raw: RawEvent, kind: str, track: int, type: int) -> Iterator[bytes]:
        at_ns = self._recording.to_ns(raw.ticks)
        heapq.heappush(self._lanes[kind], (track, at_ns))
        fields = self._alike(
            (type, raw.ending, raw.stack), lambda: self._ending(type, raw.ending, raw.stack)
        )
        yield self._packets.event(Type.END, at_ns, track, fields)

    def _ending(self, type: int, ending: int, stack: int) -> bytes:
        return (
            self._packets.detail("owner", self._recording.type(type).name)
            + self._packets.detail("ending", ENDINGS.get(ending, "transferred"))
            + self._where("closed at", stack)
        )

    def _instant(self, raw: RawEvent) -> Iterator[bytes]:
        track = self._threads.get(raw.thread)
        pid = self._ledger.process.pid
        if track is None:
            info = self._recording.thread(raw.thread)
            track = self._threads[raw.thread] = self._new_track()
            ids = (pid, info.native or pid)
            yield self._packets.track(track, info.name, self._own, Shape.THREAD, ids)
        kind = KINDS[raw.kind]
        fields = self._packets.name(kind, kind, "misuse")
        fields += self._packets.detail("serial", raw.serial) + self._where("at", raw.stack)
        at_ns = self._recording.to_ns(raw.ticks)
        yield self._packets.event(Type.INSTANT, at_ns, track, fields)

    def _where(self, label: str, stack: int) -> bytes:
        if not stack:
            return b""
        frame = site_of(self._recording.stack(stack))
        return self._packets.detail(label, place(frame, self._ledger.cwd))

    def _alike(self, key: Hashable, make: Callable[[], bytes]) -> bytes:
        """What many events say alike, made once."""
        fields = self._fields.get(key)
        if fields is None:
            fields = make()
            if len(self._fields) < _MOST_FIELDS:
                self._fields[key] = fields
        return fields

    def _new_track(self) -> int:
        self._last += 1
        return self._base + self._last
