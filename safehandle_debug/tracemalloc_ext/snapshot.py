"""tracemalloc's Snapshot, over handles."""

from __future__ import annotations

import os
import re
import tracemalloc
from collections.abc import Iterable, Sequence
from typing import Any, Final

from safehandle_debug.ledger import Held, Ledger
from safehandle_debug.ledger.snapshot import held_at
from safehandle_debug.recording import open_recording

__all__ = ["DOMAIN", "HandleTrace", "Snapshot", "traces_of"]

DOMAIN: Final = 0x5AFE  # as in _core/lifetime/events.c
_BYTES: Final = re.compile(r"(\d+) bytes at ", re.ASCII)
_MAPPINGS: Final = ("mapped-view",)
_OF_HANDLES: Final = ("kind", "owner")


class HandleTrace(tuple):  # type: ignore[type-arg]
    """What tracemalloc keeps of a block: (domain, size, frames, frames in all);
    beside it what it does not know of."""

    kind: str
    owner: str
    serial: int


class Snapshot(tracemalloc.Snapshot):
    """The handles that were open at one moment.

    As tracemalloc's, but that it groups by "kind" and "owner" too.
    """

    @classmethod
    def from_recording(cls, path: str | os.PathLike[str], *, at: float | None = None) -> Snapshot:
        """The handles that a recorded process had open.

        Args:
            path: of the recording.
            at: seconds since the process started; None: now, or when it ended.

        Raises:
            RecordingError: the recording cannot be read.
        """
        with Ledger(open_recording(path)) as ledger:
            ledger.refresh()
            moment = None
            if at is not None:
                moment = ledger.process.started_at_ns + int(at * 1e9)
            held, _ = held_at(ledger, moment)
            limit = ledger.recording.header.frames
        return cls(traces_of(held, limit), limit)

    def statistics(self, key_type: str, cumulative: bool = False) -> list[tracemalloc.Statistic]:
        """The traces in groups, the largest first.

        Args:
            key_type: "filename", "lineno", "traceback", "kind" or "owner".
            cumulative: count a trace in the group of each of its frames; for
                "filename" and "lineno".

        Raises:
            ValueError: `key_type` is another, or `cumulative` is not for it.
        """
        if key_type not in _OF_HANDLES:
            return super().statistics(key_type, cumulative)
        if cumulative:
            raise ValueError(f"cumulative mode cannot by used with key type {key_type!r}")
        found = list(self._by(key_type).values())
        found.sort(reverse=True, key=tracemalloc.Statistic._sort_key)  # type: ignore[attr-defined]
        return found

    def compare_to(
        self, old_snapshot: tracemalloc.Snapshot, key_type: str, cumulative: bool = False
    ) -> list[tracemalloc.StatisticDiff]:
        """The differences from an older snapshot, the largest first.

        Raises:
            ValueError: as of statistics().
        """
        if key_type not in _OF_HANDLES:
            return super().compare_to(old_snapshot, key_type, cumulative)
        if cumulative:
            raise ValueError(f"cumulative mode cannot by used with key type {key_type!r}")
        new = self._by(key_type)
        old = old_snapshot._by(key_type) if isinstance(old_snapshot, Snapshot) else {}
        found = []
        for name in {**new, **old}:
            now, before = new.get(name), old.get(name)
            size, count = (now.size, now.count) if now else (0, 0)
            size_before, count_before = (before.size, before.count) if before else (0, 0)
            found.append(
                tracemalloc.StatisticDiff(
                    _named(name), size, size - size_before, count, count - count_before
                )
            )
        found.sort(reverse=True, key=tracemalloc.StatisticDiff._sort_key)  # type: ignore[attr-defined]
        return found

    def filter_traces(self, filters: Iterable[Any]) -> Snapshot:
        """A snapshot of the traces that the filters let through.

        Raises:
            TypeError: `filters` is no sequence.
        """
        filtered: Any = super().filter_traces(filters)  # type: ignore[arg-type]
        return Snapshot(filtered.traces._traces, filtered.traceback_limit)

    def dump(self, filename: str | os.PathLike[str]) -> None:
        """Writes the snapshot into a file, which is there when it is complete.

        Raises:
            OSError: it cannot be written.
        """
        target = os.fspath(filename)
        if os.path.lexists(target) and not os.path.isfile(target):
            super().dump(target)  # a pipe, a device
            return
        part = f"{target}.{os.getpid()}.part"
        try:
            super().dump(part)
            os.replace(part, os.path.realpath(target))
        finally:
            if os.path.lexists(part):
                os.unlink(part)

    def _by(self, key_type: str) -> dict[str, tracemalloc.Statistic]:
        groups: dict[str, tracemalloc.Statistic] = {}
        for trace in self.traces._traces:  # type: ignore[attr-defined]
            name = getattr(trace, key_type)
            group = groups.get(name)
            if group is None:
                group = groups[name] = tracemalloc.Statistic(_named(name), 0, 0)
            group.size += trace[1]
            group.count += 1
        return groups


def _named(name: str) -> tracemalloc.Traceback:
    """A group's name where tracemalloc has a place, as it does for a file."""
    return tracemalloc.Traceback(((name, 0),))


def traces_of(held: Sequence[Held], limit: int) -> list[HandleTrace]:
    """Open handles as tracemalloc's raw traces, frames at most `limit` each."""
    known: dict[int, tuple[tuple[str, int], ...]] = {}
    traces = []
    for each in held:
        frames = known.get(id(each.opened))
        if frames is None:
            frames = tuple((frame.file, frame.line) for frame in each.opened[:limit])
            frames = known[id(each.opened)] = frames or (("<unknown>", 0),)
        trace = HandleTrace((DOMAIN, _size(each), frames, len(each.opened)))
        trace.kind, trace.owner, trace.serial = each.kind, each.owner, each.serial
        traces.append(trace)
    return traces


def _size(held: Held) -> int:
    """Bytes of a mapping; 1 of anything else."""
    match = _BYTES.match(held.detail or "")
    return int(match[1]) if match is not None and held.kind in _MAPPINGS else 1
