"""Lines of source files, for the frames of stacks.

The files are read on the machine of the viewer, when asked for: a line that
cannot be read is simply not shown.  Only small regular files are read, and
only the latest few are kept.
"""

from __future__ import annotations

import stat
import tokenize
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

from safehandle_debug.ledger import Frame
from safehandle_tui.model.text import clean

__all__ = ["SourceFiles", "SourceMap"]

SourceMap = Mapping[tuple[str, int], str]  # (file, line) -> text without its end

_MOST_BYTES: Final = 2 << 20
_MOST_FILES: Final = 64


class SourceFiles:
    """Reads source lines; files stay cached until they change."""

    def __init__(self) -> None:
        self._files: OrderedDict[str, tuple[tuple[int, int], list[str]]] = OrderedDict()

    def line(self, file: str, number: int) -> str | None:
        """Line `number` (from 1) of a file, cleaned; None when not readable."""
        lines = self._lines(file)
        return lines[number - 1] if 0 < number <= len(lines) else None

    def around(self, frames: Iterable[Frame], context: int = 0) -> dict[tuple[str, int], str]:
        """The lines of the frames and `context` lines on either side."""
        found: dict[tuple[str, int], str] = {}
        for frame in frames:
            for number in range(frame.line - context, frame.line + context + 1):
                text = self.line(frame.file, number)
                if text is not None:
                    found[frame.file, number] = text
        return found

    def _lines(self, file: str) -> list[str]:
        path = Path(file)
        try:
            status = path.stat()
        except (OSError, ValueError):
            return []
        version = (status.st_mtime_ns, status.st_size)
        cached = self._files.get(file)
        if cached is not None and cached[0] == version:
            self._files.move_to_end(file)
            return cached[1]
        lines = _read(path) if _is_readable(status.st_mode, status.st_size) else []
        self._files[file] = (version, lines)
        if len(self._files) > _MOST_FILES:
            self._files.popitem(last=False)
        return lines


def _is_readable(mode: int, size: int) -> bool:
    return stat.S_ISREG(mode) and size <= _MOST_BYTES


def _read(path: Path) -> list[str]:
    try:
        with tokenize.open(path) as file:
            return [clean(line.rstrip("\r\n").expandtabs(4)) for line in file]
    except (OSError, SyntaxError, ValueError):
        return []
