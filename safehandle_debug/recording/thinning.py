"""Keeps the history of a busy handle small.

A handle may be add-ref'd and released a million times.  What matters of that
are the references that were not released; those that were, one inside the
other, cancel out.
"""

from __future__ import annotations

from typing import Final

from safehandle_debug.recording.format import EventKind
from safehandle_debug.recording.records import RawEvent

MOST: Final = 10_000  # events of one handle


def thin(events: list[RawEvent], most: int = MOST) -> None:
    """Sorts events by seq; cuts them, in place, when they are over `most`.

    First go the oldest add-refs with the release that came right after them
    in the same thread; if that is not enough, those in the middle."""
    events.sort()
    if len(events) <= most:
        return
    recent = events[-(most // 4) :]
    kept: list[RawEvent] = []
    for raw in events[: -len(recent)]:
        if (
            raw.kind == EventKind.RELEASE
            and kept
            and kept[-1].kind == EventKind.ADD_REF
            and kept[-1].thread == raw.thread
        ):
            kept.pop()
        else:
            kept.append(raw)
    room = most - len(recent)
    if len(kept) > room:
        kept[room // 2 : len(kept) - room // 2] = []
    events[:] = kept + recent
