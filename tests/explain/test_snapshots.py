"""Snapshots, and what has grown between two of them."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support_house import run

PROGRAM = """
import os, sys
from safehandle_debug import SafeFileHandle

CACHE = []

def keep(number):
    for _ in range(number):
        CACHE.append(SafeFileHandle.open("/dev/null", os.O_RDONLY))

def main():
    {extra}
    SafeFileHandle.open("/dev/null", os.O_RDONLY).close()
    for line in sys.stdin:
        keep(int(line))
        print("kept", flush=True)

main()
"""

Safehandle = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def safehandle(tmp_path: Path) -> Safehandle:
    """safehandle(*ARGUMENTS) runs the command in the program's folder."""

    def command(*arguments: str) -> subprocess.CompletedProcess[str]:
        return run(
            [sys.executable, "-m", "safehandle_debug", *arguments],
            cwd=tmp_path,
            env={"SAFEHANDLE_DEBUG_DIR": str(tmp_path / "sessions")},
        )

    return command


class Program:
    """A running program that keeps as many handles as it is told."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.pid = process.pid
        self._process = process

    def keep(self, number: int) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{number}\n")
        self._process.stdin.flush()
        assert self._process.stdout.readline() == "kept\n"

    def end(self) -> None:
        self._process.communicate(timeout=60)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Program]]:
    """start(EXTRA) starts the program, with a line of code more."""
    started: list[subprocess.Popen[str]] = []

    def begin(extra: str = "pass") -> Program:
        (tmp_path / "app.py").write_text(PROGRAM.format(extra=extra))
        environment = {
            "PATH": "/usr/bin:/bin",
            "SAFEHANDLE_DEBUG": "full",
            "SAFEHANDLE_DEBUG_DIR": str(tmp_path / "sessions"),
        }
        process = subprocess.Popen(
            [sys.executable, "app.py"],
            cwd=tmp_path,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return Program(process)

    yield begin
    for process in started:
        process.kill()
        process.communicate()


def test_two_moments_of_one_process(
    start: Callable[..., Program], safehandle: Safehandle, tmp_path: Path
) -> None:
    program = start()
    program.keep(2)
    assert safehandle("snapshot", str(program.pid), "--output", "a.json").returncode == 0
    program.keep(3)
    assert safehandle("snapshot", str(program.pid), "--output", "b.json").returncode == 0

    told = safehandle("diff", "a.json", "b.json", "--format", "json")
    text = safehandle("diff", "a.json", str(program.pid))
    same = safehandle("diff", "b.json", "b.json")

    assert told.returncode == 1, told.stderr
    (row,) = json.loads(told.stdout)["grown"]
    assert (row["file"], row["function"], row["owner"]) == ("app.py", "keep", "SafeFileHandle")
    assert (row["before"], row["after"], row["grown"]) == (2, 5, 3)
    assert row["per_minute"] > 0
    assert text.returncode == 1
    assert "+3  SafeFileHandle at app.py:9 in keep (2 -> 5, " in text.stdout
    assert (same.returncode, same.stdout) == (
        0,
        "nothing has grown: 5 open handles in A, 5 in B\n",
    )


def test_two_versions_of_a_program(
    start: Callable[..., Program], safehandle: Safehandle, tmp_path: Path
) -> None:
    """The line of the leak moves; it is still the same place."""
    recordings = []
    for extra, number in (("pass", 4), ("pass; pass\n    pass", 4), ("keep(1)", 4)):
        program = start(extra)
        program.keep(number)
        program.end()
        recordings.append(str(max((tmp_path / "sessions").iterdir())))

    first, moved, worse = recordings
    assert safehandle("diff", first, moved).returncode == 0
    told = safehandle("diff", first, worse)
    assert told.returncode == 1
    assert "+1  SafeFileHandle at app.py:9 in keep (4 -> 5)" in told.stdout
    assert safehandle("diff", worse, first).returncode == 0


def test_callers_are_those_of_the_place(
    start: Callable[..., Program], safehandle: Safehandle, tmp_path: Path
) -> None:
    """What a library does within the call is not among them."""
    recordings = []
    for extra in ("pass", "import socket; CACHE.append(socket.socket())"):
        program = start(extra)
        program.end()
        recordings.append(str(max((tmp_path / "sessions").iterdir())))

    told = safehandle("diff", *recordings).stdout
    assert re.search(r"^\+1  socket at app\.py:\d+ in main", told, re.MULTILINE), told
    called = re.findall(r"called at (\S+?):", told)
    assert [Path(each).name for each in called] == ["app.py"]


def test_a_moment_long_ago(start: Callable[..., Program], safehandle: Safehandle) -> None:
    program = start()
    program.keep(2)
    program.end()

    early = json.loads(safehandle("snapshot", "--at", "0s").stdout)
    late = json.loads(safehandle("snapshot", "--at", "1h").stdout)
    end = json.loads(safehandle("snapshot").stdout)

    assert [len(each["handles"]) for each in (early, late, end)] == [0, 0, 2]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["diff", "nothing", "nothing"], "there is no recording 'nothing'"),
        (["diff", "bad.json", "bad.json"], "it is no snapshot: make one with safehandle snapshot"),
        (["snapshot", "--at", "soon"], "--at soon: write a number and ms, s, m or h"),
    ],
)
def test_bad_input_is_one_sentence(
    safehandle: Safehandle, tmp_path: Path, arguments: list[str], sentence: str
) -> None:
    (tmp_path / "bad.json").write_text("[1]")
    done = safehandle(*arguments)
    assert done.returncode == 2
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr
