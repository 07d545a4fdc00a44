"""All keys in one table: bindings, the bottom line and the help come from it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from textual.binding import Binding, BindingType

__all__ = ["KEYS", "MOVES", "Key", "bindings"]


@dataclass(frozen=True, slots=True)
class Key:
    """One action and the keys that start it."""

    keys: str  # as Textual names them, comma separated
    shown: str  # as people name them
    action: str
    label: str  # in the bottom line
    help: str  # in the help
    rank: int = 0  # in the bottom line: 0 is never shown, 1 goes last


MOVES: Final = (
    Key("up,k", "↑ k", "move(-1)", "Up", "one row up"),
    Key("down,j", "↓ j", "move(1)", "Down", "one row down"),
    Key("pageup,ctrl+b", "PgUp", "page(-1)", "Page up", "one page up"),
    Key("pagedown,ctrl+f", "PgDn", "page(1)", "Page down", "one page down"),
    Key("home", "Home", "top", "Top", "first row, and stay on the first"),
    Key("end,G", "End G", "bottom", "Bottom", "last row"),
)

KEYS: Final = (
    Key("enter", "Enter", "open", "Open", "a site: its handles; a handle: its whole history", 2),
    Key("escape,backspace", "Esc", "back", "Back", "back, or drop the filter", 9),
    Key("slash", "/", "filter", "Filter", "show only some; see below", 3),
    Key("s", "s", "sort(1)", "Sort", "sort by the next column", 4),
    Key("left,h", "← h", "sort(-1)", "Sort", "sort by the column before"),
    Key("right,l", "→ l", "sort(1)", "Sort", "sort by the next column"),
    Key("S", "S", "reverse", "Reverse", "sort the other way round"),
    Key("g", "g", "group", "Group", "sites, or single handles", 5),
    Key("a", "a", "ended", "Ended", "also handles that ended, or open ones only", 7),
    Key("space,p", "Space", "pause", "Pause", "stop the picture; the program runs on", 6),
    Key("t", "t", "processes", "Process", "choose a process: ↑ ↓, Enter or t when done", 8),
    Key("n", "n", "newer", "Newer", "go to the newer session when one began"),
    Key("T", "T", "app.theme", "Theme", "dark, light, or the terminal's own colours"),
    Key("question_mark,f1", "?", "app.help", "Help", "this help", 1),
    Key("q,ctrl+c", "q", "app.quit", "Quit", "leave; the program is not touched", 1),
)


def bindings(keys: tuple[Key, ...]) -> list[BindingType]:
    """The keys as Textual wants them."""
    return [
        Binding(key.keys, key.action, key.label, show=False, id=f"{key.action}.{key.shown}")
        for key in keys
    ]
