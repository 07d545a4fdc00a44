"""Acquisition is one C call: no interruption falls between the resource and the
object that owns it.  The pure-Python form shows that the storm is a storm."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from support_programs import Run

INTERRUPTIONS = 10_000

STORM = """
import ctypes, json, os, resource, signal, sys, threading
from safehandle_debug import SafeFileHandle, SafePipeHandle, SafeHandle, _native

most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
sys.unraisablehook = lambda args: None


# Long enough for the kernel that most interruptions come while it opens.
PATH = "/dev/.." * 500 + "/dev/null"


class Interruption(KeyboardInterrupt):
    pass


class PyHandle:
    def __init__(self):
        self.fd = os.open(PATH, os.O_RDONLY)

    def close(self):
        fd, self.fd = self.fd, -1
        os.close(fd)

    def __del__(self):
        if getattr(self, "fd", -1) >= 0:
            self.close()


def pure_python():
    while True:
        PyHandle().close()


def opened():
    while True:
        SafeFileHandle.open(PATH, os.O_RDONLY).close()


def opened_and_dropped():
    while True:
        SafeFileHandle.open(PATH, os.O_RDONLY)


def opened_with():
    while True:
        with SafeFileHandle.open(PATH, os.O_RDONLY) as handle:
            handle.fileno()


def memfd():
    while True:
        handle = SafeFileHandle.memfd("storm")
        twin = handle.duplicate()


def paired():
    while True:
        reader, writer = SafePipeHandle.pair()
        writer.close()


def held():
    while True:
        with shared.hold() as fd:
            fd + 1


def nested():
    while True:
        with shared.hold(), shared.hold() as fd:
            hold = shared.hold()
            fd + 1


shared = SafeFileHandle.open("/dev/null", os.O_RDONLY)
body = globals()[sys.argv[1]]
wanted = int(sys.argv[2])
exposed = {body.__code__, PyHandle.__init__.__code__, PyHandle.close.__code__,
           PyHandle.__del__.__code__}
hits = 0


def settle(interrupted_run):
    # An interruption that falls between two tries of the loop is one as well.
    global hits
    while hits < wanted:
        try:
            while hits < wanted:
                try:
                    if hits % 200 == 0:
                        collect_lost()  # else the pure-Python form runs out of them
                    interrupted_run()
                except Interruption:
                    pass
        except Interruption:
            pass


def collect_lost():
    # Only what the bodies left behind: their loops have no open handle in between.
    global lost_before
    if body is not pure_python:
        return
    for fd in map(int, os.listdir("/proc/self/fd")):
        if fd > shared.handle:
            try:
                os.close(fd)
                lost_before += 1
            except OSError:
                pass  # the one that listed them


def fds():
    return len(os.listdir("/proc/self/fd"))


lost_before = 0
"""

SIGNALS = (
    STORM
    + """
def interrupt(number, frame):
    global hits
    if frame.f_code in exposed and hits < wanted:
        hits += 1
        raise Interruption

before = fds()
signal.signal(signal.SIGALRM, interrupt)
signal.setitimer(signal.ITIMER_REAL, 0.00005, 0.00005)
settle(body)
signal.setitimer(signal.ITIMER_REAL, 0)
signal.signal(signal.SIGALRM, signal.SIG_IGN)
word = ctypes.c_uint32.from_address(id(shared) + _native.STATE_OFFSET).value
print(json.dumps({"hits": hits, "lost": fds() - before + lost_before, "refs": word >> 2,
                  "live": _native.live_count()}))
"""
)

# The other thread shoots only while the main thread says that it is in the body.
ASYNCHRONOUS = (
    STORM
    + """
# A lock of C, for an interruption may fall anywhere: it is held or it is not.
gate = threading.Lock()
gate.acquire()
stop = False
main = ctypes.c_ulong(threading.get_ident())
shoot = ctypes.pythonapi.PyThreadState_SetAsyncExc
interruption = ctypes.py_object(Interruption)

def attack():
    while not stop:
        if gate.acquire(timeout=0.1):
            shoot(main, interruption)

def interrupted_run():
    global hits
    try:
        if gate.locked():
            gate.release()
        body()
    except Interruption:
        hits += 1

sys.setswitchinterval(1e-6)
before = fds()
attacker = threading.Thread(target=attack)
attacker.start()
settle(interrupted_run)
stop = True
try:
    attacker.join()
except Interruption:
    attacker.join()
word = ctypes.c_uint32.from_address(id(shared) + _native.STATE_OFFSET).value
print(json.dumps({"hits": hits, "lost": fds() - before + lost_before, "refs": word >> 2,
                  "live": _native.live_count()}))
"""
)

BODIES = ["opened", "opened_and_dropped", "opened_with", "memfd", "paired", "held", "nested"]


def outcome(run: Run) -> dict[str, int]:
    """The counts that a storm printed."""
    counts: dict[str, int] = json.loads(run.ok().out)
    assert counts["hits"] >= INTERRUPTIONS
    return counts


@pytest.mark.parametrize("storm", [SIGNALS, ASYNCHRONOUS], ids=["signals", "asynchronous"])
@pytest.mark.parametrize("body", BODIES)
def test_nothing_is_lost(run: Callable[..., Run], storm: str, body: str) -> None:
    counts = outcome(run(storm, body, str(INTERRUPTIONS), level="off"))
    assert counts["lost"] == 0
    assert counts["refs"] == 1
    assert counts["live"] == 1


@pytest.mark.parametrize("storm", [SIGNALS, ASYNCHRONOUS], ids=["signals", "asynchronous"])
def test_the_pure_python_form_loses_more_than_half(run: Callable[..., Run], storm: str) -> None:
    counts = outcome(run(storm, "pure_python", str(INTERRUPTIONS), level="off"))
    assert counts["lost"] > INTERRUPTIONS / 2


@pytest.mark.parametrize("body", ["opened_and_dropped", "paired", "nested"])
def test_nothing_is_lost_while_recording(run: Callable[..., Run], body: str) -> None:
    """The same at level full, where every call does more."""
    counts = outcome(run(SIGNALS, body, str(INTERRUPTIONS), level="full,fds=off,size=8M"))
    assert counts["lost"] == 0
    assert counts["refs"] == 1
    assert counts["live"] == 1
