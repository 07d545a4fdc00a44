"""The ledger of one process: its handles, told from its recording."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from safehandle_debug.ledger.model import History, ProcessInfo
from safehandle_debug.recording import Recording


@dataclass(frozen=True, slots=True)
class Counts:
    """Totals of one process, as of the last refresh."""

    live: int  # handles open now, or held when the process ended
    acquired: int  # serials given out by this process
    events: int  # events emitted
    dropped_events: int  # lost to the size bound
    abandoned: int  # closed by a finalizer, so far seen
    problems: int  # handles with events that are findings by themselves


@dataclass(frozen=True, slots=True)
class Suspicion:
    """Handles alike (type, acquire stack, how they ended) and one example."""

    example: History  # with all its events
    count: int  # at least 1
    serials: tuple[int, ...]  # of the first few, the example's first


class Ledger:
    """Histories of the handles in one recording.

    The constructor reads nothing but the header; `refresh` takes in what the
    process has recorded since the last one.  Not thread-safe.
    """

    recording: Recording

    def __init__(self, recording: Recording) -> None:
        self.recording = recording

    def refresh(self) -> bool:
        """Takes in new events; True when anything changed."""
        raise NotImplementedError

    @property
    def process(self) -> ProcessInfo:
        """The process, as of the last refresh."""
        raise NotImplementedError

    @property
    def counts(self) -> Counts:
        """Totals, as of the last refresh."""
        raise NotImplementedError

    def open(self) -> list[History]:
        """The handles open now, oldest first, without their events.

        Of a process that ended: those it held then, with ending `lost`."""
        raise NotImplementedError

    def history(self, serial: int) -> History | None:
        """One handle with all its events; None when nothing is known."""
        raise NotImplementedError

    def histories(self) -> Iterator[History]:
        """All handles that recorded events tell of, also closed ones, by
        serial, without their events."""
        raise NotImplementedError

    def suspicions(self) -> list[Suspicion]:
        """What findings need, alike ones grouped; examples have events."""
        raise NotImplementedError

    def suspects(self) -> list[History]:
        """The examples of suspicions(), with events, by serial."""
        raise NotImplementedError

    def close(self) -> None:
        """Closes the recording."""
        self.recording.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()
