"""The phrases that reports share: how a handle and a place are named."""

from __future__ import annotations

import os
from collections.abc import Sequence

from safehandle_debug.ledger import Frame, History, is_library, site_of

NOWHERE = "an unknown place"


def short_path(file: str, cwd: str) -> str:
    """`file` relative to `cwd` when it is below it, else as it is."""
    if cwd and file.startswith(cwd.rstrip(os.sep) + os.sep):
        return file[len(cwd.rstrip(os.sep)) + 1 :]
    return file


def place(frame: Frame | None, cwd: str) -> str:
    """`app/store.py:17 in open_index`."""
    if frame is None:
        return NOWHERE
    return f"{short_path(frame.file, cwd)}:{frame.line} in {frame.function}"


def where(stack: Sequence[Frame], cwd: str) -> str:
    """The site of a stack; when that is an installed package's, also who
    called it: `requests/api.py:6 in get (called at app.py:4 in main)`."""
    site = site_of(tuple(stack))
    text = place(site, cwd)
    if site is not None and is_library(site.file):
        own = next((frame for frame in stack if not is_library(frame.file)), None)
        if own is not None:
            text += f" (called at {place(own, cwd)})"
    return text


def named(history: History, *, value: bool = True) -> str:
    """`SafeFileHandle fd 7 '/etc/group'`; without its value where another has it."""
    return f"{owner(history)} {_value(history, value)}".rstrip()


def numbered(history: History) -> str:
    """`SafeFileHandle #12, fd 7 '/etc/group'`."""
    return f"{owner(history)} #{history.serial}, {_value(history)}"


def owner(history: History) -> str:
    """The owner's name; of what nobody owns what it is: `pipe`."""
    return history.kind if history.watched and history.owner == "raw" else history.owner


def _value(history: History, value: bool = True) -> str:
    # Of a child, it is only how it was started.
    detail = f"{history.detail!r}" if history.detail and history.space != "pid" else ""
    if not value:
        return detail
    space = "" if history.space in (history.owner, "?") else f"{history.space} "
    return f"{space or 'value '}{history.value} {detail}".rstrip()


def times(count: int) -> str:
    """` (3 times)`, or nothing for once."""
    return f" ({count:,} times)" if count > 1 else ""


def plural(count: int, one: str, many: str | None = None) -> str:
    """`1 handle`, `2 handles`."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def share(sample: int) -> str:
    return f"one handle in {sample:,} was recorded"
