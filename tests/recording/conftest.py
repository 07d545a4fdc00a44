"""Recordings to read."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support_recording import RecordingBuilder

from safehandle_debug.recording import Recording, open_recording
from safehandle_debug.recording.format import Ending, EventKind


@pytest.fixture
def book() -> RecordingBuilder:
    return RecordingBuilder()


@pytest.fixture
def read(tmp_path: Path) -> Iterator[Callable[[RecordingBuilder], Recording]]:
    """Writes a builder's recording and opens it."""
    opened: list[Recording] = []

    def write_and_open(book: RecordingBuilder) -> Recording:
        opened.append(open_recording(book.write(tmp_path)))
        return opened[-1]

    yield write_and_open
    for recording in opened:
        recording.close()


@pytest.fixture(scope="session")
def lively() -> bytes:
    """A recording with every type of block and two threads."""
    book = RecordingBuilder()
    worker = book.thread("Worker")
    for number in range(40):
        handle = book.acquire(
            detail=f"/tmp/{number}",
            stack=book.stack_here(),
            thread=worker if number % 3 else None,
            task="Task-1",
        )
        book.add_ref(handle, stack=book.stack_here())
        book.release(handle, thread=worker)
        if number % 4:
            book.close(handle, Ending.DROPPED if number % 5 else Ending.EXITED)
            if number % 7 == 0:
                book.problem(EventKind.DOUBLE_RELEASE, handle, stack=book.stack_here())
    return book.end().to_bytes()
