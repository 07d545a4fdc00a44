"""Some lines above whatever is there; any of the keys that go back closes it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Final

from textual import events
from textual.app import ComposeResult
from textual.screen import ModalScreen

from safehandle_tui.keys import KEYS, Key, bindings
from safehandle_tui.model.modes import MODES
from safehandle_tui.model.text import Line
from safehandle_tui.widgets.key_bar import KeyBar
from safehandle_tui.widgets.lines import Lines
from safehandle_tui.widgets.page import Page

__all__ = ["JumpScreen", "LinesScreen"]

_CLOSE: Final = Key("close", "escape,v,backspace,enter", "Esc", "close", "Close", "", 1)
_KEYS: Final = (_CLOSE, *(key for key in KEYS if key.id == "quit"))
_LETTERS: Final = dict(zip("shtkagep", MODES, strict=True))


class LinesScreen(ModalScreen[None]):
    """Shows lines until it is closed."""

    BINDINGS: ClassVar = bindings(_KEYS)
    AUTO_FOCUS = "#lines"

    def __init__(self, title: str, lines: Sequence[Line]) -> None:
        super().__init__()
        self._title = title
        self._lines = tuple(lines)

    def compose(self) -> ComposeResult:
        yield Page(id="lines")
        yield KeyBar(_KEYS, id="lines-keys")

    def on_mount(self) -> None:
        page = self.query_one("#lines", Page)
        page.border_title = self._title
        page.show([((" ", "text"), *line) for line in self._lines])

    def action_close(self) -> None:
        """Goes back."""
        self.dismiss()


class JumpScreen(ModalScreen[str | None]):
    """A letter for each screen."""

    BINDINGS: ClassVar = bindings(
        (
            Key("close", "escape,ctrl+o,backspace", "Esc", "close", "Close", "", 1),
            *(key for key in KEYS if key.id == "quit"),
            *(
                Key(f"jump-{mode}", letter, letter, f"jump('{mode}')", mode, "")
                for letter, mode in _LETTERS.items()
            ),
        )
    )

    def compose(self) -> ComposeResult:
        yield Lines(id="jump")

    def on_mount(self) -> None:
        lines = self.query_one("#jump", Lines)
        lines.border_title = "go to"
        lines.show(
            [
                (
                    (f"  {letter} ", "key"),
                    (f" {MODES[mode].name:<13}", "title"),
                    (MODES[mode].help, "muted"),
                )
                for letter, mode in _LETTERS.items()
            ]
        )

    def on_click(self, event: events.Click) -> None:
        lines = self.query_one("#jump", Lines)
        at = event.screen_y - lines.content_region.y
        if not lines.region.contains(event.screen_x, event.screen_y):
            self.dismiss(None)
        elif 0 <= at < len(_LETTERS):
            self.action_jump(list(_LETTERS.values())[at])

    def action_jump(self, mode: str) -> None:
        """Goes there."""
        self.dismiss(mode)

    def action_close(self) -> None:
        """Stays."""
        self.dismiss(None)
