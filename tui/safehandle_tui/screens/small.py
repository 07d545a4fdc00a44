"""What is shown while the terminal is too small for anything else."""

from __future__ import annotations

from typing import ClassVar, Final

from textual import events
from textual.app import ComposeResult
from textual.screen import Screen

from safehandle_tui.keys import KEYS, bindings
from safehandle_tui.widgets.lines import Lines

__all__ = ["LEAST_HEIGHT", "LEAST_WIDTH", "SmallScreen", "is_too_small"]

LEAST_WIDTH: Final = 60
LEAST_HEIGHT: Final = 16


def is_too_small(width: int, height: int) -> bool:
    """True when the screens cannot be read in so many cells."""
    return width < LEAST_WIDTH or height < LEAST_HEIGHT


class SmallScreen(Screen[None]):
    """Says how large the terminal must be; q still leaves."""

    BINDINGS: ClassVar = bindings(tuple(key for key in KEYS if key.id == "quit"))

    def compose(self) -> ComposeResult:
        yield Lines(id="small", place="middle")

    def on_mount(self) -> None:
        self._paint()

    def on_resize(self, event: events.Resize) -> None:
        self._paint()

    def _paint(self) -> None:
        width, height = self.app.size
        self.query_one("#small", Lines).show(
            [
                (("too small", "bad"),),
                ((f"{width}x{height}, needs {LEAST_WIDTH}x{LEAST_HEIGHT}", "text"),),
                (("q quits", "muted"),),
            ]
        )
