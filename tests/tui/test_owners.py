"""Who keeps a handle alive: asked on request, and told in every state."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import pytest
from safehandle_tui.screens.detail import DetailScreen
from safehandle_tui.watch import WatchApp
from support_screens import (
    SECOND,
    FrozenClock,
    Leaky,
    end,
    leaky_session,
    press,
    screen_text,
    until_shown,
    watch,
)
from textual.pilot import Pilot

from safehandle_debug.recording import open_recording
from safehandle_debug.recording.asking import ask, withdraw
from safehandle_debug.recording.format import ASK_OFFSET, Ended


def held(*serials: int, by: str = "app.db.RETRIES[417]") -> list[dict[str, object]]:
    """What a process says of handles, as it stands in its recording."""
    return [
        {
            "serial": serial,
            "chains": [[[by, "SafeFileHandle"]]],
            "cycle": [],
            "cut": None,
            "beyond": None,
        }
        for serial in serials
    ]


def question(leaky: Leaky) -> int:
    """How often the process has been asked."""
    with leaky.path.open("rb") as file:
        file.seek(ASK_OFFSET)
        (number,) = struct.unpack("=I", file.read(4))
    return int(number)


def answer(leaky: Leaky, *serials: int, number: int, by: str = "app.db.RETRIES[417]") -> None:
    """The process answers."""
    asked = question(leaky)
    leaky.tell(holders=held(*serials, by=by), holders_answer=number)
    with leaky.path.open("r+b") as file:  # what was asked it never writes itself
        file.seek(ASK_OFFSET)
        file.write(struct.pack("=I", asked))


def test_it_asks_and_shows_the_answer(leaky: Leaky) -> None:
    """On a site, on a handle, and on its page; nobody is asked before o."""
    clock = FrozenClock()

    async def scenario(app: WatchApp, pilot: Pilot[int]) -> None:
        assert "o asks the program" in screen_text(app)
        assert question(leaky) == 0
        shown = await press(app, pilot, "o")
        assert question(leaky) == 1
        assert "asked 0ms ago; it answers when it next opens or closes" in shown
        clock.advance(3 * SECOND)
        await until_shown(pilot, "asked 3.0s ago;")
        answer(leaky, 6, number=1)
        shown = await until_shown(pilot, "app.db.RETRIES[417]")
        assert "told 0ms ago; o asks again" in shown
        await press(app, pilot, "2", "j", "j", "j", "enter")
        shown = await until_shown(pilot, "told 0ms ago")
        assert isinstance(app.screen, DetailScreen)
        assert "app.db.RETRIES[417]" in shown
        await pilot.press("o")
        await until_shown(pilot, "asked 0ms ago")
        assert question(leaky) == 2
        answer(leaky, 6, number=2, by="app.db.POOL")
        await until_shown(pilot, "app.db.POOL")

    watch([leaky.folder], scenario, clock=clock, size=(120, 50))


def test_a_question_can_be_taken_back(leaky: Leaky) -> None:
    """A program that does nothing is said to do nothing; Esc stops the waiting."""
    clock = FrozenClock()

    async def scenario(app: WatchApp, pilot: Pilot[int]) -> None:
        await press(app, pilot, "o")
        clock.advance(4 * SECOND)
        await until_shown(pilot, "it has done neither since. Esc takes")
        await press(app, pilot, "escape")
        assert "o asks the program" in screen_text(app)
        assert question(leaky) == 0
        await press(app, pilot, "2", "o", "enter")
        assert isinstance(app.screen, DetailScreen)
        await until_shown(pilot, "asked 0ms ago")
        assert question(leaky) == 1
        await press(app, pilot, "escape")
        assert isinstance(app.screen, DetailScreen)
        assert question(leaky) == 0
        await pilot.press("escape")
        await until_shown(pilot, "> Handles ")

    watch([leaky.folder], scenario, clock=clock, size=(240, 50))


def test_what_somebody_else_asked_stays_asked(leaky: Leaky) -> None:
    """Only the own question can be taken back."""
    recording = open_recording(leaky.path)
    mine, other = ask(recording), ask(recording)
    withdraw(recording, mine)
    assert question(leaky) == other
    withdraw(recording, other)
    assert question(leaky) == mine
    recording.close()


def test_one_like_it_stands_for_a_handle(leaky: Leaky) -> None:
    """The process looks for the oldest of each place, and that is said."""
    answer(leaky, 6, number=0)

    async def scenario(app: WatchApp, pilot: Pilot[int]) -> None:
        shown = await press(app, pilot, "2", "end", "k")
        assert "told of #6, opened at the same place:" in shown
        assert "app.db.RETRIES[417]" in shown
        assert "as it was told before; o asks again" in shown
        shown = await press(app, pilot, "home")
        assert "RETRIES" not in shown
        assert "o asks the program" in shown

    watch([leaky.folder], scenario, size=(120, 50))


def test_one_that_was_started_so_is_not_asked(leaky: Leaky) -> None:
    """The words say why, and nothing is written."""
    leaky.tell(ask=False)

    async def scenario(app: WatchApp, pilot: Pilot[int]) -> None:
        await press(app, pilot, "o")
        shown = await until_shown(pilot, "it was started with")
        assert "ask=off" in shown
        assert question(leaky) == 0

    watch([leaky.folder], scenario)


@pytest.mark.parametrize(
    ("ended", "told", "words"),
    [
        (Ended.EXIT, True, "when the program ended"),
        (Ended.EXIT, False, "the program left no word of it when it ended"),
        (Ended.SIGNAL, False, "the program was killed and could not look"),
    ],
)
def test_of_one_that_ended_the_last_word_is_shown(
    leaky: Leaky, ended: Ended, told: bool, words: str
) -> None:
    """It is not asked any more."""
    if told:
        answer(leaky, 6, number=0)
    end(leaky, 9 if ended is Ended.SIGNAL else 0, ended)

    async def scenario(app: WatchApp, pilot: Pilot[int]) -> None:
        shown = await press(app, pilot, "o")
        assert words in " ".join(shown.replace("│", " ").split())
        assert ("app.db.RETRIES[417]" in shown) == told
        await until_shown(pilot, "it has ended: what it left word of is below")
        assert question(leaky) == 0

    watch([leaky.path], scenario)


def test_nobody_is_asked_in_the_past(leaky: Leaky) -> None:
    """Who held what then nobody knows any more."""
    answer(leaky, 6, number=0)

    async def scenario(app: WatchApp, pilot: Pilot[int]) -> None:
        shown = await press(app, pilot, "left_square_bracket", "2", "end")
        assert "kept alive by" not in shown
        await pilot.press("o")
        await until_shown(pilot, "nobody can be asked in the past")
        assert question(leaky) == 0

    watch([leaky.folder], scenario)


def test_paused_it_is_asked_and_shown_later(leaky: Leaky) -> None:
    """Space goes on, and then the answer is there."""

    async def scenario(app: WatchApp, pilot: Pilot[int]) -> None:
        await press(app, pilot, "space", "o")
        assert question(leaky) == 1
        answer(leaky, 6, number=1)
        await until_shown(pilot, "the answer is shown once Space goes on")
        assert "RETRIES" not in screen_text(app)
        await press(app, pilot, "space")
        await until_shown(pilot, "app.db.RETRIES[417]")

    watch([leaky.folder], scenario)


def test_o_elsewhere_says_what_to_choose(leaky: Leaky) -> None:
    """Kinds hold nothing that could be asked for."""

    async def scenario(app: WatchApp, pilot: Pilot[int]) -> None:
        await press(app, pilot, "4", "o")
        await until_shown(pilot, "choose a handle or a site")

    watch([leaky.folder], scenario)


def test_a_recording_that_may_not_be_written(sessions_root: Path) -> None:
    """A sentence, and the screen goes on."""
    leaky = leaky_session(sessions_root)

    async def scenario(app: WatchApp, pilot: Pilot[int]) -> None:
        moved = leaky.path.with_suffix(".away")
        leaky.path.rename(moved)
        leaky.path.symlink_to(moved)  # a link is never written through
        await press(app, pilot, "o")
        await until_shown(pilot, f"process {os.getpid()} cannot be asked")
        assert "40 open" in screen_text(app)

    watch([leaky.path], scenario, size=(240, 50))


def test_the_page_goes_along(
    leaky: Leaky, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Copied, and written into a file, with what holds the handle and what the
    system says of it; u unfolds libraries."""
    monkeypatch.chdir(tmp_path)
    answer(leaky, 6, number=0)

    async def scenario(app: WatchApp, pilot: Pilot[int]) -> None:
        await press(app, pilot, "enter", "enter")
        await until_shown(pilot, "app.db.RETRIES[417]")
        await pilot.press("y")
        await until_shown(pilot, "copied")
        assert "app.db.RETRIES[417]" in app.clipboard
        assert "the system says" in app.clipboard
        await pilot.press("x", "u")
        await until_shown(pilot, "written to")
        (path,) = tmp_path.glob("safehandle-handle-6-*.txt")
        assert path.read_text().startswith(" #6 SafeFileHandle")
        await pilot.press("ctrl+p")
        await pilot.press("escape", "escape")
        await until_shown(pilot, "> Handles")

    watch([leaky.folder], scenario)
