"""Waiting, empty, ended, died, disconnected, too small, in other colours."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

import pytest
from safehandle_tui import palette
from safehandle_tui.keys import KEYS, MOVES
from safehandle_tui.screens.small import SmallScreen
from safehandle_tui.watch import WatchApp
from support_recording import DEAD_PID
from support_screens import (
    FrozenClock,
    Leaky,
    Sources,
    builder,
    end,
    leaky_session,
    screen_text,
    until,
    until_shown,
    watch,
)
from textual.pilot import Pilot


def test_waiting_says_what_to_run(sessions_root: Path) -> None:
    """And where it looks; the first process then appears by itself."""

    async def scenario(app: WatchApp, pilot: Pilot[int]) -> None:
        shown = await until_shown(pilot, "Waiting for the first process")
        assert "SAFEHANDLE_DEBUG=full python app.py" in shown
        assert str(sessions_root) in shown
        assert "○ WAITING" in shown
        for key in (
            "enter",
            "j",
            "s",
            "S",
            "2",
            "t",
            "c",
            "c",
            "p",
            "w",
            "5",
            "6",
            "7",
            "end",
            "home",
        ):
            await pilot.press(key)
        await pilot.press(*["escape"] * 5)
        leaky_session(sessions_root)
        assert "● LIVE" in await until_shown(pilot, "app/db.py:6 connect")

    watch([], scenario)


def test_no_handles_open(sessions_root: Path) -> None:
    """A process that holds nothing has a table's worth of room to say so."""
    book = builder(Sources(sessions_root), alive=True)
    path = book.write(sessions_root)

    async def scenario(app: WatchApp, pilot: Pilot[int]) -> None:
        shown = await until_shown(pilot, "No handles open")
        assert "no handles open" in shown
        assert "c shows the ended ones" in shown
        book.acquire(detail="/first")
        book.write(path)
        await until_shown(pilot, "1 handle open")

    watch([path], scenario)


def test_the_end_of_a_process(leaky: Leaky) -> None:
    """It ends under our eyes: how, and what it never closed."""

    async def scenario(app: WatchApp, pilot: Pilot[int]) -> None:
        await until_shown(pilot, "● running")
        end(leaky, 3)
        shown = await until_shown(pilot, "○ ENDED")
        assert "○ exited 3" in shown
        assert "ended: 42 handles were never closed; 40 come from app/db.py:6" in shown

    watch([leaky.folder], scenario)


def test_a_clean_end(sessions_root: Path) -> None:
    """Nothing was left open: good news is said as well."""
    book = builder(Sources(sessions_root), alive=False)
    book.close(book.acquire(detail="/x"))
    path = book.end().write(sessions_root)

    async def scenario(app: WatchApp, pilot: Pilot[int]) -> None:
        shown = await until_shown(pilot, "Nothing was left open")
        assert "ended: every handle was closed" in shown
        await pilot.press("c", "2")
        await until_shown(pilot, "/x")

    watch([path], scenario)


def test_post_mortem(sessions_root: Path) -> None:
    """A killed process: what it died holding, whose stacks are all there."""
    leaky = leaky_session(sessions_root, alive=False)

    async def scenario(app: WatchApp, pilot: Pilot[int]) -> None:
        shown = await until_shown(pilot, "✗ DIED")
        assert "post-mortem: died holding 42 handles" in shown
        assert "✗ killed" in shown
        await pilot.press("enter")
        shown = await until_shown(pilot, "held for")
        assert 'SafeFileHandle.open(f"/srv/{tenant}")' in shown

    watch([leaky.path], scenario)


def test_disconnected_keeps_the_last_view(leaky: Leaky) -> None:
    """The file is deleted: the reason, and everything seen so far."""

    async def scenario(app: WatchApp, pilot: Pilot[int]) -> None:
        await until_shown(pilot, "● LIVE")
        leaky.path.unlink()
        shown = await until_shown(pilot, "✗ DISCONNECTED")
        assert "its recording vanished; showing the last view" in shown
        assert "app/db.py:6 connect" in shown
        await pilot.press("enter", "enter")
        await until_shown(pilot, "def connect(tenant):")

    watch([leaky.folder], scenario)


def test_unreadable_from_the_start(tmp_path: Path) -> None:
    """A foreign file is a sentence on the screen."""
    path = tmp_path / "1-2.shd"
    path.write_bytes(b"no recording at all" * 500)
    path.chmod(0o600)

    async def scenario(app: WatchApp, pilot: Pilot[int]) -> None:
        shown = await until_shown(pilot, "✗ DISCONNECTED")
        assert "✗ unreadable" in shown
        assert "is not a recording" in shown

    watch([path], scenario)


def test_lost_events_are_shown(leaky: Leaky) -> None:
    """In the process's row and beside the headline."""
    leaky.book.dropped_events = 1204
    leaky.save()

    async def scenario(app: WatchApp, pilot: Pilot[int]) -> None:
        shown = await until_shown(pilot, "! 1,204 events lost")
        assert "1,204  app/main.py" in shown

    watch([leaky.folder], scenario)


@pytest.mark.parametrize("size", [(59, 24), (80, 15), (20, 5), (1, 1), (3, 2)])
def test_too_small(leaky: Leaky, size: tuple[int, int]) -> None:
    """It says so, and comes back as it was when there is room again."""

    async def scenario(app: WatchApp, pilot: Pilot[int]) -> None:
        await pilot.press("enter")
        await until_shown(pilot, "40 handles of app/db.py:6")
        await pilot.resize_terminal(*size)
        await until(pilot, lambda: isinstance(app.screen, SmallScreen))
        if size[0] >= 20:
            await until_shown(pilot, f"{size[0]}x{size[1]}, needs 60x16")
        await pilot.resize_terminal(80, 24)
        await until_shown(pilot, "40 handles of app/db.py:6")

    watch([leaky.folder], scenario)


def test_too_small_from_the_start(leaky: Leaky) -> None:
    """And q leaves."""

    async def scenario(app: WatchApp, pilot: Pilot[int]) -> None:
        await until_shown(pilot, "too small")
        await pilot.press("q")

    assert watch([leaky.folder], scenario, size=(40, 10)).return_value == 0


@pytest.mark.parametrize("size", [(60, 16), (80, 24), (120, 36), (250, 70)])
@pytest.mark.parametrize("keys", [(), ("2",), ("enter", "enter"), ("question_mark",), ("slash",)])
def test_no_line_is_wider_than_the_terminal(
    leaky: Leaky, size: tuple[int, int], keys: tuple[str, ...]
) -> None:
    """And the bottom line is never cut within a word."""

    async def scenario(app: WatchApp, pilot: Pilot[int]) -> None:
        for key in keys:
            await pilot.press(key)
            await pilot.pause()
        lines = screen_text(app).splitlines()
        assert max(len(line) for line in lines) <= size[0]
        assert len(lines) == size[1]
        assert "q Quit" in lines[-1]

    watch([leaky.folder], scenario, size=size)


def test_resizing_keeps_the_cursor_in_sight(leaky: Leaky) -> None:
    """From large to small and back."""

    async def scenario(app: WatchApp, pilot: Pilot[int]) -> None:
        await pilot.press("2", "end")
        for size in ((120, 20), (80, 24), (60, 16), (120, 36)):
            await pilot.resize_terminal(*size)
            await until_shown(pilot, " ▸ ")
            await until_shown(pilot, "report.csv")

    watch([leaky.folder], scenario)


def test_without_colours_nothing_is_lost(leaky: Leaky, monkeypatch: pytest.MonkeyPatch) -> None:
    """NO_COLOR: no colour at all, and the same words and signs."""
    monkeypatch.setenv("NO_COLOR", "1")

    async def scenario(app: WatchApp, pilot: Pilot[int]) -> None:
        shown = await until_shown(pilot, "40 come from")
        assert " ▸ " in shown
        assert "✗ 1 double-release" in shown
        strips = app.screen._compositor.render_strips()
        colours = {
            colour.name
            for strip in strips
            for segment in strip.apply_filter(app._filters[-1], app.screen.styles.background)
            if segment.style is not None
            for colour in (segment.style.color, segment.style.bgcolor)
            if colour is not None
        }
        assert colours <= {"default"}
        await pilot.press("T")
        assert app.theme == "ansi-dark"

    watch([leaky.folder], scenario)


def test_terminal_kinds(leaky: Leaky, monkeypatch: pytest.MonkeyPatch) -> None:
    """16 colours use the terminal's own; a light one gets the light look."""

    async def scenario(app: WatchApp, pilot: Pilot[int]) -> None:
        await until_shown(pilot, "40 come from")

    monkeypatch.setenv("COLORFGBG", "0;15")
    assert watch([leaky.folder], scenario).theme == "safehandle-light"
    monkeypatch.setenv("COLORFGBG", "15;0")
    assert watch([leaky.folder], scenario).theme == "safehandle-dark"
    monkeypatch.delenv("COLORTERM")
    monkeypatch.setenv("TERM", "xterm")
    assert watch([leaky.folder], scenario).theme == "ansi-dark"


@pytest.mark.parametrize("seed", range(3))
def test_any_keys_in_any_order(leaky: Leaky, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Random keys and sizes on a session that changes: nothing breaks."""
    choose = random.Random(seed)
    names = [name for key in (*KEYS, *MOVES) for name in key.keys.split(",")]
    leaves = ("q", "ctrl+c", "ctrl+z", "ctrl+p")
    names = [name for name in names if name not in leaves] + list("ab:>1")
    monkeypatch.chdir(leaky.folder.parent)
    child = builder(leaky.sources, alive=False, pid=DEAD_PID, parent_pid=1)
    child.acquire(stack=leaky.sources.stack(child, "load"), detail="/child")

    async def scenario(app: WatchApp, pilot: Pilot[int]) -> None:
        for step in range(120):
            await pilot.press(choose.choice(names))
            if step % 10 == 0:
                await pilot.resize_terminal(choose.randint(1, 140), choose.randint(1, 40))
            if step == 30:
                child.write(leaky.folder)
            if step % 20 == 0:
                for serial in leaky.leak(3)[:2]:
                    leaky.book.close(serial)
                leaky.save()
            if step == 90:
                end(leaky)
            assert app._exception is None
        await pilot.resize_terminal(120, 36)
        await pilot.pause()
        assert app._exception is None

    watch([leaky.folder], scenario)


def test_ascii_alone(leaky: Leaky, monkeypatch: pytest.MonkeyPatch) -> None:
    """With --ascii every screen can do without any other character."""
    monkeypatch.setattr(palette, "_ascii", True)

    async def scenario(app: WatchApp, pilot: Pilot[int]) -> None:
        await until_shown(pilot, "VERDICT^")
        for key in ("2", "3", "4", "5", "6", "7", "0", "left_curly_bracket", "question_mark"):
            await pilot.press(key)
            await pilot.pause()
            odd = {char for char in screen_text(app) if not char.isascii()}
            assert not odd, (key, odd)

    watch([leaky.folder], scenario)


@pytest.mark.parametrize("size", [(60, 16), (240, 60), (100, 17)])
def test_every_screen_at_every_size(leaky: Leaky, size: tuple[int, int]) -> None:
    """From the smallest to the largest, with rows and a line of keys."""

    async def scenario(app: WatchApp, pilot: Pilot[int]) -> None:
        for key in "12345670":
            await pilot.press(key)
            await pilot.pause()
            shown = screen_text(app)
            assert len(shown.splitlines()) == size[1]
            assert "Enter" in shown.splitlines()[-1]
            assert max(map(len, shown.splitlines())) <= size[0]

    watch([leaky.folder], scenario, size=size)


def test_viewers_do_not_disturb_each_other(leaky: Leaky) -> None:
    """Several watch one recording at once."""

    async def one() -> str:
        app = WatchApp([str(leaky.folder)], clock=FrozenClock())
        async with app.run_test(size=(80, 24)) as pilot:
            return await until_shown(pilot, "40 come from")

    async def several() -> list[str]:
        return await asyncio.gather(*(one() for _ in range(3)))

    # Their screens may be caught in the middle of a paint: what they count is the same.
    assert all("42 handles open; 40 come from" in shown for shown in asyncio.run(several()))
