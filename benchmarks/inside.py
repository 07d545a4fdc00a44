"""What `core.py` measures inside one process at one level; prints JSON.

    python benchmarks/inside.py operations off|full
    python benchmarks/inside.py memory off|full handles|finalize
    python benchmarks/inside.py work

A process records from its first start_recording() to its end, hence one
process a level.  The recording is small enough to be gone round several times
before the fastest batch: its pages have been touched, as after the first
seconds of a real program.
"""

from __future__ import annotations

import json
import math
import os
import sys
import tempfile
import threading
import time
import traceback
from typing import Any

import peers
from measure import Operation, best_ns, resident_bytes

DEPTHS = (5, 30, 100)
LIVE = 300_000
MANY = 15_000
FEW = 10

_SIZE = 4 * 2**20  # bytes of recording
_UNUSED_FD = 1000  # numbers from here on are not open


def operations(level: str) -> dict[str, Any]:
    """CPU times in ns: {operation: {depth: ns}}."""
    from safehandle_debug import SafeFileHandle

    handle = SafeFileHandle(0, False)
    lock = threading.Lock()
    python_handle = peers.PythonHandle(0)
    timed = {
        "add-ref pair": Operation(
            "add_ref(); release()",
            {"add_ref": handle.dangerous_add_ref, "release": handle.dangerous_release},
        ),
        "construct+close": Operation("new(0, False).close()", {"new": SafeFileHandle}),
        "with": Operation("with new(0, False): pass", {"new": SafeFileHandle}),
        "hold": Operation("with hold(): pass", {"hold": handle.hold}),
        "lock pair": Operation(
            "acquire(); release()", {"acquire": lock.acquire, "release": lock.release}
        ),
        "with lock": Operation("with lock: pass", {"lock": lock}),
        "finalize": Operation("new()", {"new": peers.finalized}),
        "python add-ref pair": Operation(
            "add_ref(); release()",
            {"add_ref": python_handle.add_ref, "release": python_handle.release},
        ),
        "python construct+close": Operation("new(0).close()", {"new": peers.PythonHandle}),
        "python with": Operation("with new(0): pass", {"new": peers.PythonHandle}),
        "frames": Operation("frames()", {"frames": peers.frames}),
        "extract_stack": Operation("extract()", {"extract": traceback.extract_stack}),
    }
    times: dict[str, dict[int, float]] = {name: {} for name in timed}
    for depth in DEPTHS:
        for name, ns in best_ns(timed, depth=depth).items():
            times[name][depth] = ns
    return {"times": times, "open": open_handles()}


def open_handles() -> dict[int, float]:
    """Construct+close in ns while some, and while many handles are open."""
    from safehandle_debug import SafeFileHandle

    timed = {"it": Operation("new(0, False).close()", {"new": SafeFileHandle})}
    times: dict[int, float] = {}
    for count in (FEW, MANY, FEW, MANY):
        held = [SafeFileHandle(_UNUSED_FD + number, False) for number in range(count)]
        times[count] = min(times.get(count, math.inf), best_ns(timed, depth=30)["it"])
        del held
    return times


def memory(what: str) -> dict[str, float]:
    """Resident bytes of one live thing among many, without the list that holds it."""
    from safehandle_debug import SafeFileHandle

    things: list[Any] = [None] * LIVE
    warm = [SafeFileHandle(_UNUSED_FD - 1), peers.finalized()]
    before = resident_bytes()
    if what == "handles":
        for number in range(LIVE):
            things[number] = SafeFileHandle(_UNUSED_FD + number)
    else:
        for number in range(LIVE):
            things[number] = peers.finalized()
    after = resident_bytes()
    del warm
    return {kind: (after[kind] - before[kind]) / LIVE for kind in before}


def work() -> dict[str, float]:
    """CPU time in ns of a program that calls, allocates and computes, without handles."""

    def fibonacci(number: int) -> int:
        return number if number < 2 else fibonacci(number - 1) + fibonacci(number - 2)

    def once() -> int:
        table = {str(number): [number] * 3 for number in range(2000)}
        words = sorted(table, key=lambda word: word[::-1])
        return fibonacci(16) + len(" ".join(words).split("9"))

    best = math.inf
    for _ in range(300):
        start = time.clock_gettime_ns(time.CLOCK_THREAD_CPUTIME_ID)
        once()
        best = min(best, time.clock_gettime_ns(time.CLOCK_THREAD_CPUTIME_ID) - start)
    return {"ns": best}


def main() -> None:
    job, *arguments = sys.argv[1:]
    if job == "work":
        print(json.dumps(work()))
        return
    level, *arguments = arguments
    with tempfile.TemporaryDirectory(prefix="safehandle-benchmark-") as folder:
        if level != "off":
            from safehandle_debug import _native

            size = _SIZE if job == "operations" else 2**28
            _native.start_recording(os.path.join(folder, "1-1.shd"), level=level, size=size)
        print(json.dumps(operations(level) if job == "operations" else memory(*arguments)))
        sys.stdout.flush()
    # The handles in `memory` are of descriptors that do not exist.
    os._exit(0)


if __name__ == "__main__":
    main()
