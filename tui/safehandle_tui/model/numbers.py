"""What each site of one process ever opened, and how things stood at any moment."""

from __future__ import annotations

from safehandle_debug.ledger import Event, Frame
from safehandle_debug.ledger._index import Index, Slots
from safehandle_debug.ledger.census import Census, evidence_of
from safehandle_debug.ledger.histories import event_of
from safehandle_debug.ledger.names import Names
from safehandle_debug.ledger.verdict import Evidence, merged
from safehandle_debug.recording import RawEvent, Recording, TypeInfo
from safehandle_debug.recording import format as shd
from safehandle_tui.model.rows import SiteKey

__all__ = ["Numbers"]


class Numbers:
    """The census of a recording, now and then.  Not thread-safe."""

    def __init__(self, recording: Recording, index: Index, names: Names) -> None:
        """`index` is that of the ledger, which takes in the events."""
        self._recording = recording
        self._names = names
        self._now = Census(recording, index)

    def refresh(self) -> bool:
        """Takes in what is new; raises RecordingError as the ledger does."""
        return self._now.refresh()

    def sites(self, now_ns: int, seq: int | None = None) -> dict[SiteKey, Evidence]:
        """What each site opened, closed and keeps: now, or as it was right
        after an event."""
        census = self._census(seq)
        span = census.span
        found: dict[SiteKey, list[Evidence]] = {}
        for place in census.places():
            evidence = evidence_of(place, span, now_ns)
            found.setdefault(self._names.site_key(place.stack), []).append(evidence)
        return {key: merged(parts) for key, parts in found.items()}

    def types(self) -> dict[tuple[str, str], tuple[int, int]]:
        """(kind, owner) -> (opened, closed), by the owner that each had last."""
        found: dict[tuple[str, str], tuple[int, int]] = {}
        for place in self._now.places():
            names = self._names
            key = (names.kind(place.type), names.owner(place.type, place.stack))
            opened, closed = found.get(key, (0, 0))
            found[key] = (opened + place.opened, closed + place.closed)
        return found

    def opened_by(self, seq: int | None) -> int:
        """How many handles were acquired up to an event, or so far."""
        return sum(place.opened for place in self._census(seq).places())

    def closed_at(self, key: SiteKey) -> list[tuple[Frame, ...]]:
        """The stacks that closed what a site opened, the latest of each stack
        that it was opened by, those that closed most first."""
        places = [
            p for p in self._now.places() if p.close_stack and self._names.site_key(p.stack) == key
        ]
        places.sort(key=lambda place: -place.closed)
        return [self._recording.stack(place.close_stack) for place in places]

    def _census(self, seq: int | None) -> Census:
        return self._now if seq is None else self._now.at(seq)

    # --- moments ---

    def open_at(self, seq: int) -> Slots:
        """The slots of the handles that were open right after an event."""
        return self._now.at(seq).slots()

    def left(self, began: int) -> tuple[bytes, bytes]:
        """The handles that were still open when the interpreter's end began,
        and that nothing else closed: packed slots, and ticks of each close."""
        return self._now.ended(began, self.last_seq)

    def seq_at(self, ns: int) -> int:
        """The last event at or before a wall clock time."""
        return self._recording.seq_at(ns)

    @property
    def last_seq(self) -> int:
        """The seq of the newest event."""
        return max(0, self._recording.header.next_seq - 1)

    def time_of(self, seq: int) -> int:
        """The wall clock time of an event, or of the one before it; 0: unknown."""
        events = self._raw(max(0, seq - 1), seq) or self._raw(max(0, seq - 1000), seq)
        return self._recording.to_ns(events[-1].ticks) if events else 0

    def events(self, after: int, until: int) -> list[Event]:
        """The events after one and up to another, by seq."""
        found = (event_of(raw, self._recording) for raw in self._raw(after, until))
        return [event for event in found if event is not None]

    def typed_events(self, after: int, until: int) -> list[tuple[Event, TypeInfo]]:
        """The same, each with what its handle is."""
        return [
            (event, self._recording.type(raw.type))
            for raw in self._raw(after, until)
            if (event := event_of(raw, self._recording)) is not None
        ]

    def _raw(self, after: int, until: int) -> list[RawEvent]:
        rows: list[RawEvent] = []
        for _, data in self._recording.chunks_between(after, until):
            rows += map(RawEvent._make, shd.EVENT.iter_unpack(data))
        rows.sort()
        return rows

    def alarms(self) -> list[int]:
        """The seqs of the events that are findings by themselves, by seq."""
        return self._now.alarms()
