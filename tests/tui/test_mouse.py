"""The mouse: on rows, titles, the keys below, the way above, and its wheel."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from safehandle_tui.screens.card import CardScreen
from safehandle_tui.screens.detail import DetailScreen
from safehandle_tui.screens.lines import JumpScreen
from safehandle_tui.watch import WatchApp
from safehandle_tui.widgets.page import Page
from support_screens import (
    Leaky,
    main_of,
    press,
    screen_text,
    settled,
    table_of,
    until,
    until_shown,
    watch,
)
from support_terminal import Program, terminal
from textual.events import MouseScrollDown, MouseScrollUp
from textual.pilot import Pilot


async def wheel(pilot: Pilot[int], at: tuple[int, int], turns: int) -> None:
    """Turns the wheel down, or up."""
    kind = MouseScrollDown if turns > 0 else MouseScrollUp
    for _ in range(abs(turns)):
        await pilot._post_mouse_events([kind], offset=at)


def test_the_wheel_scrolls_tables(leaky: Leaky) -> None:
    """Handles, and the tree; the cursor stays on its row."""

    async def scenario(app: WatchApp, pilot: Pilot[int]) -> None:
        await press(app, pilot, "2")
        table = table_of(app)
        key = table.row.key
        await wheel(pilot, (20, 8), 4)
        await until(pilot, lambda: table.scroll_y > 0)
        assert table.row.key == key
        await wheel(pilot, (20, 8), -6)
        await until(pilot, lambda: table.scroll_y == 0)
        await pilot.resize_terminal(60, 16)
        await press(app, pilot, "3")
        await wheel(pilot, (20, 7), 2)
        await until(pilot, lambda: table.scroll_y > 0)

    watch([leaky.folder], scenario, size=(120, 24))


def test_the_wheel_scrolls_a_page(leaky: Leaky) -> None:
    """Of a handle, and the help."""

    async def scenario(app: WatchApp, pilot: Pilot[int]) -> None:
        await press(app, pilot, "enter", "enter")
        page = app.screen.query_one("#page", Page)
        await wheel(pilot, (20, 8), 3)
        await until(pilot, lambda: page.scroll_y > 0)
        await pilot.press("question_mark")
        await until_shown(pilot, "Keys")
        text = app.screen.query_one("#help", Page)
        await wheel(pilot, (20, 8), 3)
        await until(pilot, lambda: text.scroll_y > 0)

    watch([leaky.folder], scenario, size=(80, 24))


def test_two_clicks_are_enter(leaky: Leaky) -> None:
    """On a site, a handle and an alarm; the way above leads back."""

    async def scenario(app: WatchApp, pilot: Pilot[int]) -> None:
        await pilot.click("#table", offset=(20, 1), times=2)
        await until_shown(pilot, "40 handles of app/db.py:6")
        await pilot.click("#table", offset=(20, 2), times=2)
        await until(pilot, lambda: isinstance(app.screen, DetailScreen))
        await pilot.click("#top")
        await until(pilot, lambda: app.screen is main_of(app))
        await pilot.click("#top")
        await until_shown(pilot, "> Suspects ")
        await press(app, pilot, "5")
        await pilot.click("#table", offset=(20, 1), times=2)
        await until(pilot, lambda: isinstance(app.screen, CardScreen))
        await pilot.click("#top")
        await until(pilot, lambda: app.screen is main_of(app))

    watch([leaky.folder], scenario)


def test_titles_sort(leaky: Leaky) -> None:
    """The first click by what the title says, the next the other way round."""

    async def scenario(app: WatchApp, pilot: Pilot[int]) -> None:
        await press(app, pilot, "2")
        head = next(line for line in screen_text(app).splitlines() if "DETAIL" in line)
        await pilot.click("#table", offset=(head.index("DETAIL") + 1, 0))
        await settled(app, pilot)
        assert main_of(app).spec.sort.column == "detail"
        before = main_of(app).spec.sort.descending
        await pilot.click("#table", offset=(head.index("DETAIL") + 1, 0))
        await settled(app, pilot)
        assert main_of(app).spec.sort.descending is not before

    watch([leaky.folder], scenario)


def test_every_key_below_can_be_clicked(leaky: Leaky) -> None:
    """Each does what its key does."""

    async def scenario(app: WatchApp, pilot: Pilot[int]) -> None:
        async def click(word: str) -> str:
            line = screen_text(app).splitlines()[-1]
            await pilot.click("#keys", offset=(line.index(word), 0))
            await settled(app, pilot)
            return screen_text(app)

        assert "> Alarms" in await click("Alarms")
        assert "> Suspects" in await click("Back")
        assert "> Processes" in await click("All")
        assert "> Suspects" in await click("Back")
        assert "PAUSED" in await click("Pause")
        assert "LIVE" in await click("Pause")
        assert main_of(app).spec.sort.column == "verdict"
        await click("Sort")
        assert main_of(app).spec.sort.column != "verdict"
        await click("Ended")
        assert main_of(app).spec.ended
        await click("Owners")
        assert main_of(app).spec.asked is not None
        await click("Back")
        assert main_of(app).spec.asked is None
        await click("Open")
        assert main_of(app).spec.site is not None
        await click("Filter")
        await until_shown(pilot, "Enter keeps, Esc drops")
        await pilot.press("escape")
        await click("Help")
        await until_shown(pilot, "opens what is under the cursor")
        await pilot.press("escape")
        await click("Quit")
        assert app._exit

    watch([leaky.folder], scenario, size=(140, 36))


def test_letters_can_be_clicked(leaky: Leaky) -> None:
    """Those of ^o; a click beside them closes it."""

    async def scenario(app: WatchApp, pilot: Pilot[int]) -> None:
        await pilot.press("ctrl+o")
        assert isinstance(app.screen, JumpScreen)
        lines = screen_text(app).splitlines()
        at = next(y for y, line in enumerate(lines) if " Kinds " in line)
        await pilot.click(offset=(lines[at].index("Kinds"), at))
        await until_shown(pilot, "> Kinds")
        await pilot.press("ctrl+o")
        await pilot.click(offset=(1, 1))
        await until(pilot, lambda: app.screen is main_of(app))
        await until_shown(pilot, "> Kinds")

    watch([leaky.folder], scenario)


@pytest.fixture
def program(tmp_path: Path, sessions_root: Path) -> Iterator[Program]:
    """A running program that leaks."""
    running = Program(tmp_path, sessions_root)
    yield running
    running.end()


def test_bytes_of_a_real_mouse(program: Program, sessions_root: Path) -> None:
    """As a terminal sends them: SGR, press and release."""

    def click(x: int, y: int) -> str:
        return f"\x1b[<0;{x + 1};{y + 1}M\x1b[<0;{x + 1};{y + 1}m"

    with terminal(str(program.process.pid), sessions=sessions_root) as screen:
        screen.wait_for("service.py:6 connect", "LIVE")
        screen.type(click(20, 6) + click(20, 6))
        screen.wait_for("30 handles of service.py:6")
        screen.type("\x1b[<65;21;10M" * 9)  # the wheel, nine notches down
        screen.wait_for("38  file       36")
        screen.type(click(3, 0))
        screen.wait_for("> Suspects")
        screen.type("q")
        assert screen.exit_status() == 0
