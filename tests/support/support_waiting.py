"""Waiting for a condition, with a bound, and looking at other processes."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

from safehandle_debug import AutoResetEvent, ManualResetEvent, Semaphore

__all__ = ["answer", "children", "open_fds", "process_state", "until"]

# Long enough for two busy cores under a sanitizer; a hang still ends the test.
BOUND_S = 60.0


def until(condition: Callable[[], object]) -> None:
    """Returns once the condition holds; raises AssertionError after a minute."""
    end = time.monotonic() + BOUND_S
    while not condition():
        assert time.monotonic() < end, "what was waited for did not come"
        os.sched_yield()


def answer(question: ManualResetEvent, reply: AutoResetEvent, count: Semaphore) -> None:
    """What another process does, as multiprocessing starts it: waits, answers, and
    gives three."""
    assert question.wait(BOUND_S)
    reply.set()
    count.release(3)


def process_state(pid: int) -> str:
    """The letter of /proc/PID/stat: "Z" for a zombie, "" when there is none."""
    return (_stat(pid) or [""])[0]


def children() -> set[int]:
    """Pids of this process's children, the dead ones included that nobody reaped."""
    pids = (int(name) for name in os.listdir("/proc") if name.isdigit())
    return {pid for pid in pids if _stat(pid)[1:2] == [str(os.getpid())]}


def _stat(pid: int) -> list[str]:
    """The fields of /proc/PID/stat from the state on."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return []
    return stat.rpartition(")")[2].split()


def open_fds() -> int:
    """Number of descriptors open in this process."""
    return len(os.listdir("/proc/self/fd"))
