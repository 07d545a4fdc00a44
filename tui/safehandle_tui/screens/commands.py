"""What the keys of the main screen do."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

from textual.app import App, SuspendNotSupported
from textual.message import Message

from safehandle_debug.ledger import Filter, parse_filter
from safehandle_tui.model.alarms import AlarmRow
from safehandle_tui.model.columns import Sort, header_line, lay_out, row_line
from safehandle_tui.model.detail import HandleDetail, SiteDetail
from safehandle_tui.model.events import EventRow
from safehandle_tui.model.generations import GenerationRow
from safehandle_tui.model.kinds import KindRow
from safehandle_tui.model.modes import MODES, Mode
from safehandle_tui.model.rows import HandleKey, HandleRow, SiteRow, mark_of
from safehandle_tui.model.sessions import SessionRow
from safehandle_tui.model.shelf import HandleRows
from safehandle_tui.model.spec import GROUPS, ViewSpec
from safehandle_tui.model.system import system_lines
from safehandle_tui.model.text import Line, plain, plural
from safehandle_tui.model.tree import TreeRow
from safehandle_tui.screens.asking import Asking
from safehandle_tui.widgets.filter_bar import FilterBar
from safehandle_tui.widgets.table import Table

__all__ = ["Commands", "edit", "export"]

_MOST_EXPORTED: Final = 100_000  # rows
# Sort keys of L, B, A, O where a screen names its columns otherwise.
_ALIASES: Final = {"oldest": ("oldest", "age"), "newest": ("newest", "births", "serial")}


class Commands(Asking):
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

    class LinesAsked(Message):
        """Some lines are to be shown above everything."""

        def __init__(self, title: str, lines: list[Line]) -> None:
            super().__init__()
            self.title = title
            self.lines = lines

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

    def withdraw(self) -> bool:
        """Takes the question back that is still to be answered; False: there is none."""
        detail = self.view.detail if self.view is not None else None
        kept = detail.kept if isinstance(detail, HandleDetail | SiteDetail) else None
        if self.spec.asked is None or kept is None or not kept.is_waiting:
            return False
        self.change(asked=None)
        return True

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

    # --- taking something along ---

    def action_system(self) -> None:
        """What the system says of the descriptor under the cursor."""
        row = self.table.row
        if isinstance(row, SiteRow) and row.rows:
            row = row.rows[0]
        if not isinstance(row, HandleRow):
            self.app.notify("choose a handle or a site", timeout=3)
            return
        title = f"{row.owner} {row.value} of process {row.pid}"
        self.post_message(
            self.LinesAsked(title, system_lines(row.history, is_open=row.life == "open"))
        )

    def action_owners(self) -> None:
        """Asks the program who keeps what is under the cursor alive."""
        view, row = self.view, self.table.row
        if self.spec.pinned and self.spec.selected is not None:
            process = self.spec.selected[0]
        elif isinstance(row, SiteRow) and row.rows:
            process = row.bunches[0].process
        elif isinstance(row, HandleRow):
            process = row.key[0]
        else:
            self.app.notify("choose a handle or a site", timeout=3)
            return
        if view is None or view.timeline is not None:
            self.app.notify("nobody can be asked in the past: \\ goes back to now", timeout=4)
            return
        known = next((each for each in view.processes if each.path == process), None)
        if known is None or known.info is None or known.info.ended != "running":
            self.app.notify("it has ended: what it left word of is below", timeout=4)
            return
        times = self.spec.asked[1] if self.spec.asked is not None else 0
        self.change(asked=(process, times + 1))
        if self.spec.paused:
            self.app.notify("asked; the answer is shown once Space goes on", timeout=4)

    def action_edit(self) -> None:
        """Opens the source line in $EDITOR."""
        place = self._place()
        if place is None:
            self.app.notify("there is no source file to open here", timeout=3)
            return
        edit(self.app, *place)

    def _place(self) -> tuple[str, int] | None:
        row = self.table.row
        file, line = "", 0
        if isinstance(row, SiteRow | TreeRow):
            key: Any = row.key if isinstance(row, SiteRow) else row.key[-1]
            file, line = key[0], key[1]
        elif isinstance(row, HandleRow | EventRow):
            file, line = row.file, row.line
        elif isinstance(row, AlarmRow) and row.finding.culprit:
            frame = row.finding.culprit[0]
            file, line = frame.file, frame.line
        return (file, line) if file and Path(file).is_file() else None

    def action_copy(self) -> None:
        """Copies the row and what is told of it."""
        text = self._text(only_row=True)
        self.app.copy_to_clipboard(text)
        self.app.notify(f"copied {len(text.splitlines())} lines", timeout=2)

    def action_export(self) -> None:
        """Writes the rows and the pane into a file of the current folder."""
        export(self.app, self.spec.mode, self._text(only_row=False))

    def _text(self, *, only_row: bool) -> str:
        view = self.view
        if view is None or not view.rows:
            return ""
        cells = 200
        layout = lay_out(MODES[view.mode].columns, cells, without=view.hidden)
        rows = [self.table.row] if only_row else list(view.rows[:_MOST_EXPORTED])
        lines: list[Line] = [] if only_row else [view.headline, ()]
        lines.append(header_line(layout, view.spec.sort))
        lines += [row_line(layout, row, view.now_ns, cursor=False) for row in rows]
        lines += [(), *self.pane_lines(cells, 1000)]
        return "\n".join(plain(line).rstrip() for line in lines) + "\n"

    def top_line(self, more: Sequence[str], cells: int, right: Line = ()) -> Line:
        """The top line of this screen and of those above it; MainScreen knows it."""
        raise NotImplementedError

    def pane_lines(self, cells: int, room: int) -> list[Line]:
        """The pane below the table; MainScreen knows it."""
        raise NotImplementedError


def _is_marked(rows: Sequence[Any], at: int) -> bool:
    """True for a row with a sign; of many handles without making its row."""
    if isinstance(rows, HandleRows):
        state = rows.state_at(at)
        return bool(mark_of(state.life, state.problem)[0].strip())
    return bool(rows[at].mark[0].strip())


def export(app: App[Any], name: str, text: str) -> None:
    """Writes a text into a new file of the current folder."""
    stamp = time.strftime("%Y%m%d-%H%M%S")
    path = Path(f"safehandle-{name}-{stamp}.txt").absolute()
    try:
        path.write_text(text)
    except OSError as error:
        app.notify(f"cannot write {path}: {error.strerror}", severity="error", timeout=5)
    else:
        app.notify(f"written to {path}", timeout=5)


def edit(app: App[Any], file: str, line: int) -> None:
    """Opens a source line in the user's editor, and comes back."""
    editor = os.environ.get("VISUAL") or os.environ.get("EDITOR") or "vi"
    command = [*shlex.split(editor), f"+{line}", file]
    try:
        with app.suspend():
            subprocess.run(command, check=False)
    except (OSError, RuntimeError, ValueError, SuspendNotSupported) as error:
        app.notify(f"{editor}: {error}", severity="error", timeout=5)


def _filter_of(row: KindRow) -> Filter:
    return parse_filter(f"kind={json.dumps(row.kind)} owner={json.dumps(row.owner)}")
