"""Many handles without a row for each: counted, chosen and ordered in C.

A Shelf holds the handles of some processes at one moment and never changes;
the rows of those that are looked at are made when they are asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, overload

from safehandle_debug.errors import RecordingError
from safehandle_debug.ledger import Filter, History
from safehandle_debug.ledger import _index as index
from safehandle_debug.ledger._index import Handles, Selection
from safehandle_debug.ledger.histories import from_slot
from safehandle_debug.ledger.names import Names
from safehandle_debug.ledger.selecting import Chooser, State, ordered, selected
from safehandle_debug.recording import RawLive, Recording
from safehandle_debug.recording import format as shd
from safehandle_tui.model.row_columns import life_span
from safehandle_tui.model.rows import BUCKETS, Bunch, HandleKey, HandleRow, SiteKey

__all__ = ["HandleRows", "Shelf", "Stand"]

_COLUMNS: Final = (index.STACK, index.TYPE, index.STATE)
_ACTORS: Final = (index.THREAD, index.TASK)
_MADE: Final = 4096  # rows that are kept
_ORDERS: Final = {"thread": "actor"}  # columns by another name


@dataclass(frozen=True, slots=True)
class Stand:
    """How one process stands, or stood."""

    process: str  # path of its recording
    cwd: str
    recording: Recording
    handles: Handles
    chooser: Chooser
    until_ns: int | None  # wall clock end of the process, None while it runs

    def row(self, slot: bytes, closed_ns: int, code: int) -> HandleRow:
        """The row of one of its handles."""
        state = self.chooser.state(code)
        raw = RawLive._make(shd.LIVE.unpack(slot))
        try:
            history = from_slot(raw, self.recording)
        except (RecordingError, ValueError):
            history = self._nameless(raw, state)
        history.ending = state.ending or None  # type: ignore[assignment]
        history.closed_at_ns = closed_ns or None
        row = HandleRow(history, process=self.process, cwd=self.cwd)
        row.life = state.life
        row.problem = state.problem
        row.until_ns = self.until_ns
        return row

    def _nameless(self, raw: RawLive, state: State) -> History:
        """Of a recording that can be read no more."""
        return History(
            pid=self.chooser.pid,
            serial=raw.serial,
            kind=self.chooser.names.kind(raw.type),
            owner=self.chooser.names.owner(raw.type, raw.stack),
            space=self.chooser.names.space(raw.type),
            value=raw.value,
            detail=self.chooser.names.text(raw.detail),
            opened_at_ns=0,
            opened=self.chooser.names.stack(raw.stack),
            thread=self.chooser.names.thread(raw.thread),
            task=None,
            test=None,
            borrowed=state.borrowed,
            importing=state.importing,
            refs=raw.refs,
        )


class Shelf:
    """The handles of some processes."""

    def __init__(self, stands: Sequence[Stand], selection: Selection | None = None) -> None:
        self._stands = tuple(stands)
        self._choosers = [stand.chooser for stand in stands]
        self._selection = (
            Selection(tuple(stand.handles for stand in stands)) if selection is None else selection
        )

    def __len__(self) -> int:
        return len(self._selection)

    def __getitem__(self, at: int) -> HandleRow:
        """The row of one; IndexError beyond the last."""
        process, slot, closed_ns, code = self._selection[at]
        return self._stands[process].row(slot, closed_ns, code)

    def _with(self, selection: Selection) -> Shelf:
        return self if selection is self._selection else Shelf(self._stands, selection)

    # --- choosing ---

    def where(self, wanted: Filter, now_ns: int) -> Shelf:
        """Those that a filter matches."""
        return self._with(selected(self._selection, self._choosers, wanted, now_ns))

    def born(self, since_ns: int, until_ns: int | None) -> Shelf:
        """Those that were opened after a time, and up to another."""
        bounds = [(1, index.BIRTH, 4, since_ns)]
        if until_ns is not None:
            bounds.append((1, index.BIRTH, 1, until_ns))
        tests = [[(False, [[bound]]) for bound in bounds]] * len(self._stands)
        return self._with(self._selection.where(tests, 0))

    def in_state(self, key: str, test: Callable[[State], bool]) -> Shelf:
        """Those whose state passes; `key` tells the test from others."""
        return self._alike(
            key,
            (index.STATE, index.NONE),
            lambda chooser: lambda code, _: test(chooser.state(code)),
        )

    def at_site(self, site: SiteKey) -> Shelf:
        """Those that one line acquired."""
        return self.named(
            ("site", site),
            (index.STACK, index.NONE),
            lambda names, stack, _: names.site_key(stack) == site,
        )

    def named(
        self,
        key: object,
        columns: tuple[int, int],
        test: Callable[[Names, int, int], bool],
    ) -> Shelf:
        """Those whose texts pass; `key` tells the test from others."""
        return self._alike(
            key,
            columns,
            lambda chooser: lambda one, other: test(chooser.names, one, other),
        )

    def _alike(
        self,
        key: object,
        columns: tuple[int, int],
        answer: Callable[[Chooser], Callable[[int, int], bool]],
    ) -> Shelf:
        tests = [[(False, [[each.asked(key, columns, answer(each))]])] for each in self._choosers]
        return self._with(self._selection.where(tests, 0))

    # --- what is there ---

    def ordered(self, column: str, *, descending: bool, now_ns: int) -> Shelf:
        """The same by a column of the table of handles; equal ones by serial."""
        by = _ORDERS.get(column, column)
        return self._with(
            ordered(
                self._selection,
                self._choosers,
                by,
                descending=descending,
                now_ns=now_ns,
                state_key=lambda state: life_span(state)[0],
            )
        )

    def by_life(self) -> Shelf:
        """Those that ended last, else by serial."""
        return self._with(
            ordered(
                self._selection,
                self._choosers,
                "state",
                descending=False,
                now_ns=0,
                state_key=lambda state: state.life == "ended",
            )
        )

    def bunches(
        self, start_ns: int = 0, now_ns: int = 1, *, actors: bool = False, singly: bool = False
    ) -> list[Bunch]:
        """The handles in bunches that are alike.

        Args:
            start_ns, now_ns: bounds of the strips of births.
            actors: alike also in who opened them.
            singly: alike also in their value.
        """
        columns = _COLUMNS + (_ACTORS if actors else ()) + ((index.NUMBER,) if singly else ())
        groups = self._selection.groups(columns, start_ns, max(1, now_ns - start_ns), BUCKETS)
        found: list[Bunch] = []
        for process, ids, count, oldest, newest, _, least, greatest, births in groups:
            chooser = self._choosers[process]
            names = chooser.names
            stack, type, code = ids[:3]
            state = chooser.state(code)
            found.append(
                Bunch(
                    process=self._stands[process].process,
                    site_key=names.site_key(stack),
                    site=names.site(stack),
                    kind=names.kind(type),
                    owner=names.owner(type, stack),
                    actor=names.text(ids[4]) or names.thread(ids[3]) if actors else "",
                    opened=names.stack(stack),
                    life=state.life,
                    problem=state.problem,
                    importing=state.importing,
                    borrowed=state.borrowed,
                    count=count,
                    oldest_ns=oldest,
                    newest_ns=newest,
                    least=least,
                    greatest=greatest,
                    births=births,
                )
            )
        # The index has no order of its own.
        found.sort(key=lambda bunch: (bunch.oldest_ns, bunch.site))
        return found

    def find(self, key: HandleKey) -> int | None:
        """The index of a handle."""
        process, serial = key
        for number, stand in enumerate(self._stands):
            if stand.process == process:
                at = self._selection.find(number, serial)
                return at if at >= 0 else None
        return None

    def state_at(self, at: int) -> State:
        """What became of one of them."""
        process, _, _, code = self._selection[at]
        return self._choosers[process].state(code)


class HandleRows(Sequence[HandleRow]):
    """The rows of a shelf, each made when it is asked for."""

    def __init__(self, make: Callable[[], Shelf], count: int) -> None:
        """`make` gives the shelf, of so many handles, when the first row is
        asked for."""
        self._make = make
        self._count = count
        self._shelf: Shelf | None = None
        self._made: dict[int, HandleRow] = {}

    @property
    def shelf(self) -> Shelf:
        """The handles."""
        if self._shelf is None:
            self._shelf = self._make()
        return self._shelf

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, at: int) -> HandleRow: ...
    @overload
    def __getitem__(self, at: slice) -> Sequence[HandleRow]: ...
    def __getitem__(self, at: int | slice) -> HandleRow | Sequence[HandleRow]:
        if isinstance(at, slice):
            return [self[each] for each in range(*at.indices(self._count))]
        if at < 0:
            at += self._count
        if not 0 <= at < self._count:
            raise IndexError("there are not so many handles")
        row = self._made.get(at)
        if row is None:
            if len(self._made) >= _MADE:
                self._made.clear()
            row = self._made[at] = self.shelf[at]
        return row

    def find(self, key: HandleKey) -> int | None:
        """The index of a handle; None when it is not among them."""
        return self.shelf.find(key)

    def state_at(self, at: int) -> State:
        """What became of one, without a row for it."""
        return self.shelf.state_at(at)
