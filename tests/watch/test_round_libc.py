"""What goes round libc is noticed at checkpoints, marked so, and never takes a finding with it."""

from __future__ import annotations

from pathlib import Path

import pytest
from support_interpose import compile_c, needs_interposition
from support_programs import Told, run_program

from safehandle_debug.findings import find
from safehandle_debug.ledger import Ledger
from safehandle_debug.recording import open_recording

pytestmark = needs_interposition

HERE = Path(__file__).parent / "interpose"

SOURCE = """
import ctypes
import os
import sys

from safehandle_debug import _native

library = ctypes.CDLL(sys.argv[1])


def opened():
    fd = library.round_open(b"/etc/passwd")
    assert fd > 2
    return fd


def closed_by_us():
    os.close(opened())


def closed_by_it():
    fd = os.open("/etc/group", os.O_RDONLY)
    assert library.round_close(fd) == 0
    os.close(os.open("/etc/hosts", os.O_RDONLY))  # the same number, perhaps


def closed_by_it_before_a_checkpoint():
    fd = os.open("/etc/services", os.O_RDONLY)
    assert library.round_close(fd) == 0
    assert _native.watch_reconcile() == 1
    assert _native.watch_reconcile() == 0
    os.close(os.open("/etc/hosts", os.O_RDONLY))


def seen_at_a_checkpoint():
    fd = opened()
    assert _native.watch_reconcile() == 1
    assert _native.watch_reconcile() == 0
    os.close(fd)


def seen_at_the_end():
    opened()


closed_by_us()
closed_by_it()
closed_by_it_before_a_checkpoint()
seen_at_a_checkpoint()
seen_at_the_end()
"""


@pytest.fixture(scope="module", params=["0", "256"])
def told(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Told:
    folder = tmp_path_factory.mktemp("round")
    library = compile_c(folder / "round.so", "-shared", "-fPIC", HERE / "round.c")
    level = f"full,fds=on,quarantine={request.param}"
    return run_program(SOURCE, folder, str(library), level=level).ok().first()


def test_what_it_opens_is_seen_late(told: Told) -> None:
    late = [each for each in told.handles if each.late]
    assert [(each.kind, each.owner, each.ending) for each in late] == [
        ("file", "raw", "closed"),
        ("file", "raw", "lost"),
    ]
    assert late[0].site is not None
    assert late[0].site.function == "seen_at_a_checkpoint"


def test_what_it_closes_is_closed(told: Told) -> None:
    ends = {
        each.detail: each.ending
        for each in told.handles
        if each.detail in {"/etc/group", "/etc/services"}
    }
    assert ends == {"/etc/group": "closed", "/etc/services": "closed"}


def test_nobody_is_blamed(told: Told) -> None:
    kinds = {
        event.kind
        for each in told.handles
        for event in each.events
        if each.watched and any(frame.file.endswith("program.py") for frame in each.opened)
    }
    assert kinds == {"acquire", "owned", "close"}


LEAKS = """
import ctypes
import os
import sys

from safehandle_debug import _native

library = ctypes.CDLL(sys.argv[1])
for name in sys.argv[2:]:
    assert library.round_open(name.encode()) > 2
_native.watch_reconcile()
"""


def test_what_it_never_closes_is_a_leak(tmp_path: Path) -> None:
    """Of the program's own files; what libc may keep for itself is none."""
    library = compile_c(tmp_path / "round.so", "-shared", "-fPIC", HERE / "round.c")
    own = tmp_path / "data"
    own.touch()
    names = (str(own), "/etc/passwd", "/dev/null", str(library))
    run = run_program(LEAKS, tmp_path, str(library), *names, level="full,fds=on").ok()
    with Ledger(open_recording(run.recordings[0])) as ledger:
        ledger.refresh()
        (finding,) = find(ledger)
    assert (finding.kind, finding.handle.detail) == ("leak", str(own))
    assert "seen late" in finding.message
    assert finding.culprit == ()
