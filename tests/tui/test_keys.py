"""What each key does, and that each key does something."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from safehandle_tui.keys import KEYS, MOVES
from safehandle_tui.screens.detail import DetailScreen
from safehandle_tui.screens.help import HelpScreen
from safehandle_tui.screens.main import MainScreen
from safehandle_tui.watch import WatchApp
from safehandle_tui.widgets.key_bar import KeyBar
from safehandle_tui.widgets.table import Table
from support_recording import DEAD_PID
from support_screens import (
    SECOND,
    FrozenClock,
    Leaky,
    Sources,
    builder,
    main_of,
    press,
    screen_text,
    settled,
    table_of,
    until,
    until_shown,
    watch,
)
from textual.pilot import Pilot


@pytest.mark.parametrize("key", ["j", "down"])
def test_down_and_up(leaky: Leaky, key: str) -> None:
    """The cursor moves, stops at both ends, and the detail follows it."""

    async def scenario(app: WatchApp, pilot: Pilot[int]) -> None:
        assert "── app/db.py:6 connect · 40 open" in screen_text(app)
        shown = await press(app, pilot, key)
        assert "── app/report.py:2 export · 2 open" in shown
        assert " ▸✗ cache               2" in shown
        await press(app, pilot, key, key, key)
        assert table_of(app).cursor == 2
        await press(app, pilot, "k", "up", "up", "k")
        assert table_of(app).cursor == 0

    watch([leaky.folder], scenario)


def test_pages_home_and_end(leaky: Leaky) -> None:
    """Long tables turn by the page; the row under the cursor is in sight."""

    async def scenario(app: WatchApp, pilot: Pilot[int]) -> None:
        await press(app, pilot, "2")
        await press(app, pilot, "pagedown")
        assert 5 < table_of(app).cursor < 40
        assert f" #{table_of(app).row.serial} " in screen_text(app)
        await press(app, pilot, "pageup")
        assert table_of(app).cursor == 0
        await press(app, pilot, "end")
        assert table_of(app).cursor == 43
        await press(app, pilot, "home")
        assert table_of(app).cursor == 0
        await press(app, pilot, "G")
        assert table_of(app).cursor == 43
        await press(app, pilot, "g")
        assert table_of(app).cursor == 0

    watch([leaky.folder], scenario)


def test_enter_and_escape(leaky: Leaky) -> None:
    """A site opens to its handles, a handle to its page, and back again."""

    async def scenario(app: WatchApp, pilot: Pilot[int]) -> None:
        shown = await press(app, pilot, "j", "k", "enter")
        assert "40 handles of app/db.py:6" in shown
        assert "← unreleased" in shown
        await press(app, pilot, "enter")
        shown = await until_shown(pilot, "▸     6          handle = SafeFileHandle.open")
        assert isinstance(app.screen, DetailScreen)
        assert "def connect(tenant):" in shown
        assert "handle.dangerous_add_ref()" not in shown
        assert "return handle.write(path)" in shown
        await press(app, pilot, "escape")
        assert isinstance(app.screen, MainScreen)
        shown = await press(app, pilot, "escape")
        assert "3 sites, 44 handles" in shown
        assert table_of(app).row.site == "app/db.py:6 connect"

    watch([leaky.folder], scenario)


def test_the_page_scrolls(leaky: Leaky) -> None:
    """The keys that move a table move a page as well."""

    async def scenario(app: WatchApp, pilot: Pilot[int]) -> None:
        await press(app, pilot, "enter", "enter")
        await until_shown(pilot, "opened by")
        page = app.screen.query_one("#page")
        for key, moved in (("j", 1), ("pagedown", 13), ("end", page.max_scroll_y), ("home", 0)):
            await pilot.press(key)
            await until(pilot, lambda at=moved: page.scroll_y >= at if at else page.scroll_y == 0)
        await pilot.press("down", "up", "k", "pageup")
        await until(pilot, lambda: page.scroll_y == 0)

    watch([leaky.folder], scenario, size=(80, 16))


def test_the_page_follows_the_handle(leaky: Leaky) -> None:
    """When it is closed meanwhile, its page says so."""

    async def scenario(app: WatchApp, pilot: Pilot[int]) -> None:
        await press(app, pilot, "enter", "end", "enter")
        shown = await until_shown(pilot, "still open")
        assert isinstance(app.screen, DetailScreen)
        serial = int(re.findall(r"#(\d+)", shown)[0])
        leaky.book.close(serial)
        leaky.save()
        await until_shown(pilot, "close closed")
        await until_shown(pilot, "closed after")

    watch([leaky.folder], scenario)


def test_filter(leaky: Leaky) -> None:
    """It works while it is typed, stays after Enter and goes with Esc."""

    async def scenario(app: WatchApp, pilot: Pilot[int]) -> None:
        await press(app, pilot, "slash")
        await press(app, pilot, *"kind:pipe")
        shown = await until_shown(pilot, "filter: kind:pipe (2 of 44)")
        assert "app/report.py:2" in shown
        assert "app/db.py" not in shown.partition("COMMAND")[2].partition("── app")[0]
        await press(app, pilot, "enter")
        assert table_of(app).has_focus
        shown = await press(app, pilot, "2")
        assert "2 handles  filter: kind:pipe (2 of 44)" in shown
        shown = await press(app, pilot, "escape")
        assert "44 handles ──" in shown

    watch([leaky.folder], scenario)


def test_escape_in_the_filter_line_drops_it(leaky: Leaky) -> None:
    """Everything is as before."""

    async def scenario(app: WatchApp, pilot: Pilot[int]) -> None:
        await press(app, pilot, "slash", *"tenant-7")
        await until_shown(pilot, "filter: tenant-7")
        shown = await press(app, pilot, "escape")
        assert "3 sites, 44 handles ──" in shown
        assert table_of(app).has_focus

    watch([leaky.folder], scenario)


def test_a_bad_filter_says_why_and_the_last_good_one_stays(leaky: Leaky) -> None:
    """And Enter does not take it."""

    async def scenario(app: WatchApp, pilot: Pilot[int]) -> None:
        await press(app, pilot, "slash", *"fd:4")
        await until_shown(pilot, "(1 of 44)")
        await pilot.press("x")
        shown = await until_shown(pilot, "'4x' is not a number: write value:3, value>3")
        assert "filter: fd:4 (1 of 44)" in shown
        await pilot.press("enter")
        await pilot.pause()
        assert main_of(app).query_one("#filter").display
        await pilot.press("backspace")
        await pilot.pause()
        assert "not a number" not in screen_text(app)
        await press(app, pilot, "enter")
        assert not main_of(app).query_one("#filter").display

    watch([leaky.folder], scenario)


@pytest.mark.parametrize(
    "text", ["[bold]x[/", "\\x1b[31m", "%s{}", "日本語", '"', "!" * 50, "a|b|"]
)
def test_garbage_in_the_filter(leaky: Leaky, text: str) -> None:
    """Whatever is pasted there is a filter or a message."""

    async def scenario(app: WatchApp, pilot: Pilot[int]) -> None:
        await press(app, pilot, "slash")
        main_of(app).query_one("#filter-input").value = text  # type: ignore[attr-defined]
        await settled(app, pilot)
        await press(app, pilot, "enter", "escape")
        assert "3 sites" in screen_text(app)

    watch([leaky.folder], scenario)


def test_a_filter_without_match_says_so(leaky: Leaky) -> None:
    """And names the key that brings everything back."""

    async def scenario(app: WatchApp, pilot: Pilot[int]) -> None:
        await press(app, pilot, "slash", *"zzz", "enter")
        shown = await until_shown(pilot, "No site matches  zzz")
        assert "Esc drops the filter" in shown
        await press(app, pilot, "escape")
        await until_shown(pilot, "3 sites")

    watch([leaky.folder], scenario)


def test_sort(leaky: Leaky) -> None:
    """s takes the next column, i turns it, arrows choose, the mark tells."""

    async def scenario(app: WatchApp, pilot: Pilot[int]) -> None:
        assert "VERDICT▲" in screen_text(app)
        assert "OPEN▼" in await press(app, pilot, "s")
        assert "OPEN▲" in await press(app, pilot, "i")
        assert "OPEN▼" in await press(app, pilot, "S")
        assert "VERDICT▲" in await press(app, pilot, "left")
        assert "SITE▲" in await press(app, pilot, "h")
        assert "VERDICT▲" in await press(app, pilot, "right")
        assert "OPEN▼" in await press(app, pilot, "l")
        assert "AGE▼" in await press(app, pilot, "2")
        assert "OPEN▼" in await press(app, pilot, "1")

    watch([leaky.folder], scenario)


@pytest.mark.parametrize(
    ("key", "title", "handles"),
    [
        ("L", "OPEN▼", "AGE▼"),
        ("O", "OPENED▼", "AGE▼"),
        ("A", "OLDEST▼", "AGE▼"),
        ("B", "NEWEST▲", "#▼"),
    ],
)
def test_orders_by_letter(leaky: Leaky, key: str, title: str, handles: str) -> None:
    """Where a screen has such a column, it is sorted by it."""

    async def scenario(app: WatchApp, pilot: Pilot[int]) -> None:
        assert title in await press(app, pilot, key)
        assert handles in await press(app, pilot, "2", key)

    watch([leaky.folder], scenario, size=(200, 36))


def test_the_cursor_stays_on_its_row(leaky: Leaky) -> None:
    """However the order changes; after Home it stays at the top instead."""

    async def scenario(app: WatchApp, pilot: Pilot[int]) -> None:
        await press(app, pilot, "j")
        site = table_of(app).row.site
        await press(app, pilot, "S")
        assert table_of(app).row.site == site
        await press(app, pilot, "home")
        top = table_of(app).row.site
        await press(app, pilot, "S")
        assert table_of(app).cursor == 0
        assert table_of(app).row.site != top

    watch([leaky.folder], scenario)


def test_group(leaky: Leaky) -> None:
    """t goes from sites to kinds, threads, owners and modules, and round."""

    async def scenario(app: WatchApp, pilot: Pilot[int]) -> None:
        assert "── 2 kinds, 44 handles ──" in await press(app, pilot, "t")
        assert "── 2 threads, 44 handles ──" in await press(app, pilot, "t")
        assert "export" in screen_text(app)
        assert "── 2 owners, 44 handles ──" in await press(app, pilot, "t")
        shown = await press(app, pilot, "t")
        assert "── 3 modules, 44 handles ──" in shown
        assert "never closed" in shown
        assert "── 3 sites, 44 handles ──" in await press(app, pilot, "t")

    watch([leaky.folder], scenario)


def test_each_group_has_the_word_of_its_worst_site(leaky: Leaky) -> None:
    """And says whose it is."""

    async def scenario(app: WatchApp, pilot: Pilot[int]) -> None:
        shown = await press(app, pilot, "t", "t", "t")
        assert "── 2 owners" in shown
        row = [line for line in shown.splitlines() if line.startswith(" ▸")][-1]
        assert "never closed" in row
        assert "why never closed" in shown
        assert "app/db.py:6 connect: none of 40 was ever closed" in shown

    watch([leaky.folder], scenario)


def test_ended(leaky: Leaky) -> None:
    """c adds the handles that ended, and takes them away again."""

    async def scenario(app: WatchApp, pilot: Pilot[int]) -> None:
        shown = await press(app, pilot, "c")
        assert "── 3 sites, 45 handles, ended ones too ──" in shown
        shown = await press(app, pilot, "2", "end")
        assert "/etc/hosts" in shown
        assert "exited" in shown
        assert "/etc/hosts" not in await press(app, pilot, "c")

    watch([leaky.folder], scenario)


def test_pause(leaky: Leaky) -> None:
    """The picture stands still until it goes on; the badge says so."""

    async def scenario(app: WatchApp, pilot: Pilot[int]) -> None:
        assert "‖ PAUSED" in await press(app, pilot, "space")
        leaky.leak(1)
        leaky.save()
        assert "connect · 40 open" in await press(app, pilot, "j", "k")
        await press(app, pilot, "space")
        assert "● LIVE" in await until_shown(pilot, "connect · 41 open")

    watch([leaky.folder], scenario)


def test_processes(leaky: Leaky) -> None:
    """p goes to the list, arrows choose, Enter returns to the handles."""
    child = builder(leaky.sources, alive=False, pid=DEAD_PID, parent_pid=1)
    child.acquire(value=9, stack=leaky.sources.stack(child, "load"), detail="/child")
    child.write(leaky.folder)

    async def scenario(app: WatchApp, pilot: Pilot[int]) -> None:
        processes = main_of(app).query_one("#processes", Table)
        shown = screen_text(app)
        assert "2 processes" in shown
        assert "✗ killed" in shown
        assert "45 handles" in shown
        await press(app, pilot, "p")
        assert processes.has_focus
        shown = await press(app, pilot, "j", "j")
        assert "1 site, 44 handles" not in shown
        chosen = processes.row.pid
        expected = "1 site, 1 handle ──" if chosen == str(DEAD_PID) else "3 sites, 44 handles ──"
        assert expected in shown
        await press(app, pilot, "enter")
        assert table_of(app).has_focus
        assert expected in screen_text(app)
        await press(app, pilot, "tab", "home", "p")
        assert table_of(app).has_focus
        assert "45 handles" in screen_text(app)

    watch([leaky.folder], scenario)


def test_one_process_needs_no_choice(leaky: Leaky) -> None:
    """p says so."""

    async def scenario(app: WatchApp, pilot: Pilot[int]) -> None:
        await pilot.press("p")
        await until_shown(pilot, "There is one process only;")

    watch([leaky.folder], scenario)


def test_newer_session(leaky: Leaky, sessions_root: Path) -> None:
    """When a program is started again, w goes there."""

    async def scenario(app: WatchApp, pilot: Pilot[int]) -> None:
        await press(app, pilot, "w")
        newer = sessions_root / "20991231T235959.000000-99"
        newer.mkdir(mode=0o700)
        book = builder(Sources(sessions_root / "code"), alive=False)
        book.end().write(newer)
        await until_shown(pilot, "a newer session began: w")
        await pilot.press("w")
        shown = await until_shown(pilot, newer.name)
        await until_shown(pilot, "○ ENDED")
        assert "40 come from" not in shown

    watch([], scenario)


def test_theme(leaky: Leaky) -> None:
    """T goes round the three looks."""

    async def scenario(app: WatchApp, pilot: Pilot[int]) -> None:
        seen = [app.theme]
        for _ in range(3):
            await press(app, pilot, "T")
            seen.append(app.theme)
            assert "40 open" in screen_text(app)
        assert seen == ["safehandle-dark", "safehandle-light", "ansi-dark", "safehandle-dark"]

    watch([leaky.folder], scenario)


@pytest.mark.parametrize("close", ["escape", "question_mark", "enter"])
def test_help(leaky: Leaky, close: str) -> None:
    """? names every key, and goes away again."""

    async def scenario(app: WatchApp, pilot: Pilot[int]) -> None:
        await pilot.press("question_mark")
        shown = await until_shown(pilot, "Keys")
        assert isinstance(app.screen, HelpScreen)
        for key in KEYS:
            assert key.help in shown
        await pilot.press(close)
        await until(pilot, lambda: isinstance(app.screen, MainScreen))

    watch([leaky.folder], scenario, size=(120, 90))


@pytest.mark.parametrize("where", [[], ["question_mark"], ["enter", "enter"], ["7"], ["ctrl+o"]])
def test_quit(leaky: Leaky, where: list[str]) -> None:
    """q leaves from every screen, with exit status 0."""

    async def scenario(app: WatchApp, pilot: Pilot[int]) -> None:
        for key in where:
            await pilot.press(key)
            await pilot.pause()
        await pilot.press("q")

    app = watch([leaky.folder], scenario)
    assert (app.return_value, app.return_code) == (0, 0)


def test_mouse(leaky: Leaky) -> None:
    """A click chooses a row, a second opens it; titles sort; keys answer."""

    async def scenario(app: WatchApp, pilot: Pilot[int]) -> None:
        await pilot.click("#table", offset=(10, 2))
        await settled(app, pilot)
        assert table_of(app).cursor == 1
        await pilot.click("#table", offset=(9, 0))
        await settled(app, pilot)
        assert "VERDICT▼" in screen_text(app)
        await pilot.click("#table", offset=(22, 0))
        await settled(app, pilot)
        assert "OPEN▼" in screen_text(app)
        bar = main_of(app).query_one(KeyBar)
        line = bar.render_line(0).text
        await pilot.click("#keys", offset=(line.index("Group"), 0))
        await settled(app, pilot)
        assert "2 kinds, 44 handles ──" in screen_text(app)
        await press(app, pilot, "2")
        await pilot.click("#table", offset=(10, 3), times=2)
        await until(pilot, lambda: isinstance(app.screen, DetailScreen))

    watch([leaky.folder], scenario)


def test_ages_grow(leaky: Leaky) -> None:
    """Without any event the clock goes on, in the table and in the detail."""
    clock = FrozenClock()

    async def scenario(app: WatchApp, pilot: Pilot[int]) -> None:
        assert "44s" in screen_text(app)
        clock.advance(3600 * SECOND)
        shown = await until_shown(pilot, "1h00m")
        assert "44s" not in shown

    watch([leaky.folder], scenario, clock=clock)


def test_every_key_is_tested() -> None:
    """A new action without a test fails this one."""
    folder = Path(__file__).parent
    source = "".join(path.read_text() for path in folder.glob("test_*.py"))
    pressed = set(re.findall(r'"([a-zA-Z0-9_+]+)"', source))
    for key in (*KEYS, *MOVES):
        names = set(key.keys.split(","))
        assert names & pressed, f"no test presses {key.keys}"


def test_the_docs_name_every_key() -> None:
    """The table of keys in the docs is that of the program."""
    page = (Path(__file__).parents[2] / "docs/screens.md").read_text()
    rows = [f"| {key.id} | `{key.shown}` | {key.help} |" for key in (*KEYS, *MOVES)]
    assert "\n".join(rows) in page


def test_no_key_means_two_things() -> None:
    """Within a screen each key starts one action."""
    names = [name for key in (*KEYS, *MOVES) for name in key.keys.split(",")]
    assert len(names) == len(set(names))
