"""Asks a process that runs who holds its handles: the one word a reader writes.

The process sees it with its next event (of several in a millisecond only one
looks for questions), looks in its own time, and adds the answer to its meta.
It is not stopped, and need not answer.
"""

from __future__ import annotations

import os
import struct
from typing import Final

from safehandle_debug.errors import RecordingError
from safehandle_debug.recording.format import ASK_OFFSET
from safehandle_debug.recording.reader import Recording

__all__ = ["ask", "withdraw"]

MAY_BE_ASKED: Final = "ask"  # in a recording's meta; false: the program was started so
_WORD: Final = struct.Struct("=I")


def ask(recording: Recording) -> int:
    """Asks, and returns the number of the question.

    Raises:
        RecordingError: the process does not answer, or its recording may not
            be written.
    """
    if recording.meta.get(MAY_BE_ASKED) is False:
        raise RecordingError(
            f"process {recording.header.pid} cannot be asked: it was started with ask=off;"
            " what holds its handles is recorded when it ends"
        )
    return _count(recording, None, 1)


def withdraw(recording: Recording, number: int) -> None:
    """Takes a question back that has not been answered yet.

    Nothing happens when somebody else has asked meanwhile.

    Raises:
        RecordingError: its recording may not be written.
    """
    _count(recording, number, -1)


def _count(recording: Recording, known: int | None, by: int) -> int:
    """Counts the word on, or back, if it is what is known of it; returns it."""
    try:
        descriptor = os.open(recording.path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            (number,) = _WORD.unpack(os.pread(descriptor, _WORD.size, ASK_OFFSET))
            if known in (None, number):
                number = (number + by) % (1 << 32)
                os.pwrite(descriptor, _WORD.pack(number), ASK_OFFSET)
        finally:
            os.close(descriptor)
    except (OSError, struct.error) as error:
        reason = getattr(error, "strerror", None) or "it is too short"
        raise RecordingError(
            f"process {recording.header.pid} cannot be asked: {recording.path} cannot be"
            f" written: {reason}"
        ) from error
    return int(number)
