"""Memory that runs out, at every allocation of every path in turn."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from support_faults import PROGRAM, SCENARIOS, preloaded
from support_programs import Run

pytest.importorskip("_testcapi", reason="this Python has no _testcapi.set_nomemory")

# How many allocations fail in a row. Not all that follow: CPython 3.11 tries for
# ever to unwind a frame when there is no memory for that either.
LOOP = """
import _testcapi
nomemory, memory = _testcapi.set_nomemory, _testcapi.remove_mem_hooks
outcomes = {"": 0, "MemoryError": 0}
for row in (1, 100):
    nth = well = 0
    # Where nothing more fails although memory is out, all allocations were had.
    while well < 12:
        arm(b"", 0, 0)
        first = nth
        last = nth + row
        outcome, _ = attempt(lambda: nomemory(first, last), memory, None, (first, last))
        outcomes[outcome] = outcomes.get(outcome, 0) + 1
        well = well + 1 if outcome == "" else 0
        nth += 1
        assert nth < 3000
arm(b"", 0, 0)
assert attempt(lambda: None, disarm, None, "without a fault")[0] == ""
shared.close()
print(json.dumps(outcomes))
"""


@pytest.mark.parametrize("level", ["off", "full"])
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_each_allocation_fails_in_turn(
    run: Callable[..., Run], failing: Path, scenario: str, level: str
) -> None:
    result = run(
        PROGRAM + LOOP,
        scenario,
        str(failing),
        level=level,
        env=preloaded(failing),
    ).ok()
    outcomes = json.loads(result.out)
    assert outcomes["MemoryError"] > 0, "no allocation was ever refused"
    assert set(outcomes) == {"", "MemoryError"}, outcomes


WITHOUT_A_FAULT = """
attempt(lambda: arm(b"", 0, 0), disarm, None, "as it is")
"""


@pytest.mark.parametrize(
    ("faulty", "source", "what"),
    [
        ("faulty_two_steps", LOOP, "'MemoryError', "),
        ("faulty_closed_twice", WITHOUT_A_FAULT, "('as it is', '', 1)"),
    ],
)
def test_faulty_programs_are_noticed(
    run: Callable[..., Run], failing: Path, faulty: str, source: str, what: str
) -> None:
    """A number lost between two steps; a second close that hits nobody, this time."""
    result = run(PROGRAM + source, faulty, str(failing), level="off", env=preloaded(failing))
    assert result.code == 1
    assert result.err.splitlines()[-1].startswith("AssertionError: (")
    assert what in result.err
