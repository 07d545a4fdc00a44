"""Runs programs whose descriptors are watched, and says what is found in them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from support_programs import Run, run_program

from safehandle_debug.findings import Finding, find, first_line
from safehandle_debug.ledger import Ledger
from safehandle_debug.recording import open_recording

__all__ = ["OPENING", "WATCHED", "found", "run_watched", "said", "well"]

WATCHED = "full,fds=on"

# Four threads that open and close files, sockets, pipes and copies.
OPENING = """
import os, socket, sys, threading

def churn():
    for _ in range(400):
        with open(__file__) as file, socket.socket() as one:
            file.read()
        for fd in os.pipe():
            os.close(fd)
        os.close(os.dup(1))

threads = [threading.Thread(target=churn) for _ in range(4)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
"""


def run_watched(
    source: str,
    folder: Path,
    *args: str,
    level: str = WATCHED,
    env: Mapping[str, str] | None = None,
) -> Run:
    """Runs a program whose descriptors are watched, to its good end.

    What the program prints, and how it ends, is what the same program does unwatched."""
    plain = run_program(source, folder / "plain", *args, level=None, env=env)
    run = run_program(source, folder / "watched", *args, level=level, env=env)
    assert _outcome(run, "watched") == _outcome(plain, "plain")
    assert run.recordings, "nothing was recorded"
    first = run.first().process
    assert first.dropped == 0
    return run


def _outcome(run: Run, where: str) -> tuple[int, str, str]:
    """Its words without the name of the folder that it ran in."""
    return run.code, *(text.replace(f"/{where}/", "/") for text in (run.out, run.err))


def found(run: Run) -> list[Finding]:
    """What is wrong, in all processes of the run."""
    every: list[Finding] = []
    for path in run.recordings:
        with open_recording(path) as recording:
            ledger = Ledger(recording)
            ledger.refresh()
            every += find(ledger)
    return every


def said(run: Run) -> list[str]:
    """The same, a sentence each."""
    return [f"{finding.kind}: {first_line(finding)}" for finding in found(run)]


def well(run: Run, *lines: str) -> None:
    """It ended as it would have, and nothing was found."""
    outcome = (run.code, run.lines, run.err)
    assert outcome == (0, list(lines), ""), outcome
    wrong = said(run)
    assert wrong == [], wrong
