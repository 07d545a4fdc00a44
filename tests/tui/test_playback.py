"""The past played back: speeds, quiet stretches, the end."""

from __future__ import annotations

import re
from collections.abc import Callable

from hypothesis import given
from hypothesis import strategies as st
from safehandle_tui.model.playback import SPEEDS, Player
from safehandle_tui.screens.detail import DetailScreen
from safehandle_tui.watch import WatchApp
from support_recording import MILLISECOND
from support_screens import (
    SECOND,
    FrozenClock,
    Leaky,
    main_of,
    press,
    screen_text,
    settled,
    until,
    until_shown,
    watch,
)
from textual.pilot import Pilot


def event_shown(app: WatchApp) -> int:
    """The event that the time bar names."""
    found = re.search(r"event ([\d,]+) of", screen_text(app))
    return int(found[1].replace(",", "")) if found else 0


async def played(
    pilot: Pilot[int], clock: FrozenClock, condition: Callable[[], object], what: str
) -> None:
    """Lets time go by until the condition holds."""

    def holds() -> object:
        clock.advance(50 * MILLISECOND)
        return condition()

    await until(pilot, holds, what)


def test_it_plays_from_the_start_to_the_end(leaky: Leaky) -> None:
    """P from now begins at the first event; it stands still at the last one."""
    clock = FrozenClock()

    async def scenario(app: WatchApp, pilot: Pilot[int]) -> None:
        await pilot.press("P")
        shown = await until_shown(pilot, "▶ 1x")
        assert "◄ REPLAY" in shown
        assert event_shown(app) < 20
        await played(pilot, clock, lambda: event_shown(app) > 20, "it goes by")
        assert "▶ 1x" in screen_text(app)
        await played(
            pilot, clock, lambda: "this is the last event" in screen_text(app), "the end is said"
        )
        shown = await until_shown(pilot, "event 51 of 51")
        await until(pilot, lambda: "▶" not in screen_text(app), "it stands still")
        assert "● LIVE" in await press(app, pilot, "backslash")

    watch([leaky.folder], scenario, clock=clock)


def test_space_stands_still_and_plays_on(leaky: Leaky) -> None:
    """In the past it does what P does; the process is not paused by it."""
    clock = FrozenClock()

    async def scenario(app: WatchApp, pilot: Pilot[int]) -> None:
        await press(app, pilot, "left_curly_bracket")
        await pilot.press("space")
        await until_shown(pilot, "▶ 1x")
        await played(pilot, clock, lambda: event_shown(app) > 10, "it plays")
        await pilot.press("space")
        await until(pilot, lambda: "▶" not in screen_text(app))
        await settled(app, pilot)  # the step that was under way
        here = event_shown(app)
        clock.advance(20 * SECOND)
        await press(app, pilot, "2", "1")
        assert event_shown(app) == here
        assert not main_of(app).spec.paused
        await pilot.press("P")
        await until_shown(pilot, "▶ 1x")
        await press(app, pilot, "right_square_bracket")
        assert "▶" not in screen_text(app)  # who steps has stopped

    watch([leaky.folder], scenario, clock=clock)


def test_faster_and_slower(leaky: Leaky) -> None:
    """) and ( change the speed, and begin to play."""
    clock = FrozenClock()

    async def scenario(app: WatchApp, pilot: Pilot[int]) -> None:
        await press(app, pilot, "left_curly_bracket")
        await pilot.press("right_parenthesis")
        await until_shown(pilot, "▶ 4x")
        await played(pilot, clock, lambda: event_shown(app) > 20, "it plays")
        await pilot.press("left_parenthesis", "left_parenthesis", "left_parenthesis")
        await until_shown(pilot, "▶ 1/100x")

    watch([leaky.folder], scenario, clock=clock)


def test_the_cursor_has_the_keys_while_nothing_was_open_yet(leaky: Leaky) -> None:
    """An empty table does not lose them to the list of processes."""
    clock = FrozenClock()

    async def scenario(app: WatchApp, pilot: Pilot[int]) -> None:
        await press(app, pilot, "slash", *"connect", "enter", "2", "left_curly_bracket")
        assert "No handle" in screen_text(app) or "Nothing" in screen_text(app)
        assert main_of(app).table.has_focus
        await pilot.press("P")
        await played(pilot, clock, lambda: main_of(app).table.rows, "they are opened")
        assert main_of(app).table.has_focus
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(app.screen, DetailScreen))
        await until_shown(pilot, "> Handles > #")
        assert event_shown(app)
        await pilot.press("P")
        await until(pilot, lambda: "▶" not in screen_text(app))
        await settled(app, pilot)  # the step that was under way
        here = event_shown(app)
        await pilot.press("left_square_bracket")
        await until(pilot, lambda: event_shown(app) == here - 1)
        await press(app, pilot, "left_curly_bracket")
        await until_shown(pilot, "it was not open at this moment")
        await pilot.press("backslash")
        await until_shown(pilot, "● LIVE")

    watch([leaky.folder], scenario, clock=clock)


def test_a_quiet_stretch_is_skipped() -> None:
    """After half a second without an event it goes on with the next one."""
    player = Player()
    player.play(0)
    assert player.step(0, 100 * SECOND, 7) == f"@{100 * SECOND}"
    assert (
        player.step(400 * MILLISECOND, 100 * SECOND, 7) == f"@{100 * SECOND + 400 * MILLISECOND}"
    )
    assert player.step(600 * MILLISECOND, 100 * SECOND, 7) == "+1"
    # The next one was ten minutes later: from there on in time again.
    later = 700 * SECOND
    assert player.step(700 * MILLISECOND, later, 8) == f"@{later}"
    assert player.step(800 * MILLISECOND, later, 8) == f"@{later + 100 * MILLISECOND}"


@given(st.lists(st.sampled_from([-1, 1]), max_size=30))
def test_speeds_stay_among_those_there_are(steps: list[int]) -> None:
    """And each has its word."""
    player = Player()
    player.play(0)
    for step in steps:
        player.faster(step, 0, 0)
        assert re.fullmatch(r"▶ (1/)?\d+x", player.word)
    assert len(SPEEDS) == len(set(SPEEDS))
