"""What watching the descriptors of all code costs, beside its peers, in one run.

    python benchmarks/descriptors.py [--json]

Each row is a ratio (or a difference) of the CPU times of the same program
watched and unwatched, which take turns, and says its budget.  Exit code 1 when
a row is over its budget.  A run takes a few minutes; run it where
safehandle-debug is installed, since all of it goes through the installed hook.

The peers are Python's own `-X dev` and tracemalloc, and where they are
installed strace and Valgrind, each following descriptors alone.
"""

from __future__ import annotations

import json
import math
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from churn import DEPTHS, FEW, MANY, MODULES
from measure import program_ns
from table import Row, environment, show

CHURN = Path(__file__).with_name("churn.py")
INSIDE = Path(__file__).with_name("inside.py")

TURNS = 5
STARTS = 40
PROGRAMS = 8
LOOP = 20_000  # opens and closes under a peer that is a program of its own
SLOW_LOOP = 2_000

# Small enough to be gone round several times before the fastest batch: its pages
# have been touched, as after the first seconds of a real program.
_SMALL = ",size=4M"


@dataclass(frozen=True, slots=True)
class Way:
    """One way to run a program."""

    name: str
    watch: str = ""  # SAFEHANDLE_DEBUG; "": not set
    options: tuple[str, ...] = ()  # for the interpreter


PLAIN = Way("plain")
FULL = Way("full", "full,fds=on")
NO_QUARANTINE = Way("no quarantine", "full,fds=on,quarantine=0")
SAMPLED = Way("sampled", "sampled,fds=on,quarantine=0")
DEV = Way("-X dev", options=("-X", "dev"))
TRACEMALLOC = Way("tracemalloc", options=("-X", "tracemalloc=10"))


def run(way: Way, script: Path, *arguments: str, folder: str, small: bool = True) -> Any:
    """What a process of its own measures.

    Raises:
        RuntimeError: it said something else, such as why it is not watched.
    """
    done = subprocess.run(
        [sys.executable, *way.options, str(script), *arguments],
        env=variables(way, folder, small=small),
        capture_output=True,
        check=True,
    )
    if done.stderr:
        raise RuntimeError(done.stderr.decode().strip())
    return json.loads(done.stdout)


def variables(way: Way, folder: str, *, small: bool) -> dict[str, str]:
    """The environment of a program run this way."""
    if not way.watch:
        return environment()
    level = way.watch + (_SMALL if small else "")
    return environment(SAFEHANDLE_DEBUG=level, SAFEHANDLE_DEBUG_DIR=folder)


def least(old: Any, new: Any) -> Any:
    """The lesser of every number in two results of one shape."""
    if isinstance(new, dict):
        return {name: least(old.get(name, math.inf), new[name]) for name in new}
    return min(old, new)


def in_turns(
    ways: Sequence[Way], script: Path, *arguments: str, folder: str, turns: int = TURNS
) -> dict[str, Any]:
    """The least that each way needed."""
    best: dict[str, Any] = {}
    for _ in range(turns):
        for way in ways:
            found = run(way, script, *arguments, folder=folder)
            best[way.name] = least(best[way.name], found) if way.name in best else found
    return best


def churn_rows(folder: str) -> Iterator[Row]:
    ways = (PLAIN, NO_QUARANTINE, FULL, SAMPLED, DEV, TRACEMALLOC)
    times = in_turns(ways, CHURN, "operations", folder=folder)

    def row(operation: str, depth: int, way: Way, budget: float | None, indent: str = "") -> Row:
        def of(which: Way) -> float:
            value: float = times[which.name][operation][str(depth)]
            return value

        plain = of(PLAIN)
        peers = ", ".join(f"{peer.name} {of(peer) / plain:.2f}x" for peer in (DEV, TRACEMALLOC))
        what = f"{indent}{operation}, depth {depth}, {way.name}"
        ours = f"{of(way):.0f} ns"
        return Row(what, of(way) / plain, "x", budget, ours, f"plain {plain:.0f} ns; {peers}")

    few, many = DEPTHS
    yield row("churn", few, NO_QUARANTINE, 1.10)
    yield row("churn", many, NO_QUARANTINE, 1.15)
    yield row("churn", few, FULL, 1.35)
    yield row("churn", many, FULL, 1.40)
    yield row("churn", few, SAMPLED, 1.05)
    for operation in times[PLAIN.name]:
        if operation != "churn":
            yield row(operation, few, FULL, None, indent="  ")


def tool_rows(folder: str) -> Iterator[Row]:
    """The churn under programs that watch from outside."""
    strace, valgrind = shutil.which("strace"), shutil.which("valgrind")
    tools: dict[str, tuple[list[str], int]] = {"plain": ([], LOOP), "full": ([], LOOP)}
    if strace is not None:
        seen = "trace=open,openat,close,dup,dup2,dup3,socket,accept4,pipe2"
        tools["strace"] = ([strace, "-f", "-o", "/dev/null", "-e", seen], SLOW_LOOP)
    if valgrind is not None:
        tools["valgrind"] = (
            [valgrind, "--quiet", "--track-fds=yes", "--log-file=/dev/null"],
            LOOP,
        )
    each: dict[str, float] = {}
    for name, (tool, count) in tools.items():
        way = FULL if name == "full" else PLAIN
        programs = {
            str(times): (
                [*tool, sys.executable, str(CHURN), "loop", str(times)],
                variables(way, folder, small=True),
            )
            for times in (0, count)
        }
        best = program_ns(programs, runs=3)
        each[name] = (best[str(count)] - best["0"]) / count
    for name in tools:
        if name != "plain":
            what = f"  churn as a program, {name}"
            plain = each["plain"]
            ours = f"{each[name]:.0f} ns"
            yield Row(what, each[name] / plain, "x", None, ours, f"plain {plain:.0f} ns")


def open_row(folder: str) -> Row:
    times = in_turns((PLAIN, FULL), CHURN, "open", folder=folder, turns=2)
    few, many = times[FULL.name][str(FEW)], times[FULL.name][str(MANY)]
    plain = times[PLAIN.name][str(MANY)] / times[PLAIN.name][str(FEW)]
    return Row(
        f"churn with {MANY:,} open", many / few / plain, "x", 1.1, f"{many:.0f} ns",
        f"{FEW} open {few:.0f} ns; the kernel's own share {plain:.2f}x taken out",
    )  # fmt: skip


def whole_rows(folder: str) -> Iterator[Row]:
    """Code that has nothing to do with descriptors."""
    jobs: Mapping[str, tuple[Path, str, float, int]] = {
        "code without handles": (INSIDE, "work", 1.01, 6),
        "Python calls": (CHURN, "calls", 1.01, 6),
        f"import of {MODULES} extension modules": (CHURN, "imports", 1.05, 15),
    }
    for what, (script, job, budget, turns) in jobs.items():
        best = in_turns((PLAIN, FULL), script, job, folder=folder, turns=turns)
        plain, full = best[PLAIN.name]["ns"], best[FULL.name]["ns"]
        unit, scale = ("ms", 1e6) if plain > 1e5 else ("ns", 1)
        yield Row(
            what, full / plain, "x", budget, f"{full / scale:.2f} {unit}",
            f"plain {plain / scale:.2f} {unit}",
        )  # fmt: skip


def start_row(folder: str) -> Row:
    programs = {
        way.name: ([sys.executable, "-c", "pass"], variables(way, folder, small=False))
        for way in (PLAIN, FULL)
    }
    best = program_ns(programs, runs=STARTS)
    plain, full = best[PLAIN.name] / 1e6, best[FULL.name] / 1e6
    return Row(
        "start-up, full", full - plain, "ms", 30, f"+{full - plain:.1f} ms",
        f"plain {plain:.1f} ms",
    )  # fmt: skip


def tests_row(folder: str) -> Row:
    """CPython's own tests of tempfile, apart from what starting the program costs."""
    times: dict[str, int] = {}
    for job in (["-c", "import test.libregrtest.main"], ["-m", "test", "-q", "test_tempfile"]):
        programs = {
            way.name: ([sys.executable, *job], variables(way, folder, small=False))
            for way in (PLAIN, FULL)
        }
        for name, ns in program_ns(programs, runs=PROGRAMS).items():
            times[name] = ns - times.get(name, 0)
    plain, full = times[PLAIN.name] / 1e6, times[FULL.name] / 1e6
    return Row(
        "test_tempfile", full / plain, "x", 1.05, f"{full:.0f} ms", f"plain {plain:.0f} ms"
    )  # fmt: skip


def rows() -> Iterator[Row]:
    """All rows, as they are measured."""
    with tempfile.TemporaryDirectory(prefix="safehandle-benchmark-") as folder:
        yield from churn_rows(folder)
        yield open_row(folder)
        yield from whole_rows(folder)
        yield start_row(folder)
        yield tests_row(folder)
        yield from tool_rows(folder)


if __name__ == "__main__":
    sys.exit(show(rows(), "What watching all descriptors costs, beside its peers."))
