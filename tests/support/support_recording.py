"""Writes recordings byte by byte, as `_core/recording/format.h` draws them.

For tests of everything above the core: a recording with any events one likes,
also such as no real process would write.  Code objects come from real Python
functions, so that frames and lines are real.

    book = RecordingBuilder(argv=["app.py"])
    handle = book.acquire("SafeFileHandle", value=7, stack=book.stack_here())
    book.add_ref(handle)
    book.close(handle, Ending.DROPPED)
    path = book.end(0).write(folder)
"""

from __future__ import annotations

import json
import os
import struct
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import CodeType, FrameType, FunctionType

from safehandle_debug.recording import format as shd
from safehandle_debug.recording.format import (
    BlockType,
    DataType,
    Ended,
    Ending,
    EventKind,
    Flag,
    Level,
)

MILLISECOND = 1_000_000  # ns; the clock of a synthetic recording goes on by this each event
STARTED_NS = 1_700_000_000_000_000_000  # wall clock, ns since 1970
FIRST_TICKS = 5_000_000_000  # CLOCK_MONOTONIC in ns when recording started
DEAD_PID = 2**22 + 17  # above Linux's greatest pid

KINDS = {
    "SafeFileHandle": ("file", "fd"),
    "SafePipeHandle": ("pipe", "fd"),
    "raw": ("file", "fd"),
    "FileIO": ("file", "fd"),
    "socket": ("socket", "fd"),
    "child": ("child", "pid"),
}

_EVENT_BLOCKS = (BlockType.EVENTS, BlockType.PINNED)
_PINNED_KINDS = frozenset(
    {
        EventKind.DOUBLE_RELEASE,
        EventKind.RELEASE_FAILED,
        EventKind.DOUBLE_OWNER,
        EventKind.SET_VALUE,
        EventKind.CLOSED_BEHIND,
        EventKind.RECYCLED,
        EventKind.EXHAUSTED,
    }
)


def own_start_ticks(pid: int | str = "self") -> int:
    """Field 22 of /proc/PID/stat: clock ticks since boot."""
    text = Path(f"/proc/{pid}/stat").read_text()
    return int(text.rpartition(")")[2].split()[19])


def own_boot_id() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


@dataclass(slots=True)
class _Handle:
    """What the builder must remember of a handle that it acquired."""

    slot: int | None
    type: int
    value: int
    refs: int
    thread: int
    flags: int


class RecordingBuilder:
    """Builds the bytes of one recording; methods return ids or serials."""

    def __init__(
        self,
        *,
        pid: int = DEAD_PID,
        parent_pid: int = 1,
        start_ticks: int = 4242,
        boot_id: str | None = None,
        alive: bool = False,
        argv: Sequence[str] = ("app.py",),
        cwd: str | None = None,
        level: Level = Level.FULL,
        inherited_serials: int = 0,
        clock: int = 0,
        ticks_per_ns: float = 1.0,
        suppressions: str | None = None,
        meta: str | None = None,
    ) -> None:
        """`alive` makes it this very process's recording; `meta` replaces the
        JSON text made from the rest."""
        if alive:
            pid, start_ticks = os.getpid(), own_start_ticks()
        self.data = bytearray(shd.HEADER_SIZE)
        self.blocks: list[int] = []  # types
        self._current: dict[tuple[int, int], int] = {}  # (block type, thread) -> index
        self._strings: dict[str, int] = {"": 0}
        # By identity: code objects that differ in their file are equal.
        self._codes: dict[int, tuple[CodeType, int]] = {}
        self._types: dict[tuple[str, str, str], int] = {}
        self._nodes: dict[tuple[int, int, int], int] = {}
        self._depths: dict[int, int] = {0: 0}
        self._threads: dict[str, int] = {}
        self._free_slots: list[int] = []
        self._live_slots = 0
        self._handles: dict[int, _Handle] = {}
        self.seq = 0
        self.ticks = FIRST_TICKS
        self.serial = inherited_serials
        self.fields: dict[str, object] = {
            "magic": shd.MAGIC,
            "version": shd.VERSION,
            "byte_order_mark": shd.BYTE_ORDER_MARK,
            "header_size": shd.HEADER_SIZE,
            "block_size": shd.BLOCK_SIZE,
            "file_size": 256 << 20,
            "pid": pid,
            "parent_pid": parent_pid,
            "start_ticks": start_ticks,
            "boot_id": (own_boot_id() if boot_id is None else boot_id).encode(),
            "python_version": sys.hexversion,
            "level": int(level),
            "frames": 32,
            "sample": 100,
            "clock": clock,
            "ticks_per_ns": ticks_per_ns,
            "first_ticks": FIRST_TICKS,
            "first_monotonic_ns": FIRST_TICKS,
            "first_realtime_ns": STARTED_NS,
            "inherited_serials": inherited_serials,
        }
        if meta is None:
            meta = json.dumps(
                {
                    "argv": list(argv),
                    "executable": sys.executable,
                    "cwd": os.getcwd() if cwd is None else cwd,
                    "python": "{}.{}.{}".format(*sys.version_info[:3]),
                    "session": "synthetic",
                    "suppressions": suppressions,
                }
            )
        self.fields["meta"] = self.string(meta)
        self.main = self.thread("MainThread", native=pid)
        self.dropped_events = 0

    # --- blocks ---

    def new_block(self, type: int, *, thread: int = 0, index: int = 0, first_seq: int = 0) -> int:
        """Appends a block; returns its number."""
        self.blocks.append(type)
        self.data += bytes(shd.BLOCK_SIZE)
        number = len(self.blocks) - 1
        head = (type, 0, 0, thread, first_seq, index, *[0] * 9)
        shd.BLOCK_HEAD.pack_into(self.data, self.block_offset(number), *head)
        return number

    @staticmethod
    def block_offset(number: int) -> int:
        return shd.HEADER_SIZE + number * shd.BLOCK_SIZE

    def _committed(self, number: int) -> int:
        return struct.unpack_from("=I", self.data, self.block_offset(number) + 8)[0]

    def _commit(self, number: int, committed: int) -> None:
        struct.pack_into("=I", self.data, self.block_offset(number) + 8, committed)

    def _append(self, type: int, payload: bytes, align: int) -> int:
        """Appends bytes to the current block of a type; returns the offset."""
        number = self._current.get((type, 0))
        room = shd.BLOCK_SIZE - shd.BLOCK_HEAD_SIZE
        if len(payload) > room:
            raise ValueError("a record never spans blocks")
        if number is None or self._committed(number) + len(payload) > room:
            number = self._current[type, 0] = self.new_block(type)
        used = self._committed(number)
        offset = self.block_offset(number) + shd.BLOCK_HEAD_SIZE + used
        self.data[offset : offset + len(payload)] = payload
        self._commit(number, used + len(payload) + -len(payload) % align)
        return offset

    def _data(self, type: DataType, payload: bytes) -> int:
        head = shd.DATA_HEAD.pack(len(payload), type, 0)
        return self._append(BlockType.DATA, head + payload, 8) // 8

    def recycle(self, number: int) -> None:
        """Empties an EVENTS block, as when the file is full."""
        offset = self.block_offset(number)
        type, generation, committed, thread, *_ = shd.BLOCK_HEAD.unpack_from(self.data, offset)
        self.dropped_events += committed
        head = (type, generation + 2, 0, thread, self.seq + 1, 0, *[0] * 9)
        self.data[offset : offset + shd.BLOCK_SIZE] = bytes(shd.BLOCK_SIZE)
        shd.BLOCK_HEAD.pack_into(self.data, offset, *head)

    def blocks_of(self, type: int) -> list[int]:
        return [number for number, each in enumerate(self.blocks) if each == type]

    # --- data ---

    def string(self, text: str | None) -> int:
        if not text:
            return 0
        if text not in self._strings:
            self._strings[text] = self._data(DataType.STRING, text.encode())
        return self._strings[text]

    def code(self, code: CodeType) -> int:
        if id(code) not in self._codes:
            table = code.co_linetable
            head = shd.CODE.pack(
                self.string(code.co_filename),
                self.string(code.co_qualname),
                code.co_firstlineno,
                len(table),
            )
            self._codes[id(code)] = code, self._data(DataType.CODE, head + table)
        return self._codes[id(code)][1]

    def type(self, name: str, kind: str | None = None, space: str | None = None) -> int:
        known = KINDS.get(name, ("handle", name))
        key = (name, kind or known[0], space or known[1])
        if key not in self._types:
            ids = [self.string(text) for text in key]
            self._types[key] = self._data(DataType.TYPE, shd.TYPE.pack(*ids, 0))
        return self._types[key]

    def thread(self, name: str, *, ident: int = 0x7F00, native: int | None = None) -> int:
        if native is None:
            native = 10_000_000 + len(self._threads)
        if name not in self._threads:
            payload = shd.THREAD.pack(ident, native, self.string(name))
            self._threads[name] = self._data(DataType.THREAD, payload)
        return self._threads[name]

    def stack(self, frames: Sequence[tuple[CodeType, int]]) -> int:
        """Stores a stack of (code, f_lasti), innermost first; returns its id."""
        node = 0
        for code, lasti in reversed(frames):
            key = (node, self.code(code), lasti)
            if key not in self._nodes:
                depth = self._depths[node] + 1
                payload = shd.STACK_NODE.pack(*key, depth)
                self._nodes[key] = self._append(BlockType.STACKS, payload, 16) // 16
                self._depths[self._nodes[key]] = depth
            node = self._nodes[key]
        return node

    def stack_of(self, *functions: FunctionType) -> int:
        """A stack of functions, innermost first, each at its last line."""
        return self.stack([(f.__code__, last_line_lasti(f.__code__)) for f in functions])

    def stack_here(self, frame: FrameType | None = None, *, limit: int = 3) -> int:
        """The caller's stack, `limit` frames of it."""
        frame = frame or sys._getframe(1)
        frames: list[tuple[CodeType, int]] = []
        while frame is not None and len(frames) < limit:
            frames.append((frame.f_code, frame.f_lasti))
            frame = frame.f_back
        return self.stack(frames)

    # --- events ---

    def event(
        self,
        kind: int,
        serial: int,
        *,
        value: int = 0,
        stack: int = 0,
        thread: int | None = None,
        task: str | None = None,
        test: str | None = None,
        detail: str | None = None,
        type: int = 0,
        refs: int = 0,
        ending: int = Ending.NONE,
        flags: int = 0,
        record: bool = True,
    ) -> int:
        """Writes one event and no more; returns its seq.  `record=False`
        only counts it, as when it was dropped."""
        self.seq += 1
        self.ticks += MILLISECOND
        if not record:
            self.dropped_events += 1
            return self.seq
        thread = self.main if thread is None else thread
        block = BlockType.PINNED if kind in _PINNED_KINDS else BlockType.EVENTS
        ids = (self.string(task), self.string(test), self.string(detail), type, refs)
        row = (self.seq, self.ticks, serial, value, stack, thread, *ids, kind, ending, int(flags))
        number = self._current.get((block, thread))
        if number is None or self._committed(number) >= shd.EVENTS_A_BLOCK:
            number = self.new_block(block, thread=thread, first_seq=self.seq)
            self._current[block, thread] = number
        used = self._committed(number)
        start = self.block_offset(number) + shd.BLOCK_HEAD_SIZE
        shd.EVENT.pack_into(self.data, start + used * shd.EVENT.size, *row)
        self._commit(number, used + 1)
        return self.seq

    def acquire(
        self,
        type: str = "SafeFileHandle",
        *,
        value: int = 7,
        stack: int = 0,
        thread: int | None = None,
        task: str | None = None,
        test: str | None = None,
        detail: str | None = None,
        flags: int = 0,
        record: bool = True,
        slot: bool = True,
    ) -> int:
        """A new handle: its event and its live slot; returns the serial."""
        self.serial += 1
        thread = self.main if thread is None else thread
        handle = _Handle(None, self.type(type), value, 1, thread, int(flags))
        self._handles[self.serial] = handle
        self.event(
            EventKind.ACQUIRE,
            self.serial,
            value=value,
            stack=stack,
            thread=thread,
            task=task,
            test=test,
            detail=detail,
            type=handle.type,
            refs=1,
            flags=flags,
            record=record,
        )
        if slot:
            ids = (self.string(task), self.string(test), self.string(detail), handle.type)
            row = (self.serial, self.ticks, value, stack, thread, *ids, 1, int(flags), 2, stack)
            handle.slot = self._new_slot()
            shd.LIVE.pack_into(self.data, self._slot_offset(handle.slot), *row)
        return self.serial

    def add_ref(self, serial: int, *, stack: int = 0, thread: int | None = None) -> int:
        self._handles[serial].refs += 1
        return self._change(EventKind.ADD_REF, serial, stack, thread)

    def release(self, serial: int, *, stack: int = 0, thread: int | None = None) -> int:
        self._handles[serial].refs -= 1
        return self._change(EventKind.RELEASE, serial, stack, thread)

    def dispose(
        self,
        serial: int,
        ending: Ending = Ending.CLOSED,
        *,
        stack: int = 0,
        thread: int | None = None,
        flags: int = 0,
    ) -> int:
        """Close asked for while references are out."""
        self._handles[serial].refs -= 1
        return self._change(EventKind.DISPOSE, serial, stack, thread, ending, flags)

    def close(
        self,
        serial: int,
        ending: Ending = Ending.CLOSED,
        *,
        stack: int = 0,
        thread: int | None = None,
        flags: int = 0,
        record: bool = True,
    ) -> int:
        """Given back: the event, and the live slot is free again."""
        handle = self._handles[serial]
        handle.refs = 0
        seq = self._change(EventKind.CLOSE, serial, stack, thread, ending, flags, record)
        self.free_slot(serial)
        return seq

    def problem(
        self,
        kind: EventKind,
        serial: int,
        *,
        value: int = 0,
        stack: int = 0,
        thread: int | None = None,
        detail: str | None = None,
        flags: int = 0,
    ) -> int:
        """DOUBLE_RELEASE, RELEASE_FAILED, DOUBLE_OWNER, SET_VALUE, ..."""
        handle = self._handles[serial]
        return self.event(
            kind,
            serial,
            value=value,
            stack=stack,
            thread=thread,
            detail=detail,
            type=handle.type,
            refs=handle.refs,
            flags=flags,
        )

    def owned(self, serial: int, type: str, *, stack: int = 0) -> int:
        """Another owner from now on; "raw": none."""
        handle = self._handles[serial]
        handle.type = self.type(type)
        kind = EventKind.DISOWNED if type == "raw" else EventKind.OWNED
        return self._change(kind, serial, stack, None)

    def _change(
        self,
        kind: EventKind,
        serial: int,
        stack: int,
        thread: int | None,
        ending: Ending = Ending.NONE,
        flags: int = 0,
        record: bool = True,
    ) -> int:
        handle = self._handles[serial]
        seq = self.event(
            kind,
            serial,
            value=handle.value,
            stack=stack,
            thread=handle.thread if thread is None else thread,
            type=handle.type,
            refs=handle.refs,
            ending=ending,
            flags=flags | (handle.flags & Flag.BORROWED),
            record=record,
        )
        if handle.slot is not None:
            offset = self._slot_offset(handle.slot)
            struct.pack_into("=I", self.data, offset + 48, handle.refs)
            struct.pack_into("=I", self.data, offset + 60, stack)
        return seq

    # --- live slots ---

    def _new_slot(self) -> int:
        if self._free_slots:
            return self._free_slots.pop()
        if self._live_slots % shd.LIVE_A_BLOCK == 0:
            number = self.new_block(BlockType.LIVE, index=self._live_slots)
            self._commit(number, shd.LIVE_A_BLOCK * shd.LIVE.size)
        self._live_slots += 1
        return self._live_slots - 1

    def _slot_offset(self, slot: int) -> int:
        number = self.blocks_of(BlockType.LIVE)[slot // shd.LIVE_A_BLOCK]
        start = self.block_offset(number) + shd.BLOCK_HEAD_SIZE
        return start + slot % shd.LIVE_A_BLOCK * shd.LIVE.size

    def free_slot(self, serial: int) -> None:
        handle = self._handles[serial]
        if handle.slot is not None:
            offset = self._slot_offset(handle.slot)
            self.data[offset : offset + shd.LIVE.size] = bytes(shd.LIVE.size)
            self._free_slots.append(handle.slot)
            handle.slot = None

    def slot_offset_of(self, serial: int) -> int:
        """File offset of a live handle's slot."""
        slot = self._handles[serial].slot
        if slot is None:
            raise ValueError(f"handle #{serial} has no live slot")
        return self._slot_offset(slot)

    # --- the end ---

    def end_threads(self) -> None:
        """All threads but the main one have ended: their blocks are free."""
        for number in self.blocks_of(BlockType.EVENTS):
            at = self.block_offset(number) + 12
            if struct.unpack_from("=I", self.data, at)[0] != self.main:
                struct.pack_into("=I", self.data, at, 0)

    def end(
        self, exit_code: int = 0, ended: Ended = Ended.EXIT, *, threads_run: bool = False
    ) -> RecordingBuilder:
        """The process ended and could say so; with `threads_run` before its
        daemon threads did."""
        if not threads_run:
            self.end_threads()
        self.ticks += MILLISECOND
        self.fields |= {"ended": int(ended), "exit_code": exit_code, "ended_ticks": self.ticks}
        return self

    def to_bytes(self) -> bytes:
        """The file's bytes as of now; the builder can go on."""
        live = sum(handle.slot is not None for handle in self._handles.values())
        fields = {
            "blocks": len(self.blocks),
            "newest_serial": self.serial,
            "next_seq": self.seq + 1,
            "dropped_events": self.dropped_events,
            "live": live,
            "live_slots": self._live_slots,
            **self.fields,
        }
        row = [fields.get(name, 0) for name in shd.Header._fields]
        shd.HEADER.pack_into(self.data, 0, *row)
        return bytes(self.data)

    def write(self, place: Path) -> Path:
        """Writes the file, named as the core would when `place` is a folder;
        over an existing one in place, as a running process does."""
        if place.is_dir():
            place = place / f"{self.fields['pid']}-{self.fields['start_ticks']}.shd"
        content = self.to_bytes()
        if not place.exists():
            place.touch(mode=0o600)
        with place.open("r+b") as file:
            file.write(content)
        return place


def last_line_lasti(code: CodeType) -> int:
    """The offset of an instruction on the last line of a function."""
    lines = [(line, start) for start, _, line in code.co_lines() if line is not None]
    return max(lines)[1]
