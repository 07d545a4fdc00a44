"""Stacks in lines of text: the program's own frames, libraries' folded."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from safehandle_debug.ledger import Frame, is_library, is_ours, is_standard
from safehandle_tui.model.source import SourceMap
from safehandle_tui.model.text import Line, Role, Span, clean, plural, short_path

__all__ = [
    "CONTEXT",
    "folded_line",
    "place_of",
    "runs",
    "site_of",
    "source_lines",
    "stack_lines",
    "where_line",
]

CONTEXT: Final = 2  # source lines on either side of a frame, where there is room


def runs(stack: Sequence[Frame], *, library: bool = False) -> Iterator[Frame | int]:
    """The frames; for each run of library frames their number, unless there are
    no others or `library` wants them too."""
    fold = not library and not all(is_library(frame.file) for frame in stack)
    folded = 0
    for frame in stack:
        if fold and is_library(frame.file):
            folded += 1
            continue
        if folded:
            yield folded
            folded = 0
        yield frame
    if folded:
        yield folded


def place_of(frame: Frame, cwd: str) -> str:
    """ "app/db.py:88"."""
    return f"{clean(short_path(frame.file, cwd))}:{frame.line}"


def where_line(frame: Frame, cwd: str) -> Line:
    """The same with the function; libraries stand back."""
    own: Role = "muted" if is_library(frame.file) else "own"
    return ((place_of(frame, cwd), own), (" ", "text"), (clean(frame.function), own))


def site_of(stack: Sequence[Frame]) -> Frame | None:
    """The frame to name for an event: the program's own, if there is one."""
    for test in (is_library, is_standard, is_ours):
        for frame in stack:
            if not test(frame.file):
                return frame
    return stack[0] if stack else None


def stack_lines(
    stack: Sequence[Frame], source: SourceMap, cwd: str, *, library: bool = False
) -> list[Line]:
    """Frames with their source line; runs of library frames in one line, unless
    `library` wants them too."""
    if not stack:
        return [(("  no stack was recorded", "muted"),)]
    lines: list[Line] = []
    for part in runs(stack, library=library):
        if isinstance(part, int):
            lines.append(folded_line(part))
            continue
        lines.append((("  ", "text"), *where_line(part, cwd)))
        text = source.get((part.file, part.line))
        if text and text.strip():
            lines.append((("    ", "text"), (text.strip(), "source")))
    return lines


def source_lines(
    stack: Sequence[Frame], source: SourceMap, cwd: str, *, library: bool = False
) -> list[Line]:
    """The same with the lines around each frame of the program."""
    if not stack:
        return [(("  no stack was recorded", "muted"),)]
    lines: list[Line] = []
    for frame in runs(stack, library=library):
        if isinstance(frame, int):
            lines.append(folded_line(frame))
            continue
        lines.append((("  ", "text"), *where_line(frame, cwd)))
        context = 0 if is_library(frame.file) else CONTEXT
        around = range(frame.line - context, frame.line + context + 1)
        texts = {n: source[frame.file, n] for n in around if (frame.file, n) in source}
        while texts and not texts[max(texts)].strip():
            del texts[max(texts)]
        while texts and not texts[min(texts)].strip():
            del texts[min(texts)]
        # Without their common indentation more of the lines is seen.
        indents = [len(text) - len(text.lstrip()) for text in texts.values() if text.strip()]
        for number, text in texts.items():
            text = text[min(indents, default=0) :]
            here = number == frame.line
            mark: Span = (" ▸ ", "accent") if here else ("   ", "text")
            role: Role = "source" if here else "muted"
            lines.append((mark, (f"{number:>5}  ", "muted"), (text, role)))
    return lines


def folded_line(number: int) -> Line:
    """What stands for so many frames."""
    return ((f"  … {plural(number, 'library frame')}", "muted"),)
