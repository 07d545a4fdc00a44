"""An alarm's card, on a page of its own."""

from __future__ import annotations

from typing import ClassVar, Final

from textual import events
from textual.app import ComposeResult
from textual.screen import Screen

from safehandle_tui.keys import KEYS, bindings
from safehandle_tui.model.cards import Card
from safehandle_tui.model.feed import View
from safehandle_tui.model.text import Line, Span, plain
from safehandle_tui.screens.commands import Commands
from safehandle_tui.screens.taking import export
from safehandle_tui.widgets.key_bar import KeyBar
from safehandle_tui.widgets.lines import Lines
from safehandle_tui.widgets.page import Page

__all__ = ["CardScreen"]

_KEYS: Final = tuple(
    key
    for key in KEYS
    if key.id
    in (
        *("open", "itself", "back", "next-match", "previous-match", "then"),
        *("edit", "copy", "export"),
        *("theme", "help", "quit", "suspend", "palette"),
    )
)
_WHOLE: Final = 10_000  # lines: all there are


class CardScreen(Screen[None]):
    """Stays on its alarm, however the table moves."""

    BINDINGS: ClassVar = bindings(_KEYS)
    AUTO_FOCUS = "#page"

    def __init__(self, key: tuple[str, str], view: View | None, main: Commands) -> None:
        """
        Args:
            key: of the alarm; views with another's card are not for this page.
            view: the latest, if there is one.
            main: the screen that it was opened from.
        """
        super().__init__()
        self._key = key
        self._first = view
        self._main = main
        self._card: Card | None = None

    def compose(self) -> ComposeResult:
        yield Lines(id="top", bar=True)
        yield Lines(id="page-title")
        yield Page(id="page")
        yield KeyBar(_KEYS, id="keys")

    def on_mount(self) -> None:
        self._paint()
        if self._first is not None:
            self.show_view(self._first)

    def show_view(self, view: View) -> None:
        """Shows what has become of the alarm."""
        row = view.rows[view.cursor or 0] if view.rows else None
        if view.mode == "alarms" and row is not None and row.key == self._key:
            self._card = view.detail if isinstance(view.detail, Card) else self._card
        self._paint()

    def _paint(self) -> None:
        card, cells = self._card, self.size.width
        self.query_one("#top", Lines).show([self._main.top_line(("card",), cells)])
        if card is None or not cells:
            return
        self.query_one("#page-title", Lines).show([((" ", "text"), *card.title)])
        lines = [*card.paint(cells - 2, _WHOLE), (), _hint(card)]
        self.query_one("#page", Page).show([((" ", "text"), *line) for line in lines])

    def on_resize(self, event: events.Resize) -> None:
        self._paint()

    def on_click(self, event: events.Click) -> None:
        if event.widget is self.query_one("#top"):
            self.action_back()

    # --- keys ---

    def action_back(self) -> None:
        """Goes back to the alarms."""
        self.dismiss()

    def action_open(self) -> None:
        """Opens the victim, or the handle where there is none."""
        if self._card is not None and self._card.opens:
            self._main.open_handle(self._card.opens[0])

    def action_itself(self) -> None:
        """Opens the handle that the alarm is about."""
        if self._card is not None and self._card.opens:
            self._main.open_handle(self._card.opens[-1])

    def action_match(self, step: int) -> None:
        """Goes to the next alarm, or to the one before."""
        self._main.action_match(step)
        self._key = self._main.table.row.key

    def action_then(self) -> None:
        """Shows how all was when it came to pass."""
        self.dismiss()
        self._main.action_then()

    def action_edit(self) -> None:
        """Opens the line of the wrong act."""
        self._main.action_edit()

    def _text(self) -> str:
        shown = [*self.query_one("#page-title", Lines).lines, *self.query_one("#page", Page).lines]
        return "\n".join(plain(line).rstrip() for line in shown) + "\n"

    def action_copy(self) -> None:
        """Copies the card."""
        text = self._text()
        self.app.copy_to_clipboard(text)
        self.app.notify(f"copied {len(text.splitlines())} lines", timeout=2)

    def action_export(self) -> None:
        """Writes the card into a file of the current folder."""
        export(self.app, "alarm", self._text())


def _hint(card: Card) -> Line:
    spans: list[Span] = []
    serials = [serial for _, serial in card.opens]
    if len(set(serials)) > 1:
        spans += [("Enter", "key"), (f" #{serials[0]}, the victim   ", "muted")]
        spans += [("H", "key"), (f" #{serials[-1]}, what it was taken for   ", "muted")]
    elif serials:
        spans += [("Enter", "key"), (f" #{serials[0]}   ", "muted")]
    return (*spans, (".", "key"), (" how all was when it came to pass", "muted"))
