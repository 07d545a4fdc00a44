"""The alarms: one row a finding, and the card that shows what came to pass."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from safehandle_debug.findings import Finding
from safehandle_debug.ledger import Event, Frame, History, is_library
from safehandle_tui.model.columns import Column
from safehandle_tui.model.source import SourceMap
from safehandle_tui.model.stacks import runs
from safehandle_tui.model.text import (
    Line,
    Role,
    Span,
    age,
    clean,
    clip,
    clock,
    count,
    line_width,
    plural,
    short_path,
)

__all__ = [
    "ALARM_COLUMNS",
    "AlarmRow",
    "alarm_lines",
    "alarm_title",
    "between",
    "moments_of",
    "wrong_act",
]

_SIDE_BY_SIDE: Final = 90
# A second act on a handle that was over: there is a first one to show beside it.
_TWICE: Final = ("double-release", "recycled", "use-after-close", "closed-behind-owner")
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
        return _place(_own(self.finding.culprit), self.finding.cwd)

    @property
    def what(self) -> str:
        handle = self.finding.handle
        detail = f" {clean(handle.detail)}" if handle.detail else ""
        return f"#{handle.serial} {clean(handle.owner)} {handle.value}{detail}"


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


def _first_end(finding: Finding, before: Event | None) -> Event | None:
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
    first = _first_end(finding, wrong)
    if finding.kind not in _TWICE or wrong is None or first is None:
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


def alarm_title(row: AlarmRow) -> Line:
    """The alarm in one line."""
    finding = row.finding
    spans: list[Span] = [
        (f"{finding.kind.upper()}  ", row.mark[1]),
        (row.what, "title"),
        (f"  {clock(row.at_ns - row.started_ns)}", "muted"),
    ]
    if finding.count > 1:
        spans.append((f"  {plural(finding.count, 'time')}", "strong"))
    if finding.victim is not None:
        would = "would have hit" if finding.prevented else "hit"
        spans.append((f"  {would} #{finding.victim.serial}", "bad"))
    return tuple(spans)


def alarm_lines(row: AlarmRow, taken: Event | None, source: SourceMap, cells: int) -> list[Line]:
    """The card: the two acts side by side, and what lies between them.

    Args:
        taken: the acquire that got the number between the two, if any.
    """
    finding = row.finding
    lines: list[Line] = [
        ((text, "text"),) for text in textwrap.wrap(clean(finding.message), max(30, cells - 2))
    ]
    wrong = wrong_act(finding)
    first = _first_end(finding, wrong)
    left, right = _panels(row, first, wrong)
    lines += _side_by_side(left, right, source, finding.cwd, cells)
    lines += _victim_lines(finding, first, wrong, taken, cells)
    for holder in finding.holders:
        lines.append(((" kept alive by ", "muted"), (clean(holder), "text")))
    opened = _own(finding.handle.opened)
    if left[2] != finding.handle.opened and opened is not None:
        lines.append(
            (
                (" opened at ", "muted"),
                (_place(opened, finding.cwd), "own"),
                (f"  by {clean(finding.handle.thread)}", "muted"),
            )
        )
    return lines


_Panel = tuple[str, Role, tuple[Frame, ...], Event | None]


def _panels(row: AlarmRow, first: Event | None, wrong: Event | None) -> tuple[_Panel, _Panel]:
    finding = row.finding
    opened: _Panel = ("opened", "text", finding.handle.opened, None)
    if finding.kind in _TWICE and first is not None:
        how = first.ending or "asked"
        left: _Panel = (f"1st: {first.kind} ({how})", "text", first.stack, first)
        kind: str = finding.kind
        name = "2nd: " + ("use" if kind == "use-after-close" else "the wrong one")
        return left, (name, "bad", finding.culprit, wrong)
    if finding.culprit == finding.handle.opened:
        close = first or next((e for e in finding.events if e.kind == "close"), None)
        if close is None:
            return ("opened, and never closed", "bad", finding.culprit, None), (
                "",
                "text",
                (),
                None,
            )
        return (
            ("opened", "bad", finding.culprit, None),
            (f"closed ({close.ending})", "text", close.stack, close),
        )
    return opened, ("the wrong act", "bad", finding.culprit, wrong)


def _side_by_side(
    left: _Panel, right: _Panel, source: SourceMap, cwd: str, cells: int
) -> list[Line]:
    panels = [panel for panel in (left, right) if panel[0]]
    if cells < _SIDE_BY_SIDE or len(panels) == 1:
        return [
            line
            for panel in panels
            for line in _boxed(panel, source, cwd, cells, _height(panel, source))
        ]
    width = (cells - 1) // 2
    height = max(_height(panel, source) for panel in panels)
    one, two = (_boxed(panel, source, cwd, width, height) for panel in panels)
    return [(*a, (" ", "text"), *b) for a, b in zip(one, two, strict=True)]


def _body(panel: _Panel, source: SourceMap, cwd: str) -> list[Line]:
    lines: list[Line] = []
    for part in runs(panel[2]):
        if isinstance(part, int):
            lines.append(((f"… {plural(part, 'library frame')}", "muted"),))
            continue
        lines.append(((_place(part, cwd), "own"),))
        text = source.get((part.file, part.line), "")
        if text.strip():
            lines.append((("    ", "text"), (text.strip(), "source")))
    return lines or [(("no stack was recorded", "muted"),)]


def _height(panel: _Panel, source: SourceMap) -> int:
    return len(_body(panel, source, ""))


def _boxed(panel: _Panel, source: SourceMap, cwd: str, cells: int, height: int) -> list[Line]:
    title, role, _, event = panel
    who = f" {clean(event.thread)} " if event is not None else " "
    head = clip(((f" {title}", role), (who, "muted")), cells - 4)
    rest = "─" * (cells - 3 - line_width(head))
    inner = cells - 4
    body = _body(panel, source, cwd)
    lines: list[Line] = [(("┌─", "rule"), *head, (rest + "┐", "rule"))]
    for at in range(height):
        line = clip(body[at] if at < len(body) else (), inner)
        pad = " " * (inner - line_width(line))
        lines.append((("│ ", "rule"), *line, (pad, "text"), (" │", "rule")))
    lines.append((("└" + "─" * (cells - 2) + "┘", "rule"),))
    return lines


def _victim_lines(
    finding: Finding, first: Event | None, wrong: Event | None, taken: Event | None, cells: int
) -> list[Line]:
    if first is None or wrong is None or finding.kind not in _TWICE:
        return []
    gap = age(max(0, wrong.at_ns - first.at_ns))
    spans: list[Span] = [(f" between them ({gap}): ", "muted")]
    number = f"{clean(finding.handle.space)} {finding.handle.value}"
    victim: History | Event | None = finding.victim or taken
    if victim is None:
        spans.append((f"nobody else got {number}", "text"))
        return [clip(spans, cells)]
    stack = victim.opened if isinstance(victim, History) else victim.stack
    would = "would have been given" if finding.prevented else "was given"
    spans += [
        (f"{number} {would} to #{victim.serial} ", "bad"),
        (_place(_own(stack), finding.cwd), "own"),
        (f", {clean(victim.thread)}", "muted"),
    ]
    if victim.detail:
        spans.append((f", {clean(victim.detail)}", "text"))
    return [clip(spans, cells)]


def _own(stack: Sequence[Frame]) -> Frame | None:
    return next(
        (frame for frame in stack if not is_library(frame.file)), stack[0] if stack else None
    )


def _place(frame: Frame | None, cwd: str) -> str:
    if frame is None:
        return "(no stack recorded)"
    return f"{clean(short_path(frame.file, cwd))}:{frame.line} {clean(frame.function)}"
