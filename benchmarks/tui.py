"""What the screen costs whoever looks, and the program that is looked at.

    python benchmarks/tui.py [--json] [start] [live] [seek] [follow] [watched]

Everything is CPU time or memory, on real recordings and live programs, beside
what it may be at most.  Takes some minutes and 2 GB in the folder for temporary
files.
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
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial

from measure import program_ns
from safehandle_tui.model.columns import Sort, lay_out, row_line
from safehandle_tui.model.feed import Feed, View, ViewSpec
from safehandle_tui.model.row_columns import HANDLE_COLUMNS
from safehandle_tui.model.shelf import HandleRows, Shelf
from table import Row, show

from safehandle_debug.ledger import Ledger, parse_filter
from safehandle_debug.recording import open_recording

FEW, MANY = 1_000, 1_000_000  # live handles
EVENTS = 10_000_000
EVENTS_OF_LIVE = 2 * MANY
ALIVE = 10_000  # handles that are open at once while those are recorded
RATE = 100_000  # events a second
SCREEN, CELLS = 34, 120  # rows, and their length
FRAMES = 300
SEEKS = 30
FEED_MB, A_HANDLE = 45, 100  # memory: of the app, and bytes a handle
FILTERS = ("value>500000", "kind:token", "used", "/us[e]d/", "!site:kept refs:1 age>1ms")
SECONDS = 10.0
VIEWERS = 4
PAIRS = 300_000  # handles that the watched program opens and closes
HANDLES = ViewSpec(mode="handles", sort=Sort("age", True))
SITES = ViewSpec()

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


def live(folder: str) -> Iterator[Row]:
    """A table of a thousand handles, and one of a million."""
    few, many = recorded(LIVE, FEW, folder), recorded(LIVE, MANY, folder)
    feed, small = Feed([str(many)]), Feed([str(few)])
    first = spent_ms(view_of, feed, SITES)
    yield milliseconds(f"first view of {MANY:,} handles", first, 350)
    for each in (feed, small):
        while each.poll(replace(SITES, marks=(time.time_ns(),))) is None:
            pass  # a large recording is read with the second view
    (_, few_shelf), (view, shelf) = shelf_of(small), shelf_of(feed)
    now_ns = view.now_ns
    before, after = screen_ms(few_shelf, now_ns), screen_ms(shelf, now_ns)
    yield milliseconds(f"a screen of {MANY:,} rows", after, 4, "DataTable 41 ms")
    yield Row(f"  against one of {FEW:,}", after / before, "x", 1.2, f"{before:.2f} ms", "")
    for text in FILTERS:
        wanted = parse_filter(text)
        shelf.where(wanted, now_ns)  # what the names say is kept
        taken = fastest_ms(shelf.where, wanted, now_ns)
        yield milliseconds(f"  filter {text}", taken, 15, "none has one")
    for column in ("site", "value", "age"):
        sort = partial(shelf.ordered, column, descending=False, now_ns=now_ns)
        yield milliseconds(f"  sort by {column}", fastest_ms(sort), 100, "fastdatatable 280 ms")
    yield from seeks(feed, many, EVENTS_OF_LIVE, f"{MANY:,} open")
    for each in (feed, small):
        each.close()
    for path, number in ((few, FEW), (many, MANY)):
        with viewing(str(path), folder, 5) as viewer:
            megabytes = float(next(viewer.lines).split()[2])
        most = FEED_MB + number * A_HANDLE / 1e6
        each_b = f"{(megabytes - FEED_MB) * 1e6 / number:.0f} B each" if number == MANY else ""
        what = f"memory of the app, {number:,} handles"
        yield Row(what, megabytes, "MB", most, each_b, "memray live 55-59 MB")
        path.unlink()


def milliseconds(what: str, value: float, most: float, peer: str = "") -> Row:
    return Row(what, value, "ms", most, "", peer)


def fastest_ms(work: Callable[..., object], *arguments: object) -> float:
    """CPU milliseconds of the fastest of some calls."""
    return min(spent_ms(work, *arguments) for _ in range(7))


def shelf_of(feed: Feed) -> tuple[View, Shelf]:
    view = view_of(feed, HANDLES)
    assert isinstance(view.rows, HandleRows)
    return view, view.rows.shelf


def screen_ms(shelf: Shelf, now_ns: int) -> float:
    """What it takes to paint the rows at some place of the table."""
    rng, times, number = random.Random(1), [], len(shelf)
    for _ in range(FRAMES):
        rows = HandleRows(partial(same, shelf), number)
        times.append(spent_ms(paint, rows, rng.randrange(number - SCREEN), now_ns))
    return statistics.median(times)


def same(shelf: Shelf) -> Shelf:
    return shelf


def paint(rows: HandleRows, top: int, now_ns: int) -> None:
    layout = lay_out(HANDLE_COLUMNS, CELLS)
    for at in range(top, top + SCREEN):
        row_line(layout, rows[at], now_ns, cursor=False)


def seeks(feed: Feed, path: pathlib.Path, events: int, of: str) -> Iterator[Row]:
    """Any moment, on the screens of sites and of handles."""
    rng = random.Random(1)
    for spec in (SITES, HANDLES):
        moments = [(str(path), rng.randrange(1, events)) for _ in range(SEEKS)]
        times = [spent_ms(view_of, feed, replace(spec, moment=moment)) for moment in moments]
        worst = f"<{max(times):.0f} ms"
        what = f"  seek among {of}, {spec.mode}"
        yield Row(what, statistics.median(times), "ms", 50, worst, "dolphie 1 s grain")


def seek(folder: str) -> Iterator[Row]:
    """Any event of ten million."""
    path = recorded(LONG, EVENTS, folder)
    with Ledger(open_recording(path)) as ledger:
        read = spent_ms(ledger.refresh)
        events = ledger.counts.events
    each = f"{read * 1e6 / events:.0f} ns each"
    yield Row(f"reading {events:,} events", read, "ms", None, each, "")
    feed = Feed([str(path)])
    first = spent_ms(view_of, feed, SITES)
    yield milliseconds("  first view of them", first, 500, "toolong 640 ms, 1 M lines")
    view_of(feed, SITES)
    yield from seeks(feed, path, events, f"{events:,} events")
    feed.close()
    path.unlink()


def follow(folder: str) -> Iterator[Row]:
    """A program that goes on, and one that rests."""
    for rate, most in ((RATE, 10), (0, 0.5)):
        with running(FLOW, rate, folder) as (_, pid), viewing(pid, folder, SECONDS) as viewer:
            share, views, _, grown = map(float, next(viewer.lines).split())
        what = f"following {rate:,} events/s" if rate else "while nothing happens"
        yield Row(what, share * 100, "%", most, f"{views:.1f} Hz", "memray 10.1 % at 1 Hz")
        if rate:
            yield Row("  memory that it grows by meanwhile", grown, "MB", 2, "", "")


def start(folder: str) -> Iterator[Row]:
    """From nothing to the first screen."""
    path = recorded(LIVE, FEW, folder)
    variables = environment(folder)
    programs = {
        "empty": ([sys.executable, "-c", FLOOR], variables),
        "ours": ([sys.executable, str(VIEWER), str(path), "0"], variables),
    }
    times = program_ns(programs, runs=10)
    beside = f"{times['ours'] / times['empty']:.2f}x empty"
    path.unlink()
    yield Row("first screen", times["ours"] / 1e6, "ms", 350, beside, "memray 460-820 ms")


def watched(folder: str) -> Iterator[Row]:
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
    # Two runs of the same program differ by as much.
    what = f"a program with {VIEWERS} viewers"
    yield Row(what, seen / alone, "x", 1.02, f"median {ratio:.3f}", "tokio-console 10 GB")


PARTS = {each.__name__: each for each in (start, live, seek, follow, watched)}


def rows(names: Sequence[str]) -> Iterator[Row]:
    with tempfile.TemporaryDirectory() as folder:
        for name in names:
            yield from PARTS[name](folder)


def main() -> int:
    names = [name for name in sys.argv[1:] if name in PARTS]
    sys.argv[1:] = [each for each in sys.argv[1:] if each not in PARTS]
    return show(rows(names or list(PARTS)), __doc__ or "")


if __name__ == "__main__":
    sys.exit(main())
