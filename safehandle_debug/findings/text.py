"""Findings as text for people.

    leak: SafeFileHandle fd 7 '/etc/group' opened at app.py:3 in main was never closed
        handle = SafeFileHandle.open("/etc/group")
                 ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
      handle   #12 of process 4711, MainThread
      opened   app.py:3 in main
               app.py:9 in <module>
      add-ref  app.py:5 in use  (refs 1 -> 2)
      ...
      ended    swept at interpreter exit, 1.2 s later

The first line alone must do: it is what a list or a test's summary shows.
"""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

from safehandle_debug.findings.model import Finding
from safehandle_debug.findings.rules import held_by
from safehandle_debug.findings.source import excerpt
from safehandle_debug.findings.wording import numbered, place, plural, times
from safehandle_debug.ledger import Event, Frame, History, Ledger, is_library, site_of
from safehandle_debug.ledger.references import references
from safehandle_debug.recording.format import Flag

MOST_LINES: Final = 25  # after the first one
_MOST_HELD: Final = 10  # groups of handles that a killed process held

_INDENT: Final = "    "
_LABEL_WIDTH: Final = 9
_OPENED_FRAMES: Final = 8
_OTHER_FRAMES: Final = 4
_REFERENCES: Final = 5

_RED, _YELLOW, _BOLD, _DIM, _PLAIN = "\033[31m", "\033[33m", "\033[1m", "\033[2m", "\033[0m"

_ENDINGS: Final = {
    "closed": "closed",
    "exited": "closed by its with block",
    "dropped": "closed by its finalizer when its owner was dropped",
    "collected": "closed by its finalizer when the cyclic collector found it",
    "swept": "closed by the sweep at interpreter exit",
    "transferred": "detached: somebody else owns it now",
    "inherited": "left to the parent process",
    "lost": "still open when the process ended",
}


_ACTS: Final = {
    "double-release": "released",
    "double-owner": "again",
    "release-failed": "failed",
    "leak": "replaced",
}
_LATER_ACTS: Final = 2
_SAMPLED: Final = ("leak", "abandoned", "unbalanced")


@dataclass(slots=True)
class _Page:
    """Lines being written, with or without color."""

    color: bool
    width: int
    lines: list[str] = field(default_factory=list)

    def add(self, text: str, *styles: str) -> None:
        text = _printable(text)
        if self.color and styles:
            text = "".join(styles) + text + _PLAIN
        self.lines.append(text)

    def wrap(self, text: str) -> None:
        self.lines += textwrap.wrap(_printable(text), self.width, subsequent_indent="  ")

    def row(self, label: str, text: str, *styles: str) -> None:
        self.add(f"  {label:<{_LABEL_WIDTH}}{text}", *styles)

    def text(self) -> str:
        return "\n".join(self.lines)


def first_line(finding: Finding) -> str:
    """What and where, in one line, with the user's own line."""
    return _printable(f"{finding.kind}: {finding.message}{times(finding.count)}")


def render_finding(finding: Finding, *, color: bool = False, width: int = 100) -> str:
    """The whole finding in at most 26 lines, the first of them first_line().

    Source is cut to `width`; what one may want to copy never is."""
    beginning, middle, end = (_Page(color, max(width, 40)) for _ in range(3))
    _source(beginning, finding)
    _who(beginning, finding)
    handle = finding.handle
    _stack(beginning, "opened", handle.opened, finding.cwd, most=_OPENED_FRAMES)
    _references(middle, finding)
    if finding.victim is not None:
        _victim(end, finding.victim, finding.cwd)
    _acts(end, finding)
    _ending(end, finding)
    if handle.events_dropped:
        end.row("note", "some of its events were dropped to stay within the recording's size")
    if handle.unsampled:
        end.row("note", "it was not sampled: where it was opened is not recorded")
    # Wrong acts are recorded of all handles, endings of the sampled ones.
    if finding.sample > 1 and finding.kind in _SAMPLED:
        end.row("note", f"only {_share(finding.sample)}: there may be more like it")
    room = MOST_LINES - len(beginning.lines) - len(end.lines)
    if len(middle.lines) > room:
        del middle.lines[max(room - 1, 0) :]
        if room > 0:
            middle.row("", "... and more references")
    lines = [*beginning.lines, *middle.lines, *end.lines]
    heading = first_line(finding)
    if color:
        shade = _YELLOW if finding.severity == "warning" else _RED
        heading = f"{_BOLD}{shade}{heading}{_PLAIN}"
    return "\n".join([heading, *lines[:MOST_LINES]])


def render_process_death(
    ledger: Ledger,
    held_by: Callable[[Ledger], Sequence[History]] = held_by,
    *,
    color: bool = False,
    width: int = 100,
) -> str:
    """What a killed process held; "" when it ended normally or held nothing."""
    process = ledger.process
    held = held_by(ledger)
    if not held:
        return ""
    page = _Page(color, max(width, 40))
    alike = Counter((history.owner, history.opened) for history in held)
    examples: dict[tuple[str, tuple[Frame, ...]], History] = {}
    for history in held:
        examples.setdefault((history.owner, history.opened), history)
    page.add(
        f"process {process.pid} ({_command(process.argv)}) died holding "
        f"{plural(len(held), 'handle')}"
        + (f" of those recorded ({_share(process.sample)})" if process.sample > 1 else ""),
        _BOLD,
    )
    for key, count in alike.most_common(_MOST_HELD):
        history = examples[key]
        at = place(history.site, process.cwd)
        page.add(f"  {numbered(history)}, opened at {at}{times(count)}")
        for line in _folded(history.opened, process.cwd, _OTHER_FRAMES):
            page.add(f"      {line}", _DIM)
    if len(alike) > _MOST_HELD:
        page.add(f"  ... and {plural(len(alike) - _MOST_HELD, 'other place')}")
    return page.text()


def render_summary(
    ledgers: Sequence[Ledger],
    findings: Sequence[Finding],
    *,
    color: bool = False,
    width: int = 100,
) -> str:
    """The totals in a few lines."""
    page = _Page(color, max(width, 40))
    processes = [ledger.process for ledger in ledgers]
    events = sum(process.events for process in processes)
    scope = f"{plural(len(processes), 'process', 'processes')}, {plural(events, 'event')}"
    if findings:
        counts: Counter[str] = Counter()
        for finding in findings:
            counts[finding.kind] += finding.count
        what = ", ".join(f"{kind} {count:,}" for kind, count in counts.items())
        page.add(f"{plural(len(findings), 'finding')} in {scope}", _BOLD)
        page.wrap(f"  {what}")
    else:
        page.add(f"nothing found in {scope}", _BOLD)
    for process in processes:
        who = f"process {process.pid} ({_command(process.argv)})"
        if process.ended == "running" and process.live:
            page.add(f"{who} is running, with {plural(process.live, 'open handle')}")
        if process.ended == "signal" and process.live:
            page.add(f"{who} died holding {plural(process.live, 'handle')}")
        if process.sample > 1:
            page.add(f"{who}: level sampled, {_share(process.sample)}")
        if process.dropped:
            page.add(f"{who}: {plural(process.dropped, 'event')} dropped to stay within its size")
        if process.error:
            page.add(f"{who}: {process.error}")
    return page.text()


# --- parts of a finding ---


def _source(page: _Page, finding: Finding) -> None:
    """The user's own line, marked."""
    frame = site_of(finding.culprit) or finding.handle.site
    if frame is None:
        return
    line = excerpt(frame, finding.cwd, as_of_ns=_last_event_ns(finding))
    if line is None:
        return
    room = page.width - len(_INDENT)
    cut = line.text if len(line.text) <= room else line.text[: room - 3] + "..."
    page.add(_INDENT + cut, _BOLD)
    end = min(line.end, len(cut))
    if line.start < end:
        page.add(_INDENT + " " * line.start + "^" * (end - line.start), _RED)


def _last_event_ns(finding: Finding) -> int:
    events = finding.events
    return events[-1].at_ns if events else finding.handle.opened_at_ns


def _who(page: _Page, finding: Finding) -> None:
    handle = finding.handle
    page.row("handle", f"{numbered(handle)}, of process {finding.pid}")
    where = f"{finding.thread}"
    if finding.thread != handle.thread:
        where += f" (opened in {handle.thread})"
    if task := finding.task or handle.task:
        where += f", task {task}"
    if finding.test:
        where += f", test {finding.test}"
    page.row("thread", where)


def _references(page: _Page, finding: Finding) -> None:
    """Those never released first and in full; the others folded by site."""
    all_references = references(finding.events)
    forgotten = [each.add_ref for each in all_references if each.release is None]
    shown = forgotten[:2]
    for add_ref in shown:
        _stack(
            page, "add-ref", add_ref.stack, finding.cwd, most=_OTHER_FRAMES, note=_refs(add_ref)
        )
        page.row("", _fate(add_ref, finding.handle) + _elsewhere(add_ref, finding.handle))
    rest: Counter[tuple[str, str]] = Counter()
    for add_ref in forgotten[len(shown) :]:
        taken = place(site_of(add_ref.stack), finding.cwd)
        rest["add-ref", f"{taken}, {_fate(add_ref, finding.handle)}"] += 1
    for each in all_references:
        if each.release is None:
            continue
        taken = place(site_of(each.add_ref.stack), finding.cwd)
        given = place(site_of(each.release.stack), finding.cwd)
        rest["add-ref", f"{taken}, released at {given}"] += 1
    for (label, text), count in rest.most_common(_REFERENCES):
        page.row(label, text + times(count))
    if len(rest) > _REFERENCES:
        page.row("", f"... and {plural(len(rest) - _REFERENCES, 'other pair')} of places")


def _acts(page: _Page, finding: Finding) -> None:
    """The wrong act's stack, and those that belong to it."""
    if finding.kind not in _ACTS or finding.culprit == finding.handle.opened:
        return

    def show(label: str, stack: Sequence[Frame]) -> None:
        _stack(page, label, stack, finding.cwd, most=_OTHER_FRAMES)

    if finding.kind == "double-release":
        acts = [event for event in finding.events if event.kind == "double-release"]
        closes = (event for event in finding.events if event.kind == "close")
        close = next(closes, None)
        if close is not None and acts and close.seq < acts[0].seq:
            show("closed", close.stack)
        show(_ACTS[finding.kind], finding.culprit)
        later = dict.fromkeys(event.stack for event in acts if event.stack != finding.culprit)
        for stack in list(later)[:_LATER_ACTS]:
            show("again", stack)
        return
    show(_ACTS[finding.kind], finding.culprit)


def _victim(page: _Page, victim: History, cwd: str) -> None:
    _stack(page, "owner", victim.opened, cwd, most=_OTHER_FRAMES, note=f"({numbered(victim)})")


def _ending(page: _Page, finding: Finding) -> None:
    handle = finding.handle
    closes = [
        event for event in finding.events if event.kind in ("dispose", "close", "invalidate")
    ]
    asked = next((event for event in closes if event.kind == "dispose"), None)
    if asked is not None and finding.kind == "unbalanced":
        _stack(page, "close", asked.stack, finding.cwd, most=_OTHER_FRAMES, note=_refs(asked))
    if handle.ending is None:
        page.row("now", f"still open, {plural(handle.refs, 'reference')}")
        return
    text = _ENDINGS[handle.ending]
    last = closes[-1] if closes else None
    if last is not None and last.flags & Flag.FINALIZING and handle.ending != "swept":
        text = "closed by its finalizer while the interpreter ended"
    if handle.closed_at_ns is not None:
        text += f", after {_duration(handle.closed_at_ns - handle.opened_at_ns)}"
    if last is not None and last.stack and finding.kind == "abandoned":
        text += f", at {place(site_of(last.stack), finding.cwd)}"
    page.row("ended", text)


def _refs(event: Event) -> str:
    before = event.refs + (1 if event.kind != "add-ref" else -1)
    return f"(refs {before} -> {event.refs})"


def _fate(add_ref: Event, handle: History) -> str:
    """What became of a reference that was not released."""
    return "still in use" if add_ref.seq in handle.in_use else "never released"


def _elsewhere(event: Event, handle: History) -> str:
    parts = []
    if event.thread != handle.thread:
        parts.append(f"in thread {event.thread}")
    if event.task and event.task != handle.task:
        parts.append(f"in task {event.task}")
    return ", " + ", ".join(parts) if parts else ""


# --- stacks ---


def _stack(
    page: _Page,
    label: str,
    stack: Sequence[Frame],
    cwd: str,
    *,
    most: int,
    note: str = "",
) -> None:
    rows = _folded(stack, cwd, most) or ["(stack not recorded)"]
    if note:
        rows[0] += f"  {note}"
    page.row(label, rows[0])
    for row in rows[1:]:
        page.row("", row, _DIM if row.startswith("...") else "")


def _folded(stack: Sequence[Frame], cwd: str, most: int) -> list[str]:
    """A stack in at most `most` rows, innermost first: libraries' frames
    are counted where they stand, unless the stack has no others."""
    has_own = any(not is_library(frame.file) for frame in stack)
    rows: list[str] = []
    folded: list[Frame] = []

    def unfold() -> None:
        if folded:
            names = ", ".join(dict.fromkeys(_module(frame) for frame in folded))
            rows.append(f"... {plural(len(folded), 'frame')} of {names}")
            folded.clear()

    for frame in stack:
        if has_own and is_library(frame.file):
            folded.append(frame)
        else:
            unfold()
            rows.append(place(frame, cwd))
    if rows and len(rows) < most:
        unfold()
    if len(rows) > most:
        hidden = len(rows) - most + 1
        rows[most - 1 :] = [f"... {plural(hidden, 'more row')}"]
    return rows


def _module(frame: Frame) -> str:
    """A short name for a library's frame: its package, or its module."""
    parts = frame.file.replace("\\", "/").split("/")
    for folder in ("site-packages", "dist-packages"):
        if folder in parts[:-1]:
            return parts[parts.index(folder) + 1].removesuffix(".py")
    for index, part in enumerate(parts[:-1]):
        if part.startswith("python3"):
            return parts[index + 1].removesuffix(".py")
    return parts[-1].removesuffix(".py")


# --- small things ---


def _command(argv: Iterable[str]) -> str:
    return " ".join(argv) or "?"


def _share(sample: int) -> str:
    return f"one handle in {sample:,} was recorded"


def _duration(ns: int) -> str:
    ns = max(ns, 0)
    for unit, size in (("s", 1_000_000_000), ("ms", 1_000_000), ("us", 1000)):
        if ns >= size:
            return f"{ns / size:.3g} {unit}" if ns < 1000 * size else f"{ns // size:,} {unit}"
    return f"{ns} ns"


def _printable(text: str) -> str:
    """Without control characters: names of files may hold any, and a report
    must stay one line and harmless to a terminal."""
    if text.isprintable():
        return text
    return "".join(
        each if each.isprintable() else each.encode("unicode_escape").decode() for each in text
    )
