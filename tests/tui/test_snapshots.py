"""Whole screens against stored ones, in tests/tui/snapshots.

    SAFEHANDLE_UPDATE_SNAPSHOTS=1 pytest tests/tui/test_snapshots.py

stores what is shown now; `git diff` then shows what has become different.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from safehandle_tui.screens.main import MainScreen
from safehandle_tui.watch import WatchApp
from support_screens import (
    Leaky,
    check_snapshot,
    leaky_session,
    screen_text,
    steady,
    until,
    until_shown,
    watch,
)
from textual.pilot import Pilot

SNAPSHOTS = Path(__file__).parent / "snapshots"
SIZES = [(120, 36), (80, 24), (60, 16)]


async def compare(app: WatchApp, pilot: Pilot[int], name: str) -> None:
    """Waits for the latest view and compares."""
    main = app.screen_stack[0]
    assert isinstance(main, MainScreen)
    await pilot.pause()
    await until(pilot, lambda: app.view is not None and app.view.spec == main.spec)
    await pilot.pause()
    width, height = app.size
    check_snapshot(SNAPSHOTS, f"{name}-{width}x{height}", steady(screen_text(app)))


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(
    ("name", "keys"),
    [
        ("sites", ()),
        ("handles", ("2",)),
        ("drilled", ("j", "k", "enter")),
        ("page", ("enter", "enter")),
        ("filter", ("slash", *"kind:pipe")),
        ("bad-filter", ("slash", *"age>5")),
        ("help", ("question_mark",)),
        ("paused-ended", ("c", "space", "2")),
        ("tree", ("3",)),
        ("kinds", ("4",)),
        ("alarms", ("5",)),
        ("generations", ("m", "6")),
        ("events", ("7",)),
        ("replay", ("left_curly_bracket", "2")),
    ],
)
def test_live(leaky: Leaky, size: tuple[int, int], name: str, keys: tuple[str, ...]) -> None:
    """The leaky service while it runs."""

    async def scenario(app: WatchApp, pilot: Pilot[int]) -> None:
        await until_shown(pilot, "● LIVE")
        for key in keys:
            await pilot.press(key)
            await pilot.pause()
        if name == "page":
            await until_shown(pilot, "def connect(tenant):")
        await compare(app, pilot, name)

    watch([leaky.folder], scenario, size=size)


@pytest.mark.parametrize("size", SIZES)
def test_post_mortem(sessions_root: Path, size: tuple[int, int]) -> None:
    """The same service after it was killed."""
    leaky = leaky_session(sessions_root, alive=False)
    leaky.book.fields["pid"] = 4711
    leaky.book.fields["boot_id"] = b"another boot"
    leaky.save()

    async def scenario(app: WatchApp, pilot: Pilot[int]) -> None:
        await until_shown(pilot, "✗ DIED")
        await compare(app, pilot, "died")

    watch([leaky.path], scenario, size=size)


@pytest.mark.parametrize("size", SIZES)
def test_waiting(size: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    """Before the first process."""
    monkeypatch.setenv("SAFEHANDLE_DEBUG_DIR", "/nonexistent/runs")

    async def scenario(app: WatchApp, pilot: Pilot[int]) -> None:
        await until_shown(pilot, "watching /nonexistent/runs")
        await compare(app, pilot, "waiting")

    watch([], scenario, size=size)
