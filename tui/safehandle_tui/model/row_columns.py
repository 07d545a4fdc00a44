"""The columns of handles and of sites."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Protocol

from safehandle_debug.ledger.selecting import Life
from safehandle_debug.ledger.verdict import Word
from safehandle_tui.model.columns import Column
from safehandle_tui.model.rows import BUCKETS, HandleRow, SiteRow
from safehandle_tui.model.text import Role, Span, age, bar, brief, count, strip_of

__all__ = ["HANDLE_COLUMNS", "SITE_COLUMNS", "life_span"]


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
