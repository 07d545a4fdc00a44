"""The alarms: one row a finding, and the acts that it is about."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from safehandle_debug.findings import Finding
from safehandle_debug.ledger import Event, Frame, History, is_library
from safehandle_tui.model.columns import Column
from safehandle_tui.model.text import Span, clean, clock, count, short_path

__all__ = [
    "ALARM_COLUMNS",
    "TWICE",
    "AlarmRow",
    "between",
    "first_end",
    "moments_of",
    "named",
    "number_of",
    "own_frame",
    "place_text",
    "wrong_act",
]

# A second act on a handle that was over: there is a first one to show beside it.
TWICE: Final = ("double-release", "recycled", "use-after-close", "closed-behind-owner")
# The kinds of event that a finding is about.
_ACTS: Final[dict[str, tuple[str, ...]]] = {
    "double-release": ("double-release", "release"),
    "recycled": ("recycled",),
    "use-after-close": ("use-closed",),
    "closed-behind-owner": ("closed-behind",),
    "double-owner": ("double-owner",),
    "release-failed": ("release-failed",),
    "unbalanced": ("add-ref", "dispose"),
}


@dataclass(frozen=True, slots=True)
class AlarmRow:
    """One finding, as the table shows it."""

    process: str  # path of its recording
    finding: Finding
    started_ns: int  # of its process, wall clock

    @property
    def key(self) -> tuple[str, str]:
        return (self.process, self.finding.fingerprint)

    @property
    def mark(self) -> Span:
        return ("✗", "bad") if self.finding.severity == "error" else ("!", "warn")

    @property
    def at_ns(self) -> int:
        """When it came to pass, wall clock; of a leak: when it was opened."""
        wrong = wrong_act(self.finding)
        return wrong.at_ns if wrong is not None else self.finding.handle.opened_at_ns

    @property
    def seq(self) -> int | None:
        """The event of the wrong act, where there was one."""
        wrong = wrong_act(self.finding)
        return wrong.seq if wrong is not None else None

    @property
    def site(self) -> str:
        return place_text(own_frame(self.finding.culprit), self.finding.cwd)

    @property
    def what(self) -> str:
        handle = self.finding.handle
        detail = f" {clean(handle.detail)}" if handle.detail else ""
        return f"{named(handle)}{detail}"


def named(handle: History) -> str:
    """ "#20 FileIO fd 18"; of what no object owns its kind."""
    owner = handle.kind if handle.owner == "raw" else handle.owner
    return f"#{handle.serial} {clean(owner)} {clean(number_of(handle))}"


def number_of(handle: History) -> str:
    """ "fd 7"; of a type with numbers of its own "value 7"."""
    return f"{handle.space if handle.space != handle.owner else 'value'} {handle.value}"


def wrong_act(finding: Finding) -> Event | None:
    """The event that the finding is about; None for a leak."""
    acts = [event for event in finding.events if event.stack == finding.culprit]
    kinds = _ACTS.get(finding.kind, ())
    # The wrong act may have the very stack of a right one before it.
    for event in acts:
        if event.kind in kinds:
            return event
    wrong = (event for event in acts if event.kind not in ("acquire", "add-ref"))
    return next(wrong, acts[0] if acts else None)


def first_end(finding: Finding, before: Event | None) -> Event | None:
    """The act that ended the handle before the wrong one."""
    ends = [
        event
        for event in finding.events
        if event.kind in ("close", "invalidate", "dispose")
        and (before is None or event.seq < before.seq)
    ]
    return ends[-1] if ends else None


def moments_of(finding: Finding) -> tuple[int, int] | None:
    """The seqs of the first and of the wrong act, when something may have
    come between them."""
    wrong = wrong_act(finding)
    first = first_end(finding, wrong)
    if finding.kind not in TWICE or wrong is None or first is None:
        return None
    return first.seq, wrong.seq


def between(finding: Finding, events: Sequence[Event]) -> Event | None:
    """Who got the number between the two acts: the acquire, if there was one."""
    return next(
        (
            event
            for event in events
            if event.kind == "acquire"
            and event.value == finding.handle.value
            and event.serial != finding.handle.serial
        ),
        None,
    )


ALARM_COLUMNS: Final[tuple[Column[AlarmRow], ...]] = (
    Column(
        "kind",
        "ALARM",
        19,
        lambda row, now_ns, width: (row.finding.kind, row.mark[1]),
        lambda row, now_ns: row.finding.kind,
    ),
    Column(
        "count",
        "TIMES",
        6,
        lambda row, now_ns, width: (count(row.finding.count), "strong"),
        lambda row, now_ns: row.finding.count,
        descending=True,
        align=">",
    ),
    Column(
        "at",
        "AT",
        9,
        lambda row, now_ns, width: (clock(row.at_ns - row.started_ns), "muted"),
        lambda row, now_ns: row.at_ns,
        align=">",
        rank=1,
    ),
    Column(
        "handle",
        "HANDLE",
        18,
        lambda row, now_ns, width: (row.what, "text"),
        lambda row, now_ns: row.finding.handle.serial,
        weight=2,
        rank=2,
    ),
    Column(
        "site",
        "WHERE",
        24,
        lambda row, now_ns, width: (row.site, "own"),
        lambda row, now_ns: row.site,
        keep="end",
        weight=3,
    ),
    Column(
        "thread",
        "THREAD",
        11,
        lambda row, now_ns, width: (clean(row.finding.thread), "muted"),
        lambda row, now_ns: row.finding.thread,
        weight=1,
        most=16,
        rank=3,
    ),
)


def own_frame(stack: Sequence[Frame]) -> Frame | None:
    """The innermost frame of the program itself, or of all if there is none."""
    own = (frame for frame in stack if not is_library(frame.file))
    return next(own, stack[0] if stack else None)


def place_text(frame: Frame | None, cwd: str) -> str:
    """ "app/db.py:88 connect"."""
    if frame is None:
        return "(no stack recorded)"
    return f"{clean(short_path(frame.file, cwd))}:{frame.line} {clean(frame.function)}"
