"""Pages of a report: lines being written, with stacks folded to what matters."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from safehandle_debug.findings.wording import place, plural
from safehandle_debug.ledger import Frame, is_library

INDENT: Final = "    "
_LABEL_WIDTH: Final = 9

RED, YELLOW, BOLD, DIM, PLAIN = "\033[31m", "\033[33m", "\033[1m", "\033[2m", "\033[0m"

Stack = tuple[Frame, ...]


@dataclass(slots=True)
class Page:
    """Lines being written, with or without color."""

    color: bool
    width: int
    lines: list[str] = field(default_factory=list)

    def add(self, text: str, *styles: str) -> None:
        text = printable(text)
        if self.color and styles:
            text = "".join(styles) + text + PLAIN
        self.lines.append(text)

    def wrap(self, text: str) -> None:
        self.lines += textwrap.wrap(printable(text), self.width, subsequent_indent="  ")

    def row(self, label: str, text: str, *styles: str) -> None:
        self.add(f"  {label:<{_LABEL_WIDTH}}{text}", *styles)

    def text(self) -> str:
        return "\n".join(self.lines)


def write_stack(
    page: Page,
    label: str,
    stack: Sequence[Frame],
    cwd: str,
    *,
    most: int,
    note: str = "",
) -> None:
    rows = folded(stack, cwd, most) or ["(stack not recorded)"]
    if note:
        rows[0] += f"  {note}"
    page.row(label, rows[0])
    for row in rows[1:]:
        page.row("", row, DIM if row.startswith("...") else "")


def folded(stack: Sequence[Frame], cwd: str, most: int) -> list[str]:
    """A stack in at most `most` rows, innermost first: libraries' frames
    are counted where they stand, unless the stack has no others."""
    has_own = any(not is_library(frame.file) for frame in stack)
    rows: list[str] = []
    hidden: list[Frame] = []

    def unfold() -> None:
        if hidden:
            names = ", ".join(dict.fromkeys(_module(frame) for frame in hidden))
            rows.append(f"... {plural(len(hidden), 'frame')} of {names}")
            hidden.clear()

    for frame in stack:
        if has_own and is_library(frame.file):
            hidden.append(frame)
        else:
            unfold()
            rows.append(place(frame, cwd))
    if rows and len(rows) < most:
        unfold()
    if len(rows) > most:
        more = len(rows) - most + 1
        rows[most - 1 :] = [f"... {plural(more, 'more row')}"]
    return rows


def _module(frame: Frame) -> str:
    """A short name for a library's frame: its package, or its module."""
    parts = frame.file.replace("\\", "/").split("/")
    for folder in ("site-packages", "dist-packages"):
        if folder in parts[:-1]:
            return parts[parts.index(folder) + 1].removesuffix(".py")
    for index, part in enumerate(parts[:-1]):
        if part.startswith("python3"):
            return parts[index + 1].removesuffix(".py")
    return parts[-1].removesuffix(".py")


def printable(text: str) -> str:
    """Without control characters: names of files may hold any, and a report
    must stay one line and harmless to a terminal."""
    if text.isprintable():
        return text
    return "".join(
        each if each.isprintable() else each.encode("unicode_escape").decode() for each in text
    )
