"""Lines of source, read when a report is made."""

from __future__ import annotations

import functools
import os
import stat
import tokenize
from dataclasses import dataclass

from safehandle_debug.ledger import Frame

_LARGEST = 16 << 20  # bytes of a source file; what is larger is none


@dataclass(frozen=True, slots=True)
class Excerpt:
    """One line of source, without indentation, and what to mark in it."""

    text: str
    start: int  # first marked character; == end: nothing to mark
    end: int


def excerpt(frame: Frame, cwd: str, *, as_of_ns: int | None = None) -> Excerpt | None:
    """The line that a frame stands on; None when it cannot be read.

    Nothing is marked when the file changed after `as_of_ns` (wall clock, ns
    since 1970): the columns belong to another text."""
    lines, changed_ns = _read(os.path.join(cwd, frame.file))
    if not 0 < frame.line <= len(lines):
        return None
    line = lines[frame.line - 1].rstrip()
    text = line.lstrip()
    if not text:
        return None
    if frame.column is None or (as_of_ns is not None and changed_ns > as_of_ns):
        return Excerpt(text, 0, 0)
    start = _characters(line, frame.column)
    end = len(line)
    if frame.end_column is not None and frame.end_line in (None, frame.line):
        end = _characters(line, frame.end_column)
    indent = len(line) - len(text)
    start, end = max(start - indent, 0), min(end - indent, len(text))
    return Excerpt(text, start, end) if start < end else Excerpt(text, 0, 0)


def around(frame: Frame, cwd: str, most: int) -> tuple[int, tuple[str, ...]]:
    """(number of the first, lines up to `most` on either side of a frame's
    line with it between); (0, ()) when they cannot be read."""
    lines, _ = _read(os.path.join(cwd, frame.file))
    if not 0 < frame.line <= len(lines):
        return 0, ()
    first = max(frame.line - most, 1)
    return first, lines[first - 1 : frame.line + most]


def whole(frame: Frame, cwd: str) -> str:
    """The file that a frame stands in; "" when it cannot be read."""
    return "\n".join(_read(os.path.join(cwd, frame.file))[0])


def _characters(line: str, offset: int) -> int:
    """Characters in the first `offset` bytes of a line's UTF-8."""
    return len(line.encode()[:offset].decode("utf-8", "replace"))


@functools.lru_cache(maxsize=128)
def _read(path: str) -> tuple[tuple[str, ...], int]:
    """(lines, time of last change in ns) of a regular file of text."""
    try:
        status = os.stat(path)
        if not stat.S_ISREG(status.st_mode) or status.st_size > _LARGEST:
            return (), 0
        with tokenize.open(path) as file:
            return tuple(file.read().splitlines()), status.st_mtime_ns
    except (OSError, SyntaxError, ValueError):
        return (), 0
