"""Loops that close whatever there is are no bugs; a pair closed twice is one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from support_programs import run_program

from safehandle_debug.findings import find
from safehandle_debug.ledger import Ledger
from safehandle_debug.recording import open_recording

PRELUDE = """
import os

def close(fd):
    try:
        os.close(fd)
    except OSError:
        pass

def some(count):
    fds = [os.open(os.devnull, os.O_RDONLY) for _ in range(count)]
    for fd in fds:
        os.close(fd)
    return fds
"""

LOOPS = {
    "over_all": "some(20)\nfor fd in range(3, 200): close(fd)",
    "downwards": "some(20)\nfor fd in range(200, 2, -1): close(fd)",
    "over_dead_ones_only": "fds = some(40)\nfor fd in range(fds[0], fds[-1]): close(fd)",
    "over_more_than_are_held_back": "fds = some(150)\nfor fd in range(fds[0], fds[-1]): close(fd)",
    "over_open_ones": "some(9)\nkeep = open(os.devnull)\nfor fd in range(3, 60): close(fd)",
    "closerange": "some(9)\nos.closerange(3, 1000)",
    "of_a_child": "if os.fork() == 0:\n for fd in range(3, 9): close(fd)\n os._exit(0)\nos.wait()",
}

DOUBLES = {
    "one": ("fd, = some(1)\nclose(fd)", 1),
    "pipe": ("ends = os.pipe()\nfor _ in 'ab':\n for fd in ends: close(fd)", 2),
    "not_neighbours": ("a, b, c = some(3)\nfor fd in (c, a): close(fd)", 2),
    "from_two_lines": ("a, b = some(2)\nclose(a)\nclose(b)", 2),
    "after_the_quarantine": ("fd, = some(1)\nos.listdir('/proc/self/fd')\nclose(fd)", 1),
}


@pytest.fixture
def kinds(tmp_path: Path) -> Callable[[str], list[str]]:
    """The kinds of finding in a watched program, one for each handle."""

    def run(body: str) -> list[str]:
        done = run_program(PRELUDE + body, tmp_path / "program", level="full,fds=on").ok()
        found: list[str] = []
        for path in done.recordings:
            with open_recording(path) as recording:
                ledger = Ledger(recording)
                ledger.refresh()
                found += [each.kind for each in find(ledger) for _ in range(each.count)]
        return found

    return run


@pytest.mark.parametrize("name", LOOPS)
def test_loops_are_silent(kinds: Callable[[str], list[str]], name: str) -> None:
    assert kinds(LOOPS[name]) == []


@pytest.mark.parametrize("name", DOUBLES)
def test_what_is_closed_twice_is_found(kinds: Callable[[str], list[str]], name: str) -> None:
    body, count = DOUBLES[name]
    assert kinds(body) == ["double-release"] * count
