"""Draws the pictures of the docs: `safehandle watch` on the sample gateway.

    python docs/screenshot.py [FOLDER]

Runs the gateway under watch until its leak has shown itself, opens the screen
on it without a terminal, and saves what it shows.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator

from safehandle_tui.watch import WatchApp

ROOT = pathlib.Path(__file__).parents[1]
PICTURES = {  # name of the file: the keys that lead to the screen
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


@contextlib.contextmanager
def gateway(folder: str) -> Iterator[int]:
    """The sample gateway with its load, watched; yields its pid."""
    path = f"{pathlib.Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "SAFEHANDLE_DEBUG": "full"}
    environment["SAFEHANDLE_DEBUG_DIR"] = folder
    with subprocess.Popen(
        ["python", "samples/gateway.py", "--demo"],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.DEVNULL,
    ) as process:
        try:
            yield process.pid
        finally:
            process.send_signal(signal.SIGINT)


async def draw(pid: int, folder: pathlib.Path) -> None:
    """Waits on the screen until the leak has grown, and saves what it shows."""
    app = WatchApp([str(pid)])
    async with app.run_test(size=SIZE) as pilot, asyncio.timeout(LONGEST):
        while leaks(pid) < SHOWN_LEAKS:
            await pilot.pause(0.2)
        for name, keys in PICTURES.items():
            await pilot.press(*keys)
            await pilot.pause(WAITS.get(name, 1.0))
            picture = app.export_screenshot(title="safehandle watch")
            (folder / f"{name}.svg").write_text(picture)


def leaks(pid: int) -> int:
    """How often the gateway holds the file that the bad requests ask for."""
    folder = pathlib.Path(f"/proc/{pid}/fd")
    names = []
    for entry in folder.iterdir():
        with contextlib.suppress(FileNotFoundError):
            names.append(os.path.basename(os.readlink(entry)))
    return names.count("readme.txt")


def main() -> None:
    pictures = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "docs"
    # The picture is the same whatever the terminal and its user prefer.
    os.environ.pop("NO_COLOR", None)
    os.environ["COLORTERM"] = "truecolor"
    with tempfile.TemporaryDirectory() as folder:
        os.environ["SAFEHANDLE_DEBUG_DIR"] = folder
        with gateway(folder) as pid:
            asyncio.run(draw(pid, pictures))
    print(*sorted(pictures.glob("*.svg")), sep="\n")


if __name__ == "__main__":
    main()
