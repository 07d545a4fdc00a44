"""The card of an alarm: its two acts side by side, and what lies between them."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from safehandle_debug.findings import Finding
from safehandle_debug.ledger import Event, Frame, History
from safehandle_debug.recording.format import Flag
from safehandle_tui.model.alarms import (
    TWICE,
    AlarmRow,
    first_end,
    named,
    number_of,
    own_frame,
    place_text,
    wrong_act,
)
from safehandle_tui.model.source import SourceMap
from safehandle_tui.model.stacks import runs
from safehandle_tui.model.text import (
    Line,
    Role,
    Span,
    brief,
    clean,
    clip,
    clock,
    fit,
    line_width,
    plural,
)

__all__ = ["alarm_lines", "alarm_title", "opened_by_enter"]

_SIDE_BY_SIDE: Final = 60
_LEAST: Final = 4  # lines of a stack that are worth a box
_ENDINGS: Final = {
    "closed": "closed",
    "exited": "closed by its with block",
    "dropped": "dropped, a finalizer closed it",
    "collected": "collected, a finalizer closed it",
    "swept": "closed by the interpreter's exit",
    "transferred": "detached",
}
_SECOND: Final = {
    "double-release": "released again",
    "recycled": "stale use",
    "use-after-close": "used",
    "closed-behind-owner": "its owner's",
}


@dataclass(frozen=True, slots=True)
class _Panel:
    title: str
    role: Role
    stack: tuple[Frame, ...]
    event: Event | None = None


def alarm_title(row: AlarmRow) -> Line:
    """The alarm in one line."""
    finding = row.finding
    sign, role = row.mark
    spans: list[Span] = [
        (f"{sign} {finding.kind.upper()}  ", role),
        (named(finding.handle), "title"),
    ]
    if finding.count > 1:
        spans.append((f"  {plural(finding.count, 'time')}", "strong"))
    spans.append((f"  {clock(row.at_ns - row.started_ns, fine=True)}", "muted"))
    if finding.victim is not None:
        would = "would have hit" if finding.prevented else "hit"
        spans.append((f"  {would} #{finding.victim.serial}", "bad"))
    if finding.handle.detail:
        spans.append((f"  {clean(finding.handle.detail)}", "text"))
    return tuple(spans)


def opened_by_enter(row: AlarmRow, taken: Event | None) -> tuple[int, int]:
    """Serials: of the handle that Enter opens on the card (the victim, where
    there is one), and of the one that the alarm is about."""
    about = row.finding.handle.serial
    victim = row.finding.victim or taken
    return (victim.serial if victim is not None else about), about


def alarm_lines(
    row: AlarmRow, taken: Event | None, source: SourceMap, cells: int, room: int
) -> list[Line]:
    """The card in so many lines, if it can be done; stacks give way first.

    Args:
        taken: the acquire that got the number between the two, if any.
    """
    finding = row.finding
    message: list[Line] = [
        ((text, "text"),) for text in textwrap.wrap(clean(finding.message), max(30, cells - 2))
    ]
    wrong = wrong_act(finding)
    first = first_end(finding, wrong)
    panels = _panels(finding, first, wrong)
    below = _victim_lines(row, first, wrong, taken, cells)
    below += _opened_lines(finding, panels[0], cells)
    beside = cells >= _SIDE_BY_SIDE or len(panels) == 1
    boxes = 1 if beside else len(panels)
    wanted = max(len(_frames(panel, source, finding.cwd, cells)) for panel in panels)
    left = room - len(below) - 2 * boxes
    least = boxes * min(wanted, _LEAST)
    if len(message) > max(1, left - least):
        # The acts say it again.
        message = message[: max(1, left - least)]
        message[-1] = clip(((message[-1][0][0] + " …", "text"),), cells)
    height = max(2, min(wanted, (left - len(message)) // boxes))
    return [*message, *_boxes(panels, source, row, cells, height, beside=beside), *below]


def _panels(finding: Finding, first: Event | None, wrong: Event | None) -> list[_Panel]:
    if finding.kind in TWICE and first is not None:
        done = _ENDINGS.get(first.ending or "", "close asked for")
        second = _SECOND[finding.kind]
        return [
            _Panel(f"1st: {done}", "text", first.stack, first),
            _Panel(f"2nd: {second}", "bad", finding.culprit, wrong),
        ]
    if finding.culprit == finding.handle.opened:
        close = first or next((e for e in finding.events if e.kind == "close"), None)
        if close is None:
            return [_Panel("opened, and never closed", "bad", finding.culprit)]
        return [
            _Panel("opened", "bad", finding.culprit),
            _Panel(_ENDINGS.get(close.ending or "", "closed"), "text", close.stack, close),
        ]
    return [
        _Panel("opened", "text", finding.handle.opened),
        _Panel("the wrong act", "bad", finding.culprit, wrong),
    ]


# --- boxes ---


def _boxes(
    panels: Sequence[_Panel],
    source: SourceMap,
    row: AlarmRow,
    cells: int,
    height: int,
    *,
    beside: bool,
) -> list[Line]:
    if len(panels) == 1 or not beside:
        return [line for panel in panels for line in _boxed(panel, source, row, cells, height)]
    width = (cells - 1) // 2
    one, two = (_boxed(panel, source, row, width, height) for panel in panels)
    return [(*a, (" ", "text"), *b) for a, b in zip(one, two, strict=True)]


def _boxed(panel: _Panel, source: SourceMap, row: AlarmRow, cells: int, height: int) -> list[Line]:
    event, inner = panel.event, cells - 4
    who = " "
    if event is not None:
        who = f"  {clock(event.at_ns - row.started_ns, fine=True)} {clean(event.thread)} "
    head = clip(((f" {panel.title}", panel.role), (who, "muted")), cells - 4)
    rest = "─" * (cells - 3 - line_width(head))
    body = _body(panel, source, row.finding.cwd, inner, height)
    lines: list[Line] = [(("┌─", "rule"), *head, (rest + "┐", "rule"))]
    for at in range(height):
        line = clip(body[at] if at < len(body) else (), inner)
        pad = " " * (inner - line_width(line))
        lines.append((("│ ", "rule"), *line, (pad, "text"), (" │", "rule")))
    lines.append((("└" + "─" * (cells - 2) + "┘", "rule"),))
    return lines


def _body(panel: _Panel, source: SourceMap, cwd: str, cells: int, height: int) -> list[Line]:
    """What fits of a stack: the outer frames lose their source lines first."""
    for sources in (len(panel.stack), 1):
        lines = _frames(panel, source, cwd, cells, sources)
        if len(lines) <= height:
            return lines
    more = len(lines) - height + 1
    return [*lines[: height - 1], ((f"… {plural(more, 'more line')}", "muted"),)]


def _frames(
    panel: _Panel, source: SourceMap, cwd: str, cells: int, sources: int = 1000
) -> list[Line]:
    """The program's frames, `sources` of them with their source line."""
    lines: list[Line] = []
    if panel.event is not None and panel.event.flags & Flag.FINALIZER:
        collector = ", of the cyclic collector" if panel.event.flags & Flag.IN_GC else ""
        lines.append(((f"in a finalizer{collector}", "muted"),))
    for part in runs(panel.stack):
        if isinstance(part, int):
            lines.append(((f"… {plural(part, 'library frame')}", "muted"),))
            continue
        place = place_text(part, cwd)
        lines.append(((fit(place, min(cells, len(place)), keep="end"), "own"),))
        text = source.get((part.file, part.line), "").strip()
        if text and sources > 0:
            lines.append((("    ", "text"), (text, "source")))
        sources -= 1
    return lines or [(("no stack was recorded", "muted"),)]


# --- below the boxes ---


def _victim_lines(
    row: AlarmRow, first: Event | None, wrong: Event | None, taken: Event | None, cells: int
) -> list[Line]:
    finding = row.finding
    if first is None or wrong is None or finding.kind not in TWICE:
        return []
    gap = brief(max(0, wrong.at_ns - first.at_ns))
    head: Line = ((f" between them ({gap}): ", "muted"),)
    number = clean(number_of(finding.handle))
    victim: History | Event | None = finding.victim or taken
    if victim is None:
        return [clip((*head, (f"nobody else got {number}", "text")), cells)]
    stack = victim.opened if isinstance(victim, History) else victim.stack
    at_ns = victim.opened_at_ns if isinstance(victim, History) else victim.at_ns
    would = "would have been given" if finding.prevented else "was given"
    given: Span = (f"{number} {would} to #{victim.serial} ", "bad")
    who: Line = (
        (place_text(own_frame(stack), finding.cwd), "own"),
        (f", {clean(victim.thread)}, {clock(at_ns - row.started_ns, fine=True)}", "muted"),
        (f"  {clean(victim.detail)}" if victim.detail else "", "text"),
    )
    enter: Span = ("  ← the victim: Enter", "accent")
    if line_width((*head, given, *who, enter)) <= cells:
        return [(*head, given, *who, enter)]
    if line_width((*head, given, enter)) > cells:
        head = ((" ", "text"),)
    return [clip((*head, given, enter), cells), clip((("   ", "text"), *who), cells)]


def _opened_lines(finding: Finding, left: _Panel, cells: int) -> list[Line]:
    lines: list[Line] = [
        ((" kept alive by ", "muted"), (clean(holder), "text")) for holder in finding.holders
    ]
    spans: list[Span] = []
    opened = own_frame(finding.handle.opened)
    if left.stack != finding.handle.opened and opened is not None:
        spans += [
            (" opened at ", "muted"),
            (place_text(opened, finding.cwd), "own"),
            (f"  {clean(finding.handle.thread)}", "muted"),
        ]
    if finding.count > 1:
        such = f" {plural(finding.count, 'such alarm')} from these places"
        spans += [(" ·" if spans else "", "muted"), (such, "strong"), ("  n: the next", "muted")]
    return [clip(line, cells) for line in (*lines, tuple(spans)) if line]
