"""Takes in the events that may be a finding, and remembers what is needed of them.

A process closes nearly all of its handles properly, millions of them.  The index
in C goes through these and tells of the others: what was disposed, closed by a
finalizer or the exit, or is a finding by itself.  Of handles that ended alike one
counter is kept.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from safehandle_debug.ledger._index import Index
from safehandle_debug.ledger.watched import Watch
from safehandle_debug.recording.format import Ending, EventKind, Flag

MOST_PROBLEMS: Final = 100_000  # handles with events that are findings
MOST_EXAMPLES: Final = 16  # serials kept of handles alike

_PROBLEMS: Final = frozenset(
    {
        EventKind.SET_VALUE,
        EventKind.DOUBLE_RELEASE,
        EventKind.RELEASE_FAILED,
        EventKind.DOUBLE_OWNER,
        EventKind.CLOSED_BEHIND,
        EventKind.RECYCLED,
    }
)
_BY_FINALIZER: Final = (Ending.DROPPED, Ending.COLLECTED)
_SUSPECT_ENDINGS: Final = (Ending.DROPPED, Ending.COLLECTED, Ending.SWEPT)
_BORROWED: Final = int(Flag.BORROWED)
_INHERITED: Final = int(Flag.INHERITED)
_FINALIZER: Final = int(Flag.FINALIZER)
_FINALIZING: Final = int(Flag.FINALIZING)
_IMPORTING: Final = int(Flag.IMPORTING)
_LATE: Final = int(Flag.LATE)
_IN_USE: Final = int(Flag.IN_USE)

MOST_EXHAUSTED: Final = 4  # times that descriptors ran out, with what was open then
TOP: Final = 5  # acquire stacks told of each

Row = tuple[int, int, int, int, int, int, int]  # seq, serial, stack, type, kind, ending, flags
Acquired = tuple[int, int, int]  # type, stack, flags of the acquire


class Key(NamedTuple):
    """What handles that ended alike have in common."""

    type: int  # TYPE id
    stack: int  # acquire stack, 0: not known
    ending: int  # format.Ending
    finalizing: bool  # while the interpreter was ending
    disposed: int  # serial of one that was disposed before, which is not alike; else 0


@dataclass(slots=True)
class Group:
    """Handles that ended alike."""

    count: int = 0
    serials: list[int] = field(default_factory=list)  # the first few


class Exhausted(NamedTuple):
    """What was open when there was no descriptor left."""

    seq: int  # of the event
    open: int
    top: list[tuple[int, int]]  # (acquire stack, handles), most first


class Replay:
    """The state after the events taken in so far."""

    def __init__(self, index: Index, inherited_serials: int, watch: Watch | None = None) -> None:
        """
        Args:
            index: takes the events in, and tells of the few that matter here.
            watch: answers what only names of types and frames tell.
        """
        self._index = index
        self._inherited = inherited_serials
        self._watch = watch
        # Asked to close while references were out -> whether by a finalizer.
        self.disposed: dict[int, bool] = {}
        self.problems: dict[int, None] = {}  # with events that are findings
        self.groups: dict[Key, Group] = {}
        self.abandoned = 0
        self.finalized_in_use = 0  # finalized while references were out
        self.exhausted: list[Exhausted] = []

    def take(self, chunks: Iterable[tuple[int, bytes]]) -> int:
        """Takes in (seq of the first, packed events by seq) by that seq;
        returns how many events that were."""
        return self._index.take(chunks, self._take)

    def prune(self, live: set[int]) -> None:
        """Forgets handles that are not open any more: the event that closed
        them was dropped."""
        self._index.prune(live)
        for serial in self.disposed.keys() - live:
            del self.disposed[serial]

    @property
    def open_count(self) -> int:
        return self._index.open_count

    def settle(self) -> None:
        """No acquire will come any more: judges closes without one."""
        self._index.settle(self._take)

    def _take(self, row: Row, acquired: Acquired | None) -> None:
        _, serial, _, _, kind, _, flags = row
        if kind == EventKind.CLOSE or kind == EventKind.INVALIDATE:
            if flags & _IN_USE and not flags & _INHERITED:
                self._problem(serial)
            if acquired is not None:
                self._close(row, acquired)
            else:
                self._close_unknown(row)
        elif kind == EventKind.EXHAUSTED:
            self._exhausted(row[0])
        elif serial <= self._inherited or flags & _INHERITED:
            return
        elif kind == EventKind.DISPOSE:
            if not flags & _BORROWED:
                by_finalizer = bool(flags & _FINALIZER)
                self.disposed[serial] = by_finalizer
                self.finalized_in_use += by_finalizer
        elif kind in _PROBLEMS or kind == EventKind.USE_CLOSED:
            self._problem(serial)

    def _problem(self, serial: int) -> None:
        if len(self.problems) < MOST_PROBLEMS:
            self.problems[serial] = None

    def _exhausted(self, seq: int) -> None:
        if len(self.exhausted) < MOST_EXHAUSTED:
            stacks: Counter[int] = Counter()
            for place in self._index.places():
                stacks[place[0]] += sum(memoryview(place[11]).cast("I"))
            top = [(stack, number) for stack, number in stacks.most_common(TOP) if number]
            self.exhausted.append(Exhausted(seq, self._index.open_count, top))

    def _close_unknown(self, row: Row) -> None:
        # Whether it was acquired by an import is not known: say nothing of
        # what the interpreter's end closed.
        if not row[6] & _FINALIZING and row[5] != Ending.SWEPT:
            self._close(row, (row[3], 0, row[6]))

    def _close(self, row: Row, acquired: tuple[int, int, int]) -> None:
        serial, ending, flags = row[1], row[5], row[6]
        disposed = bool(self.disposed) and serial in self.disposed
        if disposed:
            del self.disposed[serial]
        type, stack, acquire_flags = acquired
        if (
            ending == Ending.CLOSED
            and self._watch is not None
            and self._watch.is_watched(type)
            and (flags & _FINALIZING or self._watch.is_finalized(row[2], stack))
        ):
            ending = int(Ending.DROPPED)
        if ending not in _SUSPECT_ENDINGS:
            return
        if (flags | acquire_flags) & (_BORROWED | _INHERITED | _LATE):
            return
        finalizing = bool(flags & _FINALIZING)
        if acquire_flags & _IMPORTING and (finalizing or ending == Ending.SWEPT):
            return
        if ending in _BY_FINALIZER and not finalizing:
            self.abandoned += 1
        key = Key(type, stack, ending, finalizing, serial if disposed else 0)
        group = self.groups.get(key)
        if group is None:
            group = self.groups[key] = Group()
        group.count += 1
        if len(group.serials) < MOST_EXAMPLES:
            group.serials.append(serial)
