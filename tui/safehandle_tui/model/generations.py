"""Generations: what is left of the handles that were opened between two marks.

After the first few rounds of the same work nothing of a round should be left
once it is over; a site that keeps something of every round leaks.
"""

from __future__ import annotations

import string
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from safehandle_tui.model.columns import Column
from safehandle_tui.model.rows import Bunch
from safehandle_tui.model.text import Line, Span, clock, count, plural

__all__ = [
    "GENERATION_COLUMNS",
    "GenerationRow",
    "Mark",
    "generation_lines",
    "generation_title",
    "generations",
    "name_of",
]


@dataclass(frozen=True, slots=True)
class Mark:
    """A moment that the user marked."""

    at_ns: int  # wall clock
    opened: int  # handles that had been acquired by then


@dataclass(frozen=True, slots=True)
class GenerationRow:
    """The handles that were opened between two marks."""

    name: str
    number: int  # of the mark it begins with, 0 for the process's start
    since_ns: int
    until_ns: int | None  # None: it goes on
    started_ns: int  # of the process
    opened: int
    open: int  # of them still open
    sites: tuple[tuple[str, int], ...]  # of those, most first
    again: frozenset[str]  # sites that kept something of the one before too

    @property
    def key(self) -> int:
        return self.number

    @property
    def mark(self) -> Span:
        return ("✗", "bad") if self.grows else (" ", "text")

    @property
    def grows(self) -> bool:
        """True when a site kept something of this one and of that before."""
        return bool(self.again)

    @property
    def word(self) -> Span:
        if self.until_ns is None:
            return "under way", "muted"
        if self.number == 0:
            return "warm-up", "muted"
        if not self.open:
            return "clean", "good"
        return ("grows", "bad") if self.grows else ("kept some", "warn")


def name_of(number: int) -> str:
    """A, B, ... Z, AA, ...; of 0 "start"."""
    if number == 0:
        return "start"
    letters = ""
    while number:
        number, rest = divmod(number - 1, 26)
        letters = string.ascii_uppercase[rest] + letters
    return letters


def generations(
    marks: Sequence[Mark],
    born: Callable[[int, int | None], Iterable[Bunch]],
    *,
    started_ns: int,
    opened: int,
) -> list[GenerationRow]:
    """One row for what lies before the first mark, one for what follows each.

    Args:
        marks: by time.
        born: (after, up to) -> handles that were opened then, and are open.
        opened: handles that were acquired up to now.
    """
    begins = [started_ns, *(mark.at_ns for mark in marks)]
    counts = [0, *(mark.opened for mark in marks), opened]
    found: list[GenerationRow] = []
    before: frozenset[str] = frozenset()
    for number in range(len(begins)):
        until = begins[number + 1] if number + 1 < len(begins) else None
        sites: Counter[str] = Counter()
        for bunch in born(begins[number] if number else 0, until):
            sites[bunch.site] += bunch.count
        here = frozenset(sites)
        found.append(
            GenerationRow(
                name=name_of(number),
                number=number,
                since_ns=begins[number],
                until_ns=until,
                started_ns=started_ns,
                opened=max(0, counts[number + 1] - counts[number]),
                open=sites.total(),
                sites=tuple(sites.most_common()),
                again=here & before if number >= 2 else frozenset(),
            )
        )
        before = here
    return found


GENERATION_COLUMNS: Final[tuple[Column[GenerationRow], ...]] = (
    Column(
        "name",
        "MARK",
        6,
        lambda row, now_ns, width: (row.name, "title"),
        lambda row, now_ns: row.number,
    ),
    Column(
        "at",
        "AT",
        9,
        lambda row, now_ns, width: (clock(row.since_ns - row.started_ns), "muted"),
        lambda row, now_ns: row.since_ns,
        align=">",
        rank=2,
    ),
    Column(
        "opened",
        "OPENED",
        9,
        lambda row, now_ns, width: (count(row.opened), "text"),
        lambda row, now_ns: row.opened,
        descending=True,
        align=">",
        rank=1,
    ),
    Column(
        "still",
        "STILL OPEN",
        10,
        lambda row, now_ns, width: (count(row.open), "strong" if row.open else "muted"),
        lambda row, now_ns: row.open,
        descending=True,
        align=">",
    ),
    Column(
        "verdict",
        "VERDICT",
        10,
        lambda row, now_ns, width: row.word,
        lambda row, now_ns: row.word[0],
    ),
    Column(
        "sites",
        "SITES WITH SURVIVORS",
        20,
        lambda row, now_ns, width: (
            ", ".join(f"{site.partition(' ')[0]} x{number:,}" for site, number in row.sites)
            or "-",
            "own",
        ),
        lambda row, now_ns: len(row.sites),
        weight=1,
    ),
)


def generation_lines(row: GenerationRow) -> list[Line]:
    """What is left of a generation, by site."""
    lines: list[Line] = []
    for site, number in row.sites:
        again = site in row.again
        lines.append(
            (
                (f" {count(number):>7} ", "bad" if again else "text"),
                (site, "own"),
                ("  kept some of the one before too" if again else "", "bad"),
            )
        )
    if not lines:
        lines = [((" nothing of it is open", "good"),)]
    lines.append(())
    hint = "m marks; a round of work should leave nothing behind once it is over"
    if row.number == 0:
        hint = "what is opened before the first mark counts as warm-up; m marks"
    lines.append(((f" {hint}", "muted"),))
    return lines


def generation_title(row: GenerationRow) -> Line:
    """A generation in one line."""
    spans: list[Span] = [(f"generation {row.name}", "title")]
    spans.append((f" · {plural(row.opened, 'handle')} opened", "text"))
    spans.append((f" · {count(row.open)} still open", "strong"))
    return tuple(spans)
