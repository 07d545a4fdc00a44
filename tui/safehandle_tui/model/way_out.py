"""How a handle came to its end, or would: through which finalizer."""

from __future__ import annotations

import textwrap
from typing import Final

from safehandle_debug.ledger import Event, History
from safehandle_debug.recording.format import Flag
from safehandle_tui.model.alarms import number_of, own_frame, place_text
from safehandle_tui.model.detail import HandleDetail
from safehandle_tui.model.text import Line, clean, plural

__all__ = ["way_out_lines"]

_NOBODY: Final = "raw"
_ENDS: Final = ("close", "invalidate")


def way_out_lines(detail: HandleDetail, references: int, cells: int) -> list[Line]:
    """In a few lines with a title.

    Args:
        references: how many add-refs have not been released.
    """
    title = "how it would end" if detail.history.ending is None else "how it ended"
    lines: list[Line] = [((title, "head"),)]
    for text in _way(detail, references):
        parts = textwrap.wrap(text, max(20, cells - 4), subsequent_indent="  ")
        lines += [((f"  {part}", "text"),) for part in parts]
    return lines


def _way(detail: HandleDetail, references: int) -> list[str]:
    history = detail.history
    if history.borrowed:
        return [f"borrowed: {_number(history)} is somebody else's to close"]
    if detail.row.life == "held":
        return ["none: the process died, and the kernel took it back"]
    if history.ending is None:
        return _would(detail, references)
    ends = [event for event in history.events if event.kind in _ENDS]
    return _did(detail, ends[-1] if ends else None)


def _would(detail: HandleDetail, references: int) -> list[str]:
    """Of one that is open."""
    history = detail.history
    number = _number(history)
    if history.watched:
        if history.owner == _NOBODY:
            return [f"no object owns {number}: only os.close(), or the end of the process"]
        return [f"if dropped: {clean(history.owner)}'s finalizer → close({history.value})"]
    asked = _asked(history)
    if asked is not None:
        return [f"close was asked for {_at(asked, detail)}", _waits(references)]
    if references:
        return [
            "if dropped or closed: " + _waits(references),
            "if they never are: the interpreter's exit closes it",
        ]
    return [f"if dropped: its finalizer → release_handle() → {number} is closed"]


def _asked(history: History) -> Event | None:
    """The event that asked for the close of what was still in use."""
    return next((event for event in history.events if event.kind == "dispose"), None)


def _waits(references: int) -> str:
    return f"it waits for {plural(references, 'reference')} to be released"


def _did(detail: HandleDetail, end: Event | None) -> list[str]:
    """Of one that ended."""
    history = detail.history
    number = _number(history)
    hook = f"{number} was closed" if history.watched else f"release_handle() → {number}"
    at = _at(end, detail) if end is not None else ""
    during = end is not None and end.flags & Flag.FINALIZING
    ways = {
        "closed": [f"closed {at} → {hook}"],
        "exited": [f"its with block ended {at} → {hook}"],
        "dropped": [
            f"nobody closed it: the last reference to it went {at}",
            f"→ its finalizer → {hook}",
        ],
        "collected": [
            f"nobody closed it: the cyclic collector ran {at}",
            f"and found it unreachable → its finalizer → {hook}",
        ],
        "swept": [f"nobody closed it: the interpreter's exit did → {hook}"],
        "transferred": [f"detached {at}: from then on somebody else's"],
        "inherited": ["the parent's: this process left it alone"],
        "lost": ["none: the process ended, and the kernel took it back"],
    }
    lines = ways.get(history.ending or "", [])
    asked = _asked(history)
    if asked is not None and history.ending == "swept":
        lines = [
            f"close was asked for {_at(asked, detail)}, and waited for a reference",
            f"that never came back: the interpreter's exit closed it → {hook}",
        ]
    if during and history.ending != "swept":
        lines = [*lines, "while the interpreter was ending"]
    return lines


def _at(event: Event, detail: HandleDetail) -> str:
    frame = own_frame(event.stack)
    place = f"at {place_text(frame, detail.cwd)}" if frame is not None else "nobody knows where"
    return f"{place}, {clean(event.thread)}"


def _number(history: History) -> str:
    return clean(number_of(history))
