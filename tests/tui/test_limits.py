"""How many descriptors a process has left, and for how long."""

from __future__ import annotations

import os
import resource
from dataclasses import replace
from pathlib import Path

import pytest
from safehandle_tui.model.limits import Limits, descriptors
from support_recording import RecordingBuilder
from support_screens import SECOND

from safehandle_debug.ledger import Ledger, ProcessInfo
from safehandle_debug.recording import open_recording


@pytest.fixture
def info(tmp_path: Path) -> ProcessInfo:
    """This very process, which has recorded nothing yet."""
    with Ledger(open_recording(RecordingBuilder(alive=True).write(tmp_path))) as ledger:
        return replace(ledger.process, live=10**6)


def test_it_counts_what_the_system_counts(info: ProcessInfo) -> None:
    """And those of a process that ended nobody can count."""
    found = descriptors(info)
    assert found is not None
    assert found[1] == resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    more = [os.open("/dev/null", os.O_RDONLY) for _ in range(20)]
    try:
        after = descriptors(info)
    finally:
        for fd in more:
            os.close(fd)
    assert after == (found[0] + 20, found[1])
    assert descriptors(replace(info, ended="exit")) is None
    assert descriptors(None) is None


def test_growth_foretells_the_end(info: ProcessInfo) -> None:
    """Steady growth does; a burst that is over, or nothing, does not."""
    limits = Limits()
    held: list[int] = []
    try:
        words = []
        for second in range(0, 40, 2):
            if second < 20:
                held += [os.open("/dev/null", os.O_RDONLY) for _ in range(10)]
            words.append(limits.span([info], second * SECOND))
    finally:
        for fd in held:
            os.close(fd)
    assert words[0] is not None
    assert words[0][1] == "muted"
    growing = words[9]
    assert growing is not None
    assert ", full in " in growing[0]
    assert growing[1] == "warn"
    still = words[-1]
    assert still is not None
    assert "full" not in still[0]


def test_near_the_limit_it_is_red(info: ProcessInfo) -> None:
    """From nine tenths on."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    held = [os.open("/dev/null", os.O_RDONLY) for _ in range(40)]
    found = descriptors(info)
    assert found is not None
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (found[0] + 2, hard))
        span = Limits().span([info], 0)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for fd in held:
            os.close(fd)
    assert span is not None
    assert span[1] == "bad"
    assert span[0].endswith(f"/{found[0] + 2:,}")


def test_nobody_runs() -> None:
    """Nothing is said."""
    assert Limits().span([], 0) is None
