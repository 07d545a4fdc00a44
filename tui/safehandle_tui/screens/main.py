"""The watch: processes, the table of sites or handles, the detail below."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, ClassVar, Final

from textual import events, on
from textual.app import ComposeResult
from textual.message import Message
from textual.screen import Screen

from safehandle_debug.ledger import Filter
from safehandle_tui.keys import KEYS, bindings
from safehandle_tui.model.columns import HANDLE_COLUMNS, SITE_COLUMNS, Column, Sort
from safehandle_tui.model.detail import (
    HandleDetail,
    handle_lines,
    handle_title,
    site_lines,
    site_title,
)
from safehandle_tui.model.feed import Mode, View, ViewSpec
from safehandle_tui.model.processes import ALL, PROCESS_COLUMNS, PROCESS_SORT, entries
from safehandle_tui.model.rows import HandleKey, HandleRow, SiteRow
from safehandle_tui.model.states import badge, waiting_lines
from safehandle_tui.model.text import Line, Span, clip, count, line_width, plural
from safehandle_tui.widgets.filter_bar import FilterBar
from safehandle_tui.widgets.key_bar import KeyBar
from safehandle_tui.widgets.lines import Lines
from safehandle_tui.widgets.table import Table

__all__ = ["MainScreen"]

_COLUMNS: Final[dict[Mode, tuple[Column[Any], ...]]] = {
    "sites": SITE_COLUMNS,
    "handles": HANDLE_COLUMNS,
}
_FIRST_SORTS: Final[dict[Mode, Sort]] = {
    "sites": Sort("open", True),
    "handles": Sort("age", True),
}


def _ruled(line: Line, cells: int) -> Line:
    """A title on a rule across the screen."""
    title = clip(line, cells - 4)
    rest = cells - line_width(title) - 4
    return (("── ", "rule"), *title, (" " + "─" * max(0, rest), "rule"))


def _ends(left: Line, right: Line, cells: int) -> Line:
    """One line with text at both ends; the right one is kept."""
    room = cells - line_width(right) - 3
    left = clip(left, max(0, room))
    gap = cells - line_width(left) - line_width(right) - 2
    return ((" ", "text"), *left, (" " * max(1, gap), "text"), *right, (" ", "text"))


class MainScreen(Screen[None]):
    """Shows Views; asks for others as keys are pressed."""

    BINDINGS: ClassVar = bindings(KEYS)
    AUTO_FOCUS = "#table"

    class DetailAsked(Message):
        """A handle's page is wanted."""

        def __init__(self, key: HandleKey) -> None:
            super().__init__()
            self.key = key

    def __init__(self, ask: Callable[[ViewSpec], None], now: Callable[[], int]) -> None:
        """
        Args:
            ask: called with what to show from now on.
            now: the wall clock, in ns since 1970.
        """
        super().__init__()
        self._ask = ask
        self._now = now
        self.spec = ViewSpec()
        self.view: View | None = None
        self._sorts = dict(_FIRST_SORTS)
        self._last_site: Any = None
        self._shares = (0, 0)  # rows of the processes and of the detail

    def compose(self) -> ComposeResult:
        yield Lines(id="top", bar=True)
        yield Lines(id="headline")
        yield Table(id="processes")
        yield Lines(id="title")
        yield Table(id="table")
        yield Lines(id="notice", place="middle")
        yield Lines(id="detail-title")
        yield Lines(id="detail")
        yield FilterBar(id="filter")
        yield KeyBar(KEYS, id="keys")

    def on_mount(self) -> None:
        self._fit()
        self._paint_all()
        self.set_interval(1.0, self._tick)

    # --- showing a view ---

    def show_view(self, view: View) -> None:
        """Shows what the reader has made."""
        self.view = view
        if view.spec.session is not None and self.spec.session == view.spec.session:
            self.spec = replace(self.spec, session=None)
        with self.app.batch_update():
            self._paint_all()

    def _tick(self) -> None:
        """Lets the ages grow while nothing else happens."""
        if self.view is not None and self.view.ticking and self.is_current:
            now_ns = self._now()
            self.query_one("#table", Table).tick(now_ns)
            self._paint_detail(now_ns)

    def _paint_all(self) -> None:
        view = self.view
        waiting = view is None or view.state == "waiting"
        self.set_class(waiting, "-waiting")
        self.set_class(not waiting and view is not None and not view.rows, "-empty")
        self._paint_top()
        if view is None or waiting:
            self.query_one("#notice", Lines).show(waiting_lines(view.place if view else "…"))
            return
        self._paint_processes(view)
        self._paint_table(view)
        self._paint_notice(view)
        self._paint_detail(view.now_ns)

    def _paint_top(self) -> None:
        view = self.view
        cells = self.size.width
        left: list[Span] = [("safehandle", "title")]
        right: list[Span] = []
        if view is not None and view.state != "waiting":
            left.append((f"  {view.title}", "muted"))
            infos = [each.info for each in view.processes if each.info is not None]
            if infos:
                left.append((f"  python {infos[0].python}  level {infos[0].level}", "muted"))
            if view.newer is not None:
                right += [("a newer session began: ", "warn"), ("n", "key"), ("   ", "text")]
        right.append(badge(view.state if view else "waiting", paused=self.spec.paused))
        self.query_one("#top", Lines).show([_ends(tuple(left), tuple(right), cells)])
        headline = _ends(view.headline, view.tally, cells) if view is not None else ()
        self.query_one("#headline", Lines).show([headline])

    def _paint_processes(self, view: View) -> None:
        rows = entries(view.processes)
        table = self.query_one("#processes", Table)
        scope = view.spec.scope or (ALL if len(rows) > 1 else None)
        at = next((at for at, row in enumerate(rows) if row.key == scope), None)
        if at is not None and not table.has_focus:
            table.hold(rows[at].key)
        table.show(PROCESS_COLUMNS, frozenset(), rows, PROCESS_SORT, view.now_ns, cursor=at)

    def _paint_table(self, view: View) -> None:
        self.query_one("#table", Table).show(
            _COLUMNS[view.mode],
            view.hidden,
            view.rows,
            view.spec.sort,
            view.now_ns,
            cursor=view.cursor,
        )
        self.query_one("#title", Lines).show([_ruled(self._table_title(view), self.size.width)])
        self._fit()

    def _table_title(self, view: View) -> Line:
        spec = view.spec
        spans: list[Span] = []
        if view.mode == "sites":
            spans.append((plural(len(view.rows), "site"), "title"))
            spans.append((f", {plural(view.shown, 'handle')}", "text"))
        else:
            spans.append((plural(view.shown, "handle"), "title"))
            if spec.site is not None and view.rows and isinstance(view.rows[0], HandleRow):
                spans += [(" of ", "text"), (view.rows[0].site, "own")]
        if spec.ended:
            spans.append((", ended ones too", "text"))
        if spec.filter:
            spans.append((f"  filter: {spec.filter.text}", "accent"))
            spans.append((f" ({count(view.shown)} of {count(view.total)})", "muted"))
        return tuple(spans)

    def _paint_notice(self, view: View) -> None:
        if view.rows:
            return
        if view.spec.filter and view.total:
            lines: list[Line] = [
                ((f"No handle matches  {view.spec.filter.text}", "title"),),
                (),
                (("Esc drops the filter", "muted"),),
            ]
        elif view.state == "live":
            lines = [
                (("No handles open", "title"),),
                (),
                (("those that open will appear here; a shows the ended ones", "muted"),),
            ]
        elif view.state == "disconnected":
            lines = [view.headline]
        else:
            lines = [
                (("Nothing was left open", "title"),),
                (),
                (("a shows the handles that ended", "muted"),),
            ]
        self.query_one("#notice", Lines).show(lines)

    def _paint_detail(self, now_ns: int) -> None:
        detail = self.view.detail if self.view is not None else None
        cells = self.size.width
        if detail is None:
            title: Line = ()
            lines: list[Line] = []
        elif isinstance(detail, HandleDetail):
            title = handle_title(detail, now_ns)
            lines = handle_lines(detail, now_ns, cells - 1, self._shares[1])
        else:
            title = site_title(detail, now_ns)
            lines = site_lines(detail, now_ns, cells - 1, self._shares[1])
        self.query_one("#detail-title", Lines).show([_ruled(title, cells)])
        self.query_one("#detail", Lines).show([((" ", "text"), *line) for line in lines])

    # --- asking for another ---

    def change(self, **changes: Any) -> None:
        """Asks for a view that differs in these fields of the ViewSpec."""
        self.spec = replace(self.spec, **changes)
        self._ask(self.spec)

    def unpin(self) -> None:
        """Back from a handle's page: the table's cursor decides again."""
        self.change(pinned=False, selected=self.query_one("#table", Table).key)

    def _enter_mode(self, mode: Mode, *, site: Any = None, selected: Any = None) -> None:
        self.query_one("#table", Table).hold(selected)
        self.change(mode=mode, site=site, selected=selected, sort=self._sorts[mode])

    @on(Table.Selected, "#table")
    def _selected(self, event: Table.Selected) -> None:
        # The page of a handle goes on with it when it has left the table.
        if not self.spec.pinned:
            self.change(selected=event.key)

    @on(Table.Selected, "#processes")
    def _scoped(self, event: Table.Selected) -> None:
        table = self.query_one("#processes", Table)
        if table.has_focus and table.row is not None and len(table.rows) > 1:
            self.query_one("#table", Table).hold(None)
            self.change(scope=table.row.key or None, selected=None, site=None)

    @on(Table.Opened, "#table")
    def _opened(self) -> None:
        self.action_open()

    @on(Table.HeaderClicked, "#table")
    def _header_clicked(self, event: Table.HeaderClicked) -> None:
        column = next(each for each in _COLUMNS[self.spec.mode] if each.name == event.column)
        if self.spec.sort.column == column.name:
            self.action_reverse()
        else:
            self._sort_by(Sort(column.name, column.descending))

    def action_open(self) -> None:
        """Opens the row under the cursor."""
        if self.query_one("#processes", Table).has_focus:
            self.query_one("#table", Table).focus()
            return
        row = self.query_one("#table", Table).row
        if row is None:
            return
        if isinstance(row, SiteRow):
            self._last_site = row.key
            self._enter_mode("handles", site=row.key)
        else:
            self.change(selected=row.key, pinned=True)
            self.post_message(self.DetailAsked(row.key))

    def action_back(self) -> None:
        """Goes back one step, or drops the filter."""
        table = self.query_one("#table", Table)
        if self.query_one(FilterBar).display:
            self._drop_filter()
        elif not table.has_focus:
            table.focus()
        elif self.spec.filter:
            self._drop_filter()
        elif self.spec.site is not None:
            self._enter_mode("sites", selected=self._last_site)

    def action_group(self) -> None:
        """Changes between sites and single handles."""
        self._enter_mode("handles" if self.spec.mode == "sites" else "sites")

    def action_sort(self, step: int) -> None:
        """Sorts by the next or the previous visible column."""
        names = self.query_one("#table", Table).columns_shown()
        if not names:
            return
        current = self.spec.sort.column
        at = names.index(current) + step if current in names else 0
        name = names[at % len(names)]
        column = next(each for each in _COLUMNS[self.spec.mode] if each.name == name)
        self._sort_by(Sort(column.name, column.descending))

    def action_reverse(self) -> None:
        """Turns the order round."""
        self._sort_by(replace(self.spec.sort, descending=not self.spec.sort.descending))

    def _sort_by(self, sort: Sort) -> None:
        self._sorts[self.spec.mode] = sort
        self.change(sort=sort)

    def action_ended(self) -> None:
        """Shows or hides handles that ended."""
        self.change(ended=not self.spec.ended)

    def action_pause(self) -> None:
        """Stops or goes on with the picture."""
        self.change(paused=not self.spec.paused)
        self._paint_top()

    def action_processes(self) -> None:
        """Moves to the process list and back."""
        processes = self.query_one("#processes", Table)
        if processes.has_focus:
            self.query_one("#table", Table).focus()
        elif len(processes.rows) > 1:
            processes.focus()
        else:
            self.app.notify("There is one process only.", timeout=3)

    def action_newer(self) -> None:
        """Goes to the session that began after this one."""
        if self.view is not None and self.view.newer is not None:
            self.query_one("#table", Table).hold(None)
            self.change(session=self.view.newer, scope=None, site=None, selected=None)

    # --- the filter ---

    def action_filter(self) -> None:
        """Opens the filter line."""
        self.query_one(FilterBar).open(self.spec.filter.text)
        self._fit()

    @on(FilterBar.Typed)
    def _filter_typed(self, event: FilterBar.Typed) -> None:
        bar = self.query_one(FilterBar)
        if bar.display and event.filter.text != self.spec.filter.text:
            self.change(filter=event.filter)
        if event.done:
            self._close_filter()

    def _close_filter(self) -> None:
        self.query_one(FilterBar).display = False
        self.query_one("#table", Table).focus()
        self._fit()

    def _drop_filter(self) -> None:
        self._close_filter()
        if self.spec.filter:
            self.change(filter=Filter())

    # --- room ---

    def _fit(self) -> None:
        """Shares the height out: the table gets what the others leave."""
        height = self.size.height
        processes = self.query_one("#processes", Table)
        most = height // 2 if processes.has_focus else max(2, height // 7)
        above = 1 + max(1, min(len(processes.rows), most))
        # What few rows leave over, the detail makes better use of.
        fixed = above + 5 + (FilterBar.ROWS if self.query_one(FilterBar).display else 0)
        rows = max(6, len(self.query_one("#table", Table).rows) + 1)
        below = max(4, height // 3, height - fixed - rows)
        if (above, below) != self._shares:
            self._shares = (above, below)
            processes.styles.height = above
            self.query_one("#detail").styles.height = below

    def on_resize(self, event: events.Resize) -> None:
        self._fit()
        self._paint_all()

    def on_descendant_focus(self) -> None:
        self._fit()

    def on_descendant_blur(self) -> None:
        self._fit()
