"""Ledgers over synthetic recordings, to be judged."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support_recording import RecordingBuilder

from safehandle_debug.ledger import Ledger
from safehandle_debug.recording import open_recording


@pytest.fixture
def book() -> RecordingBuilder:
    return RecordingBuilder()


@pytest.fixture
def read(tmp_path: Path) -> Iterator[Callable[[RecordingBuilder], Ledger]]:
    """Writes a builder's recording and gives its ledger, refreshed."""
    opened: list[Ledger] = []

    def write_and_read(book: RecordingBuilder) -> Ledger:
        ledger = Ledger(open_recording(book.write(tmp_path)))
        opened.append(ledger)
        ledger.refresh()
        return ledger

    yield write_and_read
    for ledger in opened:
        ledger.close()
