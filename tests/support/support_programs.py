"""Runs programs in processes of their own and reads what their recordings say.

A `Run` is what a program left behind: its output, its exit code, and the
session folder with one recording for each process of its tree.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import textwrap
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from safehandle_debug import _native
from safehandle_debug.ledger import History, Ledger, ProcessInfo
from safehandle_debug.recording import open_recording

__all__ = ["HOLDING", "Run", "Told", "recorded", "run_program", "told_by"]

# Long enough for two busy cores under a sanitizer; a hang still ends the test.
TIMEOUT_S = 300

# The module `holding` of every program: a native handle, and one whose hook is
# Python and leaves a line in a file, so that the release can be seen from outside.
HOLDING = """
import os

from safehandle_debug import SafeFileHandle, SafeHandle


class Hooked(SafeHandle):
    def __init__(self, value):
        super().__init__(-1)
        self.path = os.environ["PROGRAM_RELEASED"]
        self.set_handle(value)

    @property
    def is_invalid(self):
        return self.handle == -1

    def release_handle(self, os=os):
        fd = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(fd, b"%d %d\\n" % (os.getpid(), self.handle))
        os.close(fd)
        return True


def both(value):
    return [SafeFileHandle.open("/dev/null", os.O_RDONLY), Hooked(value)]
"""

# The module `sharing`: subinterpreters that share the GIL and load any module, by
# the names that each version of CPython has for it.
SHARING = """
try:
    import _interpreters

    def create():
        return _interpreters.create("legacy")

    def run_in(inner, source):
        error = _interpreters.run_string(inner, source)
        if error is not None:
            raise RuntimeError(error.formatted)

    destroy = _interpreters.destroy
except ImportError:
    import _xxsubinterpreters

    def create():
        return _xxsubinterpreters.create(isolated=False)

    run_in = _xxsubinterpreters.run_string
    destroy = _xxsubinterpreters.destroy
"""


@dataclass(frozen=True, slots=True)
class Told:
    """What one recording tells: its process and its handles, by serial."""

    process: ProcessInfo
    handles: tuple[History, ...]

    def of(self, value: int, owner: str | None = None) -> History:
        """The one handle with this raw value (and owner class).

        Raises AssertionError when there is none or more than one."""
        found = [
            h for h in self.handles if h.value == value and (owner is None or h.owner == owner)
        ]
        assert len(found) == 1, f"{len(found)} handles of value {value}: {self.handles}"
        return found[0]

    def owned_by(self, owner: str) -> list[History]:
        """All handles of one owner class, oldest first."""
        return [h for h in self.handles if h.owner == owner]


@dataclass(frozen=True, slots=True)
class Run:
    """One finished program."""

    code: int  # exit status; negative: signal number
    out: str
    err: str
    folder: Path  # SAFEHANDLE_DEBUG_DIR of the run

    @property
    def released(self) -> list[int]:
        """Values that the hooks of its Hooked handles released, in order."""
        return [value for _, value in self.released_by]

    @property
    def released_by(self) -> list[tuple[int, int]]:
        """The same as (pid, value)."""
        log = self.folder.parent / "released"
        if not log.exists():
            return []
        pairs = (line.split() for line in log.read_text().splitlines())
        return [(int(pid), int(value)) for pid, value in pairs]

    @property
    def lines(self) -> list[str]:
        """What it printed, line by line."""
        return self.out.splitlines()

    @property
    def sessions(self) -> list[Path]:
        """The session folders that it made, oldest first."""
        if not self.folder.exists():
            return []
        return sorted(path for path in self.folder.iterdir() if path.is_dir())

    @property
    def recordings(self) -> list[Path]:
        """All recordings of its process tree, oldest first."""
        files = [path for session in self.sessions for path in session.glob("*.shd")]
        return sorted(files, key=lambda path: (path.stat().st_mtime_ns, path.name))

    def told(self) -> list[Told]:
        """What every process of its tree recorded, the first process first."""
        every = [told_by(path) for path in self.recordings]
        pids = {told.process.pid for told in every}
        return sorted(
            every, key=lambda told: (told.process.parent_pid in pids, told.process.started_at_ns)
        )

    def first(self) -> Told:
        """What the program itself recorded, without its children."""
        return self.told()[0]

    def ok(self) -> Run:
        """Itself, after checking that it ended well and said nothing wrong."""
        assert self.code == 0, f"exit code {self.code}\n{self.out}\n{self.err}"
        return self


def run_program(
    source: str,
    folder: Path,
    *args: str,
    level: str | None = "full,fds=off",
    env: Mapping[str, str] | None = None,
    options: Sequence[str] = (),
    timeout: float = TIMEOUT_S,
) -> Run:
    """Runs `source` as a script of its own under SAFEHANDLE_DEBUG=`level`.

    Unless told otherwise SafeHandles alone are recorded: whoever asks for
    descriptors says `fds=on`.

    `options` go to the interpreter.  The recordings go into `folder`/sessions.
    A program that hangs is killed with its whole process group and fails."""
    folder.mkdir(parents=True, exist_ok=True)
    script = folder / "program.py"
    script.write_text(textwrap.dedent(source))
    (folder / "holding.py").write_text(HOLDING)
    (folder / "sharing.py").write_text(SHARING)
    sessions = folder / "sessions"
    sessions.mkdir(mode=0o700, exist_ok=True)
    environment = {k: v for k, v in os.environ.items() if not k.startswith("SAFEHANDLE_")}
    environment["SAFEHANDLE_DEBUG_DIR"] = str(sessions)
    environment["PROGRAM_RELEASED"] = str(folder / "released")
    # A subinterpreter does not have the script's folder on its path.
    environment["PYTHONPATH"] = str(folder)
    if level is not None:
        environment["SAFEHANDLE_DEBUG"] = level
    environment.update(env or {})
    with subprocess.Popen(
        [sys.executable, *options, str(script), *args],
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        start_new_session=True,
    ) as process:
        try:
            out, err = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            out, err = process.communicate()
            raise AssertionError(f"hung for {timeout} s\n{out}\n{err}") from None
    return Run(process.returncode, out, err, sessions)


def told_by(path: Path) -> Told:
    """Opens one recording and takes all that it tells."""
    with open_recording(path) as recording:
        ledger = Ledger(recording)
        ledger.refresh()
        serials = {event.serial for event in recording.events()}
        serials.update(slot.serial for slot in recording.live())
        found = (ledger.history(serial) for serial in sorted(serials))
        return Told(ledger.process, tuple(history for history in found if history is not None))


@contextlib.contextmanager
def recorded(folder: Path, **options: Any) -> Iterator[list[Told]]:
    """Records this process at level `full` for the length of a `with` block;
    afterwards the yielded list holds the one `Told`."""
    if _native.recording_path() is not None:
        pytest.skip("records this process for itself: not while --handles does")
    path = folder / f"{uuid.uuid4().hex}.shd"
    told: list[Told] = []
    _native.start_recording(str(path), **{"level": "full", "children": False, **options})
    try:
        yield told
    finally:
        _native.stop_recording()
    told.append(told_by(path))
