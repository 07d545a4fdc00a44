"""What the pane below the table tells of an event and of a frame of the tree."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from safehandle_debug.ledger import is_library
from safehandle_tui.model.events import EventRow
from safehandle_tui.model.rows import HandleKey
from safehandle_tui.model.source import SourceMap
from safehandle_tui.model.stacks import stack_lines
from safehandle_tui.model.text import Line, Span, clean, short_path
from safehandle_tui.model.tree import TreeRow

__all__ = ["Card", "event_card", "tree_lines"]


@dataclass(frozen=True, slots=True)
class Card:
    """What the pane below the table says of the row under the cursor."""

    title: Line
    paint: Callable[[int, int], list[Line]]  # (cells, rows) -> lines, any number
    opens: tuple[HandleKey, ...] = ()  # of an alarm: the victim's handle, and its own


def event_card(row: EventRow, source: SourceMap) -> Card:
    """The event with its stack."""
    event = row.event
    spans: list[Span] = [
        (f"#{event.serial} ", "muted"),
        (f"{row.owner} {event.value}", "title"),
        (f" · {row.name}", row.role),
        (f" · refs {event.refs}", "text"),
        (f" · {row.thread}", "muted"),
    ]
    if row.task:
        spans.append((f" · task {row.task}", "muted"))
    if row.detail:
        spans.append((f" · {row.detail}", "text"))

    def paint(cells: int, room: int) -> list[Line]:
        lines = stack_lines(event.stack, source, row.cwd)
        hint = "Enter: the handle   .: everything as it was at this event"
        return [*lines, (), ((f" {hint}", "muted"),)]

    return Card(tuple(spans), paint)


def tree_lines(row: TreeRow, source: SourceMap, cwd: str, cells: int, room: int) -> list[Line]:
    """The way from the outermost frame to this one."""
    lines: list[Line] = []
    for file, line, function in row.key:
        own = "muted" if is_library(file) else "own"
        place = f"{clean(short_path(file, cwd))}:{line} {clean(function)}" if file else row.label
        lines.append(((" ", "text"), (place, own)))  # type: ignore[arg-type]
        text = source.get((file, line), "")
        if text.strip():
            lines.append((("     ", "text"), (text.strip(), "source")))
    hint = "Enter: its handles" if row.folded is None else "Enter: fold or unfold"
    return [*lines, (), ((f" {hint}", "muted"),)]
