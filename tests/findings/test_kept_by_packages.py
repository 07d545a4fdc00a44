"""What an installed package keeps for the life of the program is no leak; what grows is one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support_interpose import needs_interposition
from support_programs import run_program

from safehandle_debug.findings import find_all, first_line, sort_out
from safehandle_debug.ledger import Ledger
from safehandle_debug.recording import open_recording

pytestmark = needs_interposition

PACKAGE = """
import asyncio, ctypes, functools, os, socket

RESERVE = None
POOL = []
PAIR = None

def reserve():
    global RESERVE
    if RESERVE is None:
        RESERVE = open(os.devnull)

@functools.lru_cache
def wake():
    global PAIR
    PAIR = socket.socketpair()

LOOP = None
def loop():
    global LOOP
    LOOP = asyncio.new_event_loop()

def start_runtime():
    ctypes.CDLL(None).epoll_create1(0x80000), ctypes.CDLL(None).eventfd(0, 0x80000)

class Context:
    def __init__(self):
        ctypes.CDLL(None).eventfd(0, 0x80000)

    def socket(self):
        for _ in range(2):
            start_runtime()

def connect(path):
    POOL.append(open(path))

def give(path):
    return open(path)

def drop(path):
    os.open(path, os.O_RDONLY)
"""

# What the program does, and how many leaks that is.
PROGRAMS = {
    "what is opened once": ("kept.reserve()", 0),
    "both ends of a pair": ("kept.wake()", 0),
    "an event loop": ("kept.loop()", 0),
    "event loops": ("kept.loop()\nprivate = kept.LOOP\nkept.loop()", 6),
    "the pollers of a native runtime": ("kept.start_runtime()", 0),
    "those of a runtime that starts again and again": (
        "for _ in range(3): kept.start_runtime()",
        6,
    ),
    "the pollers of an object": ("mine = kept.Context()\nmine.socket()", 5),
    "one of a pool": ("kept.connect('/etc/passwd')", 0),
    "a pool that grows": ("for _ in range(3): kept.connect('/etc/passwd')", 3),
    "a pool that grows from different lines": (
        "kept.connect('/etc/passwd')\nkept.connect('/etc/passwd')",
        2,
    ),
    "what the program keeps": ("mine = kept.give('/etc/passwd')", 1),
    "what the program keeps as well": (
        "kept.connect('/etc/passwd')\nmine = kept.POOL[0]",
        1,
    ),
    "what nobody keeps": ("kept.drop('/etc/passwd')", 1),
}


@pytest.mark.parametrize(("text", "leaks"), PROGRAMS.values(), ids=PROGRAMS)
def test_a_package_that_keeps(text: str, leaks: int, tmp_path: Path) -> None:
    installed = tmp_path / "lib" / "site-packages"
    installed.mkdir(parents=True)
    (installed / "kept.py").write_text(PACKAGE)
    # Not while the package is imported: that is another rule's.
    start = f"import sys; sys.path.append({str(installed)!r}); import kept\n"
    run = run_program(start + text, tmp_path, level="full,fds=on").ok()
    (path,) = run.recordings
    with Ledger(open_recording(path)) as ledger:
        ledger.refresh()
        reported, accepted = sort_out(find_all(ledger))
    told = {first_line(each): each.count for each in reported}
    assert sum(told.values()) == leaks, json.dumps(told, indent=1)
    assert bool(accepted) == (leaks == 0)
