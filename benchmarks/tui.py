"""What the screen costs whoever looks, and the program that is looked at.

    python benchmarks/tui.py [name...]

Everything is CPU time, on real recordings and live programs; the ratios and the
targets beside them are what counts.  Takes some minutes and 1 GB in the folder
for temporary files.
"""

from __future__ import annotations

import os
import pathlib
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial

from measure import program_ns
from safehandle_tui.model.columns import HANDLE_COLUMNS, Sort, lay_out, row_line
from safehandle_tui.model.feed import Feed, View, ViewSpec
from safehandle_tui.model.shelf import HandleRows, Shelf

from safehandle_debug.ledger import Ledger, parse_filter
from safehandle_debug.recording import open_recording

FEW, MANY = 1_000, 1_000_000  # live handles
EVENTS = 10_000_000
ALIVE = 10_000  # handles that are open at once while those are recorded
RATE = 100_000  # events a second
SCREEN, CELLS = 34, 120  # rows, and their length
FRAMES = 300
SECONDS = 10.0
VIEWERS = 4
PAIRS = 300_000  # handles that the watched program opens and closes
HANDLES = ViewSpec(mode="handles", sort=Sort("age", True))

# A handle that costs nothing but its events.
TOKEN = """
import os, signal, sys, time
from collections import deque
from safehandle_debug import SafeHandle
class Token(SafeHandle):
    __slots__ = ()
    is_invalid = False
    def __init__(self, value):
        super().__init__(-1)
        self.set_handle(value)
    def release_handle(self):
        return True
def kept(value): return Token(value)
def used(value): return Token(value)
count = int(sys.argv[1])
"""
LIVE = """
held = [kept(n) if n % 3 else used(n) for n in range(count)]
os.kill(os.getpid(), signal.SIGKILL)
"""
LONG = f"""
held = deque()
for n in range(count // 2):
    held.append(used(n))
    if len(held) > {ALIVE}: held.popleft().close()
os.kill(os.getpid(), signal.SIGKILL)
"""
FLOW = f"""
held = deque(kept(n) for n in range({ALIVE}))
print(os.getpid(), flush=True)
began, n = time.monotonic(), 0
if not count: signal.pause()
while True:
    for _ in range(count // 200):
        n += 1
        held.append(used(n))
        held.popleft().close()
    ahead = began + n * 2 / count - time.monotonic()
    if ahead > 0: time.sleep(ahead)
"""
WORK = """
held = [kept(n) for n in range(100)]
print(os.getpid(), flush=True)
sys.stdin.readline()
began = time.process_time()
for n in range(count): used(n).close()
print(time.process_time() - began, flush=True)
"""
VIEWER = pathlib.Path(__file__).with_name("tui_viewer.py")
FLOOR = """
from textual.app import App
class Empty(App):
    def on_mount(self): self.call_after_refresh(self.exit, 0)
Empty().run(headless=True, size=(120, 36))
"""


def environment(folder: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    return {**kept, "SAFEHANDLE_DEBUG_DIR": folder, "SAFEHANDLE_DEBUG": ""}


def recorded(program: str, count: int, folder: str) -> pathlib.Path:
    """The recording of a program that was killed at its end."""
    place = tempfile.mkdtemp(dir=folder)
    variables = {**environment(place), "SAFEHANDLE_DEBUG": "full,fds=off,size=2G"}
    subprocess.run([sys.executable, "-c", TOKEN + program, str(count)], env=variables)
    (path,) = pathlib.Path(place).rglob("*.shd")
    return path


@contextmanager
def running(program: str, count: int, folder: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A live program under watch, and its pid as a target."""
    variables = {**environment(folder), "SAFEHANDLE_DEBUG": "full,fds=off,size=1G"}
    command = [sys.executable, "-c", TOKEN + program, str(count)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, env=variables, text=True, stdin=pipe, stdout=pipe) as process:
        assert process.stdout is not None
        yield process, process.stdout.readline().strip()
        process.kill()


@dataclass(frozen=True, slots=True)
class Viewer:
    """A viewer in a process of its own; its lines come through a pipe."""

    process: subprocess.Popen[bytes]
    lines: Iterator[str]


@contextmanager
def viewing(target: str, folder: str, seconds: float) -> Iterator[Viewer]:
    """A viewer that sees the target, for so long."""
    read, write = os.pipe()
    os.set_inheritable(write, True)
    # It says what it has to say on descriptor 3, whatever number that is here.
    shell = f'exec "$0" "$1" "$2" {seconds} 3>&{write}'
    process = subprocess.Popen(
        ["/bin/sh", "-c", shell, sys.executable, str(VIEWER), target],
        env=environment(folder),
        pass_fds=[write],
        stdout=subprocess.DEVNULL,
    )
    os.close(write)
    with open(read) as lines, process:
        if next(lines).strip() != "seen":
            raise RuntimeError("the viewer shows nothing")
        yield Viewer(process, lines)
        process.kill()


def spent_ms(work: Callable[..., object], *arguments: object) -> float:
    """CPU milliseconds of one call."""
    began = time.process_time()
    work(*arguments)
    return (time.process_time() - began) * 1e3


def view_of(feed: Feed, spec: ViewSpec) -> View:
    view = feed.poll(spec)
    if view is None:
        raise RuntimeError("there is nothing new to show")
    return view


def tell(what: str, value: str, target: str) -> None:
    print(f"{what:<44} {value:>28}   {target}", flush=True)


def live(folder: str) -> None:
    """A table of a thousand handles, and one of a million."""
    few = screen_ms(folder, FEW)
    many = screen_ms(folder, MANY)
    tell(f"a screen of {FEW:,} handles", f"{few:.2f} ms", "")
    tell(f"a screen of {MANY:,} handles", f"{many:.2f} ms {many / few:.2f}x", "1.2x")


def screen_ms(folder: str, number: int) -> float:
    """What it takes to paint the rows at some place of the table."""
    path = recorded(LIVE, number, folder)
    feed = Feed([str(path)])
    first = spent_ms(view_of, feed, ViewSpec())
    while feed.poll(replace(ViewSpec(), marks=(time.time_ns(),))) is None:
        pass  # a large recording is read with the second view
    view = view_of(feed, HANDLES)
    if number == MANY:
        tell(f"first view of {number:,} handles", f"{first:,.0f} ms", "350 ms")
        by_site = replace(HANDLES, sort=Sort("site", False))
        tell("  sorted by site", f"{spent_ms(view_of, feed, by_site):,.0f} ms", "100 ms")
        by_value = replace(HANDLES, filter=parse_filter("value>500000"))
        tell("  half of them, by age", f"{spent_ms(view_of, feed, by_value):,.0f} ms", "100 ms")
    assert isinstance(view.rows, HandleRows)
    rng, times = random.Random(1), []
    for _ in range(FRAMES):
        rows = HandleRows(partial(same, view.rows.shelf), number)
        times.append(spent_ms(paint, rows, rng.randrange(number - SCREEN), view.now_ns))
    feed.close()
    path.unlink()
    return statistics.median(times)


def same(shelf: Shelf) -> Shelf:
    return shelf


def paint(rows: HandleRows, top: int, now_ns: int) -> None:
    layout = lay_out(HANDLE_COLUMNS, CELLS)
    for at in range(top, top + SCREEN):
        row_line(layout, rows[at], now_ns, cursor=False)


def seek(folder: str) -> None:
    """Any event of ten million, on the screens of sites and of handles."""
    path = recorded(LONG, EVENTS, folder)
    with Ledger(open_recording(path)) as ledger:
        read = spent_ms(ledger.refresh)
        events = ledger.counts.events
    tell(f"reading {events:,} events", f"{read:,.0f} ms, {read * 1e6 / events:.0f} ns each", "")
    feed = Feed([str(path)])
    first = spent_ms(view_of, feed, ViewSpec())
    tell("  first view of them", f"{first:,.0f} ms", "1,000 ms")
    view_of(feed, ViewSpec())
    rng = random.Random(1)
    for spec in (ViewSpec(), HANDLES):
        moments = [(str(path), rng.randrange(1, events)) for _ in range(30)]
        times = [spent_ms(view_of, feed, replace(spec, moment=moment)) for moment in moments]
        value = f"{statistics.median(times):.1f} ms, worst {max(times):.1f} ms"
        tell(f"  seek to any event, {spec.mode}", value, "50 ms")
    feed.close()
    path.unlink()


def follow(folder: str) -> None:
    """A program that goes on, and one that rests."""
    for rate, target in ((RATE, "10 %"), (0, "0.5 %")):
        with running(FLOW, rate, folder) as (_, pid), viewing(pid, folder, SECONDS) as viewer:
            share, views = map(float, next(viewer.lines).split())
        what = f"following {rate:,} events/s" if rate else "while nothing happens"
        tell(what, f"{share:.2%} of a core, {views:.1f} Hz", target)


def start(folder: str) -> None:
    """From nothing to the first screen."""
    path = recorded(LIVE, FEW, folder)
    variables = environment(folder)
    programs = {
        "empty": ([sys.executable, "-c", FLOOR], variables),
        "ours": ([sys.executable, str(VIEWER), str(path), "0"], variables),
    }
    times = program_ns(programs, runs=10)
    value = f"{times['ours'] / 1e6:.0f} ms {times['ours'] / times['empty']:.2f}x"
    tell(f"first screen, beside {times['empty'] / 1e6:.0f} ms of an empty app", value, "350 ms")


def watched(folder: str) -> None:
    """What four viewers cost the program that they look at."""

    def work(viewers: int) -> float:
        with running(WORK, PAIRS, folder) as (process, pid), ExitStack() as stack:
            assert process.stdin is not None
            assert process.stdout is not None
            for _ in range(viewers):
                stack.enter_context(viewing(pid, folder, 600))
            process.stdin.write("\n")
            process.stdin.flush()
            return float(process.stdout.readline())

    pairs = [(work(0), work(VIEWERS)) for _ in range(5)]
    alone, seen = (min(times) for times in zip(*pairs, strict=True))
    ratio = statistics.median(after / before for before, after in pairs)
    value = f"{seen / alone:.3f}x, median {ratio:.3f}x"
    tell(f"a program with {VIEWERS} viewers", value, "1.0x")


PARTS = {each.__name__: each for each in (start, live, seek, follow, watched)}


def main() -> None:
    names = sys.argv[1:] or list(PARTS)
    if not set(names) <= set(PARTS):
        sys.exit(f"there are {', '.join(PARTS)}")
    with tempfile.TemporaryDirectory() as folder:
        for name in names:
            PARTS[name](folder)


if __name__ == "__main__":
    main()
