"""One row a handle, one row a site: what the tables show.

There may be a million handles: a HandleRow is made of those that are looked
at only, all others are counted in bunches.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Final

from safehandle_debug.ledger import Frame, History
from safehandle_debug.ledger.facts import words_of
from safehandle_debug.ledger.names import NO_SITE, SiteKey
from safehandle_debug.ledger.selecting import Life
from safehandle_debug.ledger.verdict import RANKS, Evidence, Verdict, judge, typical_ns
from safehandle_tui.model.text import Span, clean, short_path

__all__ = [
    "BUCKETS",
    "MANY",
    "NO_SITE",
    "Bunch",
    "HandleKey",
    "HandleRow",
    "Life",
    "SiteKey",
    "SiteRow",
    "group_by_site",
    "mark_of",
    "site_text",
]

HandleKey = tuple[str, int]  # (path of the recording, serial)

_MARKS: Final = "✗!? "  # the worst first
MANY: Final = 10  # handles from which on one site is worth being pointed at
BUCKETS: Final = 24  # of a survivors-by-birth strip


def site_text(frame: Frame | None, cwd: str, none: str = "(no stack recorded)") -> str:
    """A site as it is shown: "app/db.py:88 connect"."""
    if frame is None:
        return none
    return f"{clean(short_path(frame.file, cwd))}:{frame.line} {clean(frame.function)}"


def mark_of(life: Life, problem: str) -> Span:
    """The sign in front of a handle's row."""
    if problem or life == "left":
        return "✗", "bad"
    return ("!", "warn") if life == "held" else (" ", "text")


class HandleRow:
    """A handle as the table sees it."""

    def __init__(self, history: History, *, process: str = "", cwd: str = "") -> None:
        """`process` is the path of its recording, `cwd` that of the program."""
        self.history = history
        self.life: Life = "open"
        self.until_ns: int | None = None  # wall clock end of its process, if it ended
        self.problem = ""  # kind of the worst finding on it, "" for none
        self.pid = history.pid
        self.serial = history.serial
        self.key: HandleKey = (process, history.serial)
        self.kind = clean(history.kind)
        self.owner = clean(history.owner)
        self.detail = clean(history.detail or "")
        self.opened_at_ns = history.opened_at_ns
        self.thread = clean(history.thread)
        self.task = clean(history.task or "")
        self.test = clean(history.test or "")
        frame = history.site
        self.site_key: SiteKey = (
            NO_SITE if frame is None else (frame.file, frame.line, frame.function)
        )
        self.site = site_text(frame, cwd)
        self.file, self.line, self.function = self.site_key

    @property
    def value(self) -> int:
        return self.history.value

    @property
    def refs(self) -> int:
        return self.history.refs

    @property
    def borrowed(self) -> bool:
        return self.history.borrowed

    @property
    def importing(self) -> bool:
        return self.history.importing

    @property
    def is_open(self) -> bool:
        """True while it is open, and when it was until its process ended."""
        return self.life != "ended"

    @property
    def mark(self) -> Span:
        """The sign in front of its row."""
        return mark_of(self.life, self.problem)

    @property
    def ending(self) -> str:
        """How it ended; "" while it is open."""
        return self.history.ending or ""

    def age_ns(self, now_ns: int) -> int:
        """Nanoseconds from acquire to its end (or its process's), or to now."""
        end = self.history.closed_at_ns or self.until_ns or now_ns
        return max(0, end - self.opened_at_ns)

    @cached_property
    def words(self) -> tuple[str, ...]:
        """Everything that a bare word of a filter looks through, case folded."""
        return words_of(self)


@dataclass(frozen=True, slots=True)
class Bunch:
    """Handles that are alike in all that matters to a group of them."""

    process: str  # path of the recording
    site_key: SiteKey
    site: str
    kind: str
    owner: str
    actor: str  # task or thread; "" where that was not asked for
    opened: tuple[Frame, ...]  # acquire stack, innermost frame first
    life: Life
    problem: str
    importing: bool
    borrowed: bool
    count: int
    oldest_ns: int  # wall clock births
    newest_ns: int
    least: int  # values
    greatest: int
    births: tuple[int, ...]

    @property
    def is_open(self) -> bool:
        """True while they are open, and when they were until their process ended."""
        return self.life != "ended"

    @property
    def is_ordinary(self) -> bool:
        """True when there is nothing to say of their state but "open"."""
        return self.life == "open" and not (self.problem or self.importing or self.borrowed)

    @property
    def mark(self) -> Span:
        """The sign in front of their rows."""
        return mark_of(self.life, self.problem)


@dataclass(frozen=True, slots=True)
class SiteRow:
    """The handles that one line of a program acquired."""

    key: SiteKey
    site: str  # "app/db.py:88 connect"
    kinds: tuple[str, ...]  # sorted
    rows: Sequence[HandleRow]  # those in view, oldest first, those that ended last
    bunches: tuple[Bunch, ...]  # the same, the newest first
    open: int  # of them not ended
    problems: int  # of them with a finding
    importing: bool  # all of them were acquired by imports
    births: tuple[int, ...]  # of those not ended: BUCKETS numbers over the life
    oldest_ns: int  # wall clock of the first birth of those not ended, else of all
    newest_ns: int
    share: float  # of all handles in view that did not end, 0 to 1
    mark: Span  # the worst of its rows' signs, or the verdict's
    numbers: Evidence | None = None  # of all that it ever opened; None: not counted
    verdict: Verdict | None = None  # what they suggest

    @property
    def opened(self) -> int:
        """How many it ever opened."""
        return self.numbers.opened if self.numbers is not None else len(self.rows)

    @property
    def closed(self) -> int:
        """How many of them were closed."""
        if self.numbers is not None:
            return self.numbers.closed
        return len(self.rows) - self.open

    @property
    def typical_ns(self) -> int:
        """How long half of those lived at most that were closed; 0: not known."""
        return typical_ns(self.numbers) if self.numbers is not None else 0

    @property
    def rank(self) -> int:
        """0 for the site to look at first."""
        rank = self.verdict.rank if self.verdict is not None else len(RANKS)
        return min(rank, 1) if self.problems else rank

    @property
    def kind(self) -> str:
        return self.kinds[0] if len(self.kinds) == 1 else "several"

    @property
    def is_growing(self) -> bool:
        """True when handles of all ages pile up here, from long ago until now.

        What is opened at the start and kept, or just in use, is not."""
        filled = [at for at, number in enumerate(self.births) if number]
        if self.open < MANY or len(filled) < BUCKETS // 3:
            return False
        return filled[0] < BUCKETS // 2 and filled[-1] >= BUCKETS * 3 // 4

    @property
    def found(self) -> str:
        """The findings on its handles in one word, "" for none."""
        kinds = sorted({bunch.problem for bunch in self.bunches if bunch.problem})
        return f"{kinds[0]} +{len(kinds) - 1}" if len(kinds) > 1 else "".join(kinds)

    @property
    def stacks(self) -> tuple[tuple[Frame, ...], ...]:
        """The different stacks that acquired them, that of the newest first."""
        return tuple(dict.fromkeys(bunch.opened for bunch in self.bunches))


RowsOf = Callable[[SiteKey, int], Sequence[HandleRow]]


def group_by_site(
    bunches: Iterable[Bunch],
    rows_of: RowsOf,
    *,
    numbers: Mapping[SiteKey, Evidence] | None = None,
) -> list[SiteRow]:
    """Groups handles by the line that acquired them, in no special order.

    Args:
        bunches: any order.
        rows_of: (site, number of handles) -> their rows.
        numbers: what each site ever opened, as far as that was counted.
    """
    groups: dict[SiteKey, list[Bunch]] = {}
    for bunch in bunches:
        groups.setdefault(bunch.site_key, []).append(bunch)
    alive = sum(each.count for group in groups.values() for each in group if each.is_open)
    sites = [_site_row(key, group, rows_of, max(1, alive)) for key, group in groups.items()]
    return [_judged(site, numbers.get(site.key)) for site in sites] if numbers else sites


def _judged(site: SiteRow, numbers: Evidence | None) -> SiteRow:
    if numbers is None:
        return site
    left = sum(bunch.count for bunch in site.bunches if bunch.life == "left")
    verdict = judge(replace(numbers, left=left))
    mark = site.mark
    if verdict.word == "LEAK":
        mark = ("✗", "bad")
    elif verdict.word in ("never closed", "watch") and mark[0] == " ":
        mark = ("?", "warn")
    return replace(site, numbers=numbers, verdict=verdict, mark=mark)


def _worst(marks: set[Span]) -> Span:
    return min(marks, key=lambda mark: _MARKS.index(mark[0]))


def _site_row(key: SiteKey, members: list[Bunch], rows_of: RowsOf, total: int) -> SiteRow:
    members.sort(key=lambda bunch: -bunch.newest_ns)
    alive = [bunch for bunch in members if bunch.is_open]
    timed = alive or members
    number = sum(bunch.count for bunch in alive)
    births = tuple(map(sum, zip(*(bunch.births for bunch in alive), strict=True)))
    return SiteRow(
        key=key,
        site=members[0].site,
        kinds=tuple(sorted({bunch.kind for bunch in members})),
        rows=rows_of(key, sum(bunch.count for bunch in members)),
        bunches=tuple(members),
        open=number,
        problems=sum(bunch.count for bunch in members if bunch.problem),
        importing=all(bunch.importing for bunch in members),
        births=births or (0,) * BUCKETS,
        oldest_ns=min(bunch.oldest_ns for bunch in timed),
        newest_ns=max(bunch.newest_ns for bunch in timed),
        share=number / total,
        mark=_worst({bunch.mark for bunch in members}),
    )
