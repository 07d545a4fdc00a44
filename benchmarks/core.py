"""What the core costs, beside its peers, in one run.

    python benchmarks/core.py [--json]

Each row is a ratio (or a difference) of two CPU times taken in turns, and
says its budget.  Exit code 1 when a row is over its budget.  A run takes about
half a minute; run it where safehandle-debug is installed, since start-up is
measured through the installed hook.
"""

from __future__ import annotations

import json
import os
import site
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from measure import program_ns
from table import Row, environment, show

INSIDE = Path(__file__).with_name("inside.py")
HOOK = "safehandle_debug.pth"
STARTS = 40
WORK_RUNS = 6
HOOK_RUNS = 2000


def inside(*arguments: str, **variables: str) -> Any:
    """What a process of its own measures."""
    done = subprocess.run(
        [sys.executable, str(INSIDE), *arguments],
        env=environment(**variables),
        stdout=subprocess.PIPE,
        check=True,
    )
    return json.loads(done.stdout)


def operation_rows() -> Iterator[Row]:
    off, full = inside("operations", "off"), inside("operations", "full")

    def ratio(
        what: str,
        side: dict[str, Any],
        name: str,
        peer: str,
        budget: float | None,
        *,
        depth: int = 30,
        share: float = 1.0,
    ) -> Row:
        ours = side["times"][name][str(depth)] * share
        theirs = side["times"][peer][str(depth)]
        return Row(what, ours / theirs, "x", budget, f"{ours:.0f} ns", f"{peer} {theirs:.0f} ns")

    yield ratio("add-ref + release, off", off, "add-ref pair", "lock pair", 0.5)
    yield ratio("add-ref + release, full, depth 30", full, "add-ref pair", "lock pair", 3.0)
    yield ratio("  beside a Python handle", full, "add-ref pair", "python add-ref pair", None)
    yield ratio("construct + close, off", off, "construct+close", "finalize", None)
    yield ratio("construct + close, full, depth 30", full, "construct+close", "finalize", 0.4)
    yield ratio(
        "  beside a Python handle", full, "construct+close", "python construct+close", None
    )
    yield ratio("with block, off", off, "with", "python with", None)
    yield ratio("with block, full, depth 30", full, "with", "python with", None)
    yield ratio("with handle.hold(), off", off, "hold", "with lock", None)
    yield ratio("with handle.hold(), full, depth 30", full, "hold", "with lock", None)
    # Half of a pair: an event with its share of the call from Python.
    for depth in (5, 30, 100):
        yield ratio(
            f"one event, depth {depth}",
            full,
            "add-ref pair",
            "frames",
            0.1 if depth == 30 else None,
            depth=depth,
            share=0.5,
        )
        yield ratio(
            f"  depth {depth}, beside extract_stack",
            full,
            "add-ref pair",
            "extract_stack",
            None,
            depth=depth,
            share=0.5,
        )
    few, many = full["open"]["10"], full["open"]["15000"]
    yield Row(
        "construct + close with 15,000 open", many / few, "x", 1.1, f"{many:.0f} ns",
        f"10 open {few:.0f} ns",
    )  # fmt: skip


def memory_rows() -> Iterator[Row]:
    off = inside("memory", "off", "handles")["anon"]
    full = inside("memory", "full", "handles")
    peer = inside("memory", "off", "finalize")["anon"]
    theirs = f"finalize {peer:.0f} B"
    yield Row("memory of a live handle, off", off, "B", 64, f"{off:.1f} B", theirs)
    own = f"{full['anon']:.1f} B"
    theirs = f"and {full['file']:.0f} B of recording; {theirs}"
    yield Row("memory of a live handle, full", full["anon"], "B", None, own, theirs)


def hook_row() -> Row:
    """The start-up hook as `site` runs it, with the variable not set."""
    folder, name = find_hook()
    os.environ.pop("SAFEHANDLE_DEBUG", None)
    best = float("inf")
    for _ in range(HOOK_RUNS):
        start = time.clock_gettime_ns(time.CLOCK_THREAD_CPUTIME_ID)
        site.addpackage(folder, name, set())
        best = min(best, time.clock_gettime_ns(time.CLOCK_THREAD_CPUTIME_ID) - start)
    # In a virtual environment `site` runs every hook twice.
    times = 2 if sys.prefix != sys.base_prefix else 1
    ms = best * times / 1e6
    return Row("start-up, not set", ms, "ms", 0.1, f"+{ms:.3f} ms", f"{times}x the hook")


def find_hook() -> tuple[str, str]:
    """(folder, name) of the installed hook; the source's where it is not installed."""
    for folder in sys.path:
        if Path(folder, HOOK).is_file():
            return folder, HOOK
    return str(INSIDE.parent.parent / "safehandle_debug" / "activate"), HOOK


def start_row() -> Row:
    with tempfile.TemporaryDirectory(prefix="safehandle-benchmark-") as folder:
        program = [sys.executable, "-c", "pass"]
        watched = environment(SAFEHANDLE_DEBUG="full", SAFEHANDLE_DEBUG_DIR=folder)
        best = program_ns(
            {"unset": (program, environment()), "full": (program, watched)}, runs=STARTS
        )
    plain, full = best["unset"] / 1e6, best["full"] / 1e6
    return Row(
        "start-up, full",
        full - plain,
        "ms",
        30,
        f"+{full - plain:.1f} ms",
        f"plain {plain:.1f} ms",
    )


def work_row() -> Row:
    best = {"off": float("inf"), "full": float("inf")}
    with tempfile.TemporaryDirectory(prefix="safehandle-benchmark-") as folder:
        for _ in range(WORK_RUNS):
            for level in best:
                variables = {"SAFEHANDLE_DEBUG": level, "SAFEHANDLE_DEBUG_DIR": folder}
                best[level] = min(best[level], inside("work", **variables)["ns"])
    off, full = best["off"], best["full"]
    return Row(
        "code without handles, full", full / off, "x", 1.01, f"{full / 1e6:.2f} ms",
        f"off {off / 1e6:.2f} ms",
    )  # fmt: skip


def rows() -> Iterator[Row]:
    """All rows, as they are measured."""
    yield from operation_rows()
    yield from memory_rows()
    yield hook_row()
    yield start_row()
    yield work_row()


if __name__ == "__main__":
    sys.exit(show(rows(), "What the core costs, beside its peers."))
