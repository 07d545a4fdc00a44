"""The screens by number: what the one table of the main screen can show."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, Literal

from safehandle_tui.model.alarms import ALARM_COLUMNS
from safehandle_tui.model.columns import Column, Sort
from safehandle_tui.model.events import EVENT_COLUMNS
from safehandle_tui.model.generations import GENERATION_COLUMNS
from safehandle_tui.model.kinds import KIND_COLUMNS
from safehandle_tui.model.row_columns import HANDLE_COLUMNS, SITE_COLUMNS
from safehandle_tui.model.sessions import SESSION_COLUMNS
from safehandle_tui.model.tree import TREE_COLUMNS

__all__ = ["MODES", "Mode", "ModeInfo"]

Mode = Literal["sites", "handles", "tree", "kinds", "alarms", "generations", "events", "sessions"]


@dataclass(frozen=True, slots=True)
class ModeInfo:
    """One of the screens."""

    digit: str
    name: str
    noun: str  # one of its rows
    columns: tuple[Column[Any], ...]
    sort: Sort
    help: str


MODES: Final[dict[Mode, ModeInfo]] = {
    "sites": ModeInfo(
        "1",
        "Suspects",
        "site",
        SITE_COLUMNS,
        Sort("verdict", False),
        "the lines that open handles, the most suspicious first",
    ),
    "handles": ModeInfo(
        "2", "Handles", "handle", HANDLE_COLUMNS, Sort("age", True), "single handles"
    ),
    "tree": ModeInfo(
        "3",
        "Sites tree",
        "frame",
        TREE_COLUMNS,
        Sort("", False),
        "who called whom to open what is open",
    ),
    "kinds": ModeInfo(
        "4", "Kinds", "kind", KIND_COLUMNS, Sort("open", True), "kinds, and the descriptor map"
    ),
    "alarms": ModeInfo(
        "5", "Alarms", "alarm", ALARM_COLUMNS, Sort("", False), "what went wrong, with its card"
    ),
    "generations": ModeInfo(
        "6",
        "Generations",
        "generation",
        GENERATION_COLUMNS,
        Sort("", False),
        "what is left of what was opened between two marks",
    ),
    "events": ModeInfo(
        "7", "Events", "event", EVENT_COLUMNS, Sort("", False), "the latest events, one by one"
    ),
    "sessions": ModeInfo(
        "0",
        "Processes",
        "process",
        SESSION_COLUMNS,
        Sort("", False),
        "all recorded processes, live, ended and crashed",
    ),
}
