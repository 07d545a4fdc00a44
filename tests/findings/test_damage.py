"""A report on a damaged recording is a wrong report, never a traceback."""

from __future__ import annotations

import contextlib
import json
import struct
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support_recording import RecordingBuilder

from safehandle_debug.findings import (
    find,
    render_finding,
    render_process_death,
    render_summary,
    to_json,
)
from safehandle_debug.findings.text import MOST_LINES
from safehandle_debug.ledger import Ledger
from safehandle_debug.recording import RecordingError, open_recording
from safehandle_debug.recording import format as shd
from safehandle_debug.recording.format import Ending, EventKind


def wrong_in_every_way() -> bytearray:
    book = RecordingBuilder()
    for number in range(12):
        handle = book.acquire(stack=book.stack_here(), detail=f"/tmp/{number}")
        book.add_ref(handle, stack=book.stack_here())
        if number % 3 == 0:
            book.dispose(handle, stack=book.stack_here())
        elif number % 3 == 1:
            book.close(handle, Ending.DROPPED)
        for kind in (EventKind.DOUBLE_RELEASE, EventKind.RELEASE_FAILED, EventKind.SET_VALUE):
            book.problem(kind, handle, value=number, stack=book.stack_here())
        book.problem(EventKind.DOUBLE_OWNER, handle, value=number - 1)
    return bytearray(book.end().to_bytes())


WHOLE = bytes(wrong_in_every_way())
USED = [start for start in range(0, len(WHOLE), 64) if any(WHOLE[start : start + 64])]


def report_everything(path: Path) -> None:
    """Renders whatever there is to render."""
    with Ledger(open_recording(path)) as ledger:
        ledger.refresh()
        findings = find(ledger, now=True)
        for finding in findings:
            assert finding.count > 0
            assert len(render_finding(finding).splitlines()) <= 1 + MOST_LINES
        render_process_death(ledger)
        render_summary([ledger], findings)
        json.dumps(to_json([ledger], findings))
        ledger.open()
        list(ledger.histories())


def test_undamaged(tmp_path: Path) -> None:
    """The recording that is damaged below is a rich one."""
    path = tmp_path / "x.shd"
    path.write_bytes(WHOLE)
    report_everything(path)
    with Ledger(open_recording(path)) as ledger:
        ledger.refresh()
        kinds = {finding.kind for finding in find(ledger)}
    assert kinds == {
        "abandoned",
        "double-owner",
        "double-release",
        "leak",
        "release-failed",
        "unbalanced",
    }


@settings(
    max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    changes=st.lists(
        st.tuples(
            st.sampled_from(USED), st.integers(0, 63), st.sampled_from([0, 1, 127, 128, 255])
        ),
        min_size=1,
        max_size=12,
    )
)
def test_changed_bytes(tmp_path: Path, changes: list[tuple[int, int, int]]) -> None:
    damaged = bytearray(WHOLE)
    for start, offset, value in changes:
        damaged[start + offset] = value
    path = tmp_path / "x.shd"
    path.write_bytes(damaged)
    with contextlib.suppress(RecordingError):
        report_everything(path)


@settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    words=st.lists(
        st.tuples(
            st.integers(24 // 4, shd.HEADER.size // 4 - 1),
            st.sampled_from([0, 1, 0x7FFF_FFFF, 0x8000_0000, 0xFFFF_FFFF]),
        ),
        min_size=1,
        max_size=6,
    )
)
def test_changed_header(tmp_path: Path, words: list[tuple[int, int]]) -> None:
    damaged = bytearray(WHOLE)
    for index, value in words:
        struct.pack_into("=I", damaged, 4 * index, value)
    path = tmp_path / "x.shd"
    path.write_bytes(damaged)
    with contextlib.suppress(RecordingError):
        report_everything(path)
