"""The layout of a recording: `_core/recording/format.h` once more, in Python.

A test compiles the header's sizes and offsets and holds the two equal.  The
drawing and the rules of tear-free reading are in the header.
"""

from __future__ import annotations

import enum
import struct
from typing import Final, NamedTuple

MAGIC: Final = b"SHDREC\r\n"
VERSION: Final = 2
HEADER_SIZE: Final = 4096
ASK_OFFSET: Final = 4088  # the one word that readers write
BLOCK_SIZE: Final = 65536
BLOCK_HEAD_SIZE: Final = 64
BYTE_ORDER_MARK: Final = 0x01020304


class BlockType(enum.IntEnum):
    FREE = 0
    EVENTS = 1
    PINNED = 2
    LIVE = 3
    STACKS = 4
    DATA = 5


class Level(enum.IntEnum):
    OFF = 0
    SAMPLED = 1
    FULL = 2


class Ended(enum.IntEnum):
    RUNNING = 0
    EXIT = 1
    SIGNAL = 2
    STOPPED = 3


class EventKind(enum.IntEnum):
    ACQUIRE = 1
    ADD_REF = 2
    RELEASE = 3
    CLOSE = 4
    DISPOSE = 5
    INVALIDATE = 6
    SET_VALUE = 7
    DOUBLE_RELEASE = 8
    USE_CLOSED = 9
    RELEASE_FAILED = 10
    DOUBLE_OWNER = 11
    OVERFLOW = 12
    OWNED = 13
    DISOWNED = 14
    CLOSED_BEHIND = 15
    RECYCLED = 16
    EXHAUSTED = 17


class Ending(enum.IntEnum):
    NONE = 0
    CLOSED = 1
    EXITED = 2
    DROPPED = 3
    COLLECTED = 4
    SWEPT = 5
    TRANSFERRED = 6
    INHERITED = 7
    LOST = 8


class Flag(enum.IntFlag):
    BORROWED = 1
    FINALIZER = 2
    IN_GC = 4
    FINALIZING = 8
    INHERITED = 16
    IMPORTING = 32
    UNSAMPLED = 64
    LATE = 128
    PREVENTED = 256
    STALE = 512
    IN_USE = 1024


class DataType(enum.IntEnum):
    STRING = 1
    CODE = 2
    TYPE = 3
    THREAD = 4


class Header(NamedTuple):
    """The header, field by field as in `shd_header`; anchors flattened."""

    magic: bytes
    version: int
    byte_order_mark: int
    header_size: int
    block_size: int
    file_size: int
    pid: int
    parent_pid: int
    start_ticks: int
    boot_id: bytes
    python_version: int
    level: int
    frames: int
    sample: int
    meta: int
    clock: int
    ticks_per_ns: float
    first_ticks: int
    first_monotonic_ns: int
    first_realtime_ns: int
    second_ticks: int
    second_monotonic_ns: int
    second_realtime_ns: int
    second_version: int
    ended: int
    exit_code: int
    blocks: int
    ended_ticks: int
    inherited_serials: int
    newest_serial: int
    next_seq: int
    dropped_events: int
    dropped_live: int
    dropped_stacks: int
    dropped_data: int
    live: int
    finalizing_seq: int
    error: int
    live_slots: int
    watch: int
    abrupt: int
    bare: int


HEADER: Final = struct.Struct("=8sIIIIQIIQ40sIIIIIIdQqqQqqIIiIQQQQQQQQQQiIIIQ")
BLOCK_HEAD: Final = struct.Struct("=IIIIQI9I")
EVENT: Final = struct.Struct("=QQQqIIIIIIIBBH")
LIVE: Final = struct.Struct("=QQqIIIIIIIIII")
STACK_NODE: Final = struct.Struct("=IIII")
DATA_HEAD: Final = struct.Struct("=IHH")
CODE: Final = struct.Struct("=IIiI")
TYPE: Final = struct.Struct("=IIII")
THREAD: Final = struct.Struct("=QII")

EVENTS_A_BLOCK: Final = (BLOCK_SIZE - BLOCK_HEAD_SIZE) // EVENT.size
LIVE_A_BLOCK: Final = (BLOCK_SIZE - BLOCK_HEAD_SIZE) // LIVE.size
