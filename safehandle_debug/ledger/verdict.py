"""What the numbers of one site suggest: a leak, a cache, or just in use.

A ranking for people who look, no finding: it knows only how many handles a
site opened, how long those lived that were closed, and when those were born
that are open.  It says LEAK only when the site closes handles as a rule, and
some that are far older than the rule never are, again and again; a site that
closes nothing may as well keep them on purpose, and gets a softer word.  The
numbers that it went by are always told.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

__all__ = ["RANKS", "Evidence", "Verdict", "Word", "judge", "merged", "typical_ns"]

Word = Literal["LEAK", "never closed", "watch", "in use", "cache", "closed"]

RANKS: Final[dict[Word, int]] = {
    "LEAK": 0,
    "never closed": 1,
    "watch": 2,
    "in use": 3,
    "cache": 4,
    "closed": 5,
}

_RULE: Final = 8  # handles closed from which on a site closes as a rule
_FAR: Final = 10  # times the typical life: far older than the rule
_NEAR: Final = 4  # a handle closed at a fourth of their age was as old as the survivors
_FEWEST: Final = 3  # handles that show a habit
_WINDOWS: Final = 3  # of birth in which they show it
_PILE: Final = 10  # handles never closed that are worth a word
_MANY: Final = 20  # handles whose shares are known well enough
_ALIKE: Final = 2  # factor by which the shares of two halves of those may differ
_ALIKE_OF_FEW: Final = 4


@dataclass(frozen=True, slots=True)
class Evidence:
    """The numbers of one site."""

    opened: int
    closed: int
    live: int
    births: tuple[int, ...]  # of all, by window from the process's start to now
    survivors: tuple[int, ...]  # of those open
    lives: tuple[tuple[int, int], ...]  # (at most so long in ns, handles closed), ascending
    window_ns: float  # of one window; the last one may not be over
    age_ns: int  # of the process
    importing: bool = False  # all were opened by imports
    left: int = 0  # handles that the end of the process found open


@dataclass(frozen=True, slots=True)
class Verdict:
    """A word for a site, and why."""

    word: Word
    why: str  # one sentence or two, with the numbers; no full stop at the end
    outliers: int = 0  # survivors far older than the rule

    @property
    def rank(self) -> int:
        """0 for the worst."""
        return RANKS[self.word]


def merged(parts: Sequence[Evidence]) -> Evidence:
    """The numbers of several stacks at one site, of one or of several processes.

    Windows are counted from each process's own start."""
    if len(parts) == 1:
        return parts[0]
    windows = max(len(part.births) for part in parts)
    lives: dict[int, int] = {}
    for part in parts:
        for most, number in part.lives:
            lives[most] = lives.get(most, 0) + number
    return Evidence(
        opened=sum(part.opened for part in parts),
        closed=sum(part.closed for part in parts),
        live=sum(part.live for part in parts),
        births=_added([part.births for part in parts], windows),
        survivors=_added([part.survivors for part in parts], windows),
        lives=tuple(sorted(lives.items())),
        window_ns=max(part.window_ns for part in parts),
        age_ns=max(part.age_ns for part in parts),
        importing=all(part.importing for part in parts),
        left=sum(part.left for part in parts),
    )


def _added(rows: Sequence[Sequence[int]], windows: int) -> tuple[int, ...]:
    return tuple(sum(row[at] for row in rows if at < len(row)) for at in range(windows))


def judge(evidence: Evidence) -> Verdict:
    """The word for a site."""
    if evidence.left:
        return Verdict("LEAK", f"{_handles(evidence.left)} were open when the process ended")
    if not evidence.live:
        return Verdict("closed", f"all {evidence.opened:,} were closed")
    if evidence.importing:
        return Verdict("cache", "opened while modules were imported, and kept")
    if evidence.closed >= _RULE:
        return _closing(evidence)
    return _keeping(evidence)


def _closing(evidence: Evidence) -> Verdict:
    """A site that closes handles as a rule."""
    rule = max(_percentile(evidence.lives, 0.95) * _FAR, _percentile(evidence.lives, 0.99) * 4)
    typical = typical_ns(evidence)
    closes = f"{evidence.closed:,} of {evidence.opened:,} were closed, half of them within"
    normal = f"{closes} {_time(typical)}"
    # Windows of which every survivor is far older than the rule.
    windows = len(evidence.births)
    old = int((evidence.age_ns - rule) / evidence.window_ns) if evidence.age_ns > rule else 0
    old = min(old, windows)
    outliers = sum(evidence.survivors[:old])
    if not outliers:
        return Verdict("in use", f"{normal}; none that is open is far older")
    filled = [at for at in range(old) if evidence.survivors[at]]
    older = f"{normal}; {_handles(outliers)} are open for more than {_time(rule)}"
    usual = max(rule, _median_age(evidence, old) // _NEAR)
    as_old = sum(number for most, number in evidence.lives if most > usual)
    if as_old * 10 > outliers:
        return Verdict("in use", f"{older}, but {as_old:,} as old were closed too", outliers)
    spread = f"born in {_windows(len(filled), windows)}"
    if filled[-1] <= windows // 8 and old > windows // 4:
        return Verdict("cache", f"{older}, all from the start", outliers)
    if outliers < _FEWEST or len(filled) < _WINDOWS:
        return Verdict("watch", f"{older}, {spread}", outliers)
    shares = _shares(evidence, filled[0], old)
    if shares is None:
        return Verdict("watch", f"{older}, {spread}, but none of late", outliers)
    first, second = shares
    alike = _ALIKE if outliers >= _MANY else _ALIKE_OF_FEW
    if not 1 / alike <= first / second <= alike:
        kept = f"kept of the older {first:.1%}, of the newer {second:.1%}"
        return Verdict("watch", f"{older}, {spread}; {kept}", outliers)
    one_in = max(1, round(1 / second))
    return Verdict("LEAK", f"{older}, {spread}: about 1 in {one_in:,} is never closed", outliers)


def _median_age(evidence: Evidence, end: int) -> int:
    """The age of the middle one of the survivors in the windows up to `end`."""
    half, so_far = sum(evidence.survivors[:end]) / 2, 0
    for at, number in enumerate(evidence.survivors[:end]):
        so_far += number
        if so_far >= half:
            return int(evidence.age_ns - (at + 1) * evidence.window_ns)
    return 0


def _shares(evidence: Evidence, first: int, end: int) -> tuple[float, float] | None:
    """The share still open of the older and of the newer half of the births
    in windows `first` to `end`; None when one of them keeps nothing.

    It begins with the first survivor, so that a leak may start at any time."""
    births = evidence.births[first:end]
    survivors = evidence.survivors[first:end]
    half, so_far = sum(births) / 2, 0
    for at, number in enumerate(births):
        so_far += number
        if so_far >= half:
            middle = max(1, min(at + 1, len(births) - 1))
            break
    else:
        return None
    halves = []
    for part in (slice(None, middle), slice(middle, None)):
        born, kept = sum(births[part]), sum(survivors[part])
        if not born or not kept:
            return None
        halves.append(kept / born)
    return halves[0], halves[1]


def _keeping(evidence: Evidence) -> Verdict:
    """A site that closed next to nothing."""
    windows = len(evidence.births)
    filled = [at for at, number in enumerate(evidence.survivors) if number]
    some = f"{evidence.closed:,} of {evidence.opened:,} were closed" if evidence.closed else ""
    normal = some or f"none of {evidence.opened:,} was ever closed"
    spread = f"born in {_windows(len(filled), windows)}"
    if evidence.live < _FEWEST:
        recent = filled[0] >= windows - 1
        return Verdict("in use" if recent else "cache", f"{normal}; too few to say more")
    reaches_now = filled[-1] >= windows - max(1, windows // 4)
    if not reaches_now:
        quiet = evidence.age_ns - (filled[-1] + 1) * evidence.window_ns
        since = f"no new one for {_time(max(0, int(quiet)))}"
        return Verdict("cache", f"{normal}; {spread}, {since}")
    if filled[0] >= windows - max(1, windows // 8):
        return Verdict("in use", f"{normal}; all were opened lately")
    if len(filled) < _WINDOWS:
        return Verdict("in use", f"{normal}; {spread}")
    if evidence.live >= _PILE and len(filled) >= windows // 3:
        return Verdict("never closed", f"{normal}, and more keep coming: {spread}")
    return Verdict("watch", f"{normal}; {spread}")


def typical_ns(evidence: Evidence) -> int:
    """How long half of the handles lived at most that were closed, 0: none was."""
    return _percentile(evidence.lives, 0.5)


def _percentile(lives: Sequence[tuple[int, int]], share: float) -> int:
    """How long that share of the handles lived at most, ns."""
    wanted = sum(number for _, number in lives) * share
    for most, number in lives:
        wanted -= number
        if wanted <= 0:
            return most
    return 0


def _handles(number: int) -> str:
    return "1 handle" if number == 1 else f"{number:,} handles"


def _windows(filled: int, windows: int) -> str:
    return f"{filled} of {windows} windows"


def _time(nanoseconds: int) -> str:
    """ "3.2 ms", "40 s", "2.5 h"."""
    value: float = nanoseconds
    for unit, size in (("us", 1000), ("ms", 1000), ("s", 1000), ("min", 60), ("h", 60)):
        value /= size
        limit = 1000 if unit in ("us", "ms") else 120 if unit == "s" else 60
        if value < limit or unit == "h":
            break
    return f"{value:.0f} {unit}" if value >= 10 else f"{value:.1f} {unit}"
