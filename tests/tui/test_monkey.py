"""Random keys, clicks, wheels and sizes: nothing breaks, and Esc leads home.

    SAFEHANDLE_MONKEY=20000 pytest tests/tui/test_monkey.py

goes on for longer than there is time for each day.
"""

from __future__ import annotations

import asyncio
import os
import random
from collections import Counter
from contextlib import suppress
from pathlib import Path

import pytest
from safehandle_tui.keys import KEYS, MOVES
from safehandle_tui.screens.small import is_too_small
from safehandle_tui.watch import WatchApp
from support_samples import watched
from support_screens import Leaky, end, main_of, screen_text, settled, until
from textual.events import MouseScrollDown, MouseScrollUp
from textual.pilot import OutOfBounds, Pilot

STEPS = int(os.environ.get("SAFEHANDLE_MONKEY", "80"))
SIZES = [(120, 36), (80, 24), (60, 16), (240, 60), (30, 8), (1, 1)]
NAMES = [name for key in (*KEYS, *MOVES) for name in key.keys.split(",")]
LETTERS = [*'abkl01:>!"/|-5', "space", "left", "right", "up", "down", "shift+tab", "f5"]
SAMPLES = ["stale_number", "leak_in_cycle", "double_release", "unbalanced_add_ref"]


class Unending(WatchApp):
    """Whoever asks it to end is only counted."""

    ends = 0
    CSS_PATH = str(Path(__import__("safehandle_tui").__file__).with_name("app.tcss"))

    async def action_quit(self) -> None:
        self.ends += 1


class Monkey:
    """Does whatever comes to its mind."""

    def __init__(self, app: WatchApp, pilot: Pilot[int], seed: int) -> None:
        self.app, self.pilot = app, pilot
        self.rng = random.Random(seed)
        self.done: list[str] = []

    async def step(self) -> None:
        """Does one thing, without waiting for what comes of it more often than not."""
        rng, (width, height) = self.rng, self.app.size
        what = rng.choices(["key", "letter", "click", "wheel", "size"], [60, 10, 15, 10, 2])[0]
        at = (rng.randrange(max(1, width)), rng.randrange(max(1, height)))
        if what == "key":
            name = rng.choice(NAMES)
            self.done.append(name)
            await self.pilot.press(name)
        elif what == "letter":
            name = rng.choice(LETTERS)
            self.done.append(name)
            await self.pilot.press(name)
        elif what == "click":
            times = rng.choice([1, 1, 2, 3])
            self.done.append(f"click {at} {times}")
            with suppress(OutOfBounds):  # it has become smaller just now
                await self.pilot.click(offset=at, times=times)
        elif what == "wheel":
            self.done.append(f"wheel {at}")
            kind = rng.choice([MouseScrollDown, MouseScrollUp])
            with suppress(OutOfBounds):
                await self.pilot._post_mouse_events([kind], offset=at)
        else:
            size = rng.choice(SIZES)
            self.done.append(f"size {size}")
            await self.pilot.resize_terminal(*size)

    async def home(self) -> None:
        """Presses Esc until there is nothing to go back from."""
        if is_too_small(*self.app.size):
            await self.pilot.resize_terminal(120, 36)
        main = main_of(self.app)
        for _ in range(120):
            spec = main.spec
            plain = (spec.filter.text, spec.moment, spec.site, main.layout_number)
            if self.app.screen is main and spec.mode == "sites" and not any(plain):
                return
            await self.pilot.press("escape")
            await settled(self.app, self.pilot)
        raise AssertionError(f"Esc leads nowhere:\n{screen_text(self.app)}")


def play(targets: list[str | Path], seed: int, leaky: Leaky | None = None) -> Counter[str]:
    """So many steps; returns what was done."""

    async def run() -> Counter[str]:
        app = Unending([str(target) for target in targets])
        async with app.run_test(size=(120, 36), notifications=True) as pilot:
            await until(pilot, lambda: app.view is not None, "a first view")
            monkey = Monkey(app, pilot, seed)
            for number in range(STEPS):
                try:
                    await monkey.step()
                except Exception as error:
                    raise AssertionError(f"after {monkey.done[-20:]}: {error!r}") from error
                assert app._exception is None, f"after {monkey.done[-20:]}"
                if leaky is not None and number % 10 == 0:
                    leaky.leak(1)
                    leaky.save()
                if leaky is not None and number == STEPS // 2:
                    end(leaky)
                if number % 100 == 99:
                    await monkey.home()
            await monkey.home()
            assert "> Suspects" in screen_text(app)
        return Counter(monkey.done)

    return asyncio.run(run())


@pytest.fixture(autouse=True)
def harmless(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it exports goes here, and its editor does nothing."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setenv("EDITOR", "true")
    monkeypatch.delenv("VISUAL", raising=False)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2])
def test_on_a_program_that_leaks_and_ends(leaky: Leaky, seed: int) -> None:
    """Its recording grows meanwhile."""
    done = play([leaky.folder], seed, leaky)
    assert len(done) > STEPS // 10


@pytest.mark.slow
@pytest.mark.parametrize("name", SAMPLES)
def test_on_the_samples(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Real recordings, with alarms of all kinds."""
    (tmp_path / "run").mkdir()
    sessions = watched(f"{name}.py", [], tmp_path / "run").sessions
    monkeypatch.setenv("SAFEHANDLE_DEBUG_DIR", str(sessions))
    play([], len(name))
