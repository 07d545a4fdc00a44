"""The columns of the two tables: titles, widths, cells, sort keys.

Columns give way in order of `rank` when the terminal is narrow; what is left
over goes to the columns with a weight.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Generic, Protocol, TypeVar

from safehandle_debug.ledger.selecting import Life
from safehandle_debug.ledger.verdict import Word
from safehandle_tui.model.rows import BUCKETS, HandleRow, SiteRow
from safehandle_tui.model.text import Line, Role, Span, age, bar, brief, count, fit, strip_of

__all__ = [
    "HANDLE_COLUMNS",
    "SITE_COLUMNS",
    "Column",
    "Marked",
    "Sort",
    "column_at",
    "header_line",
    "lay_out",
    "life_span",
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


def _text_of(row: HandleRow) -> Role:
    if row.life == "ended" or row.importing:
        return "muted"
    return "text"


class _Living(Protocol):
    """A handle, or what became of one."""

    @property
    def life(self) -> Life: ...
    @property
    def problem(self) -> str: ...
    @property
    def ending(self) -> str: ...
    @property
    def importing(self) -> bool: ...
    @property
    def borrowed(self) -> bool: ...


def life_span(handle: _Living) -> Span:
    """What became of a handle, in a word or two."""
    if handle.problem:
        return handle.problem, "bad"
    if handle.life == "held":
        return "held", "warn"
    if handle.life == "left":
        return "never closed", "bad"
    if handle.life == "ended":
        return handle.ending, "muted"
    if handle.importing:
        return "open (import)", "muted"
    if handle.borrowed:
        return "borrowed", "muted"
    return "open", "good"


def _age(row: HandleRow, now_ns: int, width: int) -> Span:
    return age(row.age_ns(now_ns)), _text_of(row)


HANDLE_COLUMNS: Final[tuple[Column[HandleRow], ...]] = (
    Column(
        "serial",
        "#",
        6,
        lambda row, now_ns, width: (str(row.serial), "muted"),
        lambda row, now_ns: (row.pid, row.serial),
        align=">",
    ),
    Column(
        "pid",
        "PID",
        7,
        lambda row, now_ns, width: (str(row.pid), "muted"),
        lambda row, now_ns: row.pid,
        align=">",
        rank=4,
    ),
    Column(
        "state",
        "STATE",
        14,
        lambda row, now_ns, width: life_span(row),
        lambda row, now_ns: life_span(row)[0],
        rank=3,
    ),
    Column(
        "kind",
        "KIND",
        6,
        lambda row, now_ns, width: (row.kind, _text_of(row)),
        lambda row, now_ns: row.kind,
    ),
    Column(
        "value",
        "VALUE",
        5,
        lambda row, now_ns, width: (str(row.value), _text_of(row)),
        lambda row, now_ns: row.value,
        align=">",
    ),
    Column(
        "age", "AGE", 6, _age, lambda row, now_ns: row.age_ns(now_ns), descending=True, align=">"
    ),
    Column(
        "refs",
        "REFS",
        4,
        lambda row, now_ns, width: (str(row.refs), "warn" if row.refs > 1 else _text_of(row)),
        lambda row, now_ns: row.refs,
        descending=True,
        align=">",
        rank=1,
    ),
    Column(
        "site",
        "SITE",
        22,
        lambda row, now_ns, width: (row.site, "own" if _text_of(row) == "text" else "muted"),
        lambda row, now_ns: row.site,
        keep="end",
        weight=3,
    ),
    Column(
        "detail",
        "DETAIL",
        14,
        lambda row, now_ns, width: (row.detail or "-", _text_of(row)),
        lambda row, now_ns: row.detail,
        keep="end",
        weight=3,
        rank=2,
    ),
    Column(
        "thread",
        "THREAD",
        11,
        lambda row, now_ns, width: (row.task or row.thread, "muted"),
        lambda row, now_ns: row.task or row.thread,
        weight=1,
        most=16,
        rank=5,
    ),
    Column(
        "owner",
        "OWNER",
        16,
        lambda row, now_ns, width: (row.owner, "muted"),
        lambda row, now_ns: row.owner,
        weight=1,
        most=26,
        rank=6,
    ),
)


def _strip(row: SiteRow, now_ns: int, width: int) -> Span:
    births: Sequence[int] = row.births
    if width < len(births):
        births = [one + two for one, two in zip(births[::2], births[1::2], strict=True)]
    return strip_of(births), "muted" if row.importing else "accent"


def _open(row: SiteRow, now_ns: int, width: int) -> Span:
    return count(row.open), "muted" if row.importing or not row.open else "strong"


def _share(row: SiteRow, now_ns: int, width: int) -> Span:
    if row.importing:
        return bar(row.share, width), "muted"
    if row.mark[0] == "✗":
        return bar(row.share, width), "bad"
    warned = row.mark[0] == "!" or row.is_growing
    return bar(row.share, width), "warn" if warned else "good"


_WORDS: Final[dict[Word, tuple[str, Role]]] = {
    "LEAK": ("LEAK", "bad"),
    "never closed": ("never closed", "warn"),
    "watch": ("watch", "warn"),
    "in use": ("in use", "good"),
    "cache": ("cache", "muted"),
    "closed": ("closed", "muted"),
}


def _verdict(row: SiteRow, now_ns: int, width: int) -> Span:
    return _WORDS[row.verdict.word] if row.verdict is not None else ("-", "muted")


def _number(value: int) -> Span:
    return count(value), "text" if value else "muted"


SITE_COLUMNS: Final[tuple[Column[SiteRow], ...]] = (
    Column(
        "verdict", "VERDICT", 12, _verdict, lambda row, now_ns: (row.rank, -row.open, row.site)
    ),
    Column("open", "OPEN", 7, _open, lambda row, now_ns: row.open, descending=True, align=">"),
    Column("share", "SHARE", 8, _share, lambda row, now_ns: row.share, descending=True, rank=6),
    Column(
        "opened",
        "OPENED",
        8,
        lambda row, now_ns, width: _number(row.opened),
        lambda row, now_ns: row.opened,
        descending=True,
        align=">",
        rank=5,
    ),
    Column(
        "closed",
        "CLOSED",
        8,
        lambda row, now_ns, width: _number(row.closed),
        lambda row, now_ns: row.closed,
        descending=True,
        align=">",
        rank=4,
    ),
    Column(
        "typical",
        "TYPICAL",
        7,
        lambda row, now_ns, width: (brief(row.typical_ns) if row.typical_ns else "-", "muted"),
        lambda row, now_ns: row.typical_ns,
        descending=True,
        align=">",
        rank=3,
    ),
    Column(
        "oldest",
        "OLDEST",
        7,
        lambda row, now_ns, width: (age(max(0, now_ns - row.oldest_ns)), "text"),
        lambda row, now_ns: -row.oldest_ns,
        descending=True,
        align=">",
    ),
    Column(
        "newest",
        "NEWEST",
        7,
        lambda row, now_ns, width: (age(max(0, now_ns - row.newest_ns)), "text"),
        lambda row, now_ns: -row.newest_ns,
        align=">",
        rank=8,
    ),
    Column(
        "kind",
        "KIND",
        7,
        lambda row, now_ns, width: (row.kind, "text"),
        lambda row, now_ns: row.kind,
        rank=7,
    ),
    Column(
        "found",
        "WRONG",
        14,
        lambda row, now_ns, width: (row.found, "bad"),
        lambda row, now_ns: row.problems,
        descending=True,
        rank=2,
    ),
    Column(
        "births",
        "BY BIRTH",
        BUCKETS // 2,
        _strip,
        lambda row, now_ns: (sum(1 for number in row.births if number), row.open),
        descending=True,
        weight=6,
        most=BUCKETS,
        stepwise=True,
        rank=1,
    ),
    Column(
        "site",
        "SITE",
        24,
        lambda row, now_ns, width: (row.site, "muted" if row.importing else "own"),
        lambda row, now_ns: row.site,
        keep="end",
        weight=3,
    ),
)


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
