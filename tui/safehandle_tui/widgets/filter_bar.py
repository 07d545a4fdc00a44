"""The line where a filter is typed, and the line that helps with it."""

from __future__ import annotations

from typing import Final

from textual import on
from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical
from textual.message import Message
from textual.widgets import Input

from safehandle_debug.ledger import Filter, FilterError, parse_filter
from safehandle_tui.model.filters import is_unfinished
from safehandle_tui.model.text import Line
from safehandle_tui.widgets.lines import Lines

__all__ = ["FilterBar"]

_HELP: Final[Line] = (
    ("words, or kind:file refs>1 age>5m site:app !thread:Main", "muted"),
    ("  ·  Enter keeps, Esc drops", "muted"),
)


class FilterBar(Vertical):
    """Hidden until opened; tells each good filter as it is typed.

    A bad one is explained below the line, and the last good one stays."""

    ROWS: Final = 2

    class Typed(Message):
        """This is the filter now; `done` once Enter was pressed."""

        def __init__(self, filter: Filter, *, done: bool) -> None:
            super().__init__()
            self.filter = filter
            self.done = done

    def compose(self) -> ComposeResult:
        with Horizontal():
            yield Lines(id="filter-sign")
            yield Input(id="filter-input", compact=True, select_on_focus=False)
        yield Lines(id="filter-note")

    def on_mount(self) -> None:
        self.query_one("#filter-sign", Lines).show([((" / ", "key"),)])
        self.display = False

    def open(self, text: str) -> None:
        """Shows the line with this text and takes the keys."""
        line = self.query_one(Input)
        line.value = text
        line.cursor_position = len(text)
        self._note(_HELP)
        self.display = True
        line.focus()

    def _note(self, line: Line) -> None:
        self.query_one("#filter-note", Lines).show([(("   ", "text"), *line)])

    @on(Input.Changed)
    def _changed(self, event: Input.Changed) -> None:
        event.stop()
        if not self.display:
            return
        try:
            parsed = parse_filter(event.value)
        except FilterError as error:
            self._note(((str(error), "bad"),))
            return
        self._note(_HELP)
        if not is_unfinished(event.value):
            self.post_message(self.Typed(parsed, done=False))

    @on(Input.Submitted)
    def _submitted(self, event: Input.Submitted) -> None:
        event.stop()
        try:
            parsed = parse_filter(event.value)
        except FilterError as error:
            self._note(((str(error), "bad"),))
        else:
            self.post_message(self.Typed(parsed, done=True))
