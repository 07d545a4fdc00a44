"""A handle's history in lines: for the pane, and for a page of its own."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import Final

from safehandle_debug.ledger import Event
from safehandle_tui.model.alarms import number_of
from safehandle_tui.model.detail import HandleDetail
from safehandle_tui.model.holders import kept_lines
from safehandle_tui.model.panes import SIDE_BY_SIDE, beside, stack_pane
from safehandle_tui.model.references import outstanding, references_lines
from safehandle_tui.model.stacks import site_of, source_lines, stack_lines, where_line
from safehandle_tui.model.text import (
    Line,
    Role,
    Span,
    age,
    brief,
    clean,
    clip,
    clock,
    delta,
    fit,
    plural,
)
from safehandle_tui.model.way_out import way_out_lines

__all__ = ["handle_lines", "handle_page", "handle_title"]

_BAD_EVENTS: Final = frozenset(
    {"double-release", "use-closed", "release-failed", "double-owner", "overflow"}
)
_SUSPECT: Final = ("LEAK", "never closed", "watch")


def _event_line(event: Event, detail: HandleDetail, open_refs: set[int], *, wide: bool) -> Line:
    history = detail.history
    role: Role = "bad" if event.kind in _BAD_EVENTS else "text"
    name = event.kind if event.ending is None else f"{event.kind} {event.ending}"
    unreleased = event.seq in open_refs
    spans: list[Span] = [
        ("! " if unreleased else "  ", "warn"),
        (fit(delta(event.at_ns - history.opened_at_ns), 7, align=">"), "muted"),
        (f"  {fit(name, 15)} ", "warn" if unreleased else role),
        (f"{event.refs:>4}  ", "muted"),
    ]
    frame = site_of(event.stack)
    if frame is not None:
        spans += where_line(frame, detail.cwd)
    if unreleased:
        spans.append((" ← unreleased", "warn"))
    if event.thread != history.thread or wide:
        spans.append((f"  {clean(event.thread)}", "muted"))
    if event.task is not None and (event.task != history.task or wide):
        spans.append((f"  task {clean(event.task)}", "muted"))
    if event.detail and event.kind != "acquire":
        spans.append((f"  {clean(event.detail)}", role))
    return tuple(spans)


def _last_words(detail: HandleDetail, open_refs: set[int], now_ns: int) -> Line:
    history = detail.history
    last = history.events[-1].at_ns if history.events else history.opened_at_ns
    quiet = age(max(0, now_ns - last))
    text = ""
    if detail.row.life == "held":
        text = "its process died holding it"
    elif history.is_open:
        text = f"still open, quiet for {quiet}"
        if detail.typical_ns:
            text += f"; half of those from here close within {brief(detail.typical_ns)}"
    if open_refs and text:
        text += f", {plural(len(open_refs), 'reference')} out"
    return ((f"           ── {text}", "warn"),) if text else ()


def _event_lines(
    detail: HandleDetail, now_ns: int, *, page: bool, library: bool = False
) -> list[Line]:
    """All events, on the page each with its stack."""
    lines: list[Line] = [((fit("history", 27), "head"), ("refs", "head"))]
    if detail.history.events_dropped:
        lines.append((("  older events were dropped to keep the recording small", "warn"),))
    if not detail.history.events:
        lines.append((("  no event of it is left in the recording", "muted"),))
    open_refs = outstanding(detail.history.events)
    for event in detail.history.events:
        lines.append(_event_line(event, detail, open_refs, wide=page))
        if page and event.kind != "acquire":
            for line in stack_lines(event.stack, detail.source, detail.cwd, library=library):
                lines.append((("             ", "text"), *line))
    last = _last_words(detail, open_refs, now_ns)
    return [*lines, last] if last else lines


def _finding_lines(detail: HandleDetail, cells: int) -> list[Line]:
    lines: list[Line] = []
    for message in detail.messages:
        for at, text in enumerate(textwrap.wrap(message, max(20, cells - 2))):
            lines.append((("  " if at else "✗ ", "bad"), (text, "bad")))
    return lines


def handle_title(detail: HandleDetail, now_ns: int) -> Line:
    """What it is, in one line."""
    row, history = detail.row, detail.history
    spans: list[Span] = [
        (f"#{row.serial} ", "muted"),
        (f"{row.owner} {clean(number_of(row.history))}", "title"),
    ]
    if detail.verdict in _SUSPECT:
        spans.append((f" · its line: {detail.verdict}", "bad"))
    if row.life == "open":
        spans.append((f" · open {age(row.age_ns(now_ns))}", "warn"))
    elif row.life == "held":
        spans.append((f" · held for {age(row.age_ns(now_ns))} until the process died", "warn"))
    elif row.life == "left":
        spans.append((f" · never closed ({row.ending} at exit)", "bad"))
    else:
        spans.append((f" · {row.ending} after {age(row.age_ns(now_ns))}", "text"))
    spans.append((f" · refs {row.refs}", "text"))
    if detail.started_ns:
        born = clock(row.opened_at_ns - detail.started_ns, fine=True)
        spans.append((f" · born {born}", "muted"))
    if detail.generation:
        spans.append((f" · generation {detail.generation}", "muted"))
    spans.append((f" · {row.thread}", "muted"))
    if row.task:
        spans.append((f" · task {row.task}", "muted"))
    if row.test:
        spans.append((f" · test {row.test}", "muted"))
    if history.borrowed:
        spans.append((" · borrowed", "muted"))
    if history.importing:
        spans.append((" · by an import", "muted"))
    return tuple(spans)


def handle_lines(detail: HandleDetail, now_ns: int, cells: int, rows: int) -> list[Line]:
    """The pane below the table: stack beside history, or above it.

    `rows` of room decide whether there is surrounding source as well."""
    events = _event_lines(detail, now_ns, page=False)
    lines = _finding_lines(detail, cells)
    if detail.row.detail:
        lines.append(((detail.row.detail, "accent"),))
    stack = stack_pane(detail.history.opened, detail, rows - len(lines))
    if cells < SIDE_BY_SIDE:
        # Of a short pane the top is seen: what happened matters more than
        # the outer frames.
        kept = kept_lines(detail.kept, now_ns, cells) if detail.kept is not None else []
        told = kept if detail.kept is not None and detail.kept.texts else []
        order = (*lines, *stack[:3], *told, *events, *stack[3:], *(kept if not told else ()))
        return [clip(line, cells) for line in order]
    split = cells * 9 // 20
    if detail.kept is not None:
        events += kept_lines(detail.kept, now_ns, cells - split - 3)
    both = beside(stack, events, cells, split)
    return [*(clip(line, cells) for line in lines), *both]


def handle_page(
    detail: HandleDetail,
    now_ns: int,
    cells: int,
    *,
    library: bool = False,
    system: Sequence[Line] = (),
) -> list[Line]:
    """The full page: every event with its stack, sources with context.

    Args:
        library: also the frames of libraries.
        system: what the system says of it.
    """
    lines: list[Line] = []
    if detail.row.detail:
        lines += [((detail.row.detail, "accent"),), ()]
    if detail.messages:
        lines += [*_finding_lines(detail, cells), ()]
    history = detail.history
    stack: list[Line] = [(("opened by", "head"),)]
    stack += source_lines(history.opened, detail.source, detail.cwd, library=library)
    split = cells * 11 // 20
    wide = cells >= SIDE_BY_SIDE
    told = _told(detail, now_ns, cells - split - 3 if wide else cells, system)
    if wide:
        lines += beside(stack, told, cells, split)
    elif detail.kept is not None and detail.kept.texts:
        lines += [*told, (), *stack]  # what was asked for is read first
    else:
        lines += [*stack, (), *told]
    graph = references_lines(
        history.events,
        cells,
        since_ns=history.opened_at_ns,
        until_ns=max(now_ns, history.opened_at_ns),
        is_open=history.is_open,
    )
    lines += [(), *graph, *([()] if graph else [])]
    lines += _event_lines(detail, now_ns, page=True, library=library)
    return [clip(line, cells) for line in lines]


def _told(detail: HandleDetail, now_ns: int, cells: int, system: Sequence[Line]) -> list[Line]:
    """Who keeps it alive, how it would end, and what the system says of it."""
    parts: list[list[Line]] = []
    if detail.kept is not None:
        parts.append(kept_lines(detail.kept, now_ns, cells))
    parts.append(way_out_lines(detail, len(outstanding(detail.history.events)), cells))
    if system:
        parts.append([(("the system says", "head"),), *((("  ", "text"), *li) for li in system)])
    lines = [line for part in parts for line in (*part, ())]
    return lines[:-1]
