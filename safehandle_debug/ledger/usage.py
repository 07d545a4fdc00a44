"""Which references and handles may be in use by a thread that still runs.

A handle that is closed while a thread reads from it stays open until the read
ends.  If that is a daemon thread, the process may end first: nobody forgot
anything.  What a thread did since tells whether it can still be inside the
block that took the reference.  A descriptor that such a thread opened may be in
use as well: the last one that it opened at each place.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from safehandle_debug.recording import Frame, RawEvent, RawLive, Recording
from safehandle_debug.recording.format import EventKind

_PAIRS = ("pipe", "socket")

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


def kept(live: Iterable[RawLive], threads: Threads, recording: Recording) -> frozenset[int]:
    """Serials of the open handles that running threads acquired last at each place."""
    last: dict[tuple[int, int], set[int]] = {}
    whole: set[tuple[int, int]] = set()  # nothing before `latest` belongs to them
    for native, latest in threads.items():
        for stack, serials in _last_acquired(latest, recording).items():
            last[native, stack] = serials
            if latest[-1].serial not in serials:
                whole.add((native, stack))
    newest: dict[tuple[int, int], int] = {}
    unwritten: set[int] = set()  # the process ended before their events were
    for raw in live:
        key = (recording.thread(raw.thread).native, raw.stack)
        if key[0] not in threads or raw.serial in last.get(key, ()):
            continue
        if raw.serial > max(last.get(key, ()), default=raw.serial):
            unwritten.add(raw.serial)
        elif key not in whole:
            newest[key] = max(raw.serial, newest.get(key, 0))
    return frozenset(newest.values()).union(unwritten, *last.values())


def _last_acquired(latest: Sequence[RawEvent], recording: Recording) -> dict[int, set[int]]:
    """By stack; two of them where one call makes pairs."""
    found: dict[int, set[int]] = {}
    after: RawEvent | None = None
    for raw in latest:
        if raw.kind == EventKind.ACQUIRE:
            serials = found.setdefault(raw.stack, set())
            if not serials or (
                after is not None
                and serials == {after.serial}
                and (after.stack, after.type) == (raw.stack, raw.type)
                and recording.type(raw.type).kind in _PAIRS
            ):
                serials.add(raw.serial)
        after = raw
    return found
