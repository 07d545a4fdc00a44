"""Draws the pictures of the docs: `safehandle watch` on samples.

    python docs/screenshot.py [FOLDER]
    python docs/screenshot.py --check

Runs the samples under watch, opens the screen on them without a terminal, and
saves what it shows.  With --check the pictures of the docs are compared with
that, apart from numbers: they must show the screen as it is.
"""

from __future__ import annotations

import asyncio
import contextlib
import html
import os
import pathlib
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator

from safehandle_tui.watch import WatchApp
from textual.pilot import Pilot

ROOT = pathlib.Path(__file__).parents[1]
DOCS = ROOT / "docs"
PICTURES = {  # of the gateway; name of the file: the keys that lead to the screen
    "watch": (),
    "tree": ("3",),
    "kinds": ("4",),
    "handle": ("1", "o", "enter", "enter"),
    "past": ("escape", "escape", "P", "right_parenthesis", "right_parenthesis"),
}
# The screens that show more the longer one waits: in seconds.
WAITS = {"handle": 3.0, "past": 1.5}
SIZE = (120, 26)
SHOWN_LEAKS = 14
LONGEST = 60.0  # seconds
ALIKE = 0.75  # of the lines of a picture, at least, once their numbers are the same

# One piece of text in a picture, and the cells that it is away from the left.
TEXT = re.compile(r'<text class="[^"]*-r\d+"[^>]*? x="([\d.]+)" y="([\d.]+)"[^>]*>(.*?)</text>')
CELL = 12.2
VARIES = (
    (re.compile(r"[▁▂▃▄▅▆▇█▏▎▍▌▋▊▉]"), " "),
    (re.compile(r"/tmp/\w+"), "/tmp/0"),
    (re.compile(r"[\d,.]*\d(?:ns|us|ms|s|[mh]\d\d[sm]?)"), "0s"),
    (re.compile(r"[\d,.]*\d"), "0"),
    (re.compile(r"─+|[ │]+"), " "),
)


@contextlib.contextmanager
def gateway(folder: str) -> Iterator[int]:
    """The sample gateway with its load, watched; yields its pid."""
    with subprocess.Popen(
        ["python", "samples/gateway.py", "--demo"],
        cwd=ROOT,
        env=environment(folder),
        stdout=subprocess.DEVNULL,
    ) as process:
        try:
            yield process.pid
        finally:
            process.send_signal(signal.SIGINT)


def environment(folder: str) -> dict[str, str]:
    """Of a watched sample; its command line is that of a user."""
    path = f"{pathlib.Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    watched = {"SAFEHANDLE_DEBUG": "full", "SAFEHANDLE_DEBUG_DIR": folder}
    return {**os.environ, "PATH": path, **watched}


async def draw(pid: int, folder: pathlib.Path) -> None:
    """Waits on the screen until the leak has grown, and saves what it shows."""
    app = WatchApp([str(pid)])
    async with app.run_test(size=SIZE) as pilot, asyncio.timeout(LONGEST):
        while leaks(pid) < SHOWN_LEAKS:
            await pilot.pause(0.2)
        for name, keys in PICTURES.items():
            await press(app, pilot, *keys)
            await pilot.pause(WAITS.get(name, 1.0))
            save(app, folder / f"{name}.svg")


async def draw_alarm(folder: pathlib.Path) -> None:
    """The card of the newest session's alarm."""
    app = WatchApp([])
    async with app.run_test(size=SIZE) as pilot, asyncio.timeout(LONGEST):
        await press(app, pilot, "5", "enter")
        save(app, folder / "alarm.svg")


async def press(app: WatchApp, pilot: Pilot[int], *keys: str) -> None:
    """One key after the other, each once the one before has had its effect."""
    for key in ("", *keys):
        if key:
            await pilot.press(key)
        await pilot.pause(0.3)
        while app.view is None or not app.view.rows:
            await pilot.pause(0.1)


def save(app: WatchApp, path: pathlib.Path) -> None:
    """Saves the screen as it is."""
    path.write_text(app.export_screenshot(title="safehandle watch"))


def leaks(pid: int) -> int:
    """How often the gateway holds the file that the bad requests ask for."""
    folder = pathlib.Path(f"/proc/{pid}/fd")
    names = []
    for entry in folder.iterdir():
        with contextlib.suppress(FileNotFoundError):
            names.append(os.path.basename(os.readlink(entry)))
    return names.count("readme.txt")


def draw_all(pictures: pathlib.Path) -> None:
    """Draws all pictures into a folder."""
    # The picture is the same whatever the terminal and its user prefer.
    for name in ("NO_COLOR", "COLORFGBG", "TEXTUAL_THEME"):
        os.environ.pop(name, None)
    os.environ["COLORTERM"] = "truecolor"
    with tempfile.TemporaryDirectory() as folder:
        os.environ["SAFEHANDLE_DEBUG_DIR"] = folder
        command = ["python", "samples/stale_number.py"]
        subprocess.run(command, cwd=ROOT, env=environment(folder), check=True, capture_output=True)
        asyncio.run(draw_alarm(pictures))
    with tempfile.TemporaryDirectory() as folder:
        os.environ["SAFEHANDLE_DEBUG_DIR"] = folder
        with gateway(folder) as pid:
            asyncio.run(draw(pid, pictures))


# --- comparing ---


def lines_of(picture: pathlib.Path) -> list[str]:
    """The text of a picture, a line a row of the screen."""
    rows: dict[float, list[tuple[float, str]]] = {}
    for match in TEXT.finditer(picture.read_text()):
        x, y, text = match.groups()
        rows.setdefault(float(y), []).append((float(x), html.unescape(text).replace("\xa0", " ")))
    lines = []
    for y in sorted(rows):
        line = ""
        for x, text in sorted(rows[y]):
            line = line.ljust(round(x / CELL)) + text
        lines.append(line.rstrip())
    return lines


def shape_of(line: str) -> str:
    """What of a line is the same whenever it is drawn."""
    for pattern, instead in VARIES:
        line = pattern.sub(instead, line)
    return line.strip()


def differences(old: pathlib.Path, new: pathlib.Path) -> list[str]:
    """What is wrong with a picture, a sentence each."""
    if not old.exists():
        return [f"{old.name} is missing"]
    before, after = ([shape_of(line) for line in lines_of(path)] for path in (old, new))
    if not after:
        return [f"{new.name} says nothing"]
    # The way above, and the keys below.
    wrong = [
        f"{old.name} says {before[at:][:1]} and not {after[at]!r}"
        for at in (0, -1)
        if not before or before[at] != after[at]
    ]
    there = sum(line in after for line in before)
    if there < ALIKE * max(len(before), len(after)):
        odd = next((line for line in before if line not in after), "")
        wrong.append(f"{old.name} has only {there} of {len(after)} lines right; not {odd!r}")
    return wrong


def check(pictures: pathlib.Path) -> list[str]:
    """What is wrong with the pictures of the docs, beside new ones."""
    new = sorted(pictures.glob("*.svg"))
    return [each for path in new for each in differences(DOCS / path.name, path)]


def main() -> int:
    if sys.argv[1:] == ["--check"]:
        with tempfile.TemporaryDirectory() as folder:
            draw_all(pathlib.Path(folder))
            wrong = check(pathlib.Path(folder))
        print(*wrong, sep="\n")
        return 1 if wrong else 0
    pictures = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else DOCS
    draw_all(pictures)
    print(*sorted(pictures.glob("*.svg")), sep="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
