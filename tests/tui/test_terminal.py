"""The real program on a real terminal, watching real processes."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

BOUND_S = 60.0
ESCAPES = re.compile(rb"\x1b(\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(\x07|\x1b\\)|[()][A-Z0-9]|[=>78])")

LEAKY = """
import os, sys
from safehandle_debug import SafeFileHandle

def connect(path):
    return SafeFileHandle.open(path, os.O_RDONLY)

held = [connect("/etc/hosts") for _ in range(30)]
print("ready", flush=True)
for line in sys.stdin:
    if line.strip() == "more":
        held += [connect("/etc/passwd") for _ in range(12)]
    elif line.strip() == "close":
        for handle in held:
            handle.close()
        held.clear()
    print("done", flush=True)
"""


def environment(sessions: Path, **more: str) -> dict[str, str]:
    """Of a terminal of 256 colours, without anything of ours."""
    clean = {name: value for name, value in os.environ.items() if name != "NO_COLOR"}
    return {
        **clean,
        "SAFEHANDLE_DEBUG_DIR": str(sessions),
        "TERM": "xterm-256color",
        "COLORTERM": "truecolor",
        "PYTHONUNBUFFERED": "1",
        "COLUMNS": "80",  # exported by whoever started us: not to be believed
        "LINES": "24",
        **more,
    }


class Program:
    """A watched program that does what it is told."""

    def __init__(self, folder: Path, sessions: Path) -> None:
        script = folder / "service.py"
        script.write_text(textwrap.dedent(LEAKY))
        self.process = subprocess.Popen(
            [sys.executable, str(script)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=folder,
            env=environment(sessions, SAFEHANDLE_DEBUG="full"),
            text=True,
        )
        self.answer("ready")

    def answer(self, word: str) -> None:
        """Waits until the program says the word."""
        assert self.process.stdout is not None
        assert self.process.stdout.readline().strip() == word

    def tell(self, word: str) -> None:
        """Has it do something, and waits until it did."""
        assert self.process.stdin is not None
        self.process.stdin.write(word + "\n")
        self.process.stdin.flush()
        self.answer("done")

    def end(self) -> None:
        """Ends it, whatever it is doing."""
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            assert pipe is not None
            with contextlib.suppress(BrokenPipeError):
                pipe.close()


class Terminal:
    """`python -m safehandle_tui` on a terminal of its own."""

    def __init__(self, *targets: str, sessions: Path, ignore_hangup: bool = False) -> None:
        self.seen = b""
        self.pid, self.master = pty.fork()
        if self.pid == 0:
            self.master = 0
            self.resize(120, 36)
            if ignore_hangup:
                signal.signal(signal.SIGHUP, signal.SIG_IGN)
            command = [sys.executable, "-m", "safehandle_tui", *targets]
            os.execve(sys.executable, command, environment(sessions))

    def resize(self, width: int, height: int) -> None:
        """Gives the terminal another size."""
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", height, width, 0, 0))

    def wait_for(self, text: str) -> None:
        """Reads until the text has been written, since the last call.

        Raises AssertionError with what was written instead."""
        last = time.monotonic() + BOUND_S
        wanted = text.encode()
        while wanted not in ESCAPES.sub(b"", self.seen):
            assert time.monotonic() < last, f"{text!r} never came:\n{self.text[-4000:]}"
            ready, _, _ = select.select([self.master], [], [], 0.5)
            if ready:
                try:
                    self.seen += os.read(self.master, 65536)
                except OSError:
                    break
        assert wanted in ESCAPES.sub(b"", self.seen), self.text[-4000:]
        self.seen = b""

    @property
    def text(self) -> str:
        """What was written, without escape codes."""
        return ESCAPES.sub(b"", self.seen).decode(errors="replace")

    def type(self, keys: str) -> None:
        """Presses keys."""
        os.write(self.master, keys.encode())

    def exit_status(self) -> int:
        """Waits for the end, reading on; the status as in a shell."""
        last = time.monotonic() + BOUND_S
        while time.monotonic() < last:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.pid = 0
                return os.waitstatus_to_exitcode(status)
            if self.master >= 0:
                ready, _, _ = select.select([self.master], [], [], 0.1)
                with contextlib.suppress(OSError):
                    self.seen += os.read(self.master, 65536) if ready else b""
            else:
                select.select([], [], [], 0.05)
        raise AssertionError(f"it does not end:\n{self.text[-4000:]}")

    def hang_up(self) -> None:
        """The terminal goes away."""
        os.close(self.master)
        self.master = -1

    def close(self) -> None:
        """Ends it, if it still runs."""
        if self.master >= 0:
            self.hang_up()
        if self.pid:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)


@pytest.fixture
def program(tmp_path: Path, sessions_root: Path) -> Iterator[Program]:
    """A real process that leaks at service.py:6."""
    watched = Program(tmp_path, sessions_root)
    yield watched
    watched.end()


@contextlib.contextmanager
def terminal(*targets: str, sessions: Path, ignore_hangup: bool = False) -> Iterator[Terminal]:
    """A Terminal that is gone afterwards."""
    opened = Terminal(*targets, sessions=sessions, ignore_hangup=ignore_hangup)
    try:
        yield opened
    finally:
        opened.close()


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
