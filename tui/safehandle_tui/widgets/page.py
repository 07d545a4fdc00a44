"""Lines that scroll, for more text than there is room."""

from __future__ import annotations

from collections.abc import Sequence

from textual.geometry import Region, Size
from textual.scroll_view import ScrollView
from textual.strip import Strip

from safehandle_tui.keys import MOVES, bindings
from safehandle_tui.model.text import Line, clip
from safehandle_tui.palette import paint
from safehandle_tui.widgets.look import palette_of

__all__ = ["Page"]


class Page(ScrollView, can_focus=True, inherit_bindings=False):
    """A page of lines with the same keys as a table."""

    ALLOW_SELECT = False
    BINDINGS = bindings(MOVES)

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._lines: tuple[Line, ...] = ()

    @property
    def lines(self) -> tuple[Line, ...]:
        """What it shows now."""
        return self._lines

    def show(self, lines: Sequence[Line]) -> None:
        """Shows these lines and stays where it is scrolled to."""
        old, self._lines = self._lines, tuple(lines)
        if len(old) != len(self._lines):
            self.virtual_size = Size(self.size.width, len(self._lines))
            self.refresh()
            return
        top, width = self.scroll_offset.y, self.size.width
        changed = [at for at, line in enumerate(self._lines) if line != old[at]]
        if changed:
            self.refresh(*(Region(0, at - top, width, 1) for at in changed))

    def action_move(self, rows: int) -> None:
        """Scrolls by rows."""
        self.scroll_to(y=self.scroll_target_y + rows, animate=False)

    def action_page(self, pages: int) -> None:
        """Scrolls by pages."""
        self.action_move(pages * max(1, self.size.height - 1))

    def action_top(self) -> None:
        """Scrolls to the first line."""
        self.scroll_to(y=0, animate=False)

    def action_bottom(self) -> None:
        """Scrolls to the last line."""
        self.scroll_to(y=self.max_scroll_y, animate=False)

    def render_line(self, y: int) -> Strip:
        at = self.scroll_offset.y + y
        cells = self.size.width
        line = clip(self._lines[at], cells) if at < len(self._lines) else ()
        return paint(line, cells, palette_of(self))
