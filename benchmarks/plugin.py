"""What `pytest --handles` costs, beside pytest alone, in one run.

    python benchmarks/plugin.py [--json]

Each row is a ratio of the CPU times of two whole runs of pytest over the same
tests, which take turns; the column `ours` leaves out what a run without tests
costs.  Exit code 1 when a row is over its budget.  A run takes two minutes; run
it where safehandle-debug is installed with its pytest extra.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from measure import program_ns
from table import Row, environment, show

TESTS = 1_000
RUNS = 15

TRIVIAL = "def test_{number}():\n    pass\n"
OPENING = "def test_{number}():\n    with open(__file__):\n        pass\n"

# What others do after each test, to find what leaked.
COLLECTING = """
import gc
import pytest

@pytest.fixture(autouse=True)
def collected():
    yield
    gc.collect()
"""

PLAIN = "pytest"
PEER = "gc.collect()"
WAYS = {
    PLAIN: ["-p", "no:safehandle"],
    "plugin off": [],
    "--handles": ["--handles"],
    "--no-handles-fds": ["--handles", "--no-handles-fds"],
}


def program(folder: Path, options: list[str]) -> tuple[list[str], dict[str, str]]:
    """One run of pytest, with nobody's options and plugins but ours."""
    pytest = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    pytest += ["--rootdir", str(folder), *options, str(folder / "test_it.py")]
    variables = environment(SAFEHANDLE_DEBUG_DIR=str(folder), PYTHONPYCACHEPREFIX=str(folder))
    # The first run compiles what all import, for the others to read as installed code is.
    left_out = ("PYTEST", "PYTHONDONTWRITEBYTECODE")
    kept = {name: text for name, text in variables.items() if not name.startswith(left_out)}
    # A run without tests ends with 5: that is no failure here.
    return ["/bin/sh", "-c", '"$@" || test $? = 5', "sh", *pytest], kept


def best_of(source: str) -> tuple[dict[str, int], dict[str, int]]:
    """CPU time in ns of whole runs, by way: with all tests, and with none."""
    best = []
    for count in (TESTS, 0):
        with tempfile.TemporaryDirectory(prefix="safehandle-benchmark-") as name:
            folder, other = Path(name, "plain"), Path(name, "collecting")
            for place in (folder, other):
                place.mkdir(mode=0o700)
                text = "".join(source.format(number=number) for number in range(count))
                (place / "test_it.py").write_text(text)
            (other / "conftest.py").write_text(COLLECTING)
            ways = {way: program(folder, options) for way, options in WAYS.items()}
            found = program_ns(ways, runs=RUNS)
            found |= program_ns({PEER: program(other, WAYS[PLAIN])}, runs=2)
            best.append(found)
    return best[0], best[1]


def rows() -> Iterator[Row]:
    """All rows, as they are measured."""
    for what, source, budget in (
        ("trivial tests", TRIVIAL, 1.02),
        ("tests that open a file", OPENING, 1.05),
    ):
        whole, empty = best_of(source)

        def each(way: str, whole: dict[str, int] = whole, empty: dict[str, int] = empty) -> str:
            return f"{(whole[way] - empty[way]) / TESTS / 1e3:.0f} us"

        peer = f"pytest {each(PLAIN)} a test; {PEER} after each {whole[PEER] / whole[PLAIN]:.1f}x"
        for way, limit in (
            ("plugin off", 1.01),
            ("--handles", budget),
            ("--no-handles-fds", budget),
        ):
            ratio = whole[way] / whole[PLAIN]
            yield Row(f"{TESTS:,} {what}, {way}", ratio, "x", limit, each(way), peer)


if __name__ == "__main__":
    sys.exit(show(rows(), "What `pytest --handles` costs."))
