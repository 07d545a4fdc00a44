"""Programs with one bug each under the watch: it is found, once, at its line."""

from __future__ import annotations

import inspect
import subprocess
import sys
from pathlib import Path

import pytest
import support_buggy
from support_watch import environment

from safehandle_debug.findings import find, first_line
from safehandle_debug.ledger import Frame, Ledger
from safehandle_debug.recording import open_recording

FILE = Path(support_buggy.__file__)


def lines(name: str, mark: str) -> set[int]:
    source, first = inspect.getsourcelines(support_buggy.BUGS[name].run)
    return {first + number for number, line in enumerate(source) if f"# {mark}" in line}


def stands_in(stack: tuple[Frame, ...], wanted: set[int]) -> bool:
    return any(Path(each.file) == FILE and each.line in wanted for each in stack)


@pytest.mark.parametrize("name", support_buggy.BUGS)
def test_a_bug_is_found(name: str, tmp_path: Path) -> None:
    sessions = tmp_path / "sessions"
    done = subprocess.run(
        [sys.executable, str(FILE), name],
        env=environment(sessions),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = []
    for path in sessions.glob("*/*.shd"):
        with Ledger(open_recording(path)) as ledger:
            ledger.refresh()
            found += find(ledger)
    assert [each.kind for each in found] == [support_buggy.BUGS[name].kind], [
        first_line(each) for each in found
    ]
    (finding,) = found
    assert stands_in(finding.culprit, lines(name, "BUG")), first_line(finding)
    victim = lines(name, "VICTIM")
    assert (finding.victim is not None) is bool(victim)
    if finding.victim is not None:
        assert stands_in(finding.victim.opened, victim)
        assert finding.prevented
