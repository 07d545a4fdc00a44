"""The references to a handle over its life, drawn."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from safehandle_debug.ledger import Event
from safehandle_tui.model.text import Line, cell_width, delta, fit, strip_of

__all__ = ["outstanding", "references_lines"]

_SHARED: Final = 2  # references: somebody besides the owner
_DRAWN: Final = 90  # cells from which there is room for more than a strip
_LEFT: Final = 10  # cells before the first column
_QUIET: Final = 12  # columns, at least, from the last event to now
_ROWS: Final = 3  # above none


def outstanding(events: Sequence[Event]) -> set[int]:
    """The seqs of the add-refs that no release has matched yet.

    A release takes back the newest add-ref of its own thread, else the newest
    of any: which one it meant nobody recorded.
    """
    out: list[Event] = []
    for event in events:
        if event.kind == "add-ref":
            out.append(event)
        elif event.kind == "release" and out:
            own = [each for each in out if each.thread == event.thread]
            out.remove((own or out)[-1])
        elif event.kind == "close" and event.ending in ("closed", "exited"):
            # The release that let it close is told by the close alone; what a
            # finalizer or the exit closed was closed over them.
            out.clear()
    return {event.seq for event in out}


def references_lines(
    events: Sequence[Event], cells: int, *, since_ns: int, until_ns: int, is_open: bool
) -> list[Line]:
    """How many references were out after each event: a graph, or one strip
    where there is no room; nothing where nobody but the owner ever had one.

    Args:
        since_ns: when the handle was opened.
        until_ns: now, or when its process ended.
    """
    refs = [event.refs for event in events]
    most = max(refs, default=0)
    if most < _SHARED:
        return []
    if cells < _DRAWN:
        return [
            (
                ("references, event by event  ", "head"),
                (strip_of(refs[-(cells // 2) :]), "accent"),
                (f"  at most {most}, now {refs[-1]}", "text"),
            )
        ]
    width = cells - _LEFT - 2
    step = max(1, min(8, (width - _QUIET) // len(refs)))
    shown = list(events)[-((width - _QUIET) // step) :]
    before = refs[-len(shown) - 1] if len(shown) < len(refs) else 0
    counts = [before, before, *(event.refs for event in shown for _ in range(step))]
    quiet = max(_QUIET, width - len(counts)) if is_open else _QUIET - step
    counts += [counts[-1]] * max(0, quiet)
    title: Line = (
        ("references, event by event", "head"),
        (f"  at most {most}, now {refs[-1]}", "text"),
    )
    first, last = (each.at_ns - since_ns for each in (shown[0], shown[-1]))
    marks = [(2, delta(first)), (2 + step * (len(shown) - 1), delta(last))]
    if is_open:
        marks.append((len(counts), f"now {delta(until_ns - since_ns)}"))
    return [title, *_graph(counts, most), _times(marks, len(counts))]


def _graph(counts: Sequence[int], most: int) -> list[Line]:
    """A line of steps: a row for each number, or for some of them together."""
    number = min(most, _ROWS)
    rows = [-(-count * number // most) for count in counts]
    drawn = [[" "] * len(rows) for _ in range(number + 1)]
    before = rows[0]
    for at, row in enumerate(rows):
        if row == before:
            drawn[row][at] = "─"
        else:
            drawn[before][at] = "╯" if row > before else "╮"
            drawn[row][at] = "╭" if row > before else "╰"
            for between in range(min(row, before) + 1, max(row, before)):
                drawn[between][at] = "│"
        before = row
    lines: list[Line] = []
    for row in range(number, -1, -1):
        name = f"{row}" if most <= _ROWS else f"≤{row * most // number}" if row else "0"
        text = "".join(drawn[row]).rstrip()
        lines.append(
            ((fit(name, _LEFT - 2, align=">"), "muted"), (" ┤", "rule"), (text, "accent"))
        )
    return lines


def _times(marks: Sequence[tuple[int, str]], cells: int) -> Line:
    """The times below the columns; what finds no room beside those that matter
    more, the last ones, is left out."""
    text = ""
    until = cells
    for column, name in reversed(marks):
        start = max(0, min(column, until - cell_width(name)))
        if start + cell_width(name) > until or (start == 0 and column > cell_width(name)):
            continue
        text = fit(name, max(0, (until if text else cells) - start)) + text
        until = start - 1
        text = " " + text
    return ((" " * (_LEFT + max(0, cells - cell_width(text))), "text"), (text.rstrip(), "muted"))
