"""One row a handle, one row a site: what the tables show.

A HandleRow works out the unchanging texts of a handle once, when the handle
is first seen, and reads what can change from its latest History.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Final, Literal

from safehandle_debug.ledger import History
from safehandle_debug.ledger.verdict import RANKS, Evidence, Verdict, judge, typical_ns
from safehandle_tui.model.text import Span, clean, short_path

__all__ = [
    "BUCKETS",
    "MANY",
    "HandleKey",
    "HandleRow",
    "Life",
    "SiteKey",
    "SiteRow",
    "group_by_site",
]

HandleKey = tuple[str, int]  # (path of the recording, serial)
SiteKey = tuple[str, int, str]  # (file, line, function)

# open: now.  held: the process died with it.  left: nobody closed it before
# the interpreter ended.  ended: any other way.
Life = Literal["open", "held", "left", "ended"]

_MARKS: Final = "✗!? "  # the worst first
NO_SITE: Final[SiteKey] = ("", 0, "")
MANY: Final = 10  # handles from which on one site is worth being pointed at
BUCKETS: Final = 24  # of a survivors-by-birth strip


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
        if frame is None:
            self.site_key = NO_SITE
            self.site = "(no stack recorded)"
        else:
            self.site_key = (frame.file, frame.line, frame.function)
            self.site = (
                f"{clean(short_path(frame.file, cwd))}:{frame.line} {clean(frame.function)}"
            )
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
        if self.problem or self.life == "left":
            return "✗", "bad"
        return ("!", "warn") if self.life == "held" else (" ", "text")

    @property
    def is_ordinary(self) -> bool:
        """True when there is nothing to say of its state but "open"."""
        return self.life == "open" and not (self.problem or self.importing or self.borrowed)

    @property
    def ending(self) -> str:
        """How it ended; "" while it is open."""
        return self.history.ending or ""

    def age_ns(self, now_ns: int) -> int:
        """Nanoseconds from acquire to its end (or its process's), or to now."""
        end = self.history.closed_at_ns or self.until_ns or now_ns
        return max(0, end - self.opened_at_ns)

    @cached_property
    def words(self) -> str:
        """Everything that a bare word of a filter looks through, case folded."""
        parts = (
            self.kind,
            self.owner,
            self.detail,
            self.file,
            self.site,
            self.thread,
            self.task,
            self.test,
            f"#{self.serial}",
        )
        return "\n".join(parts).casefold()


@dataclass(frozen=True, slots=True)
class SiteRow:
    """The handles that one line of a program acquired."""

    key: SiteKey
    site: str  # "app/db.py:88 connect"
    kinds: tuple[str, ...]  # sorted
    rows: tuple[HandleRow, ...]  # those in view, oldest first
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
        kinds = sorted({row.problem for row in self.rows if row.problem})
        return f"{kinds[0]} +{len(kinds) - 1}" if len(kinds) > 1 else "".join(kinds)


def group_by_site(
    rows: Iterable[HandleRow],
    *,
    start_ns: int,
    now_ns: int,
    numbers: Mapping[SiteKey, Evidence] | None = None,
) -> list[SiteRow]:
    """Groups handles by the line that acquired them, in no special order.

    Args:
        rows: any order.
        start_ns, now_ns: wall clock bounds of the strips of births.
        numbers: what each site ever opened, as far as that was counted.
    """
    groups: dict[SiteKey, list[HandleRow]] = {}
    for row in rows:
        groups.setdefault(row.site_key, []).append(row)
    span = max(1, now_ns - start_ns)
    alive = sum(row.life != "ended" for members in groups.values() for row in members)
    sites = [
        _site_row(key, members, start_ns, span, max(1, alive)) for key, members in groups.items()
    ]
    return [_judged(site, numbers.get(site.key)) for site in sites] if numbers else sites


def _judged(site: SiteRow, numbers: Evidence | None) -> SiteRow:
    if numbers is None:
        return site
    left = sum(1 for row in site.rows if row.life == "left")
    verdict = judge(replace(numbers, left=left))
    mark = site.mark
    if verdict.word == "LEAK":
        mark = ("✗", "bad")
    elif verdict.word in ("never closed", "watch") and mark[0] == " ":
        mark = ("?", "warn")
    return replace(site, numbers=numbers, verdict=verdict, mark=mark)


def _worst(marks: set[Span]) -> Span:
    return min(marks, key=lambda mark: _MARKS.index(mark[0]))


def _site_row(
    key: SiteKey, members: list[HandleRow], start_ns: int, span: int, total: int
) -> SiteRow:
    members.sort(key=lambda row: row.opened_at_ns)
    births = [0] * BUCKETS
    alive = [row for row in members if row.life != "ended"]
    for row in alive:
        bucket = (row.opened_at_ns - start_ns) * BUCKETS // span
        births[min(max(bucket, 0), BUCKETS - 1)] += 1
    timed = alive or members
    return SiteRow(
        key=key,
        site=members[0].site,
        kinds=tuple(sorted({row.kind for row in members})),
        rows=tuple(members),
        open=len(alive),
        problems=sum(1 for row in members if row.problem),
        importing=all(row.importing for row in members),
        births=tuple(births),
        oldest_ns=timed[0].opened_at_ns,
        newest_ns=timed[-1].opened_at_ns,
        share=len(alive) / total,
        mark=_worst({row.mark for row in members}),
    )
