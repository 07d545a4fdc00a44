"""Programs in trouble: the watch changes nothing for them, and finds nothing in them."""

from __future__ import annotations

import os
import signal
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from support_interpose import needs_interposition
from support_loads import OPENING, WATCHED, found, said, well
from support_programs import Run, run_program

pytestmark = needs_interposition

SPAWNING = """
# vfork (subprocess) and posix_spawn at once, while others open and close.
import os, subprocess, threading

over = threading.Event()


def churn():
    while not over.is_set():
        for fd in os.pipe():
            os.close(fd)
        open(os.devnull).close()


def spawn():
    for _ in range(25):
        subprocess.run(["true"], check=True)
        pid = os.posix_spawn("/bin/true", ["true"], {})
        assert os.waitpid(pid, 0)[1] == 0
        reader, writer = os.pipe()
        with subprocess.Popen(["cat"], stdin=reader, stdout=subprocess.PIPE) as cat:
            os.close(reader)
            os.write(writer, b"text")
            os.close(writer)
            assert cat.stdout.read() == b"text"


threads = [threading.Thread(target=each) for each in [churn] * 3]
spawners = [threading.Thread(target=spawn) for _ in range(5)]
for each in threads + spawners:
    each.start()
for each in spawners:
    each.join()
over.set()
for each in threads:
    each.join()
print("well")
"""

CLOSING_WHILE_FORKING = """
# What a child got, it can close, whatever another thread was just doing with it.
import errno, os, threading

over = threading.Event()
begun = threading.Barrier(5)


def churn():
    begun.wait()
    while not over.is_set():
        for fd in os.pipe():
            os.close(fd)


threads = [threading.Thread(target=churn) for _ in range(4)]
for thread in threads:
    thread.start()
begun.wait()
wrong = 0
for _ in range(150):
    pid = os.fork()
    if pid == 0:
        left = []
        try:
            mine = {int(name) for name in os.listdir("/proc/self/fd")} - {0, 1, 2}
            for fd in mine:
                try:
                    os.close(fd)
                except OSError as error:  # that of the listing itself
                    assert error.errno == errno.EBADF
            left = {int(name) for name in os.listdir("/proc/self/fd")} - {0, 1, 2}
        finally:
            os._exit(0 if len(left) == 1 else 9)
    wrong += os.waitpid(pid, 0)[1] != 0
over.set()
for thread in threads:
    thread.join()
print("wrong", wrong)
"""

SUBINTERPRETERS = """
import os, sharing, threading
from safehandle_debug import _native

INSIDE = '''
import os, select, socket
for _ in range(30):
    one, other = socket.socketpair()
    one.send(b"x")
    assert other.recv(1) == b"x"
    one.close()
    other.close()
    with open("/dev/null") as file:
        os.fstat(file.fileno())
    select.epoll().close()
    for fd in os.pipe():
        os.close(fd)
'''


def run():
    for _ in range(5):
        inner = sharing.create()
        sharing.run_in(inner, INSIDE)
        sharing.destroy(inner)


run()
threads = [threading.Thread(target=run) for _ in range(3)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
listed = len(os.listdir("/proc/self/fd")) - 1
print(_native.watch_reconcile(), _native.watch_status()["open"] - listed)
"""

DAEMONS = """
# Threads that nobody waits for go on until the process is gone.
import os, socket, threading

begun = threading.Barrier(7)


def churn():
    begun.wait()
    while True:
        for fd in os.pipe():
            os.close(fd)
        with open(os.devnull) as file, socket.socket() as sock:
            file.read(), sock.fileno()


for _ in range(6):
    threading.Thread(target=churn, daemon=True).start()
begun.wait()
print("well")
"""

FULL_DISK = """
# Every open has another path, and every stack another line.
import os

act = "os.close(os.open(path, os.O_RDONLY | os.O_CREAT))"
source = "import os\\n" + "\\n".join(f"def at_{n}(path):\\n    {act}" for n in range(600))
space = {}
exec(compile(source, "made.py", "exec"), space)
for turn in range(30):
    for n in range(600):
        path = f"{n}-" + "long" * 20
        space[f"at_{n}"](path)
        if turn == 29:
            os.remove(path)
child = os.fork()
if child == 0:
    space["at_0"]("child")
    os._exit(0)
print(os.waitpid(child, 0)[1])
os.remove("child")
"""

KILLED = """
# Killed in the middle of whatever its threads do.
import os, random, signal, socket, sys, threading

begun = threading.Barrier(5)


def churn(which):
    begun.wait()
    while True:
        for fd in os.pipe():
            os.close(fd)
        with open(__file__) as file, socket.socket():
            os.fstat(file.fileno())
        os.close(os.dup(1))


def acquire():
    return os.open(__file__, os.O_RDONLY)


held = acquire()
for which in range(4):
    threading.Thread(target=churn, args=(which,), daemon=True).start()
begun.wait()
for _ in range(random.Random(int(sys.argv[1])).randrange(200)):
    os.close(os.open(os.devnull, os.O_RDONLY))
os.kill(os.getpid(), signal.SIGKILL)
"""

LEAKING_DAEMON = """
# One of its own, kept for as long as it waits; and one lost at each turn.
import os, socket, threading

done = threading.Event()


def serve():
    with socket.socket() as own:
        for _ in range(10):
            os.open(os.devnull, os.O_RDONLY)
        done.set()
        threading.Event().wait()


threading.Thread(target=serve, daemon=True).start()
done.wait()
"""


def test_a_storm_of_programs(tmp_path: Path) -> None:
    well(run_program(SPAWNING, tmp_path, level=WATCHED), "well")


def test_a_child_closes_whatever_it_got(tmp_path: Path) -> None:
    quiet = ("-W", "ignore::DeprecationWarning")  # of forks beside threads
    run = run_program(CLOSING_WHILE_FORKING, tmp_path, level=WATCHED, options=quiet)
    well(run, "wrong 0")


def test_subinterpreters(tmp_path: Path) -> None:
    well(run_program(SUBINTERPRETERS, tmp_path, level=WATCHED), "0 0")


@pytest.mark.parametrize("turn", range(3))
def test_daemon_threads_at_the_end(turn: int, tmp_path: Path) -> None:
    well(run_program(DAEMONS, tmp_path, level=WATCHED), "well")


def test_a_daemon_thread_that_leaks(tmp_path: Path) -> None:
    """Nothing says that it would have closed what it opened; CPython 3.11 makes one
    call by two instructions in turn, which are two places."""
    run = run_program(LEAKING_DAEMON, tmp_path, level=WATCHED).ok()
    counts = Counter[str]()
    for leak in found(run):
        assert leak.kind == "leak"
        counts[leak.handle.kind] += leak.count
    assert counts == {"file": 10, "socket": 1}


FIRST_OF_A_CHILD = """
import os

for make in (lambda: os.open("/etc/passwd", os.O_RDONLY), lambda: os.pipe()[0]):
    pid = os.fork()
    if pid == 0:
        make()
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0
"""


def test_the_first_handle_of_a_child(tmp_path: Path) -> None:
    """Its recording begins with it."""
    run = run_program(FIRST_OF_A_CHILD, tmp_path, level=WATCHED).ok()
    first = [min(told.handles, key=lambda each: each.serial) for told in run.told()[1:]]
    assert [(each.kind, each.owner) for each in first] == [("file", "raw"), ("pipe", "raw")]
    assert [each.detail for each in first] == ["/etc/passwd", None]
    assert [len(each.opened) for each in first] == [2, 2]


@pytest.mark.parametrize("seed", range(8))
def test_killed_in_the_middle(seed: int, tmp_path: Path) -> None:
    """What was recorded until then can be read; nothing is found in it."""
    run = run_program(KILLED, tmp_path, str(seed), level=WATCHED)
    assert run.code == -signal.SIGKILL, run.err
    assert said(run) == []
    (held,) = [
        handle
        for handle in run.first().handles
        if handle.opened and handle.opened[0].function == "acquire"
    ]
    assert held.ending == "lost"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of a megabyte."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m,mode=700", "tmpfs", str(disk)]
    if os.getuid() != 0 or subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("file systems cannot be mounted here")
    yield disk
    subprocess.run(["umount", "-l", str(disk)], check=True)


def test_the_disk_is_full(tmp_path: Path, small_disk: Path) -> None:
    """The program goes on; what could not be written is counted and said."""
    at = {"SAFEHANDLE_DEBUG_DIR": str(small_disk)}
    run = run_program(FULL_DISK, tmp_path, level=WATCHED, env=at)
    assert (run.code, run.lines) == (0, ["0"]), run.err
    run = Run(run.code, run.out, run.err, small_disk)
    assert run.first().process.dropped > 0
    assert said(run) == []


def test_there_is_no_room_at_all(tmp_path: Path, small_disk: Path) -> None:
    with (small_disk / "filler").open("wb") as filler:
        filler.write(bytes(1 << 20))
    at = {"SAFEHANDLE_DEBUG_DIR": str(small_disk)}
    run = run_program(OPENING, tmp_path, level=WATCHED, env=at)
    assert run.code == 0
    assert "runs on unwatched" in run.err
    assert len(run.err.splitlines()) == 1
