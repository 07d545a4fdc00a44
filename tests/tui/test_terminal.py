"""The real program on a real terminal, watching real processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from support_terminal import BOUND_S, Program, environment, terminal


@pytest.fixture
def program(tmp_path: Path, sessions_root: Path) -> Iterator[Program]:
    """A real process that leaks at service.py:6."""
    watched = Program(tmp_path, sessions_root)
    yield watched
    watched.end()


def test_a_leak_grows_and_its_process_is_killed(program: Program, sessions_root: Path) -> None:
    """The line that leaks, as it leaks; then post-mortem, and q leaves."""
    with terminal(sessions=sessions_root) as screen:
        screen.wait_for("30 handles open; all come from service.py:6 connect")
        program.tell("more")
        screen.wait_for("connect · 42 open")
        screen.type("2")
        screen.wait_for("42 handles")
        screen.type("S")
        screen.wait_for("/etc/passwd  ")
        os.kill(program.process.pid, signal.SIGKILL)
        screen.wait_for("died holding")
        screen.type("q")
        assert screen.exit_status() == 0


def test_by_pid_and_the_first_screen_of_a_page(program: Program, sessions_root: Path) -> None:
    """A pid is a target; a handle's page has its source."""
    with terminal(str(program.process.pid), sessions=sessions_root) as screen:
        screen.wait_for("service.py:6 connect")
        screen.type("\r")
        screen.wait_for("30 handles of service.py:6")
        screen.type("\r")
        screen.wait_for("return SafeFileHandle.open(path, os.O_RDONLY)")
        screen.resize(40, 10)
        os.kill(screen.pid, signal.SIGWINCH)
        screen.wait_for("needs 60x16")
        screen.type("q")
        assert screen.exit_status() == 0


def test_handles_that_are_closed_disappear(program: Program, sessions_root: Path) -> None:
    """Down to none, which is said."""
    with terminal(sessions=sessions_root) as screen:
        screen.wait_for("30 handles open")
        program.tell("close")
        screen.wait_for("No handles open")
        assert program.process.stdin is not None
        program.process.stdin.close()
        program.process.wait(BOUND_S)
        screen.wait_for("every handle was closed")


def test_waiting_for_the_first_process(tmp_path: Path, sessions_root: Path) -> None:
    """The viewer may be there first."""
    with terminal(sessions=sessions_root) as screen:
        screen.wait_for("Waiting for the first process")
        watched = Program(tmp_path, sessions_root)
        try:
            screen.wait_for("service.py:6 connect")
        finally:
            watched.end()


@pytest.mark.parametrize("ignore_hangup", [False, True])
def test_it_ends_with_its_terminal(
    program: Program, sessions_root: Path, ignore_hangup: bool
) -> None:
    """Also where SIGHUP is ignored; the watched process runs on."""
    with terminal(sessions=sessions_root, ignore_hangup=ignore_hangup) as screen:
        screen.wait_for("30 handles open")
        screen.hang_up()
        assert screen.exit_status() in (-signal.SIGHUP, 129)
    program.tell("more")


def test_sigterm_leaves_the_terminal_in_order(program: Program, sessions_root: Path) -> None:
    """The alternate screen is left and the cursor is back."""
    with terminal(sessions=sessions_root) as screen:
        screen.wait_for("30 handles open")
        os.kill(screen.pid, signal.SIGTERM)
        assert screen.exit_status() == 0
        assert b"\x1b[?1049l" in screen.seen
        assert b"\x1b[?25h" in screen.seen


def test_watching_costs_the_watched_process_nothing(program: Program, sessions_root: Path) -> None:
    """It is not scheduled, traced or written to: its CPU time stands still
    and its recording keeps its bytes while a viewer comes and goes."""
    (recording,) = sessions_root.glob("*/*.shd")
    stat = Path(f"/proc/{program.process.pid}/stat")
    before = stat.read_text().rpartition(")")[2].split()[11:13], recording.read_bytes()
    with terminal(sessions=sessions_root) as screen:
        screen.wait_for("30 handles open")
        screen.type("q")
        assert screen.exit_status() == 0
    assert (stat.read_text().rpartition(")")[2].split()[11:13], recording.read_bytes()) == before


@pytest.mark.slow
def test_the_leak_of_a_real_program_is_called_so(tmp_path: Path, sessions_root: Path) -> None:
    """The sample gateway, after some seconds: the word, and the line."""
    root = Path(__file__).parents[2]
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    gateway = subprocess.Popen(
        ["python", "samples/gateway.py", "--demo"],
        cwd=root,
        env=environment(
            sessions_root, PATH=path, SAFEHANDLE_DEBUG="full,fds=off", PYTHONUNBUFFERED="1"
        ),
        stdout=subprocess.PIPE,
    )
    assert gateway.stdout is not None
    try:
        gateway.stdout.readline()  # it serves, hence it records
        with terminal(str(gateway.pid), sessions=sessions_root) as screen:
            screen.wait_for("LEAK")
            screen.type("T")  # paints everything anew
            screen.wait_for("Downloads.start")
            screen.type("q")
            assert screen.exit_status() == 0
    finally:
        gateway.send_signal(signal.SIGINT)
        gateway.communicate(timeout=BOUND_S)
