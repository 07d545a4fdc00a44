"""One handle's whole history, on a page of its own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import ClassVar, Final

from textual import events
from textual.app import ComposeResult
from textual.screen import Screen

from safehandle_tui.keys import KEYS, bindings
from safehandle_tui.model.detail import HandleDetail
from safehandle_tui.model.feed import View
from safehandle_tui.model.handle_page import handle_page, handle_title
from safehandle_tui.model.rows import HandleKey
from safehandle_tui.model.system import system_lines
from safehandle_tui.model.text import Line, plain
from safehandle_tui.model.travel import timeline_line
from safehandle_tui.screens.asking import TICK_S
from safehandle_tui.screens.commands import Commands
from safehandle_tui.screens.lines import LinesScreen
from safehandle_tui.screens.taking import edit, export
from safehandle_tui.widgets.key_bar import KeyBar
from safehandle_tui.widgets.lines import Lines
from safehandle_tui.widgets.page import Page

__all__ = ["DetailScreen"]

_TIMES: Final = ("step-back", "step-on", "alarm-back", "alarm-on", "leap-back", "leap-on")
_PLAYS: Final = ("play", "slower", "faster", "live")
_OTHERS: Final = ("back", "pause", "owners", "system", "edit", "copy", "export", "library")
_ALWAYS: Final = ("theme", "help", "quit", "suspend", "palette")
_NOT_THEN: Final[list[Line]] = [
    (("it was not open at this moment", "warn"),),
    (),
    (("] and } go on in time, \\ goes back to now", "muted"),),
]
_KEYS: Final = tuple(key for key in KEYS if key.id in (*_OTHERS, *_TIMES, *_PLAYS, *_ALWAYS))


class DetailScreen(Screen[None]):
    """Follows the handle that was opened, also after it ended."""

    BINDINGS: ClassVar = bindings(_KEYS)
    AUTO_FOCUS = "#page"

    def __init__(
        self, key: HandleKey, view: View | None, *, now: Callable[[], int], main: Commands
    ) -> None:
        """
        Args:
            key: of the handle; views of others are not for this page.
            view: the latest, if there is one.
            now: the wall clock, in ns since 1970.
            main: the screen that asks for views.
        """
        super().__init__()
        self._key = key
        self._first = view
        self._now = now
        self._main = main
        self._view: View | None = None
        self._library = False  # also its frames, in the stacks of events

    def compose(self) -> ComposeResult:
        yield Lines(id="top", bar=True)
        yield Lines(id="page-title")
        yield Lines(id="headline")
        yield Page(id="page")
        yield KeyBar(_KEYS, id="keys")

    def on_mount(self) -> None:
        if self._first is not None:
            self.show_view(self._first)
        self.set_interval(TICK_S, self._tick)

    def show_view(self, view: View) -> None:
        """Shows the handle as this view has it."""
        if isinstance(view.detail, HandleDetail) and view.detail.row.key == self._key:
            self._view = view
            self._paint(view.now_ns)
        elif view.timeline is not None and view.spec.selected == self._key:
            self._view = view
            self._paint_top(view)
            self.query_one("#page", Page).show(_NOT_THEN)

    @property
    def _detail(self) -> HandleDetail | None:
        detail = self._view.detail if self._view is not None else None
        return detail if isinstance(detail, HandleDetail) else None

    def _tick(self) -> None:
        if self._view is not None and self._view.ticking and self.is_current:
            self._paint(self._now())

    def _paint(self, now_ns: int) -> None:
        view, detail = self._view, self._detail
        if view is None or detail is None:
            return
        self._paint_top(view)
        title = ((" ", "text"), *handle_title(detail, now_ns))
        self.query_one("#page-title", Lines).show([title])
        self.query_one("#page", Page).show(self._lines(detail, now_ns, self.size.width - 2))

    def _paint_top(self, view: View) -> None:
        cells = self.size.width
        past = view.timeline is not None
        self.query_one(KeyBar).turn(past=past)
        top = self._main.top_line((f"#{self._key[1]}",), cells)
        self.query_one("#top", Lines).show([top])
        line = self.query_one("#headline", Lines)
        line.display = past
        if view.timeline is not None:
            line.show([timeline_line(view.timeline, cells, self._main.player.word)])

    def _lines(self, detail: HandleDetail, now_ns: int, cells: int) -> list[Line]:
        told: list[Line] = []
        if detail.row.life == "open" and self._view is not None and not self._view.timeline:
            told = system_lines(detail.history, is_open=True, others=False)
        return handle_page(detail, now_ns, cells, library=self._library, system=told)

    def repaint_all(self) -> None:
        """Paints what is not part of a view."""
        if self._view is not None:
            self.show_view(self._view)

    def on_resize(self, event: events.Resize) -> None:
        self.repaint_all()

    def on_click(self, event: events.Click) -> None:
        if event.widget is self.query_one("#top"):
            self.action_back()

    # --- keys ---

    def action_back(self) -> None:
        """Goes back to the table."""
        if self._main.withdraw():
            return
        self._main.unpin()
        self.dismiss()

    def action_system(self) -> None:
        """What the system says of its descriptor, and who else has it open."""
        if self._detail is not None:
            row = self._detail.row
            title = f"{row.owner} {row.value} of process {row.pid}"
            lines = system_lines(row.history, is_open=row.life == "open")
            self.app.push_screen(LinesScreen(title, lines))

    def action_edit(self) -> None:
        """Opens the line that acquired it."""
        if self._detail is not None:
            row = self._detail.row
            if Path(row.file).is_file():
                edit(self.app, row.file, row.line)
            else:
                self.app.notify("there is no source file to open here", timeout=3)

    def _text(self) -> str:
        shown = [*self.query_one("#page-title", Lines).lines, *self.query_one("#page", Page).lines]
        return "\n".join(plain(line).rstrip() for line in shown) + "\n"

    def action_copy(self) -> None:
        """Copies the page."""
        text = self._text()
        self.app.copy_to_clipboard(text)
        self.app.notify(f"copied {len(text.splitlines())} lines", timeout=2)

    def action_export(self) -> None:
        """Writes the page into a file of the current folder."""
        export(self.app, f"handle-{self._key[1]}", self._text())

    def action_library(self) -> None:
        """With the frames of libraries in the stacks of events, or without."""
        self._library = not self._library
        self.repaint_all()

    def action_pause(self) -> None:
        """Stops or goes on with the picture."""
        self._main.action_pause()

    def action_owners(self) -> None:
        """Asks the program who keeps the handle alive."""
        self._main.action_owners()

    def action_step(self, step: str) -> None:
        """Moves in time."""
        self._main.action_step(step)

    def action_live(self) -> None:
        """Back to now."""
        self._main.action_live()

    def action_play(self) -> None:
        """Plays the past, or stands still."""
        self._main.action_play()

    def action_speed(self, step: int) -> None:
        """Plays faster, or slower."""
        self._main.action_speed(step)
