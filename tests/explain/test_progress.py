"""How far a command has come: on a terminal only, and gone at the end."""

from __future__ import annotations

import os
import pty
import subprocess
import sys

PROGRAM = """
from safehandle_debug.cli.progress import progress
from time import monotonic
with progress("reading", 4, patience_s=PATIENCE) as step:
    step(2)
    until = monotonic() + 0.3  # it paints ten times a second
    while monotonic() < until:
        step(0)
print("done")
"""


def on_a_terminal(patience: str, program: str = PROGRAM, **environment: str) -> str:
    """What a terminal shows of the program."""
    screen, terminal = pty.openpty()
    try:
        with subprocess.Popen(
            [sys.executable, "-c", program.replace("PATIENCE", patience)],
            env={**os.environ, "TERM": "xterm", **environment},
            stdin=subprocess.DEVNULL,
            stdout=terminal,
            stderr=terminal,
        ) as process:
            os.close(terminal)
            shown = b""
            while not shown.endswith(b"done\r\n"):
                shown += os.read(screen, 4096)
            assert process.wait(60) in (0, 1)
    finally:
        os.close(screen)
    return shown.decode()


def test_a_long_command_says_how_far_it_is_and_wipes_it() -> None:
    shown = on_a_terminal("0")
    assert "\rreading [###############               ]  50%" in shown
    assert shown.endswith("\r\x1b[Kdone\r\n")


def test_one_that_has_nothing_to_say_counts_the_seconds() -> None:
    shown = on_a_terminal("0", PROGRAM.replace('"reading", 4', '"judging"'))
    assert "\rjudging ... 0 s" in shown
    assert shown.endswith("\r\x1b[Kdone\r\n")


def test_a_command_that_fails_wipes_it_too() -> None:
    program = PROGRAM.replace("        step(0)\n", "        step(0)\n    exit('done')\n")
    shown = on_a_terminal("0", program)
    assert "50%" in shown
    assert shown.endswith("\r\x1b[Kdone\r\n")


def test_a_short_command_says_nothing() -> None:
    assert on_a_terminal("1e9") == "done\r\n"


def test_a_simple_terminal_is_left_alone() -> None:
    assert on_a_terminal("0", TERM="dumb") == "done\r\n"


def test_nothing_goes_into_a_file() -> None:
    program = PROGRAM.replace("PATIENCE", "0")
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    assert done.stderr == b""
