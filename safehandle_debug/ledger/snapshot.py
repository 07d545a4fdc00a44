"""What was open at one moment, to keep and to compare.

Two snapshots of one process are compared handle by handle: what was acquired
after the first and is open in the second has grown, whatever else was closed.
Those of different processes, of two runs or two versions of a program, are
compared by place: the file and the function that acquired, not the line.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any, Final, NamedTuple

from safehandle_debug.ledger.census import Census
from safehandle_debug.ledger.histories import from_slot
from safehandle_debug.ledger.ledger import Ledger
from safehandle_debug.ledger.model import Frame, History
from safehandle_debug.ledger.sites import site_of
from safehandle_debug.recording import RawLive, Recording
from safehandle_debug.recording import format as shd
from safehandle_debug.recording.format import EventKind

__all__ = [
    "Growth",
    "Held",
    "Moment",
    "Seen",
    "SnapshotError",
    "compare",
    "held_at",
    "last_moment_ns",
    "read_moment",
    "take",
    "write_moment",
]

VERSION: Final = 1
_KIND: Final = "safehandle-snapshot"
_MINUTE_NS: Final = 60 * 10**9
_TICKS, _SERIAL = 1, 2  # fields of an event
_KIND_OFFSET: Final = 60  # bytes


class SnapshotError(ValueError):
    """It is no snapshot; the text is one sentence for the user."""


class Held(NamedTuple):
    """One handle that was open."""

    pid: int
    serial: int
    kind: str
    owner: str
    value: int
    detail: str | None
    opened_at_ns: int  # wall clock, ns since 1970
    opened: tuple[Frame, ...]  # acquire stack, innermost first


class Seen(NamedTuple):
    """One process, as it was then."""

    pid: int
    started_at_ns: int
    newest_serial: int  # of all handles acquired until then
    at_ns: int
    argv: tuple[str, ...]
    cwd: str


@dataclass(frozen=True, slots=True)
class Moment:
    """What some processes had open."""

    processes: tuple[Seen, ...]
    handles: tuple[Held, ...]


@dataclass(frozen=True, slots=True)
class Growth:
    """Handles of one place, then and now."""

    file: str  # below the working directory relative to it
    line: int  # in the later one
    function: str
    owner: str
    before: int
    after: int
    grown: int  # acquired between the two and not closed; of two runs: after - before
    per_minute: float | None  # None: of two runs
    opened: tuple[Frame, ...]  # of one of them, innermost first


def take(ledgers: Iterable[Ledger], *, after_ns: int | None = None) -> Moment:
    """What the processes have open now, had at their end, or had `after_ns`
    nanoseconds after they started."""
    processes, handles = [], []
    for ledger in ledgers:
        process = ledger.process
        at_ns = process.started_at_ns + after_ns if after_ns is not None else None
        found, newest = held_at(ledger, at_ns)
        seen_ns = at_ns or last_moment_ns(ledger) or time.time_ns()
        processes.append(
            Seen(
                process.pid,
                process.started_at_ns,
                newest,
                seen_ns,
                process.argv,
                process.cwd,
            )
        )
        handles += found
    return Moment(tuple(processes), tuple(handles))


def last_moment_ns(ledger: Ledger) -> int | None:
    """When the program proper was over: the interpreter's end began, or the
    process was gone; None while it runs."""
    if ledger.ended == "running":
        return None
    header = ledger.recording.header
    if header.finalizing_seq:
        begun = header.finalizing_seq - 1
        for _, data in ledger.recording.chunks_between(begun, header.next_seq):
            return ledger.recording.to_ns(shd.EVENT.unpack_from(data)[_TICKS]) - 1
    return ledger.process.ended_at_ns


def held_at(ledger: Ledger, at_ns: int | None = None) -> tuple[list[Held], int]:
    """(the handles open then that the process has to close, newest serial).

    What an import keeps for the life of the process is not among them.

    Args:
        at_ns: wall clock; None: now, or when the program was over.
    """
    newest = ledger.recording.header.newest_serial
    if at_ns is None and ledger.ended != "exit":
        return [_held(each) for each in ledger.open() if _counts(each)], newest
    moment = at_ns if at_ns is not None else last_moment_ns(ledger)
    if moment is None:
        return [], newest
    recording = ledger.recording
    seq = recording.seq_at(moment)
    slots = Census(recording, ledger.index).at(seq).slots()
    then = {
        row[0]: from_slot(RawLive._make(row), recording)
        for row in shd.LIVE.iter_unpack(slots.packed())
    }
    # Of what was open before the oldest event that is left, the slots alone tell.
    then |= {
        each.serial: each
        for each in ledger.open()
        if each.opened_at_ns <= moment and each.serial not in then
    }
    found = [_held(each) for _, each in sorted(then.items()) if _counts(each)]
    newest = _newest_serial(recording, seq)
    return found, max(newest, max(then, default=0))


def _newest_serial(recording: Recording, seq: int) -> int:
    """Of the handles acquired up to an event."""
    header = recording.header
    later = header.newest_serial + 1
    for _, data in recording.chunks_between(seq, header.next_seq):
        # A thread's serials grow: the first of each chunk is its least.
        kinds = data[_KIND_OFFSET :: shd.EVENT.size]
        number = kinds.find(EventKind.ACQUIRE)
        while number >= 0:
            serial = shd.EVENT.unpack_from(data, number * shd.EVENT.size)[_SERIAL]
            if serial > header.inherited_serials:
                later = min(later, serial)
                break
            number = kinds.find(EventKind.ACQUIRE, number + 1)
    return later - 1


def _counts(history: History) -> bool:
    return not (history.borrowed or history.importing or history.inherited)


def _held(history: History) -> Held:
    return Held(
        history.pid,
        history.serial,
        history.kind,
        history.owner,
        history.value,
        history.detail,
        history.opened_at_ns,
        history.opened,
    )


# --- comparing ---

_Place = tuple[str, str, str]  # file, function, owner


def compare(before: Moment, after: Moment) -> list[Growth]:
    """The places that hold more in `after`, those that grew most first."""
    known = {(each.pid, each.started_at_ns): each for each in before.processes}
    same = {each.pid: each for each in after.processes if (each.pid, each.started_at_ns) in known}
    is_same = bool(same) and len(same) == len(after.processes)
    folders = {each.pid: each.cwd for each in (*before.processes, *after.processes)}
    old, new, grown = Counter[_Place](), Counter[_Place](), Counter[_Place]()
    examples: dict[_Place, Held] = {}
    for held in before.handles:
        old[_place(held, folders)] += 1
    for held in after.handles:
        place = _place(held, folders)
        new[place] += 1
        seen = known.get((held.pid, same[held.pid].started_at_ns)) if held.pid in same else None
        if is_same and seen is not None and held.serial > seen.newest_serial:
            grown[place] += 1
            examples[place] = held
        elif not is_same:
            examples[place] = held
    if not is_same:
        grown = new - old
    minutes = _minutes(known, same) if is_same else None
    found = [
        _growth(place, examples[place], old[place], new[place], count, minutes)
        for place, count in grown.items()
    ]
    return sorted(found, key=lambda each: (-each.grown, each.file, each.line))


def _minutes(known: dict[tuple[int, int], Seen], same: dict[int, Seen]) -> float:
    spans = [each.at_ns - known[each.pid, each.started_at_ns].at_ns for each in same.values()]
    return max(*spans, 1) / _MINUTE_NS


def _growth(
    place: _Place, example: Held, before: int, after: int, grown: int, minutes: float | None
) -> Growth:
    site = site_of(example.opened)
    file, function, owner = place
    rate = None if minutes is None else grown / minutes
    line = site.line if site is not None else 0
    return Growth(file, line, function, owner, before, after, grown, rate, example.opened)


def _place(held: Held, folders: dict[int, str]) -> _Place:
    site = site_of(held.opened)
    if site is None:
        return "?", "?", held.owner
    folder = folders.get(held.pid, "").rstrip("/") + "/"
    return site.file.removeprefix(folder), site.function, held.owner


# --- as a file ---


def write_moment(moment: Moment) -> str:
    """The snapshot as JSON; stacks that are alike stand in it once."""
    stacks: dict[tuple[Frame, ...], int] = {}
    handles = [[*held[:7], stacks.setdefault(held.opened, len(stacks))] for held in moment.handles]
    return json.dumps(
        {
            "kind": _KIND,
            "version": VERSION,
            "processes": [each._asdict() for each in moment.processes],
            "handles": handles,
            "stacks": [[_plain(frame) for frame in stack] for stack in stacks],
        }
    )


def _plain(frame: Frame) -> list[Any]:
    return list(asdict(frame).values())


def read_moment(text: str) -> Moment:
    """The reverse of write_moment().

    Raises:
        SnapshotError: the text is something else.
    """
    try:
        plain = json.loads(text)
        if plain["kind"] != _KIND:
            raise SnapshotError("it is no snapshot: make one with safehandle snapshot")
        if plain["version"] > VERSION:
            raise SnapshotError("a newer version wrote this snapshot: install it")
        stacks = [tuple(Frame(*frame) for frame in stack) for stack in plain["stacks"]]
        processes = [Seen(**{**each, "argv": tuple(each["argv"])}) for each in plain["processes"]]
        handles = [Held._make([*each[:7], stacks[each[7]]]) for each in plain["handles"]]
    except SnapshotError:
        raise
    except (ValueError, KeyError, TypeError, IndexError, RecursionError) as error:
        raise SnapshotError("it is no snapshot: make one with safehandle snapshot") from error
    return Moment(tuple(processes), tuple(handles))
