"""Handles by kind and owner, and the map of the descriptors."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from safehandle_tui.model.columns import Column
from safehandle_tui.model.rows import Bunch, SiteKey, SiteRow
from safehandle_tui.model.text import Line, Role, Span, age, count, plural

__all__ = ["KIND_COLUMNS", "KindRow", "group_by_kind", "map_lines"]

_FREE: Final = "·"
_SEVERAL: Final = "+"  # more than one handle in a cell of the map


@dataclass(frozen=True, slots=True)
class KindRow:
    """The handles of one kind and owner."""

    kind: str
    owner: str
    open: int
    opened: int
    closed: int
    oldest_ns: int  # wall clock of the oldest that is open, 0: none is
    least: int  # value
    greatest: int
    mark: Span = (" ", "text")

    @property
    def key(self) -> tuple[str, str]:
        return (self.kind, self.owner)


def group_by_kind(
    bunches: Iterable[Bunch], totals: Mapping[tuple[str, str], tuple[int, int]]
) -> list[KindRow]:
    """One row a kind and owner, also of those of which none is open.

    Args:
        bunches: the handles that are open.
        totals: (kind, owner) -> (opened, closed), as counted.
    """
    groups: dict[tuple[str, str], list[Bunch]] = {key: [] for key in totals}
    for bunch in bunches:
        groups.setdefault((bunch.kind, bunch.owner), []).append(bunch)
    found = []
    for (kind, owner), members in groups.items():
        alive = [bunch for bunch in members if bunch.is_open]
        number = sum(bunch.count for bunch in alive)
        known = sum(bunch.count for bunch in members)
        opened, closed = totals.get((kind, owner), (known, known - number))
        wrong = any(bunch.mark[0] == "✗" for bunch in members)
        found.append(
            KindRow(
                kind=kind,
                owner=owner,
                open=number,
                opened=opened,
                closed=closed,
                oldest_ns=min((bunch.oldest_ns for bunch in alive), default=0),
                least=min((bunch.least for bunch in alive), default=0),
                greatest=max((bunch.greatest for bunch in alive), default=0),
                mark=("✗", "bad") if wrong else (" ", "text"),
            )
        )
    return found


KIND_COLUMNS: Final[tuple[Column[KindRow], ...]] = (
    Column(
        "kind",
        "KIND",
        12,
        lambda row, now_ns, width: (row.kind, "strong" if row.open else "muted"),
        lambda row, now_ns: row.kind,
    ),
    Column(
        "owner",
        "OWNER",
        16,
        lambda row, now_ns, width: (row.owner, "text"),
        lambda row, now_ns: row.owner,
        weight=1,
        most=40,
    ),
    Column(
        "open",
        "OPEN",
        8,
        lambda row, now_ns, width: (count(row.open), "strong" if row.open else "muted"),
        lambda row, now_ns: (row.open, row.opened),
        descending=True,
        align=">",
    ),
    Column(
        "opened",
        "OPENED",
        10,
        lambda row, now_ns, width: (count(row.opened), "text"),
        lambda row, now_ns: row.opened,
        descending=True,
        align=">",
    ),
    Column(
        "closed",
        "CLOSED",
        10,
        lambda row, now_ns, width: (count(row.closed), "muted"),
        lambda row, now_ns: row.closed,
        descending=True,
        align=">",
        rank=2,
    ),
    Column(
        "oldest",
        "OLDEST",
        7,
        lambda row, now_ns, width: (
            age(max(0, now_ns - row.oldest_ns)) if row.oldest_ns else "-",
            "text",
        ),
        lambda row, now_ns: -row.oldest_ns if row.oldest_ns else 1,
        align=">",
        rank=1,
    ),
    Column(
        "values",
        "VALUES",
        13,
        lambda row, now_ns, width: (
            f"{row.least}..{row.greatest}" if row.open else "-",
            "muted",
        ),
        lambda row, now_ns: row.greatest,
        descending=True,
        align=">",
        rank=3,
    ),
)


def map_lines(
    bunches: Sequence[Bunch], sites: Mapping[SiteKey, SiteRow], chosen: str, cells: int, room: int
) -> list[Line]:
    """The descriptors by number: a letter for each that is open.

    Args:
        bunches: open descriptors, each by itself.
        sites: for what is suspected of them.
        chosen: the kind that stands out.
        cells: width; room: lines that there are.
    """
    values = {bunch.least: bunch for bunch in bunches if bunch.least >= 0}
    if not values:
        return [((" no descriptor is open", "muted"),)]
    most = max(values) + 1
    margin = 8
    width = max(10, (cells - margin) // 10 * 10)
    each = max(1, -(-most // (width * max(1, room - 2))))  # descriptors a cell
    letters = sorted({row.kind for row in values.values()})
    legend: list[Span] = [(f" {plural(len(values), 'descriptor')} up to {most - 1:,}:  ", "text")]
    for kind in letters:
        legend.append((f"{_letter(kind)} {kind}  ", "strong" if kind == chosen else "muted"))
    legend += [("✗ suspect  ", "bad"), (f"{_FREE} free", "muted")]
    if each > 1:
        legend.append((f"  ({each:,} a cell, {_SEVERAL}: several)", "muted"))
    lines: list[Line] = [tuple(legend)]
    for start in range(0, most, width * each):
        spans: list[Span] = [(f"{start:>7,} ", "muted")]
        for cell in range(start, min(start + width * each, most), each):
            here = [values[n] for n in range(cell, cell + each) if n in values]
            spans.append(_cell(here, sites, chosen))
        lines.append(_joined(spans))
    return lines


def _cell(here: Sequence[Bunch], sites: Mapping[SiteKey, SiteRow], chosen: str) -> Span:
    if not here:
        return _FREE, "rule"
    suspect = any(
        (site := sites.get(row.site_key)) is not None and site.mark[0] == "✗" for row in here
    )
    if suspect:
        return "✗", "bad"
    text = _letter(here[0].kind) if len(here) == 1 else _SEVERAL
    role: Role = "strong" if any(row.kind == chosen for row in here) else "text"
    return text, "muted" if all(row.importing for row in here) else role


def _letter(kind: str) -> str:
    return kind[:1].upper() or "?"


def _joined(spans: Sequence[Span]) -> Line:
    """Neighbours of one role in one span: a map has many cells."""
    joined: list[Span] = []
    for text, role in spans:
        if joined and joined[-1][1] == role:
            joined[-1] = (joined[-1][0] + text, role)
        else:
            joined.append((text, role))
    return tuple(joined)
