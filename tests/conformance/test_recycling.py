"""Numbers that the kernel gives to somebody else: every descriptor is watched."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from support_programs import Run

from safehandle_debug.findings import Finding, find
from safehandle_debug.ledger import Ledger
from safehandle_debug.recording import open_recording

Runner = Callable[..., Run]

PRELUDE = """
import os, sys
from safehandle_debug import SafeFileHandle

def other(name):
    fd = os.open(name, os.O_RDWR | os.O_CREAT)
    os.write(fd, b"precious")
    return fd
"""


def findings(run: Runner, body: str, quarantine: int = 256) -> tuple[Run, Sequence[Finding]]:
    """What a program printed, and what is found in it."""
    level = f"full,fds=on,quarantine={quarantine}"
    done = run(PRELUDE + body, level=level).ok()
    (path,) = done.recordings
    with open_recording(path) as recording:
        ledger = Ledger(recording)
        ledger.refresh()
        return done, find(ledger)


def line_of(stack: Sequence[object]) -> str:
    return str(getattr(stack[0], "function", None)) if stack else ""


@pytest.mark.parametrize("quarantine", [256, 0])
def test_two_owners_of_a_number(run: Runner, quarantine: int) -> None:
    """Case 205: the second owner's close leaves the stranger alone, and is told
    with both stacks."""
    done, found = findings(
        run,
        """
first = SafeFileHandle.open("a", os.O_RDWR | os.O_CREAT)
def adopt():
    return SafeFileHandle(first.fileno())
second = adopt()
number = first.fileno()
first.close()
stranger = other("b")
second.close()
print(os.pread(stranger, 8, 0).decode())
os.close(stranger)
""",
        quarantine,
    )
    assert done.lines == ["precious"]
    told = {finding.kind: finding for finding in found}
    assert "double-owner" in told
    assert line_of(told["double-owner"].culprit) == "adopt"
    assert told["double-owner"].handle.opened


@pytest.mark.parametrize("quarantine", [256, 0])
def test_closed_behind_the_handle(run: Runner, quarantine: int) -> None:
    """Case 206: the close behind it is told, and the stranger survives the dispose."""
    done, found = findings(
        run,
        """
handle = SafeFileHandle.open("a", os.O_RDWR | os.O_CREAT)
def behind():
    os.close(handle.fileno())
behind()
stranger = other("b")
handle.close()
print(os.pread(stranger, 8, 0).decode())
os.close(stranger)
""",
        quarantine,
    )
    assert done.lines == ["precious"]
    (finding,) = found
    assert finding.kind in ("closed-behind-owner", "recycled")
    assert line_of(finding.culprit) == "behind"
    assert finding.handle.owner == "SafeFileHandle"
    assert (finding.victim is not None) == (finding.kind == "recycled")


def test_read_after_dispose(run: Runner) -> None:
    """Case 208: a stale number answers EBADF, never another file's data; victim
    and culprit are named."""
    done, found = findings(
        run,
        """
handle = SafeFileHandle.open("a", os.O_RDWR | os.O_CREAT)
number = handle.fileno()
handle.close()
stranger = other("b")
def stale():
    try:
        return os.pread(number, 8, 0)
    except OSError as error:
        return error.errno
print(stale())
os.close(stranger)
""",
    )
    assert done.lines == ["9"]
    (finding,) = found
    assert (finding.kind, finding.prevented) == ("recycled", True)
    assert line_of(finding.culprit) == "stale"
    assert finding.victim is not None
    assert line_of(finding.victim.opened) == "other"


def test_dup2_over_a_live_handle(run: Runner) -> None:
    """Case 209: who put another file over the number is told."""
    _, found = findings(
        run,
        """
handle = SafeFileHandle.open("a", os.O_RDWR | os.O_CREAT)
stranger = other("b")
def over():
    os.dup2(stranger, handle.fileno())
over()
os.close(stranger)
handle.close()
""",
    )
    assert [finding.kind for finding in found] == ["closed-behind-owner"]
    assert line_of(found[0].culprit) == "over"


def test_quarantine_yields(run: Runner, tmp_path: Path) -> None:
    """Case 210: with few numbers left the oldest parked ones are given back;
    never is there an EMFILE that the program alone would not have had."""
    done, found = findings(
        run,
        """
import resource
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
def most():
    held = []
    while True:
        try:
            held.append(os.open(os.devnull, os.O_RDONLY))
        except OSError as error:
            for fd in held:
                os.close(fd)
            return len(held)
print(most(), most(), most())
for _ in range(1000):
    os.close(os.open(os.devnull, os.O_RDONLY))
print("done")
""",
    )
    counts, last = done.lines
    assert last == "done"
    plain = run("import os, resource\n" + _MOST, level=None).ok()
    assert counts.split() == [str(int(plain.lines[0]))] * 3
    assert found == []


_MOST = """
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
held = []
try:
    while True:
        held.append(os.open(os.devnull, os.O_RDONLY))
except OSError:
    print(len(held))
"""
