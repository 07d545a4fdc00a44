"""What a report says of processes: how they ended, what they held, the totals."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from safehandle_debug.findings.model import Finding
from safehandle_debug.findings.page import BOLD, DIM, Page, folded
from safehandle_debug.findings.rules import held_by
from safehandle_debug.findings.wording import numbered, place, plural, share, times, where
from safehandle_debug.ledger import Frame, History, Ledger, ProcessInfo

_MOST_HELD: Final = 10  # groups of handles that a killed process held
_FRAMES: Final = 4  # of each


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
    page = Page(color, max(width, 40))
    alike = Counter((history.owner, history.opened) for history in held)
    examples: dict[tuple[str, tuple[Frame, ...]], History] = {}
    for history in held:
        examples.setdefault((history.owner, history.opened), history)
    page.add(
        f"process {process.pid} ({_command(process.argv)}) died holding "
        f"{plural(len(held), 'handle')}"
        + (f" of those recorded ({share(process.sample)})" if process.sample > 1 else ""),
        BOLD,
    )
    for key, count in alike.most_common(_MOST_HELD):
        history = examples[key]
        at = place(history.site, process.cwd)
        page.add(f"  {numbered(history)}, opened at {at}{times(count)}")
        for line in folded(history.opened, process.cwd, _FRAMES):
            page.add(f"      {line}", DIM)
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
    page = Page(color, max(width, 40))
    processes = [ledger.process for ledger in ledgers]
    events = sum(process.events for process in processes)
    scope = f"{plural(len(processes), 'process', 'processes')}, {plural(events, 'event')}"
    if findings:
        counts: Counter[str] = Counter()
        for finding in findings:
            counts[finding.kind] += finding.count
        what = ", ".join(f"{kind} {count:,}" for kind, count in counts.items())
        page.add(f"{plural(len(findings), 'finding')} in {scope}{_watched(processes)}", BOLD)
        page.wrap(f"  {what}")
    else:
        page.add(f"nothing found in {scope}{_watched(processes)}", BOLD)
    for process in processes:
        who = f"process {process.pid} ({_command(process.argv)})"
        if process.ended == "running" and process.live:
            page.add(f"{who} is running, with {plural(process.live, 'open handle')}")
        if process.ended == "signal" and process.live:
            page.add(f"{who} died holding {plural(process.live, 'handle')}")
        if process.bare:
            page.add(f"{who}: {plural(process.bare, 'descriptor')} counted, not recorded")
        if process.sample > 1:
            page.add(f"{who}: level sampled, {share(process.sample)}")
        if process.dropped:
            page.add(f"{who}: {plural(process.dropped, 'event')} dropped to stay within its size")
        if process.error:
            page.add(f"{who}: {process.error}")
    abrupt = [process for process in processes if process.abrupt and process.live]
    if abrupt:
        page.add(
            f"{plural(len(abrupt), 'process', 'processes')} ended by os._exit() or exec:"
            " what objects held then is no finding"
        )
    return page.text()


def render_exhaustion(ledger: Ledger, *, color: bool = False, width: int = 100) -> str:
    """Where descriptors ran out and who held them; "" when they did not."""
    page = Page(color, max(width, 40))
    for moment in ledger.exhausted():
        event = moment.event
        by = f" in {event.detail}()" if event.detail else ""
        page.add(
            f"EMFILE: descriptors exhausted{by} at {where(event.stack, ledger.cwd)}:"
            f" {plural(moment.open, 'handle')} open, the limit is {event.value:,}",
            BOLD,
        )
        for site, count in moment.top:
            page.add(f"  {count:,} opened at {place(site, ledger.cwd)}")
    return page.text()


def _watched(processes: Sequence[ProcessInfo]) -> str:
    """What the totals are of, where it is not SafeHandles alone."""
    watched = sum(process.watched for process in processes)
    if not watched:
        return ""
    if watched == len(processes):
        return "; all descriptors were watched"
    return f"; in {watched} of them all descriptors were watched"


def _command(argv: Iterable[str]) -> str:
    return " ".join(argv) or "?"
