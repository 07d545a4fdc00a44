"""Which references may be in use by a thread that still runs.

A handle that is closed while a thread reads from it stays open until the read
ends.  If that is a daemon thread, the process may end first: nobody forgot
anything.  What a thread did since tells whether it can still be inside the
block that took the reference.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from safehandle_debug.recording import Frame, RawEvent, Recording
from safehandle_debug.recording.format import EventKind

Threads = Mapping[int, Sequence[RawEvent]]  # native id -> latest events, newest first


def in_use(events: Iterable[RawEvent], threads: Threads, recording: Recording) -> frozenset[int]:
    """seq of those of a handle's add-refs that may still be in use."""
    return frozenset(
        raw.seq
        for raw in events
        if raw.kind == EventKind.ADD_REF
        and (latest := threads.get(recording.thread(raw.thread).native)) is not None
        and not any(_has_left(raw, later, recording) for later in _since(raw, latest))
    )


def _since(raw: RawEvent, latest: Sequence[RawEvent]) -> Iterable[RawEvent]:
    for later in latest:
        if later.seq <= raw.seq:
            return
        yield later


def _has_left(add_ref: RawEvent, later: RawEvent, recording: Recording) -> bool:
    """True when a later event of the thread shows that the function that took
    the reference has returned, or has come to the same place once more."""
    if later.kind == EventKind.ADD_REF and later.stack == add_ref.stack:
        return True
    before, after = recording.stack(add_ref.stack), recording.stack(later.stack)
    most = recording.header.frames
    if not before or not after or len(before) >= most or len(after) >= most:
        return False  # not known how deep they were
    return _functions(after)[: len(before)] != _functions(before)


def _functions(stack: Sequence[Frame]) -> list[tuple[str, str]]:
    """Outermost first."""
    return [(frame.file, frame.function) for frame in reversed(stack)]
