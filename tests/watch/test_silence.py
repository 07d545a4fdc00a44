"""Correct programs under the whole watch: they run as they do unwatched, and nothing is found."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import support_silent_files
import support_silent_processes
from support_watch import environment

from safehandle_debug.findings import find, first_line
from safehandle_debug.ledger import Ledger
from safehandle_debug.recording import open_recording

FILES = [Path(support_silent_files.__file__), Path(support_silent_processes.__file__)]
PROGRAMS = [
    *((FILES[0], name) for name in support_silent_files.PROGRAMS),
    *((FILES[1], name) for name in support_silent_processes.PROGRAMS),
]


@pytest.mark.parametrize(("file", "name"), PROGRAMS, ids=[name for _, name in PROGRAMS])
def test_a_correct_program(file: Path, name: str, tmp_path: Path) -> None:
    sessions = tmp_path / "sessions"
    done = subprocess.run(
        [sys.executable, str(file), name],
        env=environment(sessions),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    recordings = sorted(sessions.glob("*/*.shd"))
    watched = []
    for path in recordings:
        with Ledger(open_recording(path)) as ledger:
            ledger.refresh()
            watched.append(ledger.process.watched)
            assert [first_line(finding) for finding in find(ledger)] == []
    assert any(watched)
