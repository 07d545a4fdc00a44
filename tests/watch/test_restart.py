"""The watch is stopped and started again in a running program: nothing of the earlier
watch is held against what happened since."""

from __future__ import annotations

from pathlib import Path

from support_interpose import needs_interposition
from support_loads import WATCHED, found, said
from support_programs import run_program

pytestmark = needs_interposition

BUSY = """
# Threads open, own and close all the time; numbers come and go while nobody watches.
import mmap, os, select, socket, sys, threading
from safehandle_debug import _native

over = threading.Event()


def churn(which):
    while not over.is_set():
        if which % 3 == 0:
            with open(__file__, "rb") as file:
                mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ).close()
        elif which % 3 == 1:
            for end in socket.socketpair():
                end.close()
            select.epoll().close()
        else:
            for fd in os.pipe():
                os.close(fd)
            os.close(os.open(__file__, os.O_RDONLY))


threads = [threading.Thread(target=churn, args=(which,)) for which in range(6)]
for thread in threads:
    thread.start()
for _ in range(int(sys.argv[1])):
    _native.watch_stop()
    _native.watch_start(quarantine=64)
over.set()
for thread in threads:
    thread.join()
_native.watch_reconcile()
listed = len(os.listdir("/proc/self/fd")) - 1
assert _native.watch_reconcile() == 0
assert _native.watch_status()["open"] == listed, (_native.watch_status(), listed)
_native.watch_stop()
links = [f"/proc/self/fd/{fd}" for fd in os.listdir("/proc/self/fd")]
left = [os.readlink(link) for link in links if os.path.lexists(link)]
assert not [name for name in left if "quarantine" in name], left
print("well")
"""

OTHERS_SINCE = """
import os, socket
from safehandle_debug import _native

# Another has the number of a file object that was closed unwatched.
owned = open(__file__)
fd = owned.fileno()
_native.watch_stop()
owned.close()
held = [os.open(__file__, os.O_RDONLY)]
while held[-1] != fd:
    held.append(os.open(__file__, os.O_RDONLY))
_native.watch_start(quarantine=64)
for each in held:
    os.close(each)

# Closed while watched and again, by another, unwatched; and given out since.
one = os.open(__file__, os.O_RDONLY)
os.close(one)
_native.watch_stop()
two = os.open(__file__, os.O_RDONLY)
_native.watch_start(quarantine=64)
os.close(two)

# Opened while watched, closed unwatched.
three = os.open(__file__, os.O_RDONLY)
_native.watch_stop()
os.close(three)
_native.watch_start(quarantine=64)

# An owner lives through it, and closes what is its own.
with socket.socket() as four:
    _native.watch_stop()
    _native.watch_start(quarantine=64)
print(_native.watch_reconcile())
"""

HELD = """
import os
from safehandle_debug import SafeFileHandle, _native

handle = SafeFileHandle.open(__file__, os.O_RDONLY)
gone = SafeFileHandle.open(__file__, os.O_RDONLY)
_native.watch_stop()
between = SafeFileHandle.open(__file__, os.O_RDONLY)
gone.close()
_native.watch_start(quarantine=64)
again = os.open(__file__, os.O_RDONLY)
os.close(again)
with handle, between:
    print(os.fstat(handle.handle).st_size == os.fstat(between.handle).st_size > 0)
print(_native.watch_reconcile())
"""

LEAKED_AFTER = """
import os
from safehandle_debug import _native

_native.watch_stop()
_native.watch_start(quarantine=64)
fd = os.open(__file__, os.O_RDONLY)
os.close(fd)
try:
    os.close(fd)
except OSError as error:
    print(error.strerror)
os.open(__file__, os.O_RDONLY)
"""


def test_busy_threads(tmp_path: Path) -> None:
    run = run_program(BUSY, tmp_path, "60", level=WATCHED).ok()
    assert run.lines == ["well"]
    assert said(run) == []


def test_what_happened_unwatched(tmp_path: Path) -> None:
    run = run_program(OTHERS_SINCE, tmp_path, level=WATCHED).ok()
    assert run.lines == ["0"]
    assert said(run) == []


def test_safehandles_live_through_it(tmp_path: Path) -> None:
    run = run_program(HELD, tmp_path, level=WATCHED).ok()
    assert run.lines == ["True", "0"]
    assert said(run) == []


def test_what_is_wrong_afterwards_is_found(tmp_path: Path) -> None:
    run = run_program(LEAKED_AFTER, tmp_path, level=WATCHED).ok()
    assert run.lines == ["Bad file descriptor"]
    assert sorted(each.kind for each in found(run)) == ["double-release", "leak"]
