"""A widget that shows lines as they are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from textual.geometry import Region
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
        old, self._lines = self._lines, tuple(lines)
        if len(old) != len(self._lines):
            self.refresh()
            return
        top = self._top()
        changed = [at for at, line in enumerate(self._lines) if line != old[at]]
        if changed:
            self.refresh(*(Region(0, top + at, self.size.width, 1) for at in changed))

    def _top(self) -> int:
        """The row of the first line."""
        if self._place == "top":
            return 0
        return max(0, (self.size.height - len(self._lines)) // 2)

    def render_line(self, y: int) -> Strip:
        palette = palette_of(self)
        cells = self.size.width
        at = y - self._top()
        line = clip(self._lines[at], cells) if 0 <= at < len(self._lines) else ()
        if self._place == "middle" and line:
            width = sum(len(text) for text, _ in line)
            line = ((" " * max(0, (cells - width) // 2), "text"), *line)
        return paint(line, cells, palette, palette.bar if self._bar else None)
