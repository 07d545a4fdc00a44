"""The columns of a table: titles, widths, cells, sort keys.

Columns give way in order of `rank` when the terminal is narrow; what is left
over goes to the columns with a weight.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Generic, Protocol, TypeVar

from safehandle_tui.model.text import Line, Span, fit

__all__ = [
    "Column",
    "Marked",
    "Sort",
    "column_at",
    "header_line",
    "lay_out",
    "row_line",
]


class Marked(Protocol):
    """What every row of a table has."""

    @property
    def key(self) -> Any: ...

    @property
    def mark(self) -> Span:
        """One cell that is shown in front."""
        ...


RowT = TypeVar("RowT", bound=Marked)
_GAP: Final = 2
_MARGIN: Final = 4  # room for the cursor and the mark in front
_EDGE: Final = 1  # free at the right, beside the scroll bar


@dataclass(frozen=True, slots=True)
class Column(Generic[RowT]):
    """One column of a table of RowT."""

    name: str  # as in the sort's name
    title: str
    width: int  # cells; the least when it has a weight
    cell: Callable[[RowT, int, int], Span]  # (row, now_ns, width) -> text and role
    order: Callable[[RowT, int], Any]  # (row, now_ns) -> sort key, ascending
    descending: bool = False  # the order that is asked for first
    align: str = "<"
    keep: str = "start"  # the end of the text that survives a cut
    weight: int = 0  # share of the spare cells
    most: int = 1000  # cells that it can make use of
    stepwise: bool = False  # it takes `width` or `most`, nothing between
    rank: int = 0  # 0: always there; else the highest rank gives way first


@dataclass(frozen=True, slots=True)
class Sort:
    """The column that a table is sorted by, and which way."""

    column: str
    descending: bool


def lay_out(
    columns: Sequence[Column[RowT]], cells: int, *, without: frozenset[str] = frozenset()
) -> list[tuple[Column[RowT], int]]:
    """Chooses the columns that fit into `cells` and their widths.

    Args:
        columns: in order of appearance.
        cells: of the whole line.
        without: names of columns that are not wanted.
    """
    chosen = [column for column in columns if column.name not in without]
    room = cells - _MARGIN - _EDGE
    while True:
        spare = room - sum(column.width + _GAP for column in chosen) + _GAP
        droppable = max(chosen, key=lambda column: column.rank)
        if spare >= 0 or droppable.rank == 0:
            break
        chosen.remove(droppable)
    return list(zip(chosen, _widths(chosen, max(0, spare)), strict=True))


def _widths(columns: Sequence[Column[RowT]], spare: int) -> list[int]:
    """Shares the spare cells out by weight, to none more than it can use."""
    widths = [column.width for column in columns]
    hungry = sorted(
        (at for at, column in enumerate(columns) if column.weight),
        key=lambda at: columns[at].most - columns[at].width,
    )
    weights = sum(columns[at].weight for at in hungry)
    for at in hungry:
        column = columns[at]
        extra = min(spare * column.weight // weights, column.most - column.width)
        if column.stepwise and column.width + extra < column.most:
            extra = 0
        widths[at] += extra
        spare -= extra
        weights -= column.weight
    return widths


def header_line(layout: Sequence[tuple[Column[Any], int]], sort: Sort) -> Line:
    """The titles, the sorted one with its arrow."""
    spans: list[Span] = [(" " * _MARGIN, "head")]
    for at, (column, width) in enumerate(layout):
        chosen = column.name == sort.column
        arrow = ("▼" if sort.descending else "▲") if chosen else ""
        title = column.title + arrow
        if len(title) > width:
            title = column.title[: width - len(arrow)] + arrow
        spans.append((fit(title, width, align=column.align), "sorted" if chosen else "head"))
        if at + 1 < len(layout):
            spans.append((" " * _GAP, "head"))
    return tuple(spans)


def row_line(
    layout: Sequence[tuple[Column[RowT], int]], row: RowT, now_ns: int, *, cursor: bool
) -> Line:
    """One row's cells; the cursor is marked by a sign, not by colour alone."""
    spans: list[Span] = [(" ▸" if cursor else "  ", "accent"), row.mark, (" ", "text")]
    for at, (column, width) in enumerate(layout):
        text, role = column.cell(row, now_ns, width)
        spans.append((fit(text, width, align=column.align, keep=column.keep), role))
        if at + 1 < len(layout):
            spans.append((" " * _GAP, "text"))
    return tuple(spans)


def column_at(layout: Sequence[tuple[Column[Any], int]], x: int) -> Column[Any] | None:
    """The column whose title is at cell x; None between and beside them."""
    left = _MARGIN
    for column, width in layout:
        if left <= x < left + width:
            return column
        left += width + _GAP
    return None
