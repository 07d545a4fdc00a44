"""What native calls leave in a recording."""

from __future__ import annotations

from pathlib import Path

from support_programs import run_program

from safehandle_debug.findings import Finding, find
from safehandle_debug.ledger import Ledger
from safehandle_debug.recording import open_recording

DECLARATIONS = """
import os
from safehandle_debug import SafeFileHandle, SafePipeHandle
from safehandle_debug.marshal import Out, c_int, library_import


@library_import(None, entry_point="open")
def open_file(path: str, flags: c_int) -> SafeFileHandle: ...


@library_import(None, entry_point="open", check_errno=True)
def open_or_raise(path: str, flags: c_int) -> SafeFileHandle: ...


@library_import(None)
def pipe2(ends: Out[tuple[SafePipeHandle, SafePipeHandle]], flags: c_int) -> c_int: ...


@library_import(None)
def isatty(file: SafeFileHandle) -> c_int: ...


"""

CORRECT = """
def main():
    for _ in range(3):
        with open_file("/dev/null", os.O_RDONLY) as file:
            isatty(file)
    open_file("/nowhere", os.O_RDONLY)
    try:
        open_or_raise("/nowhere", os.O_RDONLY)
    except FileNotFoundError:
        pass
    try:
        isatty(None)
    except TypeError:
        pass
    ends = Out()
    pipe2(ends, os.O_CLOEXEC)
    for end in ends.value:
        end.close()
    pipe2(ends, 1 << 30)


main()
"""

LEAKING = """
kept = []


def leak():
    kept.append(open_file("/dev/null", os.O_RDONLY))
    isatty(kept[0])


leak()
"""


def judged(source: str, folder: Path) -> list[Finding]:
    """The findings of a program of its own, recorded in full."""
    done = run_program(DECLARATIONS + source, folder).ok()
    (recording,) = done.recordings
    with Ledger(open_recording(recording)) as ledger:
        ledger.refresh()
        assert ledger.process.events >= 4
        return find(ledger)


def test_correct_calls_are_no_findings(tmp_path: Path) -> None:
    assert judged(CORRECT, tmp_path) == []


def test_what_a_call_returned_and_nobody_closed(tmp_path: Path) -> None:
    """The leak names the line that called, and the second call is in its story."""
    (finding,) = judged(LEAKING, tmp_path)
    assert finding.kind == "leak"
    assert finding.culprit[0].function == "leak"
    kinds = [event.kind for event in finding.handle.events]
    assert kinds == ["acquire", "add-ref", "release", "close"]
