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

from collections import Counter
from collections.abc import Sequence
from typing import Final

from safehandle_debug.findings.descriptors import is_about_number, is_close, is_second_owner
from safehandle_debug.findings.model import Finding
from safehandle_debug.findings.page import (
    BOLD,
    INDENT,
    PLAIN,
    RED,
    YELLOW,
    Page,
    Stack,
    printable,
    write_stack,
)
from safehandle_debug.findings.rules import COPIED
from safehandle_debug.findings.source import excerpt
from safehandle_debug.findings.wording import numbered, place, plural, share, times
from safehandle_debug.ledger import Event, Frame, History, site_of
from safehandle_debug.ledger.references import references
from safehandle_debug.recording.format import Flag

MOST_LINES: Final = 25  # after the first one
_OPENED_FRAMES: Final = 8
_OTHER_FRAMES: Final = 4
_REFERENCES: Final = 5

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
_CHILD_ENDINGS: Final = {
    "closed": "waited for",
    "dropped": "waited for by its finalizer when its owner was dropped",
    "collected": "waited for by its finalizer when the cyclic collector found it",
    "lost": "ended, and never waited for",
}

_ACTS: Final = {
    "double-release": "released",
    "double-owner": "again",
    "closed-behind-owner": "closed",
    "recycled": "used",
    "use-after-close": "used",
    "release-failed": "failed",
    "leak": "replaced",
}
_LATER_ACTS: Final = 2
_SAMPLED: Final = ("leak", "abandoned", "unbalanced")


def first_line(finding: Finding) -> str:
    """What and where, in one line, with the user's own line."""
    return printable(f"{finding.kind}: {finding.message}{times(finding.count)}")


def render_finding(finding: Finding, *, color: bool = False, width: int = 100) -> str:
    """The whole finding in at most 26 lines, the first of them first_line().

    Source is cut to `width`; what one may want to copy never is."""
    beginning, middle, end = (Page(color, max(width, 40)) for _ in range(3))
    _source(beginning, finding)
    _who(beginning, finding)
    handle = finding.handle
    word = "seen" if handle.late else "opened"
    write_stack(beginning, word, handle.opened, finding.cwd, most=_OPENED_FRAMES)
    _references(middle, finding)
    if finding.victim is not None and finding.kind != "recycled":
        _victim(end, finding, finding.victim)
    _acts(end, finding)
    if finding.victim is not None and finding.kind == "recycled":
        _victim(end, finding, finding.victim)
    for number, line in enumerate(finding.holders):
        end.row("" if number else "held by", line)
    _ending(end, finding)
    if handle.events_dropped:
        end.row("note", "some of its events were dropped to stay within the recording's size")
    if handle.unsampled:
        end.row("note", "it was not sampled: where it was opened is not recorded")
    # Wrong acts are recorded of all handles, endings of the sampled ones.
    if finding.sample > 1 and finding.kind in _SAMPLED:
        end.row("note", f"only {share(finding.sample)}: there may be more like it")
    room = MOST_LINES - len(beginning.lines) - len(end.lines)
    if len(middle.lines) > room:
        del middle.lines[max(room - 1, 0) :]
        if room > 0:
            middle.row("", "... and more references")
    lines = [*beginning.lines, *middle.lines, *end.lines]
    heading = first_line(finding)
    if color:
        shade = YELLOW if finding.severity == "warning" else RED
        heading = f"{BOLD}{shade}{heading}{PLAIN}"
    return "\n".join([heading, *lines[:MOST_LINES]])


# --- parts of a finding ---


def _source(page: Page, finding: Finding) -> None:
    """The user's own line, marked."""
    frame = site_of(finding.culprit) or finding.handle.site
    if frame is None:
        return
    line = excerpt(frame, finding.cwd, as_of_ns=_last_event_ns(finding))
    if line is None:
        return
    room = page.width - len(INDENT)
    cut = line.text if len(line.text) <= room else line.text[: room - 3] + "..."
    page.add(INDENT + cut, BOLD)
    end = min(line.end, len(cut))
    if line.start < end:
        page.add(INDENT + " " * line.start + "^" * (end - line.start), RED)


def _last_event_ns(finding: Finding) -> int:
    events = finding.events
    return events[-1].at_ns if events else finding.handle.opened_at_ns


def _who(page: Page, finding: Finding) -> None:
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


def _references(page: Page, finding: Finding) -> None:
    """Those never released first and in full; the others folded by site."""
    all_references = references(finding.events)
    forgotten = [each.add_ref for each in all_references if each.release is None]
    shown = forgotten[:2]
    for add_ref in shown:
        write_stack(
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


def _acts(page: Page, finding: Finding) -> None:
    """The wrong act's stack, and those that belong to it."""
    if finding.kind not in _ACTS or finding.culprit == finding.handle.opened:
        return

    def show(label: str, stack: Sequence[Frame]) -> None:
        write_stack(page, label, stack, finding.cwd, most=_OTHER_FRAMES)

    if acts_with_number := [each for each in finding.events if is_about_number(each)]:
        for label, stack in _number_acts(finding, acts_with_number):
            show(label, stack)
        return
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
    word = _ACTS[finding.kind]
    if finding.kind == "leak" and finding.handle.watched:
        act = next((each for each in finding.events if each.stack == finding.culprit), None)
        word = "made" if act is None else "copied" if act.detail == COPIED else "let go"
    show(word, finding.culprit)


def _number_acts(finding: Finding, acts: list[Event]) -> list[tuple[str, Stack]]:
    """What was done with a descriptor's number, in the order in which it tells
    a story: a wrong close may be written after what it led to."""
    rows: list[tuple[str, Stack]] = []
    for each in acts:
        if is_second_owner(each):
            rows.append(("adopted", each.stack))
    behind = [each.stack for each in acts if each.kind == "closed-behind"]
    closes = [each.stack for each in finding.events if each.kind == "close"]
    rows += (("closed", stack) for stack in (behind or closes[-1:]))
    stale = [each for each in acts if each.flags & Flag.STALE or each.kind == "recycled"]
    for each in stale:
        label = "again" if is_close(each) else "used"
        if (label, each.stack) not in rows:
            rows.append((label, each.stack))
    return rows[: 2 + _LATER_ACTS]


def _victim(page: Page, finding: Finding, victim: History) -> None:
    label = "victim" if finding.kind == "recycled" else "owner"
    note = f"({numbered(victim)})"
    write_stack(page, label, victim.opened, finding.cwd, most=_OTHER_FRAMES, note=note)


def _ending(page: Page, finding: Finding) -> None:
    handle = finding.handle
    closes = [
        event for event in finding.events if event.kind in ("dispose", "close", "invalidate")
    ]
    asked = next((event for event in closes if event.kind == "dispose"), None)
    if asked is not None and finding.kind == "unbalanced":
        write_stack(page, "close", asked.stack, finding.cwd, most=_OTHER_FRAMES, note=_refs(asked))
    if handle.ending is None:
        refs = "" if handle.watched else f", {plural(handle.refs, 'reference')}"
        page.row("now", f"still open{refs}")
        return
    text = _ENDINGS[handle.ending]
    if handle.space == "pid":
        text = _CHILD_ENDINGS.get(handle.ending, text)
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


# --- small things ---


def _duration(ns: int) -> str:
    ns = max(ns, 0)
    for unit, size in (("s", 1_000_000_000), ("ms", 1_000_000), ("us", 1000)):
        if ns >= size:
            return f"{ns / size:.3g} {unit}" if ns < 1000 * size else f"{ns // size:,} {unit}"
    return f"{ns} ns"
