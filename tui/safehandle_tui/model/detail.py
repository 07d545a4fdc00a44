"""The history of the selected handle, and the picture of the selected site.

Both are made by the reader with all the source lines they need, and turned
into lines of text for any width without touching a file again.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from safehandle_debug.findings import findings_of
from safehandle_debug.ledger import Event, Frame, History, is_library
from safehandle_tui.model.holders import Kept, kept_lines
from safehandle_tui.model.rows import HandleRow, SiteRow
from safehandle_tui.model.source import SourceFiles, SourceMap
from safehandle_tui.model.stacks import (
    CONTEXT,
    folded_line,
    place_of,
    site_of,
    source_lines,
    stack_lines,
    where_line,
)
from safehandle_tui.model.text import (
    Line,
    Role,
    Span,
    age,
    brief,
    clean,
    clip,
    count,
    delta,
    fit,
    line_width,
    plural,
    strip_of,
)

__all__ = [
    "HandleDetail",
    "SiteDetail",
    "handle_detail",
    "handle_lines",
    "handle_page",
    "handle_title",
    "outstanding",
    "site_detail",
    "site_lines",
    "site_title",
]

_SHARED: Final = 2  # references: somebody besides the owner
_SIDE_BY_SIDE: Final = 100  # cells from which two columns are easier to read
_CLOSES: Final = 3  # places that close handles of a site
_SAMPLE: Final = 40  # handles of a site that its picture lists
_BAD_EVENTS: Final = frozenset(
    {"double-release", "use-closed", "release-failed", "double-owner", "overflow"}
)


@dataclass(frozen=True, slots=True)
class HandleDetail:
    """Everything that is shown of one handle."""

    row: HandleRow
    history: History  # with its events
    messages: tuple[str, ...]  # findings on it, one sentence each
    source: SourceMap
    cwd: str
    kept: Kept | None = None  # who keeps it alive; None: not to be told
    typical_ns: int = 0  # how long half of its site's live that were closed; 0: not known


@dataclass(frozen=True, slots=True)
class SiteDetail:
    """Everything that is shown of one site."""

    site: SiteRow
    stack: tuple[Frame, ...]  # of its newest handle, innermost first
    stacks: int  # number of different stacks
    source: SourceMap
    cwd: str
    closes: tuple[str, ...] = ()  # where they are closed
    kept: Kept | None = None  # who keeps its oldest alive


Detail = HandleDetail | SiteDetail


def handle_detail(
    row: HandleRow, history: History, files: SourceFiles, *, over: bool, cwd: str
) -> HandleDetail:
    """Collects a handle's detail; `over` when its process has exited."""
    source = files.around((f for f in history.opened if not is_library(f.file)), CONTEXT)
    for event in history.events:
        source.update(files.around(event.stack))
    source.update(files.around(history.opened))
    messages = tuple(clean(each.message) for each in findings_of(history, over=over, cwd=cwd))
    return HandleDetail(row, history, messages, source, cwd)


def site_detail(
    site: SiteRow,
    files: SourceFiles,
    *,
    cwd: str,
    closes: Sequence[Sequence[Frame]] = (),
) -> SiteDetail:
    """Collects a site's detail; `closes` are stacks that closed such handles."""
    stacks = site.stacks
    stack = stacks[0]
    source = files.around((frame for frame in stack if not is_library(frame.file)), CONTEXT)
    source.update(files.around(stack))
    frames = [frame for close in closes if (frame := site_of(close)) is not None]
    places = dict.fromkeys(f"{place_of(frame, cwd)} {clean(frame.function)}" for frame in frames)
    most = tuple(places)[:_CLOSES]
    return SiteDetail(site, stack, len(stacks), source, cwd, most)


def outstanding(events: Sequence[Event]) -> set[int]:
    """The seqs of the add-refs that no release has matched yet.

    A release takes back the newest add-ref of its own thread, else the newest
    of any: which one it meant nobody recorded.
    """
    out: list[Event] = []
    for event in events:
        if event.kind == "add-ref":
            out.append(event)
        elif event.kind == "release" and out:
            own = [each for each in out if each.thread == event.thread]
            out.remove((own or out)[-1])
        elif event.kind == "close" and event.ending in ("closed", "exited"):
            # The release that let it close is told by the close alone; what a
            # finalizer or the exit closed was closed over them.
            out.clear()
    return {event.seq for event in out}


# --- small pieces ---


def _beside(left: Sequence[Line], right: Sequence[Line], cells: int, split: int) -> list[Line]:
    """Two columns with a rule between them; the left one `split` cells."""
    lines: list[Line] = []
    for at in range(max(len(left), len(right))):
        one = clip(left[at] if at < len(left) else (), split)
        two = right[at] if at < len(right) else ()
        padding = " " * (split - line_width(one))
        lines.append((*one, (padding, "text"), (" │ ", "rule"), *clip(two, cells - split - 3)))
    return lines


def _stack_pane(stack: Sequence[Frame], detail: Detail, rows: int) -> list[Line]:
    """The stack for a pane: with the program's code around it if it fits."""
    title: Line = (("opened by", "head"),)
    own = [frame for frame in stack if not is_library(frame.file)]
    folded = len(stack) - len(own)
    full = source_lines(own or stack, detail.source, detail.cwd)
    if folded and own:
        full.append(folded_line(folded))
    if len(full) < rows:
        return [title, *full]
    return [title, *stack_lines(stack, detail.source, detail.cwd)]


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


def _refs_line(detail: HandleDetail, cells: int) -> list[Line]:
    """How many references were out after each event, where that changed."""
    refs = [event.refs for event in detail.history.events]
    most = max(refs, default=0)
    if most < _SHARED:
        return []
    line: Line = (
        ("references, event by event  ", "head"),
        (strip_of(refs[-(cells // 2) :]), "accent"),
        (f"  at most {most}, now {refs[-1]}", "text"),
    )
    return [line, ()]


def _finding_lines(detail: HandleDetail, cells: int) -> list[Line]:
    lines: list[Line] = []
    for message in detail.messages:
        for at, text in enumerate(textwrap.wrap(message, max(20, cells - 2))):
            lines.append((("  " if at else "✗ ", "bad"), (text, "bad")))
    return lines


def _number_of(row: HandleRow) -> str:
    """ "fd 7"; of a type with numbers of its own "value 7"."""
    space = row.history.space
    return f"{clean(space) if space != row.owner else 'value'} {row.value}"


# --- a handle ---


def handle_title(detail: HandleDetail, now_ns: int) -> Line:
    """What it is, in one line."""
    row, history = detail.row, detail.history
    spans: list[Span] = [
        (f"#{row.serial} ", "muted"),
        (f"{row.owner} {_number_of(row)}", "title"),
    ]
    if row.life == "open":
        spans.append((f" · open {age(row.age_ns(now_ns))}", "warn"))
    elif row.life == "held":
        spans.append((f" · held for {age(row.age_ns(now_ns))} until the process died", "warn"))
    elif row.life == "left":
        spans.append((f" · never closed ({row.ending} at exit)", "bad"))
    else:
        spans.append((f" · {row.ending} after {age(row.age_ns(now_ns))}", "text"))
    spans.append((f" · refs {row.refs}", "text"))
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
    stack = _stack_pane(detail.history.opened, detail, rows - len(lines))
    if cells < _SIDE_BY_SIDE:
        # Of a short pane the top is seen: what happened matters more than
        # the outer frames.
        kept = kept_lines(detail.kept, now_ns, cells) if detail.kept is not None else []
        told = kept if detail.kept is not None and detail.kept.texts else []
        order = (*lines, *stack[:3], *told, *events, *stack[3:], *(kept if not told else ()))
        return [clip(line, cells) for line in order]
    split = cells * 9 // 20
    if detail.kept is not None:
        events += kept_lines(detail.kept, now_ns, cells - split - 3)
    both = _beside(stack, events, cells, split)
    return [*(clip(line, cells) for line in lines), *both]


def handle_page(
    detail: HandleDetail, now_ns: int, cells: int, *, library: bool = False
) -> list[Line]:
    """The full page: every event with its stack, sources with context.

    Args:
        library: also the frames of libraries.
    """
    lines: list[Line] = []
    if detail.row.detail:
        lines += [((detail.row.detail, "accent"),), ()]
    if detail.messages:
        lines += [*_finding_lines(detail, cells), ()]
    kept: list[Line] = []
    if detail.kept is not None:
        kept = kept_lines(detail.kept, now_ns, cells)
    if detail.kept is not None and detail.kept.texts:
        lines += [*kept, ()]  # what was asked for is read first
        kept = []
    lines.append((("opened by", "head"),))
    lines += source_lines(detail.history.opened, detail.source, detail.cwd, library=library)
    if kept:
        lines += [(), *kept]
    lines += [(), *_refs_line(detail, cells)]
    lines += _event_lines(detail, now_ns, page=True, library=library)
    return [clip(line, cells) for line in lines]


# --- a site ---


def site_title(detail: SiteDetail, now_ns: int) -> Line:
    """What the site has on its conscience, in one line."""
    site = detail.site
    ended = len(site.rows) - site.open
    spans: list[Span] = [(site.site, "own"), (f" · {count(site.open)} open", "strong")]
    if ended:
        spans.append((f" · {count(ended)} ended", "muted"))
    if detail.stacks > 1:
        spans.append((f" · by {plural(detail.stacks, 'different stack')}", "muted"))
    if site.importing:
        spans.append((" · by an import", "muted"))
    return tuple(spans)


def site_lines(detail: SiteDetail, now_ns: int, cells: int, rows: int) -> list[Line]:
    """The pane below the table of sites: the stack beside its handles."""
    stack = _stack_pane(detail.stack, detail, rows)
    wide = cells >= _SIDE_BY_SIDE
    handles = _why_lines(detail, cells * 11 // 20 - 4 if wide else cells)
    if detail.kept is not None:
        handles += kept_lines(detail.kept, now_ns, cells * 11 // 20 - 4 if wide else cells)
    handles.append((("its handles, oldest first", "head"),))
    members = detail.site.rows
    handles += [_member(row, now_ns) for row in members[:_SAMPLE]]
    if len(members) > _SAMPLE:
        handles.append(((f"  … and {count(len(members) - _SAMPLE)} more", "muted"),))
    if not wide:
        short = stack_lines(detail.stack, detail.source, detail.cwd)
        return [clip(line, cells) for line in (stack[0], *short[:4], *handles)]
    return _beside(stack, handles, cells, cells * 9 // 20)


def _why_lines(detail: SiteDetail, cells: int) -> list[Line]:
    """Why it got its word, and where such handles are closed."""
    verdict = detail.site.verdict
    lines: list[Line] = []
    if verdict is not None:
        lines.append((("why ", "head"), (verdict.word, "strong")))
        lines += [
            ((f"  {text}", "text"),) for text in textwrap.wrap(verdict.why, max(20, cells - 4))
        ]
    for at, place in enumerate(detail.closes):
        lines.append((("           " if at else "closed at  ", "head"), (place, "own")))
    return lines


def _member(row: HandleRow, now_ns: int) -> Line:
    role: Role = "muted" if row.life == "ended" else "text"
    spans: list[Span] = [
        (f" {fit(f'#{row.serial}', 6, align='>')}  ", "muted"),
        (f"{_number_of(row):<7} ", role),
        (fit(age(row.age_ns(now_ns)), 6, align=">"), role),
        (f"  refs {row.refs} ", "warn" if row.refs > 1 else role),
    ]
    if row.problem:
        spans.append((f" {row.problem} ", "bad"))
    elif row.life == "ended":
        spans.append((f" {row.ending} ", "muted"))
    spans.append((f" {row.detail}", "accent"))
    return tuple(spans)
