"""Many small programs in one process: each bug is found at its line, once, and nothing else."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from support_interpose import needs_interposition
from support_programs import Run, run_program
from support_strangers import BUGS, CORRECT
from support_strangers_right import MORE_CORRECT
from support_strangers_wrong import MORE_BUGS

from safehandle_debug.findings import Finding, find, first_line
from safehandle_debug.ledger import Frame, Ledger
from safehandle_debug.recording import open_recording

pytestmark = needs_interposition

RUN = """
import gc, pathlib, sys

for name, text in PROGRAMS.items():
    folder = pathlib.Path(name)
    name = "stranger_" + name
    folder.mkdir()
    scope = {"__name__": name}
    sys.modules[name] = type(sys)(name)  # holds what the program keeps
    sys.modules[name].__dict__.update(scope)
    exec(compile(text, name + ".py", "exec"), sys.modules[name].__dict__)
    sys.modules[name].case(folder)
    gc.collect()
"""


KEPT = """
from multiprocessing import shared_memory

def keep():
    memory = shared_memory.SharedMemory(create=True, size=16)  # starts the tracker, too
    memory.unlink()
    return memory

kept = keep()
"""


def findings(programs: dict[str, str], folder: Path) -> list[Finding]:
    run = run_program(f"PROGRAMS = {programs!r}\n{RUN}", folder, level="full,fds=on").ok()
    return found_in(run)


def found_in(run: Run) -> list[Finding]:
    found: list[Finding] = []
    for path in run.recordings:
        with Ledger(open_recording(path)) as ledger:
            ledger.refresh()
            found += find(ledger)
    return found


def assert_found(bugs: dict[str, tuple[str, str]], folder: Path) -> None:
    """Each once, with its kind and its line; a victim where one is marked."""
    programs = {name: text for name, (_, text) in bugs.items()}

    def marked(stack: tuple[Frame, ...], mark: str) -> tuple[str, bool]:
        frame = next(frame for frame in stack if "stranger_" in frame.file)
        name = frame.file.rpartition("stranger_")[2].removesuffix(".py")
        return name, mark in programs[name].splitlines()[frame.line - 1]

    told: Counter[tuple[str, str, bool, bool]] = Counter()
    for finding in findings(programs, folder):
        name, at_bug = marked(finding.culprit, "# BUG")
        victim = finding.victim is not None and marked(finding.victim.opened, "# VICTIM")[1]
        told[name, finding.kind, at_bug, victim] += 1
    assert told == Counter(
        {(name, kind, True, "# VICTIM" in text): 1 for name, (kind, text) in bugs.items()}
    )


def test_bugs_are_found_at_their_lines(tmp_path: Path) -> None:
    assert_found(BUGS, tmp_path)


def test_more_bugs_are_found_at_their_lines(tmp_path: Path) -> None:
    assert_found(MORE_BUGS, tmp_path)


def test_correct_ones_are_silent(tmp_path: Path) -> None:
    assert [first_line(each) for each in findings(CORRECT, tmp_path)] == []


def test_more_correct_ones_are_silent(tmp_path: Path) -> None:
    assert [first_line(each) for each in findings(MORE_CORRECT, tmp_path)] == []


def test_what_a_library_keeps_is_not_counted_with_what_the_program_does(tmp_path: Path) -> None:
    found = found_in(run_program(KEPT, tmp_path, level="full,fds=on").ok())
    assert sorted((each.kind, each.handle.owner, each.count) for each in found) == [
        ("leak", "mmap", 1),
        ("leak", "raw", 1),
    ]
