"""A widget that shows lines as they are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from textual.strip import Strip
from textual.widget import Widget

from safehandle_tui.model.text import Line, clip
from safehandle_tui.palette import paint
from safehandle_tui.widgets.look import palette_of

__all__ = ["Lines"]


class Lines(Widget):
    """Shows as many of its lines as there is room for."""

    ALLOW_SELECT = False

    def __init__(
        self,
        *,
        id: str | None = None,
        place: Literal["top", "middle"] = "top",
        bar: bool = False,
    ) -> None:
        """
        Args:
            place: where the lines go in a larger space; "middle" also centres
                each line.
            bar: painted on the bars' background.
        """
        super().__init__(id=id)
        self._lines: tuple[Line, ...] = ()
        self._place = place
        self._bar = bar

    @property
    def lines(self) -> tuple[Line, ...]:
        """What it shows now."""
        return self._lines

    def show(self, lines: Sequence[Line]) -> None:
        """Shows these lines; repaints only what changed."""
        new = tuple(lines)
        if new != self._lines:
            self._lines = new
            self.refresh()

    def render_line(self, y: int) -> Strip:
        palette = palette_of(self)
        cells, height = self.size
        top = max(0, (height - len(self._lines)) // 2) if self._place == "middle" else 0
        at = y - top
        line = clip(self._lines[at], cells) if 0 <= at < len(self._lines) else ()
        if self._place == "middle" and line:
            width = sum(len(text) for text, _ in line)
            line = ((" " * max(0, (cells - width) // 2), "text"), *line)
        return paint(line, cells, palette, palette.bar if self._bar else None)
