"""A table of which only the visible rows exist as text.

A DataTable measures every cell that it is given and takes seconds for what
this paints in milliseconds: here a row is formatted when it is painted, so
that the cost of a frame does not depend on the number of rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from textual import events
from textual.geometry import Region, Size
from textual.message import Message
from textual.reactive import reactive
from textual.scroll_view import ScrollView
from textual.strip import Strip

from safehandle_tui.keys import MOVES, bindings
from safehandle_tui.model.columns import (
    Column,
    Sort,
    column_at,
    header_line,
    lay_out,
    row_line,
)
from safehandle_tui.palette import paint
from safehandle_tui.widgets.look import palette_of

__all__ = ["Table"]

_HEADER: Final = 1  # line, always at the top


class Table(ScrollView, can_focus=True, inherit_bindings=False):
    """Rows with a cursor that stays on its row when the order changes.

    Rows are anything with a `key`; the columns know how to show them.
    """

    ALLOW_SELECT = False
    BINDINGS = bindings(MOVES)

    cursor: reactive[int] = reactive(0, repaint=False)

    class _Said(Message):
        """A message that tells which table it came from."""

        def __init__(self, table: Table) -> None:
            super().__init__()
            self.table = table

        @property
        def control(self) -> Table:
            return self.table

    class Selected(_Said):
        """The cursor moved; `key` is None when it is to stay on the top row."""

        def __init__(self, table: Table, key: Any) -> None:
            super().__init__(table)
            self.key = key

    class Opened(_Said):
        """A row was double-clicked."""

    class HeaderClicked(_Said):
        """A column's title was clicked."""

        def __init__(self, table: Table, column: str) -> None:
            super().__init__(table)
            self.column = column

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._columns: Sequence[Column[Any]] = ()
        self._without: frozenset[str] = frozenset()
        self._layout: list[tuple[Column[Any], int]] = []
        self._rows: Sequence[Any] = ()
        self._sort = Sort("", False)
        self._now_ns = 0
        self._key: Any = None

    # --- what it shows ---

    @property
    def rows(self) -> Sequence[Any]:
        """The rows in order."""
        return self._rows

    @property
    def row(self) -> Any:
        """The row under the cursor, None when there is none."""
        return self._rows[self.cursor] if 0 <= self.cursor < len(self._rows) else None

    @property
    def key(self) -> Any:
        """The key that the cursor holds on to; None: it stays on the top row."""
        return self._key

    def columns_shown(self) -> list[str]:
        """Names of the columns that there is room for."""
        return [column.name for column, _ in self._layout]

    def show(
        self,
        columns: Sequence[Column[Any]],
        without: frozenset[str],
        rows: Sequence[Any],
        sort: Sort,
        now_ns: int,
        *,
        cursor: int | None,
    ) -> None:
        """Shows other rows.

        Args:
            columns: all that there may be; `without` those named.
            cursor: index of the row whose key the cursor holds, if known.
        """
        self._columns, self._without = columns, without
        self._rows, self._sort, self._now_ns = rows, sort, now_ns
        self._lay_out()
        self.virtual_size = Size(self.size.width, len(rows) + _HEADER)
        if self._key is None:
            at = 0
        elif cursor is not None and cursor < len(rows) and rows[cursor].key == self._key:
            at = cursor
        else:
            # Its row went away: the one that took its place is the next best.
            at = min(self.cursor, max(0, len(rows) - 1))
            self._hold(at)
        moved = at != self.cursor
        self.set_reactive(Table.cursor, at)
        if moved:
            self._reveal(at)
            # The height may be about to change with what is shown.
            self.call_after_refresh(self._reveal, at)
        self.refresh()

    def tick(self, now_ns: int) -> None:
        """Lets ages grow: repaints only the rows that say something else then."""
        before, self._now_ns = self._now_ns, now_ns
        first = self.scroll_offset.y
        for at in range(first, min(len(self._rows), first + self._visible())):
            row = self._rows[at]
            old, new = (
                row_line(self._layout, row, each, cursor=False) for each in (before, now_ns)
            )
            if old != new:
                self._repaint_row(at)

    @property
    def last_key(self) -> Any:
        """The key of the last row."""
        return self._rows[-1].key if self._rows else None

    def go_to(self, at: int) -> None:
        """Puts the cursor onto a row."""
        self._go(at)

    def hold(self, key: Any, *, quiet: bool = False) -> None:
        """Puts the cursor onto a row that may only come with the next rows.

        `quiet` leaves the table scrolled to where it is."""
        self._key = key
        if quiet:
            return
        if key is None:
            self.set_reactive(Table.cursor, 0)
            self.scroll_to(y=0, animate=False)

    # --- moving ---

    def action_move(self, rows: int) -> None:
        """Moves the cursor by rows."""
        self._go(self.cursor + rows)

    def action_page(self, pages: int) -> None:
        """Moves the cursor by pages."""
        self._go(self.cursor + pages * max(1, self._visible() - 1))

    def action_top(self) -> None:
        """Moves to the first row and stays on whatever is first."""
        self._go(0)
        self._key = None
        self.post_message(self.Selected(self, None))

    def action_bottom(self) -> None:
        """Moves to the last row."""
        self._go(len(self._rows) - 1)

    def _go(self, at: int) -> None:
        if not self._rows:
            return
        at = max(0, min(at, len(self._rows) - 1))
        before = self.cursor
        self.set_reactive(Table.cursor, at)
        self._hold(at)
        if at != before:
            self._repaint_row(before)
            self._repaint_row(at)
            self._reveal(at)

    def _hold(self, at: int) -> None:
        key = self._rows[at].key if 0 <= at < len(self._rows) else None
        if key != self._key:
            self._key = key
            self.post_message(self.Selected(self, key))

    def _visible(self) -> int:
        return max(1, self.size.height - _HEADER)

    def _reveal(self, at: int) -> None:
        first = round(self.scroll_target_y)
        if at < first:
            self.scroll_to(y=at, animate=False)
        elif at >= first + self._visible():
            self.scroll_to(y=at - self._visible() + 1, animate=False)

    def _repaint_row(self, at: int) -> None:
        y = at - self.scroll_offset.y + _HEADER
        if 0 < y < self.size.height:
            self.refresh(Region(0, y, self.size.width, 1))

    # --- painting ---

    def _lay_out(self) -> None:
        if self._columns:
            self._layout = lay_out(self._columns, self.size.width, without=self._without)

    def render_line(self, y: int) -> Strip:
        palette = palette_of(self)
        cells = self.size.width
        if y < _HEADER:
            return paint(header_line(self._layout, self._sort), cells, palette)
        at = self.scroll_offset.y + y - _HEADER
        if at >= len(self._rows):
            return paint((), cells, palette)
        selected = at == self.cursor
        over = (palette.cursor if self.has_focus else palette.blurred) if selected else None
        line = row_line(self._layout, self._rows[at], self._now_ns, cursor=selected)
        return paint(line, cells, palette, over)

    # --- events ---

    def on_resize(self, event: events.Resize) -> None:
        self._lay_out()
        self.virtual_size = Size(self.size.width, len(self._rows) + _HEADER)
        self._reveal(self.cursor)
        self.refresh()

    def on_focus(self) -> None:
        self.refresh()

    def on_blur(self) -> None:
        self.refresh()

    def on_click(self, event: events.Click) -> None:
        if event.y < _HEADER:
            column = column_at(self._layout, event.x)
            if column is not None:
                self.post_message(self.HeaderClicked(self, column.name))
            return
        at = self.scroll_offset.y + event.y - _HEADER
        if at < len(self._rows):
            self._go(at)
            if event.chain == 2:
                self.post_message(self.Opened(self))
