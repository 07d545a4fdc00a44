"""The events of the processes, one row each, the newest last."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Final

from safehandle_debug.ledger import Event, Frame
from safehandle_debug.ledger.facts import words_of
from safehandle_debug.ledger.sites import site_of
from safehandle_debug.recording.format import Flag
from safehandle_tui.model.columns import Column
from safehandle_tui.model.rows import site_text
from safehandle_tui.model.text import Role, Span, clean, clock

__all__ = ["EVENT_COLUMNS", "MOST_EVENTS", "EventRow"]

MOST_EVENTS: Final = 5_000  # that are looked through for the table
_BAD: Final = frozenset(
    {
        "double-release",
        "use-closed",
        "release-failed",
        "double-owner",
        "overflow",
        "closed-behind",
        "recycled",
        "exhausted",
    }
)
_BORROWED: Final = int(Flag.BORROWED)
_IMPORTING: Final = int(Flag.IMPORTING)


@dataclass(frozen=True)
class EventRow:
    """One event; a filter can judge it as it does a handle."""

    process: str  # path of the recording
    pid: int
    started_ns: int
    cwd: str
    event: Event
    kind: str  # of its handle; "" when that is not known
    owner: str

    @property
    def key(self) -> tuple[str, int]:
        return (self.process, self.event.seq)

    @property
    def mark(self) -> Span:
        return ("✗", "bad") if self.event.kind in _BAD else (" ", "text")

    @cached_property
    def frame(self) -> Frame | None:
        return site_of(self.event.stack)

    @cached_property
    def site(self) -> str:
        return site_text(self.frame, self.cwd, "-")

    @property
    def name(self) -> str:
        ending = self.event.ending
        return self.event.kind if ending is None else f"{self.event.kind} {ending}"

    @property
    def role(self) -> Role:
        if self.event.kind in _BAD:
            return "bad"
        return {"acquire": "good", "close": "text"}.get(self.event.kind, "muted")  # type: ignore[return-value]

    # --- what a filter asks ---

    @property
    def detail(self) -> str:
        return clean(self.event.detail or "")

    @property
    def file(self) -> str:
        return self.frame.file if self.frame is not None else ""

    @property
    def function(self) -> str:
        return self.frame.function if self.frame is not None else ""

    @property
    def line(self) -> int:
        return self.frame.line if self.frame is not None else 0

    @property
    def thread(self) -> str:
        return clean(self.event.thread)

    @property
    def task(self) -> str:
        return clean(self.event.task or "")

    @property
    def test(self) -> str:
        return clean(self.event.test or "")

    @property
    def ending(self) -> str:
        return self.event.ending or ""

    @property
    def problem(self) -> str:
        return self.event.kind if self.event.kind in _BAD else ""

    @property
    def value(self) -> int:
        return self.event.value

    @property
    def refs(self) -> int:
        return self.event.refs

    @property
    def serial(self) -> int:
        return self.event.serial

    @property
    def borrowed(self) -> bool:
        return bool(self.event.flags & _BORROWED)

    @property
    def importing(self) -> bool:
        return bool(self.event.flags & _IMPORTING)

    @property
    def is_open(self) -> bool:
        return self.event.kind != "close"

    def age_ns(self, now_ns: int) -> int:
        return max(0, now_ns - self.event.at_ns)

    @cached_property
    def words(self) -> tuple[str, ...]:
        return words_of(self, self.name)


EVENT_COLUMNS: Final[tuple[Column[EventRow], ...]] = (
    Column(
        "at",
        "AT",
        13,
        lambda row, now_ns, width: (clock(row.event.at_ns - row.started_ns, fine=True), "muted"),
        lambda row, now_ns: row.event.at_ns,
        align=">",
    ),
    Column(
        "pid",
        "PID",
        7,
        lambda row, now_ns, width: (str(row.pid), "muted"),
        lambda row, now_ns: row.pid,
        align=">",
        rank=5,
    ),
    Column(
        "serial",
        "#",
        7,
        lambda row, now_ns, width: (str(row.event.serial), "muted"),
        lambda row, now_ns: row.event.serial,
        align=">",
    ),
    Column(
        "event",
        "EVENT",
        17,
        lambda row, now_ns, width: (row.name, row.role),
        lambda row, now_ns: row.name,
    ),
    Column(
        "value",
        "VALUE",
        6,
        lambda row, now_ns, width: (str(row.event.value), "text"),
        lambda row, now_ns: row.event.value,
        align=">",
        rank=3,
    ),
    Column(
        "refs",
        "REFS",
        4,
        lambda row, now_ns, width: (str(row.event.refs), "muted"),
        lambda row, now_ns: row.event.refs,
        align=">",
        rank=4,
    ),
    Column(
        "site",
        "SITE",
        22,
        lambda row, now_ns, width: (row.site, "own"),
        lambda row, now_ns: row.site,
        keep="end",
        weight=3,
    ),
    Column(
        "thread",
        "THREAD",
        11,
        lambda row, now_ns, width: (row.task or row.thread, "muted"),
        lambda row, now_ns: row.thread,
        weight=1,
        most=16,
        rank=2,
    ),
    Column(
        "detail",
        "DETAIL",
        10,
        lambda row, now_ns, width: (row.detail or "-", "muted"),
        lambda row, now_ns: row.detail,
        keep="end",
        weight=2,
        rank=1,
    ),
)
