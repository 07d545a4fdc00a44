"""What `descriptors.py` measures inside one process, as it was started; prints JSON.

python benchmarks/churn.py operations       CPU times in ns of what descriptors go through
python benchmarks/churn.py open             the same while few, and while many are open
python benchmarks/churn.py imports          CPU time in ns of importing extension modules
python benchmarks/churn.py calls            CPU time in ns of a Python call
python benchmarks/churn.py loop COUNT       opens and closes so often, and prints nothing
"""

from __future__ import annotations

import contextlib
import importlib
import json
import math
import os
import resource
import socket
import sys
import sysconfig
import time
from pathlib import Path

from measure import Operation, best_ns

DEPTHS = (4, 40)
FEW = 10
MANY = 15_000
MODULES = 60

# Rounds enough to go several times round a recording of a few MiB.
_ROUNDS = 800


def operations() -> dict[str, dict[int, float]]:
    """{operation: {depth: ns}}."""
    reader, writer = os.pipe()
    kept = os.open(os.devnull, os.O_RDWR)
    timed = {
        "churn": Operation(
            "close(open(p, 0))", {"close": os.close, "open": os.open, "p": os.devnull}
        ),
        "file": Operation("open(p).close()", {"open": open, "p": os.devnull}),
        "socket": Operation("new().close()", {"new": socket.socket}),
        "pipe": Operation(
            "r, w = pipe(); close(r); close(w)", {"pipe": os.pipe, "close": os.close}
        ),
        "dup": Operation("close(dup(f))", {"close": os.close, "dup": os.dup, "f": kept}),
        "write": Operation("write(f, b'x')", {"write": os.write, "f": kept}),
        "write+read": Operation(
            "write(w, b'x'); read(r, 1)",
            {"write": os.write, "read": os.read, "r": reader, "w": writer},
        ),
        "fstat": Operation("fstat(f)", {"fstat": os.fstat, "f": kept}),
    }
    times: dict[str, dict[int, float]] = {name: {} for name in timed}
    for depth in DEPTHS:
        for name, ns in best_ns(timed, depth=depth, rounds=_ROUNDS).items():
            times[name][depth] = ns
    return times


def open_descriptors() -> dict[int, float]:
    """os.open+os.close in ns while some, and while many descriptors are open."""
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    timed = {
        "it": Operation("close(open(p, 0))", {"close": os.close, "open": os.open, "p": os.devnull})
    }
    times: dict[int, float] = {}
    for count in (FEW, MANY, FEW, MANY):
        held = [os.open(os.devnull, os.O_RDONLY) for _ in range(count)]
        times[count] = min(times.get(count, math.inf), best_ns(timed, rounds=_ROUNDS)["it"])
        for fd in held:
            os.close(fd)
    return times


def imports() -> dict[str, float]:
    """Importing so many of CPython's own extension modules."""
    folder = Path(sysconfig.get_config_var("DESTSHARED"))
    names = sorted({path.name.partition(".")[0] for path in folder.glob("*.so")})
    start = time.process_time_ns()
    found = 0
    for name in names:
        if found < MODULES:
            with contextlib.suppress(ImportError):
                importlib.import_module(name)
                found += 1
    return {"ns": time.process_time_ns() - start, "modules": found}


def calls() -> dict[str, float]:
    """An empty Python function called with two arguments."""

    def nothing(one: int, other: int) -> None:
        pass

    timed = {"it": Operation("f(1, 2); f(1, 2); f(1, 2); f(1, 2)", {"f": nothing})}
    return {"ns": best_ns(timed, rounds=_ROUNDS)["it"] / 4}


def loop(count: int) -> None:
    """Opens and closes so often."""
    for _ in range(count):
        os.close(os.open(os.devnull, os.O_RDONLY))


def main() -> None:
    job, *arguments = sys.argv[1:]
    if job == "loop":
        loop(int(arguments[0]))
        return
    jobs = {"operations": operations, "open": open_descriptors, "imports": imports, "calls": calls}
    print(json.dumps(jobs[job]()))


if __name__ == "__main__":
    main()
