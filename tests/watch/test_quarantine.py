"""Numbers that the quarantine gives back: in which order, when, and to whom."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from support_programs import run_program

PRELUDE = """
import json, os, resource, sys
from safehandle_debug import _native

def once():
    fd = os.open(os.devnull, os.O_RDONLY)
    os.close(fd)
    return fd

def parked():
    return _native.watch_status()["parked"]
"""

CHURN = "print(json.dumps([once() for _ in range(400)]))\n"

# All that fits, after some numbers were closed: fewer than are given back at once,
# and then more.
TO_THE_LIMIT = """
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
counts = []
for closed in (3, 200):
    for _ in range(closed):
        once()
    held = []
    try:
        while True:
            held.append(os.open(os.devnull, os.O_RDONLY))
    except OSError as error:
        counts.append([len(held), error.errno])
    for fd in held:
        os.close(fd)
print(json.dumps(counts))
"""

FORK = """
for _ in range(20):
    once()
reader, writer = os.pipe()
before = parked()
if os.fork() == 0:
    # What the parent parked is free here, and what is closed here is parked here.
    first = parked()
    os.write(writer, json.dumps([first, once(), once()]).encode())
    os._exit(0)
os.wait()
child = json.loads(os.read(reader, 1000))
after = parked()
print(json.dumps([before, after, child, [once() for _ in range(100)]]))
"""

MANY_HELD = """
soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
held = [os.open(os.devnull, os.O_RDONLY) for _ in range(850)]
print(json.dumps(max(once() for _ in range(2000))))
"""


def said(source: str, folder: Path, quarantine: int) -> Any:
    """What the program prints as JSON."""
    level = f"full,fds=on,quarantine={quarantine}"
    return json.loads(run_program(PRELUDE + source, folder, level=level).ok().out)


def test_numbers_come_back_oldest_first(tmp_path: Path) -> None:
    """Up to an eighth of the quarantine comes back together, no number sooner."""
    size = 32
    numbers = said(CHURN, tmp_path, size)
    last: dict[int, int] = {}
    for turn, fd in enumerate(numbers):
        if fd in last:
            assert turn - last[fd] > size - size // 8
        last[fd] = turn
    assert len(last) <= size + 1
    assert max(last) - min(last) <= size + 1


def test_a_quarantine_of_a_few(tmp_path: Path) -> None:
    """Too small for several at once: each number comes back alone, in its turn."""
    numbers = said(CHURN, tmp_path, 8)
    assert len(set(numbers)) == 9
    assert numbers[9:] == numbers[:-9]


def test_the_limit_is_where_it_was(tmp_path: Path) -> None:
    """Also while fewer are parked than are given back together."""
    plain = said(TO_THE_LIMIT, tmp_path / "plain", 0)
    assert said(TO_THE_LIMIT, tmp_path / "parking", 256) == plain


def test_a_fork_in_between(tmp_path: Path) -> None:
    before, after, child, numbers = said(FORK, tmp_path, 32)
    assert before == after >= 20
    first, one, other = child
    assert first == 0
    assert other == one + 1
    assert len(set(numbers)) <= 33


def test_low_numbers_are_kept(tmp_path: Path) -> None:
    """select() takes no number of 1024 or more."""
    assert said(MANY_HELD, tmp_path, 256) < 1024
