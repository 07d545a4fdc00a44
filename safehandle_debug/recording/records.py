"""The records of a recording as Python sees them: ids still unresolved.

RawEvent and RawLive are the structs of `format.h` field by field, so that
`struct.iter_unpack` makes them without a step between; the other three are
what ids stand for.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple


class RawEvent(NamedTuple):
    """One event, as in `shd_event`."""

    seq: int  # order in the process, from 1
    ticks: int
    serial: int
    value: int
    stack: int  # stack id, 0: none
    thread: int  # THREAD id
    task: int  # STRING id, 0: none
    test: int  # STRING id, 0: none
    detail: int  # STRING id, 0: none
    type: int  # TYPE id
    refs: int  # references after the event
    kind: int  # format.EventKind
    ending: int  # format.Ending
    flags: int  # format.Flag


class RawLive(NamedTuple):
    """One handle that is open, as in `shd_live`."""

    serial: int
    ticks: int  # acquired at
    value: int
    stack: int  # acquire stack
    thread: int
    task: int
    test: int
    detail: int
    type: int
    refs: int  # as of the last recorded event
    flags: int  # format.Flag, of the acquire event
    version: int
    last_stack: int  # of the last recorded event


class ThreadInfo(NamedTuple):
    """What a THREAD id stands for."""

    ident: int  # threading.get_ident()
    native: int  # gettid()
    name: str


class TypeInfo(NamedTuple):
    """What a TYPE id stands for."""

    name: str  # class name, e.g. "SafeFileHandle"
    kind: str  # "file", "pipe", ...
    space: str  # handles of one space share numbers, e.g. "fd"


@dataclass(frozen=True, slots=True)
class Frame:
    """One Python frame of a stack."""

    file: str
    line: int  # 1-based
    function: str  # qualified name
    end_line: int | None = None  # 1-based
    column: int | None = None  # 0-based offset in UTF-8 bytes
    end_column: int | None = None  # 0-based offset in UTF-8 bytes, exclusive
    # Offset of the instruction: two stacks that agree in it are of one and the
    # same call, or of one loop.  No part of what frames are compared by.
    instruction: int = field(default=-1, compare=False, repr=False)
