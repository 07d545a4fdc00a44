"""The shapes that the ledger gives to everything above it.

Frozen records without behaviour beyond what can be read off them: a view never
needs the recording again once it has a History.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from safehandle_debug.recording import Frame

__all__ = ["Ending", "Event", "EventKind", "Exhaustion", "Frame", "History", "ProcessInfo"]

EventKind = Literal[
    "acquire",
    "add-ref",
    "release",
    "close",
    "dispose",
    "invalidate",
    "set-value",
    "double-release",
    "use-closed",
    "release-failed",
    "double-owner",
    "overflow",
    "owned",
    "disowned",
    "closed-behind",
    "recycled",
    "exhausted",
]

Ending = Literal[
    "closed",
    "exited",
    "dropped",
    "collected",
    "swept",
    "transferred",
    "inherited",
    "lost",
]


@dataclass(frozen=True, slots=True)
class Event:
    """One event of a handle's life."""

    seq: int  # order within the process, from 1
    at_ns: int  # wall clock, ns since 1970
    serial: int
    kind: EventKind
    ending: Ending | None  # of `close`, `dispose` and `invalidate`
    refs: int  # references after the event
    value: int
    stack: tuple[Frame, ...]  # innermost frame first; () when not captured
    thread: str
    task: str | None  # asyncio task
    test: str | None  # what set_test() named
    detail: str | None
    flags: int  # recording.format.Flag


@dataclass(slots=True)
class History:
    """One handle's life so far: #serial of one process.

    Mutable while its process runs (the ledger adds to it); identity is
    (pid, serial).
    """

    pid: int
    serial: int
    kind: str  # "file", "pipe", ...
    owner: str  # class name of the owner, e.g. "SafeFileHandle"
    space: str  # handles of one space share numbers, e.g. "fd"
    value: int
    detail: str | None  # path, ...
    opened_at_ns: int
    opened: tuple[Frame, ...]  # acquire stack, innermost frame first
    thread: str
    task: str | None
    test: str | None
    borrowed: bool = False
    importing: bool = False  # acquired while a module was being imported
    refs: int = 1
    ending: Ending | None = None  # None while open
    closed_at_ns: int | None = None
    events: list[Event] = field(default_factory=list)  # oldest first
    events_dropped: bool = False  # some events were dropped to stay in bounds
    inherited: bool = False  # came over a fork: the parent's to close
    unsampled: bool = False  # recorded late: `opened` is not its acquire stack
    watched: bool = False  # a descriptor or child process of any code, no SafeHandle
    late: bool = False  # went round libc: seen at a checkpoint, `opened` is not its acquire stack
    # seq of add-refs that a thread that still runs (or did when the process
    # ended) may have in use; told of handles with a `dispose` event only
    in_use: frozenset[int] = frozenset()

    @property
    def is_open(self) -> bool:
        """True until the resource was given back, transferred or lost."""
        return self.ending is None

    @property
    def site(self) -> Frame | None:
        """The frame that acquired it: innermost, skipping wrappers' frames."""
        from safehandle_debug.ledger.sites import site_of

        return site_of(self.opened)


@dataclass(frozen=True, slots=True)
class ProcessInfo:
    """What is known of the process that wrote a recording."""

    pid: int
    parent_pid: int
    argv: tuple[str, ...]
    executable: str
    cwd: str
    python: str  # "3.11.7"
    started_at_ns: int  # wall clock, ns since 1970
    ended: Literal["exit", "signal", "running"]
    exit_code: int | None  # status, or signal number; None: running or unknown
    ended_at_ns: int | None
    level: str
    events: int  # events emitted
    dropped: int  # events lost to the size bound
    live: int  # handles open now, or held when it ended
    path: str  # of the recording
    error: str | None = None  # why the recording lost something, if it did
    sample: int = 1  # one handle in so many was recorded; 1: each
    watched: bool = False  # descriptors and child processes of all code were watched
    abrupt: bool = False  # ended by os._exit() or exec: nothing was torn down
    bare: int = 0  # of `live`, descriptors that were counted only


@dataclass(frozen=True, slots=True)
class Exhaustion:
    """The moment when a process had no descriptor left (EMFILE)."""

    event: Event  # who was refused; value = the limit
    open: int  # handles that were open
    top: tuple[tuple[Frame | None, int], ...]  # where most were opened, and how many
