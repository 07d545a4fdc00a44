"""Whatever makes a descriptor or a child process is seen, with its line and its end."""

from __future__ import annotations

import pathlib
from collections import defaultdict
from collections.abc import Mapping, Sequence

import pytest
from support_descriptors import CASES, USES, program
from support_interpose import needs_interposition
from support_programs import Run, run_program
from support_watch import findings_of

from safehandle_debug.ledger import History

pytestmark = needs_interposition

# Where CPython counts its threads before it forks, and some SQLites find their luck.
OF_OTHERS = {"/proc/self/stat", "/dev/urandom"}


@pytest.fixture(scope="module", params=["quarantine=0", "quarantine=256"])
def ran(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The program that runs all cases, once."""
    level = f"full,fds=on,{request.param}"
    folder = tmp_path_factory.mktemp("coverage")
    return run_program(program(), folder, level=level, options=["-W", "ignore"]).ok()


@pytest.fixture(scope="module")
def handles(ran: Run) -> Mapping[str, Sequence[History]]:
    """The watched handles of each function."""
    found = defaultdict(list)
    for handle in ran.first().handles:
        if handle.watched and handle.site is not None and handle.detail not in OF_OTHERS:
            found[handle.site.function].append(handle)
    return found


@pytest.mark.parametrize("name", CASES)
def test_seen(handles: Mapping[str, Sequence[History]], name: str) -> None:
    _, expected = CASES[name]
    seen = [(each.kind, each.owner, each.ending) for each in handles[f"case_{name}"]]
    assert seen == expected


@pytest.mark.parametrize("name", USES)
def test_closed_again(ran: Run, name: str) -> None:
    """Whatever a library opened on behalf of this function."""
    used = [
        each
        for each in ran.first().handles
        if each.watched and any(frame.function == f"use_{name}" for frame in each.opened)
    ]
    assert used != [] or name in {"probes", "subprocess_that_cannot_start"}
    assert [(each.kind, each.ending, each.site) for each in used if each.ending != "closed"] == []


def test_nothing_stays_open(ran: Run) -> None:
    left = [
        (each.kind, each.value, each.detail, each.site)
        for each in ran.first().handles
        if each.watched and each.is_open and not each.importing
    ]
    assert left == []


def test_nothing_is_wrong(ran: Run) -> None:
    """Objects that were left to the collector are told of, and nothing else."""
    found = findings_of(ran)
    told = {
        (each["kind"], frame["function"])
        for each in found
        for frame in each["handle"]["opened"]
        if frame["function"].startswith("case_")
    }
    assert len(told) == len(found)
    assert told == {
        ("abandoned", f"case_{name}")
        for name, (_, expected) in CASES.items()
        if any(ending in {"dropped", "collected"} for _, _, ending in expected)
    }


def test_the_same_cases_run_unwatched(tmp_path: pathlib.Path) -> None:
    """What they assert holds without us."""
    run_program(program(), tmp_path, level=None, options=["-W", "ignore"]).ok()
