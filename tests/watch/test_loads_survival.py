"""What the watch withstands, and what it still tells afterwards."""

from __future__ import annotations

import re
import signal
from pathlib import Path

import pytest
import support_house as house
from support_loads import WATCHED, found, said
from support_programs import run_program

LOW_LIMIT = """
# Few descriptors are allowed, and all of them are used, again and again.
import errno, os, resource

resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
for _ in range(20):
    held = []
    try:
        while True:
            held.append(os.open(os.devnull, os.O_RDONLY))
    except OSError as error:
        assert error.errno == errno.EMFILE
    assert len(held) > 50, len(held)
    while held:
        os.close(held.pop())
print("well")
"""

HOLDING = """
import os, signal, sys, ctypes

def acquire():
    return os.open(__file__, os.O_RDONLY)

held = acquire()
for _ in range(100):
    os.close(os.open(__file__, os.O_RDONLY))
{end}
"""

ENDS = {
    "killed": ("os.kill(os.getpid(), signal.SIGKILL)", -signal.SIGKILL),
    "segmentation fault": ("ctypes.string_at(0)", -signal.SIGSEGV),
    "terminated": ("os.kill(os.getpid(), signal.SIGTERM)", -signal.SIGTERM),
    "left at once": ("os._exit(0)", 0),
    "replaced": ("os.execv('/bin/true', ['true'])", 0),
}

SESSION_GONE = """
import os, shutil, socket, subprocess, sys

shutil.rmtree(os.environ["SAFEHANDLE_DEBUG_DIR"])
for _ in range(3000):
    os.close(os.open(__file__, os.O_RDONLY))
    one, other = socket.socketpair()
    one.close()
    other.close()
subprocess.run([sys.executable, "-c", "print('child', flush=True)"], check=True)
pid = os.fork()
if pid == 0:
    os.close(os.open(__file__, os.O_RDONLY))
    os._exit(0)
print(os.waitpid(pid, 0)[1])
"""


def test_few_descriptors(tmp_path: Path) -> None:
    """The program gets all that it would get; that they were exhausted is said at once."""
    run = run_program(LOW_LIMIT, tmp_path, level=WATCHED)
    assert (run.code, run.out) == (0, "well\n")
    assert run.err.startswith("safehandle-debug: EMFILE: descriptors exhausted")
    assert said(run) == []
    report = house.run(
        ["python", "-m", "safehandle_debug", "report", str(run.sessions[0])], cwd=tmp_path
    )
    assert re.search(r"6\d opened at program.py:10", report.stdout), report.stderr


@pytest.mark.parametrize("how", ENDS)
def test_what_was_held_is_known_afterwards(how: str, tmp_path: Path) -> None:
    """Told with its line; a finding only where the program itself chose to end."""
    end, code = ENDS[how]
    run = run_program(HOLDING.format(end=end), tmp_path, level=WATCHED)
    assert run.code == code, run.err
    assert [each.kind for each in found(run)] == (["leak"] if how == "left at once" else [])
    held = [
        handle
        for handle in run.first().handles
        if handle.opened and handle.opened[0].function == "acquire"
    ]
    assert [(handle.ending, handle.opened[0].line) for handle in held] == [("lost", 5)]


def test_the_session_goes_away(tmp_path: Path) -> None:
    run = run_program(SESSION_GONE, tmp_path, level=WATCHED)
    assert (run.code, run.out.splitlines()) == (0, ["child", "0"]), run.err


def test_the_account_is_exact_under_mixed_load(tmp_path: Path) -> None:
    """A moment of what `make soak` does for ten minutes."""
    soak = Path(__file__).parents[2] / "benchmarks/soak.py"
    done = house.run(["python", str(soak), "3"], cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "found 0" in done.stdout
