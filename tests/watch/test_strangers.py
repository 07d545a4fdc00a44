"""Many small programs in one process: each bug is found at its line, once, and nothing else."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from support_interpose import needs_interposition
from support_programs import run_program
from support_strangers import BUGS, CORRECT

from safehandle_debug.findings import Finding, find, first_line
from safehandle_debug.ledger import Ledger
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


def findings(programs: dict[str, str], folder: Path) -> list[Finding]:
    run = run_program(f"PROGRAMS = {programs!r}\n{RUN}", folder, level="full,fds=on").ok()
    found: list[Finding] = []
    for path in run.recordings:
        with Ledger(open_recording(path)) as ledger:
            ledger.refresh()
            found += find(ledger)
    return found


def test_bugs_are_found_at_their_lines(tmp_path: Path) -> None:
    programs = {name: text for name, (_, text) in BUGS.items()}
    told: Counter[tuple[str, str, bool]] = Counter()
    for finding in findings(programs, tmp_path):
        frame = next(frame for frame in finding.culprit if "stranger_" in frame.file)
        name = frame.file.rpartition("stranger_")[2].removesuffix(".py")
        marked = "# BUG" in programs[name].splitlines()[frame.line - 1]
        told[name, finding.kind, marked] += 1
    assert told == Counter({(name, kind, True): 1 for name, (kind, _) in BUGS.items()})


def test_correct_ones_are_silent(tmp_path: Path) -> None:
    assert [first_line(each) for each in findings(CORRECT, tmp_path)] == []
