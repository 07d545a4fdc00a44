"""The real screen on a real terminal, and a real program that it watches."""

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

__all__ = ["BOUND_S", "Program", "Terminal", "environment", "terminal"]

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

    def __init__(
        self, folder: Path, sessions: Path, *, text: str = LEAKY, level: str = "full"
    ) -> None:
        script = folder / "service.py"
        script.write_text(textwrap.dedent(text))
        self.process = subprocess.Popen(
            [sys.executable, str(script)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=folder,
            env=environment(sessions, SAFEHANDLE_DEBUG=level),
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

    def __init__(
        self,
        *targets: str,
        sessions: Path,
        ignore_hangup: bool = False,
        size: tuple[int, int] = (120, 36),
        uid: int | None = None,
    ) -> None:
        self.seen = b""
        self.pid, self.master = pty.fork()
        if self.pid == 0:
            try:
                self.master = 0
                self.resize(*size)
                if ignore_hangup:
                    signal.signal(signal.SIGHUP, signal.SIG_IGN)
                if uid is not None:
                    os.setgroups([])
                    os.setresgid(uid, uid, uid)
                    os.setresuid(uid, uid, uid)
                command = [sys.executable, "-m", "safehandle_tui", *targets]
                os.execve(sys.executable, command, environment(sessions))
            finally:
                os._exit(127)  # or the tests would go on in this process too

    def resize(self, width: int, height: int) -> None:
        """Gives the terminal another size."""
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", height, width, 0, 0))

    def wait_for(self, *texts: str) -> None:
        """Reads until all texts have been written, since the last call.

        Raises AssertionError with what was written instead."""
        last = time.monotonic() + BOUND_S
        while missing := [text for text in texts if text not in self.text]:
            assert time.monotonic() < last, f"{missing} never came:\n{self.text[-4000:]}"
            ready, _, _ = select.select([self.master], [], [], 0.5)
            if ready:
                try:
                    self.seen += os.read(self.master, 65536)
                except OSError:
                    break
        assert all(text in self.text for text in texts), self.text[-4000:]
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


@contextlib.contextmanager
def terminal(
    *targets: str,
    sessions: Path,
    ignore_hangup: bool = False,
    size: tuple[int, int] = (120, 36),
    uid: int | None = None,
) -> Iterator[Terminal]:
    """A Terminal that is gone afterwards."""
    opened = Terminal(*targets, sessions=sessions, ignore_hangup=ignore_hangup, size=size, uid=uid)
    try:
        yield opened
    finally:
        opened.close()
