"""`safehandle run`: the command as if it had been started without us, and recorded."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import select
import signal
import subprocess
import sys
import termios
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from safehandle_debug.ledger import Ledger
from safehandle_debug.recording import open_recording
from safehandle_debug.recording.format import Ended

Run = Callable[..., subprocess.CompletedProcess[str]]

SIGNALLED = """
import os, signal, sys
def stop(number, frame):
    os.write(1, f"got {signal.Signals(number).name}\\n".encode())
    sys.exit(7)
for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1):
    signal.signal(number, stop)
os.write(1, b"ready\\n")  # print() cannot be interrupted by a handler that prints
while True:
    signal.pause()
"""

TELLING = """
import os, signal
if {apart}:
    os.setpgid(0, 0)  # the terminal's signals go to its foreground group only
got = []
signal.alarm(100)  # whatever happens to the test
for number in (signal.SIGINT, signal.SIGTERM):
    signal.signal(number, lambda number, frame: got.append(signal.Signals(number).name))
print("ready", flush=True)
while len(got) < {count}:
    signal.sigtimedwait([], 0.05)
print("got", *got, "end", flush=True)
"""


def recordings(root: Path) -> list[Path]:
    return sorted(root.glob("*/*.shd"))


@pytest.mark.parametrize("separator", [["--"], []])
def test_the_command_is_recorded_and_its_output_is_untouched(
    command: Run, root: Path, separator: list[str]
) -> None:
    done = command("run", *separator, sys.executable, "-c", "print(input())", input="hello\n")

    assert (done.returncode, done.stdout, done.stderr) == (0, "hello\n", "")
    assert len(recordings(root)) == 1


@pytest.mark.parametrize("code", [0, 1, 3, 255])
def test_the_exit_code_is_the_commands(command: Run, code: int) -> None:
    assert command("run", "--", sys.executable, "-c", f"exit({code})").returncode == code


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL, signal.SIGSEGV])
def test_a_death_by_signal_is_told_by_exit_code_and_in_the_recording(
    command: Run, root: Path, number: signal.Signals
) -> None:
    done = command(
        "run", "--", sys.executable, "-c", f"import os; os.kill(os.getpid(), {int(number)})"
    )

    assert done.returncode == 128 + number
    (path,) = recordings(root)
    with open_recording(path) as recording:
        assert recording.header.ended == Ended.SIGNAL
        assert recording.header.exit_code == number
        # Nobody was there to note when: that is better than a wrong time.
        assert Ledger(recording).process.ended_at_ns is None


def test_an_ordinary_end_is_not_overwritten(command: Run, root: Path) -> None:
    command("run", "--", sys.executable, "-c", "exit(3)")

    with open_recording(recordings(root)[0]) as recording:
        assert (recording.header.ended, recording.header.exit_code) == (Ended.EXIT, 3)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1])
def test_a_signal_sent_to_us_reaches_the_command(
    environment: dict[str, str], program: Callable[[str], Path], number: signal.Signals
) -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "safehandle_debug", "run", sys.executable, program(SIGNALLED)],
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
    ) as running:
        assert running.stdout is not None
        assert running.stdout.readline() == "ready\n"
        running.send_signal(number)
        output, _ = running.communicate(timeout=60)

    assert (running.returncode, output) == (7, f"got {number.name}\n")


@contextlib.contextmanager
def on_terminal(
    program: Path, environment: dict[str, str]
) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """(`safehandle run` on a program that said `ready`, the terminal it runs on)."""
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-m", "safehandle_debug", "run", sys.executable, program],
        env=environment,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
    ) as running:
        os.close(theirs)
        read_until(ours, b"ready")
        try:
            yield running, ours
            running.wait(timeout=60)
        finally:
            os.close(ours)
            running.kill()


def read_until(terminal: int, word: bytes) -> bytes:
    """What the terminal shows, up to `word`."""
    output = b""
    while word not in output:
        assert select.select([terminal], [], [], 60)[0], output
        output += os.read(terminal, 1024)
    return output


def test_an_interrupt_at_the_terminal_reaches_the_command(
    environment: dict[str, str], program: Callable[[str], Path]
) -> None:
    script = program(TELLING.format(apart=False, count=1))

    with on_terminal(script, environment) as (running, terminal):
        os.write(terminal, b"\x03")
        output = read_until(terminal, b"end")

    assert b"got SIGINT end" in output
    assert running.returncode == 0


def test_an_interrupt_at_the_terminal_is_not_sent_on_as_well(
    environment: dict[str, str], program: Callable[[str], Path]
) -> None:
    script = program(TELLING.format(apart=True, count=1))

    with on_terminal(script, environment) as (running, terminal):
        os.write(terminal, b"\x03")
        read_until(terminal, b"^C")
        running.send_signal(signal.SIGTERM)
        output = read_until(terminal, b"end")

    assert b"got SIGTERM end" in output


def test_a_broken_pipe_ends_the_command_as_it_would_without_us(command: Run) -> None:
    done = command("run", "--", "sh", "-c", "yes | head -n 1")

    assert (done.stdout, done.returncode) == ("y\n", 0)
    assert "Broken pipe" not in done.stderr


@pytest.mark.parametrize(
    ("name", "code", "hint"),
    [("./none", 127, "no such file"), ("no-such-command-x", 127, "in PATH"), (".", 126, "")],
)
def test_a_command_that_cannot_be_started_is_one_sentence(
    command: Run, root: Path, name: str, code: int, hint: str
) -> None:
    done = command("run", "--", name)

    assert done.returncode == code
    assert done.stderr.count("\n") == 1
    assert f"cannot run '{name}'" in done.stderr
    assert hint in done.stderr
    assert list(root.iterdir()) == []


def test_a_command_that_is_not_python_is_said_to_be_unrecorded(command: Run, root: Path) -> None:
    done = command("run", "--", "true")

    assert done.returncode == 0
    assert done.stderr.startswith("Nothing was recorded")
    assert list(root.iterdir()) == []


def test_all_python_programs_of_a_shell_script_share_the_session(command: Run, root: Path) -> None:
    python = sys.executable
    done = command("run", "--", "sh", "-c", f"{python} -c pass; {python} -c pass; exit 5")

    assert done.returncode == 5
    assert len(list(root.iterdir())) == 1
    assert len(recordings(root)) == 2


def test_with_children_off_the_first_process_is_recorded(command: Run, root: Path) -> None:
    python = sys.executable
    line = f"import subprocess, sys; subprocess.run([{python!r}, '-c', 'pass'])"

    command("run", "--option", "children=off", "--", python, "-c", line)

    assert len(recordings(root)) == 1


def test_level_off_records_nothing(command: Run, root: Path) -> None:
    done = command("run", "--level", "off", "--", sys.executable, "-c", "exit(4)")

    assert (done.returncode, done.stderr) == (4, "")
    assert not root.exists()


def test_options_are_passed_on(command: Run, root: Path) -> None:
    command("run", "--level=sampled", "--option", "sample=3", "--", sys.executable, "-c", "pass")

    with open_recording(recordings(root)[0]) as recording:
        assert (recording.header.level, recording.header.sample) == (1, 3)


@pytest.mark.parametrize("arguments", [["--option", "frame=3"], ["--level", "high"], []])
def test_bad_usage_runs_nothing(command: Run, arguments: list[str], tmp_path: Path) -> None:
    tail = ["--", "touch", "made"] if arguments else []

    done = command("run", *arguments, *tail)

    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "made").exists()


def test_without_a_folder_to_record_into_the_command_runs_unwatched(
    command: Run, root: Path
) -> None:
    root.touch()

    done = command("run", "--", sys.executable, "-c", "print('ran'); exit(3)")

    assert (done.returncode, done.stdout) == (3, "ran\n")
    assert done.stderr.count("\n") == 1
    assert done.stderr.endswith("the program runs on unwatched\n")


def test_the_report_goes_to_stderr_and_leaves_the_exit_code(
    command: Run, program: Callable[[str], Path], leaking: str
) -> None:
    script = program(f"{leaking}print('out')\n")

    done = command("run", "--report", "--", sys.executable, str(script))

    assert (done.returncode, done.stdout) == (0, "out\n")
    assert "leak" in done.stderr
    assert "app.py:5" in done.stderr


def test_a_parent_that_ignores_its_children_does_not_matter(
    environment: dict[str, str], tmp_path: Path
) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "safehandle_debug", "run", sys.executable, "-c", "exit(3)"],
        env=environment,
        cwd=tmp_path,
        check=False,
        preexec_fn=lambda: signal.signal(signal.SIGCHLD, signal.SIG_IGN),
    )

    assert done.returncode == 3
