"""One handle's whole history, on a page of its own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

from textual import events
from textual.app import ComposeResult
from textual.screen import Screen

from safehandle_tui.keys import KEYS, bindings
from safehandle_tui.model.detail import HandleDetail, handle_page, handle_title
from safehandle_tui.model.feed import View
from safehandle_tui.model.rows import HandleKey
from safehandle_tui.model.system import system_lines
from safehandle_tui.model.text import plain
from safehandle_tui.screens.commands import edit
from safehandle_tui.screens.lines import LinesScreen
from safehandle_tui.widgets.key_bar import KeyBar
from safehandle_tui.widgets.lines import Lines
from safehandle_tui.widgets.page import Page

__all__ = ["DetailScreen"]

_KEYS = tuple(
    key
    for key in KEYS
    if key.id in ("back", "pause", "system", "edit", "copy", "theme", "help", "quit", "suspend")
)


class DetailScreen(Screen[None]):
    """Follows the handle that was opened, also after it ended."""

    BINDINGS: ClassVar = bindings(_KEYS)
    AUTO_FOCUS = "#page"

    def __init__(
        self,
        key: HandleKey,
        view: View | None,
        *,
        now: Callable[[], int],
        pause: Callable[[], None],
        unpin: Callable[[], None],
    ) -> None:
        """
        Args:
            key: of the handle; views of others are not for this page.
            view: the latest, if there is one.
            now: the wall clock, in ns since 1970.
            pause: stops or goes on with the picture.
            unpin: called when the page is left.
        """
        super().__init__()
        self._key = key
        self._first = view
        self._now = now
        self._pause = pause
        self._unpin = unpin
        self._view: View | None = None

    def compose(self) -> ComposeResult:
        yield Lines(id="top", bar=True)
        yield Page(id="page")
        yield KeyBar(_KEYS, id="keys")

    def on_mount(self) -> None:
        if self._first is not None:
            self.show_view(self._first)
        self.set_interval(1.0, self._tick)

    def show_view(self, view: View) -> None:
        """Shows the handle as this view has it."""
        if isinstance(view.detail, HandleDetail) and view.detail.row.key == self._key:
            self._view = view
            self._paint(view.now_ns)

    def _tick(self) -> None:
        if self._view is not None and self._view.ticking and self.is_current:
            self._paint(self._now())

    def _paint(self, now_ns: int) -> None:
        if self._view is None or not isinstance(self._view.detail, HandleDetail):
            return
        detail = self._view.detail
        title = ((" ", "text"), *handle_title(detail, now_ns))
        self.query_one("#top", Lines).show([title])
        cells = self.size.width - 2
        self.query_one("#page", Page).show(handle_page(detail, now_ns, cells))

    def on_resize(self, event: events.Resize) -> None:
        if self._view is not None:
            self._paint(self._view.now_ns)

    def action_back(self) -> None:
        """Goes back to the table."""
        self._unpin()
        self.dismiss()

    def action_system(self) -> None:
        """What the system says of its descriptor."""
        if self._view is not None and isinstance(self._view.detail, HandleDetail):
            row = self._view.detail.row
            title = f"{row.owner} {row.value} of process {row.pid}"
            lines = system_lines(row.history, is_open=row.life == "open")
            self.app.push_screen(LinesScreen(title, lines))

    def action_edit(self) -> None:
        """Opens the line that acquired it."""
        if self._view is not None and isinstance(self._view.detail, HandleDetail):
            row = self._view.detail.row
            if Path(row.file).is_file():
                edit(self.app, row.file, row.line)
            else:
                self.app.notify("there is no source file to open here", timeout=3)

    def action_copy(self) -> None:
        """Copies the page."""
        lines = self.query_one("#page", Page).lines
        self.app.copy_to_clipboard("\n".join(plain(line).rstrip() for line in lines) + "\n")
        self.app.notify(f"copied {len(lines)} lines", timeout=2)

    def action_pause(self) -> None:
        """Stops or goes on with the picture."""
        self._pause()
