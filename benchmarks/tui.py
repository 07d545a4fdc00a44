"""What the screen costs whoever looks: reading, seeking, painting, doing nothing.

    python benchmarks/tui.py

Everything is CPU time of this process, on a real recording of two million
events; ratios and the targets beside them are what counts.
"""

from __future__ import annotations

import asyncio
import os
import pathlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from safehandle_tui.model.columns import SITE_COLUMNS, Sort
from safehandle_tui.model.feed import Feed, ViewSpec
from safehandle_tui.watch import WatchApp

from safehandle_debug.ledger import Ledger
from safehandle_debug.recording import open_recording

PAIRS = 1_000_000
PROGRAM = f"""
import os
from safehandle_debug import SafeFileHandle
kept = [SafeFileHandle.open("/dev/null", os.O_RDONLY) for _ in range(100)]
for _ in range({PAIRS}):
    SafeFileHandle.open("/dev/null", os.O_RDONLY).close()
"""
FEW, MANY = 1_000, 1_000_000
FRAMES = 30
IDLE_S = 10.0


@dataclass(frozen=True, slots=True)
class Repeated:
    """A million rows that take no memory: each is the same but for its key."""

    row: object
    length: int

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, at: int) -> object:
        return self.row

    def __iter__(self) -> Iterator[object]:
        return (self.row for _ in range(self.length))


def spent(work: Callable[[], object]) -> float:
    """CPU seconds of one call."""
    began = time.process_time()
    work()
    return time.process_time() - began


def record(folder: str) -> pathlib.Path:
    """The recording of a program that opens and closes two million times."""
    environment = {**os.environ, "SAFEHANDLE_DEBUG_DIR": folder}
    environment["SAFEHANDLE_DEBUG"] = "full,fds=off,size=1G"
    subprocess.run([sys.executable, "-c", PROGRAM], env=environment, check=True)
    (path,) = pathlib.Path(folder).rglob("*.shd")
    return path


async def painting(path: pathlib.Path) -> tuple[float, float, float]:
    """Seconds for a full repaint of few and of many rows; idle share of a core."""
    app = WatchApp([str(path)])
    async with app.run_test(size=(120, 36)) as pilot:
        while app.view is None or not app.view.rows:
            await pilot.pause(0.05)
        table = app.query_one("#table")
        row = app.view.rows[0]
        seconds = []
        for number in (FEW, MANY):
            rows = Repeated(row, number)
            table.show(SITE_COLUMNS, frozenset(), rows, Sort("open", True), 0, cursor=0)  # type: ignore[attr-defined]
            await pilot.pause()
            best = 1.0
            for _ in range(FRAMES):
                table.refresh()
                best = min(best, spent(lambda: [table.render_line(y) for y in range(30)]))
            seconds.append(best)
        began, cpu = time.monotonic(), time.process_time()
        await pilot.pause(IDLE_S)
        idle = (time.process_time() - cpu) / (time.monotonic() - began)
    return seconds[0], seconds[1], idle


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = record(folder)
        with Ledger(open_recording(path)) as ledger:
            read = spent(ledger.refresh)
            events = ledger.counts.events
        feed = Feed([str(path)])
        first = spent(lambda: feed.poll(ViewSpec()))
        feed.poll(ViewSpec())  # large recordings are read with the second
        spec = ViewSpec(mode="handles", sort=Sort("age", True))
        middle = replace(spec, moment=(str(path), events // 2))
        feed.poll(middle)
        seek = spent(lambda: feed.poll(replace(spec, moment=(str(path), events // 3))))
        feed.close()
        few, many, idle = asyncio.run(painting(path))
    print(f"read {events:,} events      {read:6.2f} s   {read * 1e9 / events:4.0f} ns an event")
    print(f"first view                   {first:6.2f} s   target 0.35")
    print(f"seek to any event            {seek * 1e3:6.0f} ms  target 50")
    print(f"a screen of {FEW:,} rows       {few * 1e3:6.1f} ms")
    print(f"a screen of {MANY:,} rows   {many * 1e3:6.1f} ms  {many / few:.2f}x, target 1.2x")
    print(f"nothing happens              {idle:6.2%}    target 0.50%")


if __name__ == "__main__":
    main()
