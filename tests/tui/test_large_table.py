"""A table costs what is seen of it, however many rows it has."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from safehandle_tui.model.columns import Column, Sort
from safehandle_tui.model.text import Span
from safehandle_tui.widgets.table import Table
from support_screens import screen_text
from textual.app import App, ComposeResult

ROWS = 100_000
HEIGHT = 36


@dataclass(frozen=True, slots=True)
class Row:
    """A row with a number."""

    key: int
    mark: Span = (" ", "text")


class TableApp(App[None]):
    """Nothing but a table, and the rows that it has formatted."""

    CSS = "Table { overflow-x: hidden; }"

    def __init__(self) -> None:
        super().__init__()
        self.formatted: list[int] = []

    def compose(self) -> ComposeResult:
        yield Table()

    def show(self, rows: list[Row]) -> Table:
        """Gives the table its rows."""

        def cell(row: Row, now_ns: int, width: int) -> Span:
            self.formatted.append(row.key)
            return f"row {row.key}", "text"

        table = self.query_one(Table)
        column = Column("number", "NUMBER", 12, cell, lambda row, now_ns: row.key)
        table.show([column], frozenset(), rows, Sort("number", False), 0, cursor=None)
        return table


def test_only_visible_rows_are_formatted() -> None:
    """At the start, at the end, and for each step in between."""

    async def play() -> None:
        app = TableApp()
        async with app.run_test(size=(80, HEIGHT)) as pilot:
            await pilot.pause()
            table = app.show([Row(number) for number in range(ROWS)])
            await pilot.pause()
            assert "row 34" in screen_text(app)  # type: ignore[arg-type]
            assert len(app.formatted) <= 3 * HEIGHT
            app.formatted.clear()
            table.action_bottom()
            await pilot.pause()
            assert f"row {ROWS - 1}" in screen_text(app)  # type: ignore[arg-type]
            assert len(app.formatted) <= 3 * HEIGHT
            app.formatted.clear()
            table.action_move(-1)
            await pilot.pause()
            assert set(app.formatted) == {ROWS - 1, ROWS - 2}

    asyncio.run(play())


def test_the_cursor_survives_every_change_of_rows() -> None:
    """Its row stays, or the one that took its place; an empty table is fine."""

    async def play() -> None:
        app = TableApp()
        async with app.run_test(size=(80, HEIGHT)) as pilot:
            await pilot.pause()
            rows = [Row(number) for number in range(100)]
            table = app.show(rows)
            for _ in range(60):
                table.action_move(1)
            assert table.row.key == 60
            app.show(rows[:50])
            assert table.row.key == 49
            app.show([])
            assert table.row is None
            for action in (table.action_bottom, table.action_top):
                action()
            table.action_move(1)
            table.action_page(1)
            app.show(rows)
            await pilot.pause()
            assert table.row.key == 0

    asyncio.run(play())
