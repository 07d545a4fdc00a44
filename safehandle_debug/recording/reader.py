"""Opens and reads one recording.

The writer never waits for a reader and a reader never blocks the writer, so
everything here is read without a lock and checked afterwards: a block's
records are taken only up to its committed length, and only if its generation
is still the same after they were copied; a live slot only if its version was
even and the same before and after.
"""

from __future__ import annotations

import json
import mmap
import os
import sys
from bisect import bisect_right
from collections.abc import Collection, Iterable, Iterator
from itertools import accumulate
from pathlib import Path
from typing import Any, Self

from safehandle_debug.recording import format as shd
from safehandle_debug.recording import liveness
from safehandle_debug.recording.clock import Clock
from safehandle_debug.recording.data import Data
from safehandle_debug.recording.format import BlockType, Ended, Header
from safehandle_debug.recording.mapping import Block, Mapping
from safehandle_debug.recording.names import successor
from safehandle_debug.recording.order import in_order
from safehandle_debug.recording.records import Frame, RawEvent, RawLive, ThreadInfo, TypeInfo
from safehandle_debug.recording.thinning import MOST, thin

_SERIAL_OFFSET = 16
_VALUE_OFFSET = 24
_VERSION_WORD = 14  # of a live slot, in words of 4 bytes
_SLOT_TRIES = 16
_LOOKS = 2  # after a change: the header counts an event before it is committed
_TOO_MANY = 4 * MOST  # events of one handle: time to thin them out


def open_recording(path: str | os.PathLike[str]) -> Recording:
    """Opens the recording at `path` for reading.

    Raises RecordingError with one sentence when it is missing, unreadable,
    a symbolic link, not a recording, torn, truncated, corrupt, or written by
    a newer version.
    """
    return Recording(Mapping(path))


class Cursor:
    """How far a reader has come in each event block."""

    def __init__(self) -> None:
        self.read: dict[int, tuple[int, int]] = {}  # block -> (generation, records)


class Recording:
    """One process's recording, mapped read-only.

    Not thread-safe: one thread at a time.
    """

    def __init__(self, mapping: Mapping) -> None:
        self._mapping = mapping
        self._data = Data(mapping)
        self._clock = Clock.of(mapping.header)
        self.path: Path = mapping.path
        self._live: dict[int, tuple[bytes, list[RawLive]]] = {}
        # Of events, as of the last refresh.
        self._blocks: tuple[list[Block], list[int]] | None = None
        self._looks_due = _LOOKS
        self._meta_id = self.header.meta
        self.meta: dict[str, Any] = self._meta()

    @property
    def header(self) -> Header:
        """The header as of the last refresh."""
        return self._mapping.header

    def refresh(self) -> bool:
        """Reads the header anew; True when anything changed since.

        Raises RecordingError when the file was damaged meanwhile."""
        changed = self._mapping.refresh()
        if changed:
            self._looks_due = _LOOKS
        if self._looks_due:
            self._looks_due -= 1
            self._blocks = None
        self._clock = Clock.of(self.header)
        # A process may say more of itself at its end.
        if not self.meta or self.header.meta != self._meta_id:
            self._meta_id = self.header.meta
            self.meta = self._meta()
        return changed

    def is_behind(self) -> bool:
        """True when refresh() would find something: much cheaper, and changes nothing.

        Raises RecordingError as refresh() does."""
        return self._mapping.is_behind()

    def release(self) -> None:
        """Gives the memory back that reading took: what is read again comes
        from the file."""
        self._mapping.release()

    def events(self, after: int = 0) -> Iterator[RawEvent]:
        """All recorded events with a seq above `after`, ordered by seq.

        An event that another thread is just writing is not there yet, and may
        have a smaller seq than one that is; `read_new` misses none."""
        chunks = (
            (block.first_seq, shd.EVENT.iter_unpack(self._mapping.records(block)))
            for block in self._mapping.event_blocks()
        )
        for rows in in_order(chunks):
            for row in rows:
                if row[0] > after:
                    yield RawEvent._make(row)

    def chunks_between(self, after: int, until: int) -> Iterator[tuple[int, bytes]]:
        """Packed EVENT records with all events after one seq and up to
        another: (seq of the first, records of one thread), by seq of the first."""
        mapping = self._mapping
        blocks, reached = self._event_blocks()
        chunks = []
        first_block = bisect_right(reached, after)
        last_block = bisect_right(blocks, until, key=lambda block: block.first_seq)
        for block in blocks[first_block:last_block]:
            records = range(block.committed)
            last = block.committed
            if mapping.seq(block, last - 1) > until:
                last = bisect_right(records, until, key=lambda at: mapping.seq(block, at))
            first = 0
            if block.first_seq <= after:
                first = bisect_right(records, after, key=lambda at: mapping.seq(block, at))
            if first < last:
                chunks.append((mapping.seq(block, first), block._replace(committed=last), first))
        for seq, block, first in sorted(chunks):
            data = mapping.records(block, first)
            if data:
                yield seq, data

    def _event_blocks(self) -> tuple[list[Block], list[int]]:
        """The blocks of events by their first seq, and the greatest seq that
        is reached by the end of each."""
        if self._blocks is None:
            blocks = self._mapping.event_blocks()
            lasts = (self._mapping.seq(block, block.committed - 1) for block in blocks)
            self._blocks = (blocks, list(accumulate(lasts, max)))
        return self._blocks

    def seq_at(self, ns: int) -> int:
        """The seq of the last event at or before a wall clock time; 0: none."""
        mapping = self._mapping
        found = 0
        for block in self._event_blocks()[0]:
            number = bisect_right(
                range(block.committed), ns, key=lambda at: self.to_ns(mapping.ticks(block, at))
            )
            if number:
                found = max(found, mapping.seq(block, number - 1))
        return found

    def read_new(self, cursor: Cursor) -> Iterator[tuple[int, bytes]]:
        """What has been recorded since `cursor` was last used, each event
        once: (seq of the first, packed EVENT records of one thread), by seq
        of the first."""
        for seq, records, block in sorted(self._mapping.unread(cursor.read)):
            data = self._mapping.records(block, records)
            if data:
                cursor.read[block.number] = (block.generation, block.committed)
                yield seq, data

    def events_of(self, serial: int, cursor: Cursor | None = None) -> list[RawEvent]:
        """The recorded events of one handle, ordered by seq; with a cursor
        those that have been recorded since it was last used.

        Of a handle with very many, thinning.MOST: references that were
        released are left out first."""
        if not 0 < serial < 1 << 64:
            return []
        return _only(serial, (data for _, data in self.read_new(cursor or Cursor())))

    def events_within(self, serial: int, stretches: Iterable[tuple[int, int]]) -> list[RawEvent]:
        """The recorded events of one handle after the one seq and up to the
        other of each pair, ordered by seq and thinned as by events_of."""
        chunks = (data for each in stretches for _, data in self.chunks_between(*each))
        return _only(serial, chunks) if 0 < serial < 1 << 64 else []

    def events_of_many(self, serials: Collection[int]) -> dict[int, list[RawEvent]]:
        """The recorded events of several handles in one pass.

        Every serial is a key, in the order given; its events are ordered by
        seq, and thinned as by events_of."""
        found: dict[int, list[RawEvent]] = {serial: [] for serial in serials}
        size = shd.EVENT.size
        for _, data in self.read_new(Cursor()):
            column = memoryview(data).cast("Q")[_SERIAL_OFFSET // 8 :: size // 8].tolist()
            if found.keys().isdisjoint(column):
                continue
            for number, serial in enumerate(column):
                if serial in found:
                    row = shd.EVENT.unpack_from(data, number * size)
                    events = found[serial]
                    events.append(RawEvent._make(row))
                    if len(events) > _TOO_MANY:
                        thin(events)
        for events in found.values():
            thin(events)
        return found

    def last_of_value(self, value: int, kind: int, before: int) -> RawEvent | None:
        """The last event of one kind with one value and a seq below `before`."""
        blocks, reached = self._event_blocks()
        size = shd.EVENT.size
        found: RawEvent | None = None
        for block, most in zip(reversed(blocks), reversed(reached), strict=True):
            if found is not None and most < found.seq:
                break  # so are all that are left
            if block.first_seq >= before:
                continue
            data = self._mapping.records(block)
            column = memoryview(data).cast("q")[_VALUE_OFFSET // 8 :: size // 8].tolist()
            if value not in column:
                continue
            for at in (number * size for number, each in enumerate(column) if each == value):
                event = RawEvent._make(shd.EVENT.unpack_from(data, at))
                if event.kind == kind and (found.seq if found else 0) < event.seq < before:
                    found = event
        return found

    def live(self) -> list[RawLive]:
        """The handles open now (or when the process ended), by serial."""
        found = [slot for slots in self.live_parts() for slot in slots]
        found.sort()
        return found

    def live_parts(self) -> list[list[RawLive]]:
        """The same in parts, unordered: a part in which nothing changed since
        the last call is the same list."""
        parts: dict[int, tuple[bytes, list[RawLive]]] = {}
        for block in self._mapping.blocks(BlockType.LIVE):
            content = self._mapping.slots(block)
            known = self._live.get(block.number)
            if known is not None and known[0] == content:
                parts[block.number] = known
            else:
                parts[block.number] = (content, list(self._live_of(block, content)))
        self._live = parts
        return [part for _, part in parts.values()]

    def live_blocks(self) -> tuple[mmap.mmap, list[int]]:
        """The file, and where in it the slots of each block of them begin;
        they may change while they are read."""
        return self._mapping.live_blocks()

    @property
    def clock(self) -> tuple[int, int, float]:
        """Ticks, the wall clock time then, and nanoseconds a tick."""
        clock = self._clock
        return clock.ticks, clock.realtime_ns, clock.ns_per_tick

    def _live_of(self, block: Block, first: bytes) -> Iterator[RawLive]:
        """The slots of one block in use, each as it was at one moment;
        `first` is a copy of them."""
        copies = [memoryview(first)]
        copies += (memoryview(self._mapping.slots(block)) for _ in range(2))
        width = shd.LIVE.size // 4
        before, _, after = (copy.cast("I")[_VERSION_WORD::width].tolist() for copy in copies)
        for number, row in enumerate(shd.LIVE.iter_unpack(copies[1])):
            if before[number] & 1 or before[number] != after[number]:
                slot = self._slot(block, number)
                if slot is not None:
                    yield slot
            elif row[0]:
                yield RawLive._make(row)

    def _slot(self, block: Block, number: int) -> RawLive | None:
        """A slot that is changing, as soon as it stands still; None when it
        is free.  One that never does (its writer died) is taken as it is."""
        for _ in range(_SLOT_TRIES):
            before, slot, after = (
                RawLive._make(shd.LIVE.unpack(self._mapping.slot(block, number))) for _ in range(3)
            )
            if before.version == after.version and not before.version & 1:
                break
        return slot if slot.serial else None

    def running_threads(self) -> dict[int, list[RawEvent]]:
        """The threads that may still run, or may have when the process ended,
        by native id (gettid), each with its latest events, newest first.

        The main thread is not among them.  A thread that ended leaves its
        block without an owner, though perhaps not at once."""
        found: dict[int, list[RawEvent]] = {}
        for block in self._mapping.blocks(BlockType.EVENTS):
            if not block.thread or block.generation & 1:
                continue
            native = self.thread(block.thread).native
            if native != self.header.pid:
                count = min(block.committed, shd.EVENTS_A_BLOCK)
                rows = shd.EVENT.iter_unpack(
                    self._mapping.records(block._replace(committed=count))
                )
                found[native] = [RawEvent._make(row) for row in rows][::-1]
        return found

    def stack(self, id: int) -> tuple[Frame, ...]:
        """The frames of a stack, innermost first; () when unknown."""
        return self._data.stack(id)

    def string(self, id: int) -> str:
        """The text of a STRING id; "" when 0 or unknown."""
        return self._data.string(id)

    def type(self, id: int) -> TypeInfo:
        """What a TYPE id stands for; "?" in each field when unknown."""
        return self._data.type(id)

    def thread(self, id: int) -> ThreadInfo:
        """What a THREAD id stands for; named "?" when unknown."""
        return self._data.thread(id)

    def to_ns(self, ticks: int) -> int:
        """Wall clock time of `ticks`, in ns since 1970."""
        return self._clock.to_ns(ticks)

    def is_alive(self) -> bool:
        """True while the very process that writes it exists.

        A process that called exec() exists, but the program that wrote is
        gone; it is seen as soon as the next one records."""
        header = self.header
        boot = header.boot_id.rstrip(b"\0").decode("ascii", "replace")
        if not liveness.is_alive(header.pid, header.start_ticks, boot):
            return False
        return header.ended != Ended.RUNNING or not successor(self.path).exists()

    def close(self) -> None:
        """Unmaps the file.  Closing again does nothing."""
        self._mapping.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def _meta(self) -> dict[str, Any]:
        """The JSON in the header's meta string; {} when it cannot be read."""
        try:
            meta = json.loads(self.string(self.header.meta) or "{}")
        except (ValueError, RecursionError):
            return {}
        return meta if isinstance(meta, dict) else {}


def _only(serial: int, chunks: Iterable[bytes]) -> list[RawEvent]:
    """The events of one handle among packed ones."""
    needle = serial.to_bytes(8, sys.byteorder)
    probe = 0 if sys.byteorder == "little" else 7  # its byte that varies most
    size = shd.EVENT.size
    found: list[RawEvent] = []
    for data in chunks:
        column = data[_SERIAL_OFFSET + probe :: size]
        number = column.find(needle[probe])
        while number >= 0:
            at = number * size
            if data.startswith(needle, at + _SERIAL_OFFSET):
                found.append(RawEvent._make(shd.EVENT.unpack_from(data, at)))
            number = column.find(needle[probe], number + 1)
        if len(found) > _TOO_MANY:
            thin(found)
    thin(found)
    return found
