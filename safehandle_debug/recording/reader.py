"""Opens and reads one recording."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from safehandle_debug.recording.format import Header
from safehandle_debug.recording.records import Frame, RawEvent, RawLive, ThreadInfo, TypeInfo


def open_recording(path: str | os.PathLike[str]) -> Recording:
    """Opens the recording at `path` for reading.

    Raises RecordingError with one sentence when it is missing, unreadable,
    a symbolic link, not a recording, torn, truncated, corrupt, or written by
    a newer version.
    """
    raise NotImplementedError


class Recording:
    """One process's recording, mapped read-only.

    Not thread-safe: one thread at a time.
    """

    path: Path
    header: Header  # as of the last refresh
    meta: dict[str, Any]  # "argv", "executable", "cwd", "python", "session", "suppressions"

    def refresh(self) -> bool:
        """Reads the header anew; True when anything changed since."""
        raise NotImplementedError

    def events(self, after: int = 0) -> Iterator[RawEvent]:
        """All recorded events with a seq above `after`, ordered by seq."""
        raise NotImplementedError

    def events_of(self, serial: int) -> list[RawEvent]:
        """The recorded events of one handle, ordered by seq."""
        raise NotImplementedError

    def events_of_many(self, serials: Collection[int]) -> dict[int, list[RawEvent]]:
        """The recorded events of several handles in one pass."""
        raise NotImplementedError

    def live(self) -> list[RawLive]:
        """The handles open now (or when the process ended), by serial."""
        raise NotImplementedError

    def stack(self, id: int) -> tuple[Frame, ...]:
        """The frames of a stack, innermost first; () when unknown."""
        raise NotImplementedError

    def string(self, id: int) -> str:
        """The text of a STRING id; "" when 0 or unknown."""
        raise NotImplementedError

    def type(self, id: int) -> TypeInfo:
        """What a TYPE id stands for; "?" in each field when unknown."""
        raise NotImplementedError

    def thread(self, id: int) -> ThreadInfo:
        """What a THREAD id stands for; named "?" when unknown."""
        raise NotImplementedError

    def to_ns(self, ticks: int) -> int:
        """Wall clock time of `ticks`, in ns since 1970."""
        raise NotImplementedError

    def is_alive(self) -> bool:
        """True while the very process that writes it exists."""
        raise NotImplementedError

    def close(self) -> None:
        """Unmaps the file.  Closing again does nothing."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()
