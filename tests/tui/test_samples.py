"""What the screen says of real programs that do wrong, and of states that are real."""

from __future__ import annotations

import os
import re
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from support_house import ROOT
from support_samples import SAMPLES, watched
from support_terminal import BOUND_S, Program, environment, terminal

from safehandle_debug.recording.format import HEADER_SIZE, VERSION

# "leak: FileIO fd N ... opened at samples/leak.py:30 in f ...", as reports begin.
FINDING = re.compile(r"^([a-z-]+): .*?(samples/\w+\.py:\d+) in ", re.MULTILINE)
QUICK = sorted(
    path.name.removesuffix(".expected.txt")
    for path in SAMPLES.glob("*.expected.txt")
    if FINDING.search(path.read_text()) and path.name.partition(".")[0] != "gateway"
)

PLAIN = """
import sys
CACHE = []
def handle(name):
    file = open(name)
    CACHE.append(file)
for _ in range(30):
    handle("/etc/hosts")
print("ready", flush=True)
for line in sys.stdin:
    handle("/etc/passwd")
    print("done", flush=True)
"""


@pytest.fixture
def program(tmp_path: Path, sessions_root: Path) -> Iterator[Program]:
    """A process that never heard of SafeHandle and leaks at service.py:5."""
    watching = Program(tmp_path, sessions_root, text=PLAIN)
    yield watching
    watching.end()


@pytest.mark.slow
@pytest.mark.parametrize("name", QUICK)
def test_each_sample_gets_its_alarms(name: str, tmp_path: Path) -> None:
    """Those of its expected report: the kind of each, and the line it is about."""
    (tmp_path / "run").mkdir()
    outcome = watched(f"{name}.py", [], tmp_path / "run")
    expected = FINDING.findall((SAMPLES / f"{name}.expected.txt").read_text())
    with terminal(sessions=outcome.sessions, size=(200, 60)) as screen:
        screen.wait_for("ENDED")
        screen.type("5")
        screen.wait_for("> Alarms", *(word for finding in expected for word in finding))
        screen.type("q")
        assert screen.exit_status() == 0


def test_the_samples_are_those_that_leak() -> None:
    """The list above is not empty for want of a match."""
    assert {"leak_in_cycle", "leak_in_thread", "leak_on_error_path"} <= set(QUICK)


def test_a_program_tells_who_holds_its_files(program: Program, sessions_root: Path) -> None:
    """o asks; the next file that it opens has it answer."""
    with terminal(str(program.process.pid), sessions=sessions_root, size=(120, 50)) as screen:
        screen.wait_for("service.py:5 handle", "o asks the program")
        screen.type("o")
        screen.wait_for("asked")
        program.tell("more")
        program.tell("more")
        screen.wait_for("__main__.CACHE[0]")
        os.kill(program.process.pid, signal.SIGKILL)
        program.process.wait()
        screen.wait_for("died holding", "killed")
        # It answered once: that is the last word of it.
        screen.type("T")
        screen.wait_for("__main__.CACHE[0]")
        screen.type("q")
        assert screen.exit_status() == 0


def test_a_signal_is_named(tmp_path: Path, sessions_root: Path) -> None:
    """Of a program that `safehandle run` waited for."""
    script = tmp_path / "service.py"
    script.write_text("import os, signal\nheld = open('/etc/hosts')\nos.kill(os.getpid(), 6)\n")
    command = [sys.executable, "-m", "safehandle_debug", "run", "--", sys.executable, str(script)]
    done = subprocess.run(
        command, cwd=tmp_path, env=environment(sessions_root), capture_output=True, check=False
    )
    assert done.returncode in (-signal.SIGABRT, 128 + signal.SIGABRT), done.stderr
    with terminal(sessions=sessions_root, size=(160, 36)) as screen:
        screen.wait_for("killed by SIGABRT", "died holding", "service.py:2")
        screen.type("q")
        assert screen.exit_status() == 0


def test_a_newer_format_is_said(program: Program, sessions_root: Path, tmp_path: Path) -> None:
    """In words, on a screen that goes on; as a target, before there is one."""
    program.end()
    (path,) = sessions_root.glob("*/*.shd")
    data = bytearray(path.read_bytes())
    at = data.index(struct.pack("=I", VERSION), 0, HEADER_SIZE)
    data[at : at + 4] = struct.pack("=I", VERSION + 1)
    path.write_bytes(data)
    with terminal(str(path.parent), sessions=sessions_root) as screen:
        screen.wait_for("DISCONNECTED", "newer")
        screen.type("q")
        assert screen.exit_status() == 0


def can_run_python(uid: int) -> bool:
    """Not where the interpreter is in somebody's closed home."""
    try:
        done = subprocess.run([sys.executable, "-c", "import safehandle_tui"], user=uid, group=uid)
    except PermissionError:
        return False
    return done.returncode == 0


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become somebody else")
def test_somebody_elses_recordings_are_not_shown(program: Program, sessions_root: Path) -> None:
    """A sentence that says why, and no traceback."""
    nobody = 65534
    if not can_run_python(nobody):
        pytest.skip("somebody else cannot run this Python")
    folder = sessions_root
    while folder != folder.parent:
        if not folder.stat().st_mode & 0o001:
            folder.chmod(0o711)  # so that only the session itself is closed
        folder = folder.parent
    (path,) = sessions_root.glob("*/*.shd")
    with terminal(str(path), sessions=sessions_root, uid=nobody) as screen:
        assert screen.exit_status() != 0
        assert "ermission denied" in screen.text or "belongs to" in screen.text
        assert "Traceback" not in screen.text


def test_without_stacks_it_says_so(tmp_path: Path, sessions_root: Path) -> None:
    """`arm=` takes none until so many descriptors are open."""
    watching = Program(tmp_path, sessions_root, text=PLAIN, level="full,arm=1000")
    try:
        with terminal(sessions=sessions_root) as screen:
            screen.wait_for("descriptors open, counted only", "counted, not recorded")
            screen.type("q")
            assert screen.exit_status() == 0
    finally:
        watching.end()


def test_events_that_were_lost_are_counted(tmp_path: Path, sessions_root: Path) -> None:
    """A recording of a megabyte has room for few; what is open stays known."""
    busy = "for _ in range(60_000): open('/etc/hosts').close()\nprint("
    text = PLAIN.replace("print(", busy, 1)
    watching = Program(tmp_path, sessions_root, text=text, level="full,size=1M")
    try:
        with terminal(sessions=sessions_root) as screen:
            screen.wait_for("events lost", "service.py:5 handle")
            screen.type("q")
            assert screen.exit_status() == 0
    finally:
        watching.end()


def test_it_is_gone_soon_after_its_terminal(program: Program, sessions_root: Path) -> None:
    """Also where SIGHUP is ignored: it looks every quarter of a second."""
    with terminal(sessions=sessions_root, ignore_hangup=True) as screen:
        screen.wait_for("service.py:5 handle")
        screen.hang_up()
        began = time.monotonic()
        assert screen.exit_status() == 129
        assert time.monotonic() - began < BOUND_S
    program.tell("more")


def test_four_viewers_see_the_same(program: Program, sessions_root: Path) -> None:
    """And the program does not notice."""
    viewers = [terminal(sessions=sessions_root) for _ in range(4)]
    screens = [each.__enter__() for each in viewers]
    try:
        for screen in screens:
            screen.wait_for("service.py:5 handle · 30 open")
        program.tell("more")
        for screen in screens:
            screen.wait_for("handle · 31 open")
    finally:
        for each in viewers:
            each.__exit__(None, None, None)


def test_the_root_is_where_the_samples_run() -> None:
    """As the lines of their reports are relative to it."""
    assert (ROOT / "samples").samefile(SAMPLES)
