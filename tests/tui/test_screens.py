"""The screens behind the digits, what their keys do, and the way back."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from safehandle_tui.keys import KEYS, MOVES, keymap_path, read_keymap
from safehandle_tui.model.events import EventRow
from safehandle_tui.screens.card import CardScreen
from safehandle_tui.screens.detail import DetailScreen
from safehandle_tui.screens.lines import JumpScreen, LinesScreen
from safehandle_tui.screens.main import MainScreen
from safehandle_tui.watch import WatchApp
from support_screens import (
    SECOND,
    FrozenClock,
    Leaky,
    leaky_session,
    main_of,
    press,
    screen_text,
    table_of,
    until,
    until_shown,
    watch,
)
from textual.pilot import Pilot


@pytest.mark.parametrize(
    ("key", "title", "shown"),
    [
        ("1", "> Suspects", "3 sites, 44 handles"),
        ("2", "> Handles", "44 handles"),
        ("3", "> Sites tree", "5 frames"),
        ("4", "> Kinds", "2 kinds"),
        ("5", "> Alarms", "1 alarm"),
        ("a", "> Alarms", "1 alarm"),
        ("6", "> Generations", "1 generation"),
        ("7", "> Events", "51 events, following"),
        ("0", "> Processes", "1 process"),
    ],
)
def test_each_screen_has_its_digit(leaky: Leaky, key: str, title: str, shown: str) -> None:
    """And Esc leads back from there to where one was."""

    async def scenario(app: WatchApp, pilot: Pilot[int]) -> None:
        await press(app, pilot, "2", "j")
        row = table_of(app).row.key
        text = await press(app, pilot, key)
        assert title in text
        assert f"── {shown}" in text
        text = await press(app, pilot, *(["escape"] if key != "2" else []))
        assert "> Handles" in text
        assert table_of(app).row.key == row
        assert "> Suspects" in await press(app, pilot, "escape")
        assert "> Suspects" in await press(app, pilot, "escape", "escape")

    watch([leaky.folder], scenario)


def test_the_card_of_a_double_release(leaky: Leaky) -> None:
    """Both acts side by side, what lies between them, and where it was opened."""

    async def scenario(app: WatchApp, pilot: Pilot[int]) -> None:
        shown = await press(app, pilot, "5")
        assert "✗ DOUBLE-RELEASE  #5 SafeFileHandle fd 6  0:00.008  /tmp/report.csv" in shown
        (frames,) = [line for line in shown.splitlines() if "2nd: released again" in line]
        assert "1st: closed  0:00.007 MainThread" in frames
        assert shown.count("app/report.py:6 finish") >= 3
        assert "handle.dangerous_release()" in shown
        assert "between them (1ms): nobody else got fd 6" in shown
        shown = await press(app, pilot, "enter")
        assert isinstance(app.screen, CardScreen)
        assert "> Alarms > card" in shown
        assert "between them (1ms): nobody else got fd 6" in shown
        await press(app, pilot, "enter")
        await until_shown(pilot, "> Alarms > #5")
        assert isinstance(app.screen, DetailScreen)
        shown = await press(app, pilot, "escape", "escape")
        assert "> Alarms " in shown
        await press(app, pilot, "H")
        await until_shown(pilot, "> Alarms > #5")

    watch([leaky.folder], scenario)


def test_the_victim_stands_between(sessions_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who got the number in the meantime is named, with its line."""
    leaky = leaky_session(sessions_root, leaks=0)
    book = leaky.book
    stack = leaky.sources.stack(book, "export", "main")
    first = book.acquire(value=30, stack=stack)
    book.close(first, stack=leaky.sources.stack(book, "finish", "export", "main"))
    victim = book.acquire(
        value=30, stack=leaky.sources.stack(book, "connect", "main"), detail="/srv/victim"
    )
    book.problem(15 - 7, first, stack=leaky.sources.stack(book, "send", "main"))
    leaky.save()

    async def scenario(app: WatchApp, pilot: Pilot[int]) -> None:
        await press(app, pilot, "5")
        await press(app, pilot, "end")
        shown = screen_text(app)
        (line,) = [line for line in shown.splitlines() if "between them" in line]
        assert f"fd 30 was given to #{victim} app/db.py:6 connect, MainThread" in line
        assert "/srv/victim  ← the victim: Enter" in line
        shown = await press(app, pilot, "enter")
        assert f"Enter #{victim}, the victim" in shown
        assert f"H #{first}, what it was taken for" in shown
        await press(app, pilot, "enter")
        await until_shown(pilot, f"> Alarms > #{victim}")
        await press(app, pilot, "escape", "H")
        await until_shown(pilot, f"> Alarms > #{first}")
        await press(app, pilot, "escape", "n")
        assert "DOUBLE-RELEASE  #5" in await until_shown(pilot, "nobody else got fd 6")
        await press(app, pilot, "N")
        await until_shown(pilot, f"Enter #{victim}, the victim")
        monkeypatch.chdir(sessions_root)
        await press(app, pilot, "x", "y")
        (written,) = sessions_root.glob("safehandle-alarm-*.txt")
        assert "← the victim: Enter" in written.read_text()
        await press(app, pilot, "full_stop")
        assert "◄ REPLAY" in screen_text(app)
        assert "> Alarms " in screen_text(app)

    watch([leaky.folder], scenario)


def test_the_tree_folds(leaky: Leaky) -> None:
    """Enter folds a frame, and opens the handles of a site; u shows libraries."""

    async def scenario(app: WatchApp, pilot: Pilot[int]) -> None:
        shown = await press(app, pilot, "3")
        assert "▾ app/main.py:6 main" in shown
        shown = await press(app, pilot, "j", "enter")
        assert "▸ app/api.py:6 serve" in shown
        assert "app/db.py:6 connect" not in shown.partition("── app")[0].partition("frames")[2]
        shown = await press(app, pilot, "enter", "j", "enter")
        assert "40 handles of app/db.py:6 connect" in shown
        shown = await press(app, pilot, "escape", "u")
        assert main_of(app).spec.library
        assert not (await press(app, pilot, "u")).count("Traceback")
        assert not main_of(app).spec.library

    watch([leaky.folder], scenario)


def test_the_map_of_descriptors(leaky: Leaky) -> None:
    """A letter a descriptor, by kind; Enter shows the handles of the kind."""

    async def scenario(app: WatchApp, pilot: Pilot[int]) -> None:
        shown = await press(app, pilot, "4")
        assert "43 descriptors up to 54:  F file  P pipe" in shown
        assert "···F✗✗" in shown
        assert "· free" in shown
        shown = await press(app, pilot, "end", "enter")
        assert "2 handles  filter: " in shown
        assert "SafePipeHandle" in shown
        assert "> Kinds" in await press(app, pilot, "escape")
        assert not main_of(app).spec.filter

    watch([leaky.folder], scenario)


def test_generations(leaky: Leaky) -> None:
    """m begins one; a site that keeps some of each grows; d shows what is new."""
    clock = FrozenClock()

    async def scenario(app: WatchApp, pilot: Pilot[int]) -> None:
        await press(app, pilot, "d")
        assert main_of(app).spec.born is None
        for _ in range(3):
            await press(app, pilot, "m")
            clock.advance(5 * SECOND)
            leaky.book.ticks += 3 * SECOND
            leaky.leak(2)
            leaky.save()
            await until_shown(pilot, "handles open")
        clock.advance(SECOND)
        shown = await press(app, pilot, "6")
        await until_shown(pilot, "under way")
        shown = screen_text(app)
        assert re.search(r"start +0:00:00 .* warm-up", shown)
        assert re.search(r" A .* kept some", shown)
        assert re.search(r"✗ +B .* grows", shown)
        shown = await press(app, pilot, "end", "enter")
        assert "opened since mark 3" in shown
        await press(app, pilot, "escape", "escape")
        shown = await press(app, pilot, "1", "d")
        assert "opened since mark 3" in shown
        assert main_of(app).spec.born is not None
        await press(app, pilot, "d")
        assert main_of(app).spec.born is None
        assert "opened since mark 2 and before the next" in await press(app, pilot, "D")
        assert "opened since mark 1 and before the next" in await press(app, pilot, "D")
        await press(app, pilot, "D")
        assert main_of(app).spec.born is None

    watch([leaky.folder], scenario, clock=clock)


def test_events_are_followed(leaky: Leaky) -> None:
    """The cursor stays on the newest until it is moved; F follows again."""

    async def scenario(app: WatchApp, pilot: Pilot[int]) -> None:
        await press(app, pilot, "7")
        last = table_of(app).row
        assert isinstance(last, EventRow)
        assert last.name == "add-ref"
        leaky.leak(1)
        leaky.save()
        await until_shown(pilot, "52 events")
        assert table_of(app).row.event.seq == last.event.seq + 1
        shown = await press(app, pilot, "k")
        assert "standing still" in shown
        leaky.leak(1)
        leaky.save()
        await until_shown(pilot, "53 events")
        assert table_of(app).row.event.seq == last.event.seq
        await press(app, pilot, "F")
        await until(pilot, lambda: table_of(app).row.event.seq == last.event.seq + 2)
        await press(app, pilot, "F")
        assert not main_of(app).follows
        await press(app, pilot, "enter")
        await until(pilot, lambda: isinstance(app.screen, DetailScreen))

    watch([leaky.folder], scenario)


def test_the_filter_narrows_events(leaky: Leaky) -> None:
    """The same language, of the handles that the events are about."""

    async def scenario(app: WatchApp, pilot: Pilot[int]) -> None:
        await press(app, pilot, "7", "slash", *"double", "enter")
        shown = await until_shown(pilot, "filter: double (1 of 51)")
        assert "double-release" in shown

    watch([leaky.folder], scenario)


def test_time_travel(leaky: Leaky) -> None:
    """Steps, leaps, alarms; each screen shows that moment; backslash returns."""

    async def scenario(app: WatchApp, pilot: Pilot[int]) -> None:
        shown = await press(app, pilot, "left_square_bracket")
        assert "◄ REPLAY" in shown
        assert "event 50 of 51" in shown
        assert "event 51 of 51" in await press(app, pilot, "right_square_bracket")
        assert "event 51 of 51" in await press(app, pilot, "right_square_bracket")
        shown = await press(app, pilot, "left_curly_bracket")
        assert "event 8 of 51" in shown
        assert "3 handles" in await press(app, pilot, "2")
        assert "db.py" not in screen_text(app)
        assert "event 8 of 51" in await press(app, pilot, "right_curly_bracket")
        assert "event 9 of 51" in await press(app, pilot, "greater_than_sign")
        shown = await press(app, pilot, "1")
        assert "3 sites, 4 handles" in shown
        assert "event 8 of 51" in await press(app, pilot, "less_than_sign")
        shown = await press(app, pilot, "backslash")
        assert "● LIVE" in shown
        assert "44 handles" in shown

    watch([leaky.folder], scenario)


def test_steps_are_not_lost_when_they_come_fast(leaky: Leaky) -> None:
    """However long the reader takes for one of them."""

    async def scenario(app: WatchApp, pilot: Pilot[int]) -> None:
        await pilot.press(*["left_square_bracket"] * 10)
        await until_shown(pilot, "event 41 of 51")

    watch([leaky.folder], scenario)


def test_the_moment_of_an_event(leaky: Leaky) -> None:
    """. on an event, an alarm or a handle shows how all was then."""

    async def scenario(app: WatchApp, pilot: Pilot[int]) -> None:
        assert "event 8 of 51" in await press(app, pilot, "5", "full_stop")
        await press(app, pilot, "backslash", "7", "home")
        shown = await press(app, pilot, "full_stop")
        assert "event 1 of 51" in shown
        await press(app, pilot, "backslash", "2")
        assert "event 1 of 51" in await press(app, pilot, "full_stop")
        await press(app, pilot, "backslash", "1", "full_stop")
        assert "● LIVE" in screen_text(app)

    watch([leaky.folder], scenario)


def test_all_processes(leaky: Leaky, sessions_root: Path) -> None:
    """Those of other sessions too; Enter goes there, and Esc stays in the app."""
    other = leaky_session(sessions_root / "elsewhere", alive=False, leaks=3)
    folder = sessions_root / "20200101T000000.000000-42"
    other.folder.rename(folder)

    async def scenario(app: WatchApp, pilot: Pilot[int]) -> None:
        shown = await press(app, pilot, "0")
        assert "2 processes" in shown
        assert "● running" in shown
        assert "✗ killed" in shown
        await press(app, pilot, "end", "enter")
        await until_shown(pilot, "post-mortem: died holding 5 handles")
        assert folder.name in screen_text(app)

    watch([], scenario)


def test_next_match(leaky: Leaky) -> None:
    """n and N go to the marked rows; with a filter to each row."""

    async def scenario(app: WatchApp, pilot: Pilot[int]) -> None:
        await press(app, pilot, "2", "n")
        first = table_of(app).row
        assert first.mark[0] == "✗"
        await press(app, pilot, "n")
        assert table_of(app).row.key == first.key
        await press(app, pilot, "N")
        assert table_of(app).row.key == first.key
        await press(app, pilot, "slash", *"pipe", "enter", "home", "n")
        assert table_of(app).cursor == 1
        await press(app, pilot, "N")
        assert table_of(app).cursor == 0

    watch([leaky.folder], scenario)


def test_zoom(leaky: Leaky) -> None:
    """z and + show the table alone, then the pane alone; _ and Esc go back."""

    async def scenario(app: WatchApp, pilot: Pilot[int]) -> None:
        def without(text: str) -> bool:
            return text not in screen_text(app)

        await pilot.press("z")
        await until(pilot, lambda: without("opened by"))
        await pilot.press("plus")
        await until_shown(pilot, "opened by")
        assert without("VERDICT")
        await pilot.press("underscore")
        await until(pilot, lambda: without("opened by"))
        await pilot.press("escape")
        await until_shown(pilot, "opened by")
        assert not without("VERDICT")

    watch([leaky.folder], scenario)


def test_what_the_system_says(leaky: Leaky) -> None:
    """v asks /proc, not the process."""

    async def scenario(app: WatchApp, pilot: Pilot[int]) -> None:
        await press(app, pilot, "2", "n", "v")
        shown = await until_shown(pilot, "of process")
        assert isinstance(app.screen, LinesScreen)
        assert "it is not open any more" in shown
        await pilot.press("escape")
        await until(pilot, lambda: isinstance(app.screen, MainScreen))
        await press(app, pilot, "home", "enter")
        await until(pilot, lambda: isinstance(app.screen, DetailScreen))
        await pilot.press("v")
        await until(pilot, lambda: isinstance(app.screen, LinesScreen))

    watch([leaky.folder], scenario)


def test_copy_and_export(leaky: Leaky, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """y takes the row and its pane along, x everything, into a file."""
    monkeypatch.chdir(tmp_path)

    async def scenario(app: WatchApp, pilot: Pilot[int]) -> None:
        await press(app, pilot, "y")
        assert "app/db.py:6 connect" in app.clipboard
        assert "why never closed" in app.clipboard
        await press(app, pilot, "x")
        (path,) = tmp_path.glob("safehandle-sites-*.txt")
        assert "app/config.py:2 load" in path.read_text()
        await press(app, pilot, "2", "enter")
        await until(pilot, lambda: isinstance(app.screen, DetailScreen))
        await pilot.press("y")
        await until(pilot, lambda: "opened by" in app.clipboard)

    watch([leaky.folder], scenario)


def test_edit_needs_a_terminal(leaky: Leaky) -> None:
    """Where none can be given to the editor, it says so and goes on."""

    async def scenario(app: WatchApp, pilot: Pilot[int]) -> None:
        await pilot.press("e")
        await until_shown(pilot, "vi: ")

    watch([leaky.folder], scenario)


def test_jump_and_palette(leaky: Leaky) -> None:
    """ctrl+o goes by letter, ctrl+p by name."""

    async def scenario(app: WatchApp, pilot: Pilot[int]) -> None:
        await pilot.press("ctrl+o")
        await until(pilot, lambda: isinstance(app.screen, JumpScreen))
        await pilot.press("g")
        await until_shown(pilot, "> Generations")
        await pilot.press("ctrl+o", "escape")
        await until(pilot, lambda: isinstance(app.screen, MainScreen))
        await pilot.press("ctrl+p")
        await pilot.pause()
        await pilot.press(*"map of")
        await until_shown(pilot, "Kinds, and the map of the descriptors")
        await pilot.press("enter")
        await pilot.pause()
        if "> Kinds" not in screen_text(app):
            await pilot.press("enter")
        await until_shown(pilot, "> Kinds")

    watch([leaky.folder], scenario)


def test_a_keymap_of_ones_own(
    leaky: Leaky, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every key has a name; a wrong one is told, the right ones count."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    path = keymap_path()
    path.parent.mkdir()
    path.write_text('[keys]\nalarms = "v"\nnothing = "b"\n')

    async def scenario(app: WatchApp, pilot: Pilot[int]) -> None:
        await until_shown(pilot, "no key is called nothing")
        assert "> Alarms" in await press(app, pilot, "v")

    watch([leaky.folder], scenario)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("keys = 1", "[keys] must be a table"),
        ("[keys", "cannot be read"),
        ("[keys]\nmark = 5", "no key is called mark"),
        ("", None),
    ],
)
def test_bad_keymaps(tmp_path: Path, text: str, said: str | None) -> None:
    """One sentence each."""
    path = tmp_path / "keys.toml"
    path.write_text(text)
    keys, problem = read_keymap(path)
    assert keys == {}
    assert (said in (problem or "")) if said else problem is None
    assert read_keymap(tmp_path / "none") == ({}, None)


def test_ids_are_unique() -> None:
    """A keymap names one action by each."""
    ids = [key.id for key in (*KEYS, *MOVES)]
    assert len(ids) == len(set(ids))
    assert all(re.fullmatch(r"[a-z]+(-[a-z]+)*", id) for id in ids)


def test_suspend_is_bound() -> None:
    """ "ctrl+z" is the shell's own key; the app hands it on."""
    (key,) = [key for key in KEYS if key.id == "suspend"]
    assert key.action == "app.suspend_process"
