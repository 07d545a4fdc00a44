"""The watch: processes, the table of the screen at hand, the pane below."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ClassVar, Final

from textual import events, on
from textual.app import ComposeResult

from safehandle_tui.keys import KEYS, bindings
from safehandle_tui.model.columns import Sort
from safehandle_tui.model.detail import HandleDetail, SiteDetail
from safehandle_tui.model.feed import View, ViewSpec
from safehandle_tui.model.handle_page import handle_lines, handle_title
from safehandle_tui.model.modes import MODES
from safehandle_tui.model.notices import empty_lines, table_title
from safehandle_tui.model.processes import ALL, PROCESS_COLUMNS, PROCESS_SORT, entries
from safehandle_tui.model.site_pane import site_lines, site_title
from safehandle_tui.model.states import badge, waiting_lines
from safehandle_tui.model.text import Line, Span, clip, ends, line_width
from safehandle_tui.model.travel import timeline_line
from safehandle_tui.model.way import way
from safehandle_tui.screens.asking import TICK_S
from safehandle_tui.screens.commands import Commands
from safehandle_tui.widgets.filter_bar import FilterBar
from safehandle_tui.widgets.key_bar import KeyBar
from safehandle_tui.widgets.lines import Lines
from safehandle_tui.widgets.table import Table

__all__ = ["MainScreen"]

_LEAST_ROWS: Final = 4  # of the table, with its titles
_WIDE: Final = 100


def _ruled(line: Line, cells: int) -> Line:
    """A title on a rule across the screen."""
    title = clip(line, cells - 4)
    rest = cells - line_width(title) - 4
    return (("── ", "rule"), *title, (" " + "─" * max(0, rest), "rule"))


class MainScreen(Commands):
    """Shows Views; asks for others as keys are pressed."""

    BINDINGS: ClassVar = bindings(KEYS)
    AUTO_FOCUS = "#table"

    def __init__(self, ask: Callable[[ViewSpec], None], now: Callable[[], int]) -> None:
        """
        Args:
            ask: called with what to show from now on.
            now: the wall clock, in ns since 1970.
        """
        super().__init__(ask, now)
        self._shares = (0, 0)  # rows of the processes and of the pane

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
        self.set_interval(TICK_S, self._tick)

    # --- showing a view ---

    def show_view(self, view: View) -> None:
        """Shows what the reader has made."""
        self.view = view
        if view.spec.session is not None and self.spec.session == view.spec.session:
            self.change(session=None)
        if view.spec == self.spec and self.spec.step:
            # The answer to the steps: from here the next ones are counted.
            self.change(moment=view.moment)
        with self.app.batch_update():
            self._paint_all()

    def _tick(self) -> None:
        """Lets the ages grow while nothing else happens."""
        if self.view is not None and self.view.ticking and self.is_current:
            now_ns = self._now()
            self.table.tick(now_ns)
            self._paint_pane(now_ns)

    def repaint_all(self) -> None:
        self._fit()
        self._paint_all()

    def _paint_all(self) -> None:
        view = self.view
        waiting = view is None or (view.state == "waiting" and view.mode != "sessions")
        self.set_class(waiting, "-waiting")
        self.set_class(not waiting and view is not None and not view.rows, "-empty")
        self.set_class(self.layout_number == 1, "-table-only")
        self.set_class(self.layout_number == 2, "-pane-only")
        self._paint_top()
        if view is None or waiting:
            self.query_one("#notice", Lines).show(waiting_lines(view.place if view else "…"))
            return
        self._paint_processes(view)
        self._paint_table(view)
        if not view.rows:
            self.query_one("#notice", Lines).show(empty_lines(view))
        self._paint_pane(view.now_ns)

    def _paint_top(self) -> None:
        view = self.view
        cells = self.size.width
        right: list[Span] = []
        if view is not None and view.state != "waiting" and view.newer is not None:
            right += [("a newer session began: ", "warn"), ("w", "key"), ("   ", "text")]
        past = view is not None and view.timeline is not None
        self.query_one(KeyBar).turn(past=past)
        self.query_one("#top", Lines).show([self.top_line((), cells, tuple(right))])
        headline: Line = ()
        if view is not None:
            tally = view.tally
            # Of a small screen's line it takes its part once there is a reason to.
            if view.gauge is not None and (cells >= _WIDE or view.gauge[1] != "muted"):
                tally = (*tally, ("  ", "text"), view.gauge)
            headline = ends(view.headline, tally, cells)
        if view is not None and view.timeline is not None:
            headline = timeline_line(view.timeline, cells, self.player.word)
        self.query_one("#headline", Lines).show([headline])

    def top_line(self, more: Sequence[str], cells: int, right: Line = ()) -> Line:
        """Where one is, and the state of things.

        Args:
            more: what follows this screen on the way.
            right: what stands before the state.
        """
        view = self.view
        past = view is not None and view.timeline is not None
        state = badge(view.state if view else "waiting", paused=self.spec.paused, past=past)
        right = (*right, state)
        room = cells - line_width(right) - 5
        return ends(way(view, self.spec, more, room), right, cells)

    def _paint_processes(self, view: View) -> None:
        rows = entries(view.processes)
        table = self.query_one("#processes", Table)
        scope = view.spec.scope or (ALL if len(rows) > 1 else None)
        at = next((at for at, row in enumerate(rows) if row.key == scope), None)
        if at is not None and not table.has_focus:
            table.hold(rows[at].key)
        table.show(PROCESS_COLUMNS, frozenset(), rows, PROCESS_SORT, view.now_ns, cursor=at)

    def _paint_table(self, view: View) -> None:
        cursor = view.cursor
        if view.mode == "events" and self.follows and view.rows:
            cursor = len(view.rows) - 1
            self.table.hold(view.rows[cursor].key, quiet=True)
        self.table.show(
            MODES[view.mode].columns,
            view.hidden,
            view.rows,
            view.spec.sort,
            view.now_ns,
            cursor=cursor,
        )
        title = table_title(view, self.spec.born, follows=self.follows)
        self.query_one("#title", Lines).show([_ruled(title, self.size.width)])
        self._fit()

    def _paint_pane(self, now_ns: int) -> None:
        cells = self.size.width
        lines = self.pane_lines(cells - 1, self._pane_rows(), now_ns)
        title = lines[0] if lines else ()
        self.query_one("#detail-title", Lines).show([_ruled(title, cells)])
        self.query_one("#detail", Lines).show([((" ", "text"), *line) for line in lines[1:]])

    def pane_lines(self, cells: int, room: int, now_ns: int | None = None) -> list[Line]:
        """The title of the pane and its lines."""
        detail = self.view.detail if self.view is not None else None
        if now_ns is None:
            now_ns = self.view.now_ns if self.view is not None else 0
        if detail is None:
            return []
        if isinstance(detail, HandleDetail):
            return [handle_title(detail, now_ns), *handle_lines(detail, now_ns, cells, room)]
        if isinstance(detail, SiteDetail):
            return [site_title(detail, now_ns), *site_lines(detail, now_ns, cells, room)]
        return [detail.title, *detail.paint(cells, room)]

    # --- what the widgets say ---

    @on(Table.Selected, "#table")
    def _selected(self, event: Table.Selected) -> None:
        if self.spec.mode == "events" and event.key != self.table.last_key:
            self.follows = False
        # The page of a handle goes on with it when it has left the table.
        if not self.spec.pinned:
            self.change(selected=event.key)

    @on(Table.Selected, "#processes")
    def _scoped(self, event: Table.Selected) -> None:
        table = self.query_one("#processes", Table)
        if table.has_focus and table.row is not None and len(table.rows) > 1:
            self.table.hold(None)
            self.change(scope=table.row.key or None, selected=None, site=None)

    @on(Table.Opened, "#table")
    def _opened(self) -> None:
        self.action_open()

    @on(Table.HeaderClicked, "#table")
    def _header_clicked(self, event: Table.HeaderClicked) -> None:
        columns = MODES[self.spec.mode].columns
        column = next(each for each in columns if each.name == event.column)
        if self.spec.sort.column == column.name:
            self.action_reverse()
        else:
            self._sort_by(Sort(column.name, column.descending))

    @on(FilterBar.Typed)
    def _filter_typed(self, event: FilterBar.Typed) -> None:
        bar = self.query_one(FilterBar)
        if bar.display and event.filter.text != self.spec.filter.text:
            self.change(filter=event.filter)
        if event.done:
            self._close_filter()

    def on_click(self, event: events.Click) -> None:
        # The breadcrumb leads back, for terminals that swallow Esc.
        if event.widget is self.query_one("#top"):
            self.action_back()

    # --- room ---

    def _pane_rows(self) -> int:
        return self._shares[1]

    def _fit(self) -> None:
        """Shares the height out: the table gets what the others leave."""
        height = self.size.height
        processes = self.query_one("#processes", Table)
        most = height // 2 if processes.has_focus else max(2, height // 7)
        above = 1 + max(1, min(len(processes.rows), most))
        # What few rows leave over, the pane makes better use of.
        fixed = above + 5 + (FilterBar.ROWS if self.query_one(FilterBar).display else 0)
        rows = max(6, len(self.table.rows) + 1)
        share = height // 2 if self.spec.mode in ("alarms", "kinds") else height // 3
        share = max(4, min(share, height - fixed - _LEAST_ROWS))
        below = max(share, height - fixed - rows)
        if self.layout_number == 2:
            below = max(4, height - fixed + 1)
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
