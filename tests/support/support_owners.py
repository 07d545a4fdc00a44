"""Runs functions of a program under the descriptor watch, and tells what each left behind.

A program is a module of functions; each runs with a folder of its own.  What a
function opened is told by its name in the stack of the acquisition.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from support_programs import run_program

import safehandle_debug
from safehandle_debug.findings import Finding, find
from safehandle_debug.ledger import History, Ledger
from safehandle_debug.recording import open_recording

__all__ = ["Watched", "watch"]

START = """
import os, sys
from safehandle_debug import _native

import early

_native.start_recording(os.environ["WATCHED_RECORDING"])
_native.watch_start(quarantine=int(os.environ["WATCHED_QUARANTINE"]))

import functions

for name in sys.argv[1:]:
    folder = os.path.join(os.path.dirname(__file__), "in_" + name)
    os.mkdir(folder)
    getattr(functions, name)(folder)
"""


@dataclass(frozen=True, slots=True)
class Watched:
    """What a program left behind."""

    handles: tuple[History, ...]
    findings: tuple[Finding, ...]
    out: str

    def opened_in(self, function: str) -> list[History]:
        """What a function opened, also what it had others open, oldest first."""
        return [
            handle
            for handle in self.handles
            if any(frame.function == function for frame in handle.opened)
            and not any("importlib" in frame.file for frame in handle.opened)
        ]

    def found_in(self, function: str) -> list[Finding]:
        """Findings about what a function opened."""
        serials = {handle.serial for handle in self.opened_in(function)}
        return [finding for finding in self.findings if serials & set(finding.serials)]


def watch(
    functions: Mapping[str, str],
    folder: Path,
    *,
    prelude: str = "",
    early: str = "",
    quarantine: int = 32,
    env: Mapping[str, str] | None = None,
) -> Watched:
    """Runs the functions, bodies by name, one after the other; `folder` is their argument.

    They can import `early`, a module that was loaded before the watch began.
    Raises AssertionError when one of them fails."""
    program = folder / "program"
    program.mkdir(parents=True)
    bodies = "".join(
        f"\ndef {name}(folder):\n{textwrap.indent(textwrap.dedent(body).strip(), '    ')}\n"
        for name, body in functions.items()
    )
    (program / "functions.py").write_text(textwrap.dedent(prelude) + bodies)
    (program / "early.py").write_text(textwrap.dedent(early))
    recording = folder / "watched.shd"
    settings = {
        "WATCHED_RECORDING": str(recording),
        "WATCHED_QUARANTINE": str(quarantine),
        "PYTHONPATH": str(Path(safehandle_debug.__file__).parents[1]),
        **(env or {}),
    }
    run = run_program(START, program, *functions, level=None, env=settings).ok()
    assert run.err == ""
    with Ledger(open_recording(recording)) as ledger:
        ledger.refresh()
        found = tuple(find(ledger))
        serials = sorted(handle.serial for handle in ledger.histories())
        handles = (ledger.history(serial) for serial in serials)
        return Watched(tuple(handle for handle in handles if handle is not None), found, run.out)
