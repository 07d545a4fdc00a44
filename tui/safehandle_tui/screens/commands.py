"""What the keys of the main screen do."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any, Final

from textual.message import Message

from safehandle_debug.ledger import Filter, parse_filter
from safehandle_tui.model.alarms import AlarmRow
from safehandle_tui.model.columns import Sort
from safehandle_tui.model.events import EventRow
from safehandle_tui.model.generations import GenerationRow
from safehandle_tui.model.kinds import KindRow
from safehandle_tui.model.modes import MODES, Mode
from safehandle_tui.model.rows import HandleKey, HandleRow, SiteRow, mark_of
from safehandle_tui.model.sessions import SessionRow
from safehandle_tui.model.shelf import HandleRows
from safehandle_tui.model.spec import GROUPS, ViewSpec
from safehandle_tui.model.text import plural
from safehandle_tui.model.tree import TreeRow
from safehandle_tui.screens.taking import Taking
from safehandle_tui.widgets.filter_bar import FilterBar
from safehandle_tui.widgets.table import Table

__all__ = ["Commands"]

# Sort keys of L, B, A, O where a screen names its columns otherwise.
_ALIASES: Final = {"oldest": ("oldest", "age"), "newest": ("newest", "births", "serial")}


class Commands(Taking):
    """The actions; MainScreen shows what they lead to."""

    class DetailAsked(Message):
        """A handle's page is wanted."""

        def __init__(self, key: HandleKey) -> None:
            super().__init__()
            self.key = key

    class CardAsked(Message):
        """An alarm's card is wanted."""

        def __init__(self, key: tuple[str, str]) -> None:
            super().__init__()
            self.key = key

    def __init__(self, ask: Callable[[ViewSpec], None], now: Callable[[], int]) -> None:
        super().__init__(ask, now)
        self.layout_number = 0  # 0: table and pane; 1: table alone; 2: pane alone
        self.follows = True  # Events: the cursor stays on the newest
        self._sorts: dict[Mode, Sort] = {mode: info.sort for mode, info in MODES.items()}
        self._trail: list[ViewSpec] = []  # where Esc leads back to

    # --- asking for another view ---

    def go(self, mode: Mode, *, selected: Any = None, **changes: Any) -> None:
        """Goes to a screen; Esc comes back to where we are."""
        self._trail.append(replace(self.spec, step=()))
        del self._trail[:-50]
        self._show(mode, selected=selected, **changes)

    def _show(self, mode: Mode, *, selected: Any = None, **changes: Any) -> None:
        self.table.hold(selected)
        sort = changes.pop("sort", self._sorts[mode])
        self.follows = mode == "events"
        self.change(mode=mode, selected=selected, sort=sort, **changes)

    def unpin(self) -> None:
        """Back from a handle's page: the table's cursor decides again."""
        self.change(pinned=False, selected=self.table.key)

    # --- screens ---

    def action_mode(self, mode: Mode) -> None:
        """Goes to a screen by its digit."""
        if mode == self.spec.mode and self.spec.site is None:
            return
        self.go(mode, site=None)

    def action_open(self) -> None:
        """Opens the row under the cursor."""
        if self.query_one("#processes", Table).has_focus:
            self.table.focus()
            return
        row = self.table.row
        if isinstance(row, SiteRow):
            if self.spec.group == "site":
                self.go("handles", site=row.key)
            else:
                self.app.notify("t groups by site: a site opens to its handles", timeout=4)
        elif isinstance(row, HandleRow):
            self.open_handle(row.key)
        elif isinstance(row, TreeRow):
            if row.folded is None:
                self.go("handles", site=row.site)
            else:
                self.change(toggled=self.spec.toggled ^ {row.key})
        elif isinstance(row, AlarmRow):
            self.post_message(self.CardAsked(row.key))
        elif isinstance(row, EventRow):
            if row.serial:
                self.open_handle((row.process, row.serial))
        elif isinstance(row, GenerationRow):
            self.go("handles", born=(row.since_ns - (not row.number), row.until_ns))
        elif isinstance(row, KindRow):
            self.go("handles", filter=_filter_of(row))
        elif isinstance(row, SessionRow):
            self._open_process(row)

    def open_handle(self, key: HandleKey) -> None:
        """Opens a handle's page."""
        self.change(selected=key, pinned=True)
        self.post_message(self.DetailAsked(key))

    def _open_process(self, row: SessionRow) -> None:
        if row.info is None:
            self.app.notify(row.error or "it cannot be read", severity="error", timeout=5)
            return
        session = None if row.here else row.session
        self._trail.clear()
        scope = row.path if not row.here or self.spec.scope != row.path else None
        self._show("sites", session=session, scope=scope, site=None, moment=None, born=None)

    def action_itself(self) -> None:
        """Opens the handle that the alarm under the cursor is about."""
        row = self.table.row
        if isinstance(row, AlarmRow):
            self.open_handle((row.process, row.finding.handle.serial))
        else:
            self.app.notify("choose an alarm: 5 shows them", timeout=3)

    def action_back(self) -> None:
        """Goes back one step, or drops the filter."""
        if self.withdraw():
            return
        if self.query_one(FilterBar).display:
            self._drop_filter()
        elif self.layout_number:
            self.action_layout(-self.layout_number)
        elif not self.table.has_focus:
            self.table.focus()
        elif self.spec.filter and not (self._trail and self._trail[-1].filter != self.spec.filter):
            self._drop_filter()
        elif self._trail:
            before = self._trail.pop()
            self.table.hold(before.selected)
            self._sorts[before.mode] = before.sort
            self.change(
                **{
                    name: getattr(before, name)
                    for name in ("mode", "site", "filter", "sort", "selected", "born", "group")
                }
            )
        elif self.spec.moment is not None:
            self.action_live()
        elif self.spec.mode != "sites":
            self._show("sites", site=None)

    def action_group(self) -> None:
        """Groups Suspects by something else."""
        at = GROUPS.index(self.spec.group) + 1 if self.spec.mode == "sites" else 0
        self._show("sites", site=None, group=GROUPS[at % len(GROUPS)])

    def action_layout(self, step: int) -> None:
        """The table alone, the pane alone, or both."""
        self.layout_number = (self.layout_number + step) % 3
        self.repaint_all()

    # --- order ---

    def action_sort(self, step: int) -> None:
        """Sorts by the next or the previous visible column."""
        names = self.table.columns_shown()
        if not names or self.spec.mode in ("tree", "sessions"):
            return
        current = self.spec.sort.column
        at = names.index(current) + step if current in names else 0
        self._sort_by_name(names[at % len(names)])

    def action_sort_by(self, name: str) -> None:
        """Sorts by a column, wherever it has that name or a like one."""
        names = {column.name for column in MODES[self.spec.mode].columns}
        for each in _ALIASES.get(name, (name,)):
            if each == "serial" and each in names:
                self._sort_by(Sort(each, True))  # the newest first
                return
            if each in names:
                self._sort_by_name(each)
                return

    def _sort_by_name(self, name: str) -> None:
        column = next(each for each in MODES[self.spec.mode].columns if each.name == name)
        self._sort_by(Sort(column.name, column.descending))

    def action_reverse(self) -> None:
        """Turns the order round."""
        self._sort_by(replace(self.spec.sort, descending=not self.spec.sort.descending))

    def _sort_by(self, sort: Sort) -> None:
        self._sorts[self.spec.mode] = sort
        self.change(sort=sort)

    def action_match(self, step: int) -> None:
        """Moves to the next row that is marked; with a filter to the next."""
        rows = self.table.rows
        for distance in range(1, len(rows) + 1):
            at = (self.table.cursor + step * distance) % len(rows)
            if self.spec.filter or _is_marked(rows, at):
                self.table.go_to(at)
                return

    # --- what is shown ---

    def action_ended(self) -> None:
        """Shows or hides handles that ended."""
        self.change(ended=not self.spec.ended)

    def action_pause(self) -> None:
        """Stops or goes on with the picture; in the past, plays it."""
        if self.spec.moment is not None:
            self.action_play()
            return
        self.change(paused=not self.spec.paused)
        self.repaint_all()

    def action_follow(self) -> None:
        """Events: stays on the newest one, or not."""
        self.follows = not self.follows
        self.table.hold(None if self.follows else self.table.key)
        self.change(selected=None if self.follows else self.table.key)
        self.app.notify("following the newest" if self.follows else "standing still", timeout=2)

    def action_library(self) -> None:
        """Sites tree: with the frames of libraries, or without."""
        self.change(library=not self.spec.library)

    def action_processes(self) -> None:
        """Moves to the process list and back."""
        processes = self.query_one("#processes", Table)
        if processes.has_focus:
            self.table.focus()
        elif len(processes.rows) > 1:
            processes.focus()
        else:
            self.app.notify("There is one process only; 0 shows all recorded ones.", timeout=3)

    def action_newer(self) -> None:
        """Goes to the session that began after this one."""
        if self.view is not None and self.view.newer is not None:
            self._trail.clear()
            self._show("sites", session=self.view.newer, scope=None, site=None, moment=None)

    # --- generations ---

    def action_mark(self) -> None:
        """Begins a new generation."""
        at_ns = self._now()
        if self.view is not None and self.view.timeline is not None:
            at_ns = self.view.timeline.at_ns
        if at_ns not in self.spec.marks:
            self.change(marks=tuple(sorted((*self.spec.marks, at_ns))))
            marks = plural(len(self.spec.marks), "mark")
            self.app.notify(f"{marks}: 6 shows the generations, d what is new", timeout=4)

    def action_diff(self) -> None:
        """Shows only what was opened since the last mark, or all again."""
        if self.spec.born is not None:
            self.change(born=None)
        elif self.spec.marks:
            self.change(born=(self.spec.marks[-1], None))
        else:
            self.app.notify("m sets a mark first", timeout=3)

    def action_diff_marks(self) -> None:
        """Shows what was opened between two marks, the latest pair first."""
        marks = self.spec.marks
        if len(marks) < 2:
            self.app.notify("m sets a mark; two are needed", timeout=3)
            return
        pairs = [*pairwise(marks)][::-1]
        at = next((at for at, pair in enumerate(pairs, 1) if pair == self.spec.born), 0)
        self.change(born=pairs[at] if at < len(pairs) else None)

    # --- the filter ---

    def action_filter(self) -> None:
        """Opens the filter line."""
        self.query_one(FilterBar).open(self.spec.filter.text)
        self.repaint_all()

    def _close_filter(self) -> None:
        self.query_one(FilterBar).display = False
        self.table.focus()
        self.repaint_all()

    def _drop_filter(self) -> None:
        self._close_filter()
        if self.spec.filter:
            self.change(filter=Filter())


def _is_marked(rows: Sequence[Any], at: int) -> bool:
    """True for a row with a sign; of many handles without making its row."""
    if isinstance(rows, HandleRows):
        state = rows.state_at(at)
        return bool(mark_of(state.life, state.problem)[0].strip())
    return bool(rows[at].mark[0].strip())


def _filter_of(row: KindRow) -> Filter:
    return parse_filter(f"kind={json.dumps(row.kind)} owner={json.dumps(row.owner)}")
