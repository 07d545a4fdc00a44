"""The ledger of one process: its handles, told from its recording."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Literal, Self

from safehandle_debug.ledger import histories
from safehandle_debug.ledger._index import Handles, Slots, copied
from safehandle_debug.ledger.census import new_index
from safehandle_debug.ledger.model import Ending, Exhaustion, Frame, History, ProcessInfo
from safehandle_debug.ledger.replay import MOST_EXAMPLES, Key, Replay
from safehandle_debug.ledger.sites import site_of
from safehandle_debug.ledger.usage import Threads, in_use, kept
from safehandle_debug.ledger.watched import Watch
from safehandle_debug.recording import RawEvent, RawLive, Recording
from safehandle_debug.recording.format import EVENT, LIVE, Ended, EventKind, Flag, Level
from safehandle_debug.recording.reader import Cursor
from safehandle_debug.recording.thinning import thin

_MANY_FORGOTTEN: Final = 100_000  # handles of which replay may wrongly think they are open
# Plain integers: an operation on an enum's flag costs a microsecond.
_BORROWED: Final = int(Flag.BORROWED)
_IMPORTING: Final = int(Flag.IMPORTING)
_INHERITED: Final = int(Flag.INHERITED)
_LATE: Final = int(Flag.LATE)
_FD: Final = "fd"
# From so many on it matters that what was read of the file takes memory.
_MANY_TAKEN: Final = 20_000  # events; more of a long recording, whose heads are read anew
_MANY_BLOCKS: Final = 64  # of live slots
_FOLLOWED: Final = 8  # handles whose events are kept because they were asked for
_LOOKS: Final = 2  # after a change: the header counts an event before it is committed
MOST_ENDED: Final = 20_000  # handles that ended, the newest ones, whose slots are kept
_SINGLY: Final = 2000  # handles that are looked at one by one, alike or not


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
    """Handles alike (type, acquire stack, how they ended) and one example.

    `about` tells what is to be judged of them: how they ended (or that they
    did not), or single events such as a double release."""

    about: Literal["ending", "events"]
    example: History  # with all its events
    count: int  # at least 1
    serials: tuple[int, ...]  # of the first few, the example's first


class Ledger:
    """Histories of the handles in one recording.

    The constructor reads nothing but the header; `refresh` takes in what the
    process has recorded since the last one.  Memory is bounded by the number
    of handles open at once.  Not thread-safe.
    """

    def __init__(self, recording: Recording) -> None:
        self.recording = recording
        self._cursor = Cursor()
        self._watch = Watch(recording)
        self.index = new_index(recording, self._watch.may_be_finalized, MOST_ENDED)
        self._replay = Replay(self.index, recording.header.inherited_serials, self._watch)
        self._alive = recording.is_alive()
        self._looks_due = _LOOKS
        self._unreleased = 0  # events that were read since memory was given back
        self._live_count: int | None = None
        self._slots: list[Slots] = []  # what slots() gave last
        # What open() gave last: number of a part -> (its slots, their histories).
        self._shown: dict[int, tuple[list[RawLive], list[History]]] = {}
        self._shown_ending: Ending | None = None
        # Handles asked for, latest last: how far they were read, and what was found.
        self._followed: dict[int, tuple[Cursor, list[RawEvent]]] = {}
        # The process may have stamped its end just before it was gone.
        recording.refresh()

    def refresh(self, progress: Callable[[int], None] | None = None) -> bool:
        """Takes in new events; True when anything changed.

        `progress` is told of numbers of events as they are read.

        Raises RecordingError when the file was damaged meanwhile."""
        was_alive, self._alive = self._alive, self.recording.is_alive()
        changed = self.recording.refresh() or was_alive != self._alive
        if changed:
            self._looks_due = _LOOKS
        if self._looks_due:
            self._looks_due -= 1
            new = self.recording.read_new(self._cursor)
            taken = self._replay.take(new if progress is None else _counted(new, progress))
            self._unreleased += taken
            if self._unreleased >= max(_MANY_TAKEN, self.index.events >> 6):
                self.recording.release()
                self._unreleased = 0
            changed = changed or taken > 0
            self._live_count = None
        if self._replay.open_count > 2 * self.recording.header.live + _MANY_FORGOTTEN:
            self._replay.prune({raw.serial for raw in self.recording.live()})
        if not self._alive:
            self._replay.settle()
        return changed

    @property
    def ended(self) -> Literal["exit", "signal", "running"]:
        """How the process ended: `signal` when it could not say goodbye."""
        ended = self.recording.header.ended
        if ended == Ended.EXIT:
            return "exit"
        if ended == Ended.SIGNAL:
            return "signal"
        if self._alive:
            return "running"
        return "signal" if ended == Ended.RUNNING else "exit"

    @property
    def saw_exit(self) -> bool:
        """True when the recording goes up to the process's normal end, so
        that what is open then has leaked."""
        header = self.recording.header
        return header.ended == Ended.EXIT and not header.abrupt

    @property
    def cwd(self) -> str:
        """The process's working directory when recording began; "": unknown."""
        cwd = self.recording.meta.get("cwd")
        return cwd if isinstance(cwd, str) else ""

    @property
    def sample(self) -> int:
        """One handle in so many is recorded; 1: each, as at level full."""
        header = self.recording.header
        return max(header.sample, 1) if header.level == Level.SAMPLED else 1

    @property
    def process(self) -> ProcessInfo:
        """The process, as of the last refresh."""
        header = self.recording.header
        meta = self.recording.meta
        argv = meta.get("argv")
        stamped = header.ended in (Ended.EXIT, Ended.SIGNAL)
        return ProcessInfo(
            pid=header.pid,
            parent_pid=header.parent_pid,
            argv=tuple(map(str, argv)) if isinstance(argv, list) else (),
            executable=str(meta.get("executable") or ""),
            cwd=self.cwd,
            python=str(meta.get("python") or _version(header.python_version)),
            started_at_ns=self.recording.to_ns(header.first_ticks),
            ended=self.ended,
            exit_code=header.exit_code if stamped else None,
            # Who noted the signal that killed it did not note when.
            ended_at_ns=self.recording.to_ns(header.ended_ticks)
            if stamped and header.ended_ticks
            else None,
            level=Level(header.level).name.lower(),
            events=max(header.next_seq - 1, 0),
            dropped=header.dropped_events,
            live=self._live(),
            path=str(self.recording.path),
            error=self._error(),
            sample=self.sample,
            watched=bool(header.watch),
            abrupt=bool(header.abrupt),
            bare=header.bare,
        )

    @property
    def counts(self) -> Counts:
        """Totals, as of the last refresh."""
        header = self.recording.header
        return Counts(
            live=self._live(),
            acquired=max(header.newest_serial - header.inherited_serials, 0),
            events=max(header.next_seq - 1, 0),
            dropped_events=header.dropped_events,
            abandoned=self._replay.abandoned,
            problems=len(self._replay.problems) + self._replay.finalized_in_use,
        )

    def open(self) -> list[History]:
        """The handles open now, oldest first, without their events.

        Of a process that ended: those it held then, with ending `lost`.  A
        handle is the same object from call to call while it does not change
        but in its references."""
        ending: Ending | None = None if self._alive else "lost"
        shown: dict[int, tuple[list[RawLive], list[History]]] = {}
        changed = ending != self._shown_ending
        for number, part in enumerate(self.recording.live_parts()):
            known = self._shown.get(number)
            if known is None or known[0] is not part or changed:
                shown[number] = (part, self._shown_part(part, known[1] if known else [], ending))
            else:
                shown[number] = known
        self._shown = shown
        self._shown_ending = ending
        found = [history for _, part in shown.values() for history in part]
        found.sort(key=_serial)
        return found

    def slots(self) -> list[Slots]:
        """The live slots of the handles open now, or when the process ended,
        in blocks; a block in which nothing changed since the last call is the
        same object."""
        file, starts = self.recording.live_blocks()
        self._slots = copied(file, starts, self._slots)
        if len(starts) >= _MANY_BLOCKS:
            self.recording.release()
        return self._slots

    def handles(
        self,
        parts: Iterable[tuple[Slots | bytes, bytes | None, int]] = (),
        *,
        state: int = 0,
        problems: dict[int, int] | None = None,
        until_ns: int = 0,
    ) -> Handles:
        """The handles open now, and more, for a selection; for the arguments
        see the index's stub."""
        return self.handles_of(
            [*((part, None, state) for part in self.slots()), *parts],
            problems=problems,
            until_ns=until_ns,
        )

    def handles_of(
        self,
        parts: Sequence[tuple[Slots | bytes, bytes | None, int]],
        *,
        problems: dict[int, int] | None = None,
        until_ns: int = 0,
    ) -> Handles:
        """Handles of this process that are known from elsewhere."""
        header = self.recording.header
        return Handles(
            parts,
            header.inherited_serials,
            header.pid,
            self.recording.clock,
            problems or {},
            until_ns,
        )

    def _shown_part(
        self, part: list[RawLive], before: list[History], ending: Ending | None
    ) -> list[History]:
        known = {history.serial: history for history in before}
        found = []
        for raw in part:
            if not self._is_own(raw):
                continue
            history = known.get(raw.serial)
            if history is None or history.value != raw.value:
                history = histories.from_slot(raw, self.recording)
            history.refs = raw.refs
            history.ending = ending
            found.append(history)
        return found

    def history(self, serial: int) -> History | None:
        """One handle with all its events; None when nothing is known.

        Asking for the same few handles again reads only what is new."""
        cursor, events = self._followed.pop(serial, (Cursor(), []))
        events += self.recording.events_of(serial, cursor)
        thin(events)
        self._followed[serial] = (cursor, events)
        if len(self._followed) > _FOLLOWED:
            del self._followed[next(iter(self._followed))]
        return self._with_events({serial: events}).get(serial)

    def history_until(self, serial: int, seq: int) -> History | None:
        """One handle as it was right after an event, with all its events up to
        that; None when nothing is known.

        It knows of what refresh() has taken in."""
        events = self.recording.events_within(serial, self.index.stretches(serial, seq))
        return histories.from_events(events, None, self.recording) if events else None

    def life_before(self, history: History) -> History | None:
        """The handle that had the number before, with its events; None when
        nobody had it, or when that was dropped.  Of descriptors only."""
        if history.space != _FD or not history.events:
            return None
        first = history.events[0].seq
        raw = self.recording.last_of_value(history.value, EventKind.CLOSE, first)
        if raw is None or self.recording.type(raw.type).space != _FD:
            return None
        return self.history(raw.serial)

    def histories_of(self, serials: Collection[int]) -> list[History]:
        """Several handles with all their events, in one pass; those of which
        nothing is known are left out."""
        return list(self._with_events(self.recording.events_of_many(serials)).values())

    def histories(self) -> Iterator[History]:
        """All handles that recorded events tell of, without their events:
        closed ones as they closed, then open ones, oldest first."""
        begun: dict[int, RawEvent] = {}
        for raw in self.recording.events():
            if raw.kind == EventKind.ACQUIRE:
                begun[raw.serial] = raw
            elif raw.kind in (EventKind.CLOSE, EventKind.INVALIDATE):
                acquire = begun.pop(raw.serial, None)
                if acquire is None and not self.recording.header.dropped_events:
                    continue
                events = [raw] if acquire is None else [acquire, raw]
                history = self._built(events, None, full=False)
                if history is not None:
                    yield history
        yield from self.open()

    def suspicions(self, *, now: bool = False) -> list[Suspicion]:
        """What findings need, alike ones grouped; examples have events.

        Open handles are among them when the process ended normally, or with
        `now`; and always those whose finalizer ran while references were out,
        which nobody can release any more."""
        groups: list[tuple[Literal["ending", "events"], list[int], int]] = []
        groups += (("events", [serial], 1) for serial in self._replay.problems)
        groups += self._ended_alike()
        groups += (
            ("ending", [serial], 1)
            for serial, by_finalizer in self._replay.disposed.items()
            if by_finalizer
        )
        if now or self.saw_exit:
            groups += (("ending", *each) for each in self._open_alike())
        firsts = {serials[0] for _, serials, _ in groups}
        found = self._with_events(self.recording.events_of_many(firsts) if firsts else {})
        return [
            Suspicion(about, example, count, tuple(serials))
            for about, serials, count in groups
            if (example := found.get(serials[0])) is not None
        ]

    def suspects(self, *, now: bool = False) -> list[History]:
        """The examples of suspicions(), with events, by serial."""
        found = {each.example.serial: each.example for each in self.suspicions(now=now)}
        return [found[serial] for serial in sorted(found)]

    def exhausted(self) -> list[Exhaustion]:
        """The first few times that the process had no descriptor left."""
        if not self._replay.exhausted:
            return []
        refused = {raw.seq: raw for raw in self.recording.events_of_many([0])[0]}
        found = []
        for moment in self._replay.exhausted:
            raw = refused.get(moment.seq)
            event = histories.event_of(raw, self.recording) if raw is not None else None
            if event is not None:
                tops = _by_site(
                    (site_of(self.recording.stack(stack)), count) for stack, count in moment.top
                )
                found.append(Exhaustion(event, moment.open, tops))
        return found

    def close(self) -> None:
        """Closes the recording."""
        self.recording.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def _live(self) -> int:
        """Handles that this process has to close.

        The header counts also what a fork brought and what was not sampled;
        the slots are only complete at level full."""
        header = self.recording.header
        if header.level != Level.FULL or header.dropped_live:
            return header.live
        if self._live_count is None:
            self._live_count = self.handles().count(_BORROWED)
        return header.bare + self._live_count

    def _is_own(self, raw: RawLive) -> bool:
        """True for a slot of a handle that is this process's own to close."""
        inherited = self.recording.header.inherited_serials
        return raw.serial > inherited and not raw.flags & _INHERITED

    def _ended_alike(self) -> Iterable[tuple[Literal["ending"], list[int], int]]:
        """Handles that ended alike.  A wrong act on a descriptor's number tells
        how that handle ended, too: it is not among them."""
        problems = self._replay.problems
        for key, group in self._replay.groups.items():
            serials, count = group.serials, group.count
            if self._watch.is_watched(key.type) and not problems.keys().isdisjoint(serials):
                serials = [serial for serial in serials if serial not in problems]
                count -= len(group.serials) - len(serials)
            if serials:
                yield "ending", serials, count

    def _open_alike(self) -> Iterable[tuple[list[int], int]]:
        """(first serials, count) of open handles that may be leaks; those that
        a finalizer disposed are counted elsewhere, and what a thread may have
        in use that went on to the very end, and would have closed as it closed
        others, is none."""
        groups: dict[Key, tuple[list[int], int]] = {}
        singly = 0
        has_ended = self.recording.header.ended != Ended.RUNNING
        threads = self.recording.running_threads() if has_ended else {}
        live = self.recording.live()
        in_use_still = kept(live, threads, self.recording) if threads else frozenset()
        closing = self._places_that_close() if in_use_still else frozenset()
        for raw in live:
            if raw.flags & _BORROWED or not self._is_own(raw):
                continue
            if raw.serial in in_use_still and raw.stack in closing:
                continue
            by_finalizer = self._replay.disposed.get(raw.serial)
            if by_finalizer:
                continue
            disposed = by_finalizer is not None
            if raw.flags & _IMPORTING and not disposed:
                continue
            single = (disposed or bool(raw.flags & _LATE)) and singly < _SINGLY
            singly += single
            key = Key(raw.type, raw.stack, 0, False, raw.serial if single else 0)
            serials, count = groups.get(key, ([], 0))
            if count < MOST_EXAMPLES:
                serials.append(raw.serial)
            groups[key] = (serials, count + 1)
        return groups.values()

    def _places_that_close(self) -> frozenset[int]:
        """Acquire stacks of descriptors that were closed again at least once."""
        return frozenset(
            stack
            for stack, type, _opened, closed, finalized, *_ in self.index.places()
            if closed > finalized and self._watch.is_watched(type)
        )

    def _with_events(self, events: dict[int, list[RawEvent]]) -> dict[int, History]:
        """Histories of the handles that anything is known of."""
        slots = map(LIVE.unpack, self.handles().among(events))
        live = {raw.serial: raw for raw in map(RawLive._make, slots)}
        threads: Threads | None = None
        found: dict[int, History] = {}
        for serial, each in events.items():
            history = self._built(each, live.get(serial))
            if history is None:
                continue
            if any(raw.kind == EventKind.DISPOSE for raw in each):
                if threads is None:
                    threads = self.recording.running_threads()
                history.in_use = in_use(each, threads, self.recording)
            found[serial] = history
        return found

    def _built(
        self, events: list[RawEvent], live: RawLive | None, *, full: bool = True
    ) -> History | None:
        history = histories.from_events(events, live, self.recording, full=full)
        if history is None or history.ending is not None:
            return history
        header = self.recording.header
        if live is not None:
            history.ending = None if self._alive else "lost"
        elif header.dropped_events and not header.dropped_live:
            # Whatever is open has a slot: the event that closed it was dropped.
            history.ending = "closed"
            history.events_dropped = True
        return history

    def _error(self) -> str | None:
        header = self.recording.header
        lost = [
            f"{number} {what}"
            for number, what in (
                (header.dropped_live, "open handles"),
                (header.dropped_stacks, "stacks"),
                (header.dropped_data, "texts"),
            )
            if number
        ]
        if header.error:
            why = os.strerror(header.error)
        elif lost:
            why = "the size bound is reached"
        else:
            return None
        what = f" and lacks {', '.join(lost)}" if lost else ""
        return f"the recording could not grow{what}: {why}"


def _counted(
    chunks: Iterable[tuple[int, bytes]], progress: Callable[[int], None]
) -> Iterator[tuple[int, bytes]]:
    for first_seq, data in chunks:
        progress(len(data) // EVENT.size)
        yield first_seq, data


def _version(hexversion: int) -> str:
    return f"{hexversion >> 24}.{hexversion >> 16 & 0xFF}.{hexversion >> 8 & 0xFF}"


def _by_site(stacks: Iterable[tuple[Frame | None, int]]) -> tuple[tuple[Frame | None, int], ...]:
    counts: Counter[Frame | None] = Counter()
    for site, count in stacks:
        counts[site] += count
    return tuple(counts.most_common())


def _serial(history: History) -> int:
    return history.serial
