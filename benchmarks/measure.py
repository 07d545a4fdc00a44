"""Times small operations on a busy machine.

Wall clocks measure the neighbours here, so everything is CPU time: of the
thread for operations, of the whole process for programs.  Of many short
batches the fastest counts, as noise only ever adds; operations that are
compared take turns, so that a slow minute meets them all.
"""

from __future__ import annotations

import gc
import os
import sys
import time
import timeit
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import FrameType
from typing import Any, TypeVar

ROUNDS = 1500
BATCH_NS = 60_000

Result = TypeVar("Result")

_TIMEIT_FRAMES = 2  # Timer.timeit and the loop it compiles


@dataclass(frozen=True, slots=True)
class Operation:
    """A statement to time, with the names it uses."""

    statement: str
    names: Mapping[str, Any] = field(default_factory=dict)


def best_ns(
    operations: Mapping[str, Operation], *, depth: int = 4, rounds: int = ROUNDS
) -> dict[str, float]:
    """The least thread CPU time of each operation, in ns, without the loop around it.

    Args:
        operations: what to time, by name.
        depth: Python frames on the stack while an operation runs.
        rounds: batches of each operation.
    """
    timers = {"": _timer(Operation("pass"))}
    timers |= {name: _timer(operation) for name, operation in operations.items()}

    def measure() -> dict[str, float]:
        counts = {name: _count(timer) for name, timer in timers.items()}
        best = dict.fromkeys(timers, float("inf"))
        for _ in range(rounds):
            for name, timer in timers.items():
                count = counts[name]
                best[name] = min(best[name], timer.timeit(count) / count)
        return best

    gc.collect()
    best = at_depth(depth - _TIMEIT_FRAMES, measure)
    return {name: best[name] - best[""] for name in operations}


def at_depth(depth: int, function: Callable[[], Result]) -> Result:
    """Calls `function` in frame number `depth` of the stack, the outermost being number 1."""
    here = 0
    frame: FrameType | None = sys._getframe()
    while frame is not None:
        here, frame = here + 1, frame.f_back
    return function() if here + 1 >= depth else at_depth(depth, function)


def program_ns(
    programs: Mapping[str, tuple[Sequence[str], Mapping[str, str]]], *, runs: int
) -> dict[str, int]:
    """The least CPU time of whole programs, in ns, user and system.

    What they print is thrown away.

    Args:
        programs: (arguments, environment) by name.
        runs: of each program, in turns.

    Raises:
        RuntimeError: a program failed.
    """
    quiet = [(os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)]
    best = dict.fromkeys(programs, sys.maxsize)
    for _ in range(runs):
        for name, (arguments, environment) in programs.items():
            pid = os.posix_spawn(arguments[0], list(arguments), environment, file_actions=quiet)
            _, status, usage = os.wait4(pid, 0)
            if status != 0:
                raise RuntimeError(f"{' '.join(arguments)} ended with status {status}")
            best[name] = min(best[name], round((usage.ru_utime + usage.ru_stime) * 1e9))
    return best


def resident_bytes() -> dict[str, int]:
    """This process's memory: `anon` is its own, `file` is mapped files, recordings too."""
    with open("/proc/self/status") as file:
        lines = dict(line.split(":", 1) for line in file)
    return {
        "anon": int(lines["RssAnon"].split()[0]) * 1024,
        "file": (int(lines["RssFile"].split()[0]) + int(lines["RssShmem"].split()[0])) * 1024,
    }


def _timer(operation: Operation) -> timeit.Timer:
    return timeit.Timer(
        operation.statement,
        timer=lambda: time.clock_gettime_ns(time.CLOCK_THREAD_CPUTIME_ID),
        globals=dict(operation.names),
    )


def _count(timer: timeit.Timer) -> int:
    """How often to run an operation in one batch."""
    once = max(1.0, min(timer.timeit(20) / 20 for _ in range(5)))
    return max(5, min(5_000, int(BATCH_NS / once)))
