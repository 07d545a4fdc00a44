"""Programs in trouble, and programs that other tools look into: the watch changes
nothing for them, and finds nothing in them."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import support_house as house
from support_interpose import needs_interposition
from support_loads import WATCHED, found, said
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

CHURNING = """
import os, socket, sys, threading

def churn():
    for _ in range(400):
        with open(__file__) as file, socket.socket() as one:
            file.read()
        for fd in os.pipe():
            os.close(fd)
        os.close(os.dup(1))

threads = [threading.Thread(target=churn) for _ in range(4)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
from safehandle_debug import _native
listed = len(os.listdir("/proc/self/fd")) - 1
print(_native.watch_reconcile(), _native.watch_status()["open"] - listed)
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

WAITING = """
import os, socket, sys, threading

over = threading.Event()


def churn():
    while not over.is_set():
        for fd in os.pipe():
            os.close(fd)
        with open(__file__) as file, socket.socket():
            file.read()


threads = [threading.Thread(target=churn) for _ in range(3)]
for thread in threads:
    thread.start()
print(os.getpid(), flush=True)
sys.stdin.read()
over.set()
for thread in threads:
    thread.join()
print("well")
"""

MEMRAY = """
import mmap, os, sys
from pathlib import Path
import memray
from safehandle_debug import _native

def churn():
    for _ in range(200):
        with open(__file__, "rb") as file:
            mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ).close()
        for fd in os.pipe():
            os.close(fd)

churn()
with memray.Tracker("out.bin"):
    churn()
    _native.watch_reconcile()
    others = {function for function, tool in _native.watch_status()["others"] if "memray" in tool}
    print("mmap" in others, "close" in others)
    fd = os.open(__file__, os.O_RDONLY)
churn()
listed = len(os.listdir("/proc/self/fd")) - 1
print(_native.watch_reconcile(), _native.watch_status()["open"] - listed)
print(_native.watch_status()["others"])
print(sum(1 for _ in memray.FileReader("out.bin").get_allocation_records()) > 0)
os.close(fd)
try:
    os.close(fd)
except OSError:
    print("twice")
"""


LEAKING_DAEMON = """
# One of its own, kept for as long as it lives; and one lost at each turn.
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


def well(run: Run, *lines: str) -> None:
    """It ended as it would have, and nothing was found."""
    assert run.code == 0, run.err
    assert run.lines == list(lines)
    assert run.err == ""
    assert said(run) == []


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
    """The last one of those it may still have in use; CPython 3.11 makes one call by
    two instructions in turn, which are two places."""
    run = run_program(LEAKING_DAEMON, tmp_path, level=WATCHED).ok()
    (leak,) = found(run)
    assert (leak.kind, leak.handle.kind) == ("leak", "file")
    assert 8 <= leak.count <= 9


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
    run = run_program(CHURNING.split("from safehandle_debug")[0], tmp_path, level=WATCHED, env=at)
    assert run.code == 0
    assert "runs on unwatched" in run.err
    assert len(run.err.splitlines()) == 1


@pytest.mark.skipif(shutil.which("gdb") is None, reason="gdb is not installed")
def test_under_a_debugger(tmp_path: Path) -> None:
    """It stops the program in the middle of whatever it does, looks, and goes away."""
    looks = """
    import subprocess, sys
    with subprocess.Popen(
        [sys.executable, "waiting.py"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as program:
        pid = program.stdout.readline().strip()
        for _ in range(3):
            look = ["gdb", "-nx", "-batch", "-p", pid, "-ex", "thread apply all bt"]
            seen = subprocess.run(look, capture_output=True, text=True)
            print("Thread 1" in seen.stdout)
        print(program.communicate("")[0], program.returncode)
    """
    (tmp_path / "waiting.py").write_text(WAITING)
    run = run_program(looks, tmp_path, level=WATCHED)
    if "False" in run.out:
        pytest.skip("processes cannot be traced here")
    well(run, "True", "True", "True", "well", " 0")


@pytest.mark.skipif(importlib.util.find_spec("memray") is None, reason="memray is not installed")
def test_beside_memray(tmp_path: Path) -> None:
    """It patches the same slots, and puts libc's addresses back when it goes."""
    run = run_program(MEMRAY, tmp_path, level=WATCHED)
    assert (run.code, run.lines) == (0, ["True False", "0 0", "[]", "True", "twice"])
    assert len(said(run)) == 1
    assert said(run)[0].startswith("double-release")


@pytest.fixture
def sanitizer() -> dict[str, str]:
    """An environment in which AddressSanitizer stands before libc."""
    compiler = shutil.which("gcc")
    named = compiler and subprocess.run(
        [compiler, "-print-file-name=libasan.so"], capture_output=True, text=True, check=True
    )
    if not named or not Path(named.stdout.strip()).is_absolute():
        pytest.skip("AddressSanitizer is not installed")
    return {
        "LD_PRELOAD": named.stdout.strip(),
        "ASAN_OPTIONS": "detect_leaks=0:handle_segv=0",
        "PYTHONMALLOC": "malloc",
    }


def test_under_address_sanitizer(tmp_path: Path, sanitizer: dict[str, str]) -> None:
    """It has functions of its own, which are called as they would be."""
    well(run_program(CHURNING, tmp_path, level=WATCHED, env=sanitizer), "0 0")


def test_the_doctor_names_who_comes_before(tmp_path: Path, sanitizer: dict[str, str]) -> None:
    plain = house.run(["safehandle", "doctor"], cwd=tmp_path)
    done = house.run(["safehandle", "doctor"], cwd=tmp_path, env=sanitizer)
    assert "libasan" in done.stdout, done.stderr
    assert " comes before libc with " in done.stdout
    assert " comes before libc with " not in plain.stdout
