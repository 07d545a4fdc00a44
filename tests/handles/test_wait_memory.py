"""Every allocation of the waiting types made to fail in turn: a clean MemoryError,
nothing left open, no reference left out, no child without an owner."""

from __future__ import annotations

from pathlib import Path

import pytest
from support_programs import run_program

pytest.importorskip("_testcapi")

# Each step runs with the first, then the second, ... allocation failing, until it
# gets through; what it returns is closed.
PROGRAM = """
import os, sys, _testcapi
from safehandle_debug import (
    AutoResetEvent, HandleClosedError, SafeInotifyHandle, SafePollHandle, SafeProcessHandle,
    SafeWaitHandle, _native,
)

event = SafeWaitHandle.event(1)
other = SafeWaitHandle.event(1)
poll = SafePollHandle.create()
poll.register(event)
inotify = SafeInotifyHandle.create()
true = ["/bin/true"]
env = {"A": "B", "C": "D"}
none = ()
wait_on, flags = _native.wait_on, (False, False)
both = (event, other)
steps = {
    "event": lambda: SafeWaitHandle.event(2),
    "timer": lambda: SafeWaitHandle.timer(1),
    "duplicate": lambda: event.duplicate(),
    "wait": lambda: event.wait(0.5),
    "any": lambda: wait_on(both, flags, 0.5, False),
    "all": lambda: wait_on(both, flags, 0.5, True),
    "poll": lambda: SafePollHandle.create(),
    "poll.poll": lambda: poll.poll(0.5),
    "inotify": lambda: SafeInotifyHandle.create(),
    "watch": lambda: inotify.add_watch("/usr", 1),
    "open": lambda: SafeProcessHandle.open(1),
    "spawn": lambda: SafeProcessHandle.spawn(true, env=env, stdin=other, pass_fds=both, cwd="/"),
}
for name, step in steps.items():
    step_result = step()
    if hasattr(step_result, "close"):
        if name == "spawn":
            step_result.wait()
        step_result.close()
    del step_result
    fds = len(os.listdir("/proc/self/fd"))
    live = _native.live_count()
    failed = 0
    for number in range(1000):
        result = None
        _testcapi.set_nomemory(number, number + 1)
        try:
            result = step()
        except MemoryError:
            failed += 1
        finally:
            _testcapi.remove_mem_hooks()
        got_through = result is not None
        if hasattr(result, "close"):
            if name == "spawn":
                result.wait()
            result.close()
        result = None
        assert len(os.listdir("/proc/self/fd")) == fds, (name, number)
        assert _native.live_count() == live, (name, number)
        for handle in (event, other, poll, inotify):
            assert "refs=1>" in repr(handle), (name, number, handle)
        if got_through and number > failed + 20:
            break
    assert failed or name == "wait", name
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        pass
    else:
        raise AssertionError(name)
print("unharmed")
"""


@pytest.mark.parametrize("level", [None, "full"])
def test_no_memory(level: str | None, tmp_path: Path) -> None:
    run = run_program(PROGRAM, tmp_path, level=level).ok()
    assert run.lines == ["unharmed"]
