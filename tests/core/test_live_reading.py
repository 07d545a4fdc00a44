"""A reader beside a busy program: whatever it sees at any moment is sound."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from support_programs import Run

from safehandle_debug.errors import RecordingError
from safehandle_debug.ledger import Ledger
from safehandle_debug.recording import open_recording
from safehandle_debug.recording.format import EventKind

# Four writers whose oldest events are recycled many times over.
STORM = """
import os, sys, threading
from safehandle_debug import SafeFileHandle

sys.setswitchinterval(1e-5)

def open_one(name):
    return SafeFileHandle.memfd(name)

def storm(number):
    for step in range(1_000_000):
        with open_one(f"storm {number} {step % 100}") as handle:
            for _ in range(5):
                with handle.hold():
                    pass
        if os.path.exists("stop"):
            break

kept = [SafeFileHandle.memfd(f"kept {number}") for number in range(20)]
threads = [threading.Thread(target=storm, args=(number,), name=f"storm {number}")
           for number in range(4)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
"""
TIMEOUT_S = 60


@pytest.mark.parametrize(("size", "rounds"), [("1M", 40), ("8M", 6)])
def test_what_a_reader_sees_is_sound(
    run: Callable[..., Run], tmp_path: Path, size: str, rounds: int
) -> None:
    """Opened anew and followed, with blocks recycled under it."""
    outcome: list[Run] = []
    program = threading.Thread(
        target=lambda: outcome.append(run(STORM, level=f"full,fds=off,size={size}"))
    )
    program.start()
    try:
        path = first_recording(tmp_path, program)
        with Ledger(open_recording(path)) as ledger:
            newest = 0
            for _ in range(rounds):
                ledger.refresh()
                assert ledger.process.events >= newest
                newest = ledger.process.events
                check_open(ledger)
                check_events(path)
            assert program.is_alive()
            (tmp_path / "program" / "stop").touch()
            program.join()
            ledger.refresh()
            assert ledger.process.ended == "exit"
            # How far a slow machine fills the larger one is its own affair.
            assert size != "1M" or ledger.process.dropped > 0
    finally:
        (tmp_path / "program" / "stop").touch()
        program.join()
    outcome[0].ok()


def first_recording(folder: Path, program: threading.Thread) -> Path:
    """Waits until the program's recording can be opened."""
    wait = threading.Event()
    deadline = time.monotonic() + TIMEOUT_S
    while time.monotonic() < deadline and program.is_alive():
        for path in folder.glob("program/sessions/*/*.shd"):
            with contextlib.suppress(RecordingError), open_recording(path) as recording:
                if recording.header.newest_serial >= 20:
                    return path
        wait.wait(0.01)
    raise AssertionError("no recording appeared")


def check_open(ledger: Ledger) -> None:
    """The twenty that stay open are there until the end, each with its stack."""
    held = {history.detail: history for history in ledger.open()}
    for number in range(20):
        history = held.get(f"memfd:kept {number}")
        if history is None:
            ledger.refresh()
            assert ledger.recording.header.finalizing_seq > 0
            continue
        assert [frame.function for frame in history.opened][-1] == "<module>"
    assert len(held) <= 24


def check_events(path: Path) -> None:
    """Every event is one that a storm can have written, in its thread's order."""
    with open_recording(path) as recording:
        last: dict[int, int] = {}
        for event in recording.events():
            assert EventKind(event.kind) in {
                EventKind.ACQUIRE,
                EventKind.ADD_REF,
                EventKind.RELEASE,
                EventKind.CLOSE,
            }
            assert recording.type(event.type).name == "SafeFileHandle"
            thread = recording.thread(event.thread).name
            assert thread == "MainThread" or thread.startswith("storm ")
            assert event.seq > last.get(event.thread, 0)
            last[event.thread] = event.seq
            functions = [frame.function for frame in recording.stack(event.stack)]
            if event.kind == EventKind.ACQUIRE and thread != "MainThread":
                assert functions[:2] == ["open_one", "storm"]
                assert recording.string(event.detail).startswith(f"memfd:{thread} ")
            elif thread != "MainThread":
                assert functions[0] == "storm"
