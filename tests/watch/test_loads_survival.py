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

MIXED = """
# All sorts of churn at once; at each checkpoint the account is the kernel's.
import mmap, os, queue, random, select, socket, subprocess, sys, tempfile, threading, time
from safehandle_debug import _native

SECONDS = float(sys.argv[1])
end = time.monotonic() + SECONDS
pause = threading.Barrier(5)
wrong = []


def churn(seed):
    rnd = random.Random(seed)
    held = []
    while not over():
        for _ in range(300):
            what = rnd.randrange(8)
            if what == 0:
                held.append(open(__file__, "rb"))
            elif what == 1:
                held.extend(socket.socketpair())
            elif what == 2:
                held.append(select.epoll())
            elif what == 3:
                with open(__file__, "rb") as file:
                    held.append(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
            elif what == 4:
                held.append(tempfile.TemporaryFile())
            elif what == 5:
                fds = os.pipe()
                for fd in fds:
                    os.close(fd)
            elif what == 6 and rnd.random() < 0.02:
                subprocess.run(["/bin/true"], check=True)
            elif held:
                held.pop(rnd.randrange(len(held))).close()
            while len(held) > 40:
                held.pop().close()
        pause.wait()  # all stand still
        pause.wait()  # the account has been compared
    for thing in held:
        thing.close()


finished = threading.Event()


def over():
    return finished.is_set()


threads = [threading.Thread(target=churn, args=(seed,)) for seed in range(4)]
for thread in threads:
    thread.start()
checks = 0
while not finished.is_set():
    pause.wait()
    differences = _native.watch_reconcile()
    status = _native.watch_status()
    kernel = len([fd for fd in os.listdir("/proc/self/fd")]) - 1  # the one that lists
    if differences or status["open"] != kernel:
        wrong.append((differences, status, kernel))
    checks += 1
    if time.monotonic() > end:
        finished.set()
    pause.wait()
for thread in threads:
    thread.join()
assert not wrong, wrong[:3]
assert checks > 2
print("well")
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
    """Nobody could close it any more: no finding, but it is told with its line."""
    end, code = ENDS[how]
    run = run_program(HOLDING.format(end=end), tmp_path, level=WATCHED)
    assert run.code == code, run.err
    assert said(run) == []
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
    run = run_program(MIXED, tmp_path, "5", level=WATCHED).ok()
    assert run.lines == ["well"]
    assert found(run) == []
