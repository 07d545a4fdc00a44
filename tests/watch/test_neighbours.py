"""Beside other tools that look into the program, or stand before libc themselves."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
from pathlib import Path

import pytest
import support_house as house
from support_interpose import needs_interposition
from support_loads import OPENING, WATCHED, said, well
from support_programs import run_program

pytestmark = needs_interposition

CHURNING = f"""{OPENING}
from safehandle_debug import _native
listed = len(os.listdir("/proc/self/fd")) - 1
print(_native.watch_reconcile(), _native.watch_status()["open"] - listed)
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
