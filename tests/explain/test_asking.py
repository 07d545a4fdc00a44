"""A process that runs is asked who holds its handles, and answers in its own time."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support_house import run

from safehandle_debug.recording import RecordingError, open_recording
from safehandle_debug.recording.asking import ask
from safehandle_debug.recording.format import ASK_OFFSET, HEADER, HEADER_SIZE

PROGRAM = """
import os, sys, threading
from safehandle_debug import SafeFileHandle

KEPT = {}

def work():
    local = SafeFileHandle.open("/dev/zero")
    KEPT["main"] = SafeFileHandle.open("/dev/null")
    if "fork" in sys.argv and os.fork():
        os.wait()
        os._exit(0)
    if "fork" in sys.argv:
        KEPT["child"] = SafeFileHandle.open("/dev/full")
    print(os.getpid(), flush=True)
    for line in sys.stdin:
        SafeFileHandle.open("/dev/null").close()
        # Questions are looked for once a millisecond.
        threading.Event().wait(0.002)
        print("did", flush=True)

if "thread" in sys.argv:
    worker = threading.Thread(target=work)
    worker.start()
    worker.join()
else:
    work()
"""

Start = Callable[..., "Program"]


class Program:
    """A running program that touches a handle when it is told to."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self.pid = int(self._line())

    def touch(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write("touch\n")
        self._process.stdin.flush()
        assert self._line() == "did\n"

    def _line(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline()


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """start(*ARGUMENTS) starts the program under watch."""
    started: list[subprocess.Popen[str]] = []

    def begin(*arguments: str, level: str = "full") -> Program:
        (tmp_path / "app.py").write_text(PROGRAM)
        environment = {"SAFEHANDLE_DEBUG": level, "SAFEHANDLE_DEBUG_DIR": str(tmp_path / "s")}
        process = subprocess.Popen(
            [sys.executable, "app.py", *arguments],
            cwd=tmp_path,
            env={**os.environ, **environment},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return Program(process)

    yield begin
    for process in started:
        process.communicate(timeout=60)


def recording_of(folder: Path, pid: int) -> Path:
    (path,) = (folder / "s").glob(f"*/{pid}-*.shd")
    return path


def told(folder: Path, pid: int, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "safehandle_debug", "holders", str(pid), *options]
    return run(command, cwd=folder, env={"SAFEHANDLE_DEBUG_DIR": str(folder / "s")})


def test_it_answers_with_its_next_event(start: Start, tmp_path: Path) -> None:
    program = start()
    with open_recording(recording_of(tmp_path, program.pid)) as recording:
        number = ask(recording)
        assert "holders_answer" not in recording.meta
        program.touch()
        program.touch()
        recording.refresh()
        assert recording.meta["holders_answer"] == number

    done = told(tmp_path, program.pid, "--wait", "0", "--format", "json")
    chains = {
        each["chains"][0][0][0]
        for each in json.loads(done.stdout)["handles"]
        if len(each["chains"]) and len(each["chains"][0]) == 1
    }
    assert "local local of work (app.py:" in " ".join(chains)
    assert "__main__.KEPT['main']" in told(tmp_path, program.pid, "--wait", "0").stdout


def test_one_whose_main_thread_waits_answers_all_the_same(start: Start, tmp_path: Path) -> None:
    """Its other threads open and close, and a thread of its own looks."""
    program = start("thread")
    with open_recording(recording_of(tmp_path, program.pid)) as recording:
        number = ask(recording)
        until = time.monotonic() + 60
        while recording.meta.get("holders_answer") != number:
            assert time.monotonic() < until, "it never answered"
            program.touch()
            recording.refresh()
        chains = json.dumps(recording.meta["holders"])
        threads = {recording.thread(event.thread).name for event in recording.events()}
    assert "__main__.KEPT" in chains
    assert "local local of work" in chains
    assert threads <= {"MainThread", "Thread-1 (work)", ""}, "what looks leaves no trace"


def test_one_that_was_started_so_is_not_asked(start: Start, tmp_path: Path) -> None:
    """Nor does it answer one who writes the question all the same."""
    program = start(level="full,ask=off")
    path = recording_of(tmp_path, program.pid)
    with open_recording(path) as recording:
        with pytest.raises(RecordingError, match=r"cannot be asked: it was started with ask=off"):
            ask(recording)
        with path.open("r+b") as file:
            file.seek(ASK_OFFSET)
            file.write(b"\1\0\0\0")
        for _ in range(3):
            program.touch()
        recording.refresh()
        assert "holders" not in recording.meta
    done = told(tmp_path, program.pid)
    assert done.returncode == 2
    assert "ask=off" in done.stderr
    assert "Traceback" not in done.stderr


def test_others_are_asked_beside_one_that_does_not_answer(start: Start, tmp_path: Path) -> None:
    silent, idle = start(level="full,ask=off"), start()
    done = told(tmp_path, silent.pid, str(idle.pid), "--wait", "0")
    assert done.returncode == 0, done.stderr
    assert f"Process {silent.pid} cannot be asked: it was started with ask=off" in done.stderr
    assert f"Process {idle.pid} has not answered" in done.stderr


def test_each_question_is_answered_once(start: Start, tmp_path: Path) -> None:
    program = start()
    with open_recording(recording_of(tmp_path, program.pid)) as recording:
        answers = []
        for _ in range(3):
            ask(recording)
            program.touch()
            program.touch()
            recording.refresh()
            answers.append(recording.meta["holders_answer"])
            metas = recording.header.meta
            program.touch()
            recording.refresh()
            assert recording.header.meta == metas
    assert answers == [1, 2, 3]


def test_one_that_does_nothing_has_not_answered(start: Start, tmp_path: Path) -> None:
    program = start()
    done = told(tmp_path, program.pid, "--wait", "0")
    assert done.returncode == 0
    assert done.stderr == (
        f"Process {program.pid} has not answered: it does when it next opens or closes anything.\n"
    )


def test_a_forked_child_answers_for_itself(start: Start, tmp_path: Path) -> None:
    program = start("fork")
    with open_recording(recording_of(tmp_path, program.pid)) as recording:
        assert ask(recording) == 1
        program.touch()
        program.touch()
        recording.refresh()
        assert recording.meta["holders_answer"] == 1
        texts = json.dumps(recording.meta["holders"])
    assert "__main__.KEPT" in texts


def test_a_recording_that_may_not_be_written_is_a_sentence(start: Start, tmp_path: Path) -> None:
    program = start()
    path = recording_of(tmp_path, program.pid)
    with open_recording(path) as recording:
        path.rename(path.with_suffix(".away"))
        with pytest.raises(RecordingError, match="cannot be asked"):
            ask(recording)
        path.with_suffix(".away").rename(path)


def test_the_word_lies_behind_the_header() -> None:
    assert HEADER.size <= ASK_OFFSET <= HEADER_SIZE - 4
