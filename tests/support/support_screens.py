"""What tests of the screens share: a made-up session, the screen as text.

`leaky_session` is a small service with one line that leaks.  Its source files
are written to disk and compiled, so that stacks, lines and sources are real.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import textwrap
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import CodeType
from typing import Any

from safehandle_tui.model.clock import Clock
from safehandle_tui.screens.main import MainScreen
from safehandle_tui.watch import WatchApp
from safehandle_tui.widgets.table import Table
from support_recording import (
    MILLISECOND,
    STARTED_NS,
    RecordingBuilder,
    last_line_lasti,
    own_start_ticks,
)
from textual.app import App
from textual.pilot import Pilot

from safehandle_debug.recording.format import Ended, Ending, EventKind, Flag

SECOND = 1000 * MILLISECOND
SESSION = "20231114T221320.000000-4711"
BOUND_S = 30.0  # a condition that takes longer has failed
UPDATE = "SAFEHANDLE_UPDATE_SNAPSHOTS"

SOURCES = {
    "app/main.py": """\
        from app import api


        def main():
            for request in api.requests():
                api.serve(request)
        """,
    "app/api.py": """\
        from app import db


        def serve(request):
            connection = db.connect(request.tenant)
            return connection.send(request.path)
        """,
    "app/db.py": """\
        from safehandle_debug import SafeFileHandle


        def connect(tenant):
            for attempt in range(3):
                handle = SafeFileHandle.open(f"/srv/{tenant}")


        def send(handle, path):
            handle.dangerous_add_ref()
            return handle.write(path)
        """,
    "app/config.py": """\
        def load():
            return SafeFileHandle.open("/etc/app.toml")
        """,
    "app/report.py": """\
        def export(rows):
            reader, writer = SafePipeHandle.pair()


        def finish(handle):
            handle.dangerous_release()
        """,
}


class FrozenClock(Clock):
    """Clocks that stand still until they are moved."""

    def __init__(self, wall_ns: int = STARTED_NS + 45 * SECOND) -> None:
        self.wall = wall_ns
        self.steady = 0

    def wall_ns(self) -> int:
        return self.wall

    def steady_ns(self) -> int:
        return self.steady

    def advance(self, nanoseconds: int) -> None:
        """Lets time pass on both clocks."""
        self.wall += nanoseconds
        self.steady += nanoseconds


class Sources:
    """The made-up program on disk, and stacks of its functions."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._codes: dict[str, CodeType] = {}
        for name, text in SOURCES.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(textwrap.dedent(text))
            module = compile(path.read_text(), str(path), "exec")
            for code in module.co_consts:
                if isinstance(code, CodeType):
                    self._codes[code.co_name] = code

    def stack(self, book: RecordingBuilder, *functions: str) -> int:
        """A stack in a recording, innermost function first, each at its last
        line."""
        codes = [self._codes[name] for name in functions]
        return book.stack([(code, last_line_lasti(code)) for code in codes])


@dataclass(slots=True)
class Leaky:
    """The made-up session: its recording can grow and end."""

    folder: Path  # of the session
    sources: Sources
    book: RecordingBuilder
    path: Path

    def save(self) -> Path:
        """Writes what the builder has so far."""
        return self.book.write(self.path)

    def tell(self, **more: object) -> None:
        """Lets the process say more of itself."""
        self.book.fields["meta"] = self.book.string(meta_of(self.sources, **more))
        self.save()

    def leak(self, number: int, *, every_ns: int = SECOND) -> list[int]:
        """Opens handles at the leaking line; returns their serials."""
        stack = self.sources.stack(self.book, "connect", "serve", "main")
        serials = []
        for _ in range(number):
            self.book.ticks += every_ns
            serial = self.book.acquire(
                value=10 + self.book.serial, stack=stack, detail=f"/srv/tenant-{self.book.serial}"
            )
            serials.append(serial)
        return serials


def meta_of(sources: Sources, **more: object) -> str:
    """What the made-up program says of itself; the same on all Pythons."""
    meta = {
        "argv": ["app/main.py", "--port", "8080"],
        "executable": "/usr/bin/python3",
        "cwd": str(sources.folder),
        "python": "3.11.7",
        "session": SESSION,
        "suppressions": None,
        **more,
    }
    return json.dumps(meta)


def builder(sources: Sources, *, alive: bool, **options: Any) -> RecordingBuilder:
    """An empty recording of the made-up program."""
    return RecordingBuilder(meta=meta_of(sources), alive=alive, **options)


def leaky_session(root: Path, *, leaks: int = 40, alive: bool = True) -> Leaky:
    """A session of one process with `leaks` handles open at app/db.py:6, one
    of them with an add-ref that was never released, a pipe pair, a handle
    kept since an import, a double release and one that ended well."""
    folder = root / SESSION
    folder.mkdir(mode=0o700, parents=True)
    sources = Sources(root / "code")
    book = builder(sources, alive=alive)
    name = f"{os.getpid()}-{own_start_ticks()}.shd" if alive else "4711-42.shd"
    path = folder / name
    leaky = Leaky(folder, sources, book, path)
    load = sources.stack(book, "load", "main")
    book.acquire(value=3, stack=load, detail="/etc/app.toml", flags=Flag.IMPORTING)
    export = sources.stack(book, "export", "main")
    worker = book.thread("worker-1")
    for value in (4, 5):
        book.acquire("SafePipeHandle", value=value, stack=export, thread=worker, task="export")
    fine = book.acquire(value=6, stack=load, detail="/etc/hosts")
    book.close(fine, Ending.EXITED, stack=load)
    twice = book.acquire(value=6, stack=export, detail="/tmp/report.csv")
    finish = sources.stack(book, "finish", "export", "main")
    book.close(twice, stack=finish)
    book.problem(EventKind.DOUBLE_RELEASE, twice, stack=finish)
    serials = leaky.leak(leaks)
    send = sources.stack(book, "send", "serve", "main")
    for serial in serials[:1]:
        book.add_ref(serial, stack=send)
        book.release(serial, stack=send)
        book.add_ref(serial, stack=send)
    leaky.save()
    return leaky


def end(leaky: Leaky, exit_code: int = 0, ended: Ended = Ended.EXIT) -> None:
    """Lets the process of the session end."""
    leaky.book.end(exit_code, ended)
    leaky.save()


Scenario = Callable[[WatchApp, Pilot[int]], Awaitable[None]]


def watch(
    targets: Sequence[str | Path],
    scenario: Scenario,
    *,
    size: tuple[int, int] = (120, 36),
    clock: Clock | None = None,
    seen: bool = True,
) -> WatchApp:
    """Runs the app without a terminal and plays the scenario with it.

    Args:
        seen: wait for the first view before the scenario begins."""

    async def play() -> WatchApp:
        app = WatchApp([str(target) for target in targets], clock=clock or FrozenClock())
        async with app.run_test(size=size, notifications=True) as pilot:
            if seen:
                await until(pilot, lambda: app.view is not None, "a first view")
                await pilot.pause()
            await scenario(app, pilot)
        return app

    return asyncio.run(play())


def screen_text(app: App[int]) -> str:
    """The screen as it is, one line a row, without trailing blanks."""
    strips = app.screen._compositor.render_strips()
    lines = ["".join(segment.text for segment in strip).rstrip() for strip in strips]
    return "\n".join(lines) + "\n"


def steady(text: str) -> str:
    """A screen without what differs from run to run: our own pid, how many
    descriptors we have, and what they are."""
    lines, says = [], False
    for line in text.splitlines():
        if " fds " in line:
            line = re.sub(r" {2,}", "  ", re.sub(r" +fds [\d,]+/[\d,]+$", "", line))
        if f" {os.getpid()} > " in line:
            line = re.sub(r" {2,}", "  ", line).replace(f" {os.getpid()} > ", " 4711 > ")
        says = (says or "│ the system says" in line) and "│" in line
        lines.append(line.partition("│")[0].rstrip() if says else line)
    return "".join(f"{line}\n" for line in lines).replace(f"{os.getpid():>7}", "   4711")


async def until(pilot: Pilot[int], condition: Callable[[], object], what: str = "") -> None:
    """Lets the app run until the condition holds.

    Raises AssertionError with the screen when it does not in BOUND_S."""
    clock = asyncio.get_running_loop().time
    last = clock() + BOUND_S
    while not condition():
        in_time = pilot.app._exception is None and clock() < last
        assert in_time, f"{what or 'the condition'} never held\n{screen_text(pilot.app)}"
        await pilot.pause(0.01)


async def until_shown(pilot: Pilot[int], text: str) -> str:
    """Lets the app run until the text is on the screen; returns the screen."""
    await until(pilot, lambda: text in screen_text(pilot.app), f"{text!r}")
    return screen_text(pilot.app)


def main_of(app: WatchApp) -> MainScreen:
    """The main screen, wherever the app is."""
    screen = app.screen_stack[0]
    assert isinstance(screen, MainScreen)
    return screen


def table_of(app: WatchApp) -> Table:
    """The table of sites or handles."""
    return main_of(app).query_one("#table", Table)


async def settled(app: WatchApp, pilot: Pilot[int]) -> None:
    """Waits until what is shown is what was asked for."""
    await pilot.pause()
    await until(pilot, lambda: app.view is not None and app.view.spec == main_of(app).spec)
    await pilot.pause()


async def press(app: WatchApp, pilot: Pilot[int], *keys: str) -> str:
    """Presses keys, waits until they took effect; returns the screen."""
    for key in keys:
        await pilot.press(key)
        await settled(app, pilot)
    return screen_text(app)


def check_snapshot(folder: Path, name: str, text: str) -> None:
    """Compares a screen with the stored one.

    SAFEHANDLE_UPDATE_SNAPSHOTS=1 stores it instead: look at the difference
    before it is committed."""
    path = folder / f"{name}.txt"
    if os.environ.get(UPDATE) == "1":
        path.write_text(text)
    assert path.exists(), f"no snapshot {path}: run with {UPDATE}=1"
    assert text == path.read_text(), f"{path.name} differs; {UPDATE}=1 stores the new one"
