"""The rules: from histories to findings.

A rule looks at one handle's history and nothing else, so that the report on a
process, the text of a failing test and a view of one handle agree.  Silent by
design: borrowed handles (somebody else's to close), handles that came over a
fork (the parent's), handles that a module's import acquired and that live as
long as the process, a second close(), references of threads that still run,
whatever a running or killed process still holds.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from safehandle_debug.findings.fingerprint import Place, fingerprint, lines, places
from safehandle_debug.findings.model import Finding, FindingKind
from safehandle_debug.findings.wording import named, plural, where
from safehandle_debug.ledger import Event, Frame, History, Ledger
from safehandle_debug.ledger.references import references
from safehandle_debug.recording.format import Flag

_ORDER: dict[FindingKind, int] = {
    "double-owner": 0,
    "double-release": 1,
    "release-failed": 2,
    "unbalanced": 3,
    "leak": 4,
    "abandoned": 5,
}
_COUNTED = ("add-ref", "release", "dispose")  # events that change the count
_MOST_SERIALS = 16  # of handles alike

_Identity = tuple[str, str, tuple[Place, ...]]  # kind, owner, places
_GroupKey = tuple[_Identity, tuple[tuple[int, ...], ...]]  # and their lines


@dataclass(frozen=True, slots=True)
class _Verdict:
    """What a rule says of one handle."""

    kind: FindingKind
    message: str
    culprit: tuple[Frame, ...]
    about: str  # "ending" or "events", as in ledger.Suspicion
    event: Event | None = None  # the wrong act itself, where there was one
    victim_serial: int | None = None


def held_by(ledger: Ledger) -> list[History]:
    """What a killed process had to close yet, oldest first; of others nothing."""
    if ledger.ended != "signal":
        return []
    return [history for history in ledger.open() if not history.borrowed]


def findings_of(history: History, *, over: bool, cwd: str = "") -> list[Finding]:
    """What is wrong with one handle.

    Args:
        history: the handle, with its events.
        over: the scope in which it should have been closed has ended (the
            process, a test), so that an open handle is a leak.
        cwd: shown paths are relative to it.
    """
    return _grouped(
        [
            (_finding(each, history, cwd), (history.serial,))
            for each in _judged(history, over, cwd)
        ],
        cwd,
    )


def find(ledger: Ledger, *, now: bool = False) -> list[Finding]:
    """All findings of one process, alike ones grouped, errors first.

    `now` judges a running process as if it ended now: open handles are leaks.
    """
    found: list[tuple[Finding, Sequence[int]]] = []
    over = now or ledger.saw_exit
    for suspicion in ledger.suspicions(now=now):
        for verdict in _judged(suspicion.example, over, ledger.cwd):
            if verdict.about != suspicion.about:
                continue
            victim = None
            if verdict.victim_serial is not None:
                victim = ledger.history(verdict.victim_serial)
            finding = _finding(verdict, suspicion.example, ledger.cwd, ledger.sample)
            finding = replace(finding, victim=victim, count=suspicion.count)
            found.append((finding, suspicion.serials))
    return _grouped(found, ledger.cwd)


# --- the rules ---


def _judged(history: History, over: bool, cwd: str) -> list[_Verdict]:
    if history.inherited:
        return []
    verdicts: list[_Verdict] = []
    for event in history.events:
        verdict = _judged_event(history, event, cwd)
        if verdict is None:
            continue
        # Once the count is broken, more of the same on the handle is its consequence.
        again = verdict.kind == "double-release"
        if not (again and any(each.kind == verdict.kind for each in verdicts)):
            verdicts.append(verdict)
    if not history.borrowed:
        ending = _judged_ending(history, over, cwd)
        if ending is not None:
            verdicts.append(ending)
    return verdicts


def _judged_event(history: History, event: Event, cwd: str) -> _Verdict | None:
    at = where(event.stack, cwd)
    who = named(history)
    if event.kind == "double-release":
        message = f"{who} was released at {at} {_why_double(history, event, cwd)}"
        return _Verdict("double-release", message, event.stack, "events", event)
    if event.kind == "release-failed":
        why = f": {reason}" if (reason := _reason(event)) else ""
        message = f"{who} could not be given back at {at}{why}"
        return _Verdict("release-failed", message, event.stack, "events", event)
    if event.kind == "double-owner":
        message = f"{who} got a second owner at {at}: handle #{event.value} owns it already"
        return _Verdict("double-owner", message, event.stack, "events", event, event.value)
    if event.kind == "set-value" and not history.borrowed and not event.flags & Flag.BORROWED:
        was = f"{history.owner} {history.space} {event.value}"
        message = f"{was} was overwritten at {at} and can never be closed"
        return _Verdict("leak", message, event.stack, "events", event)
    return None


def _why_double(history: History, event: Event, cwd: str) -> str:
    """Closed before, or closed by this very release that nobody owed."""
    before = (each for each in history.events if each.kind == "close" and each.seq < event.seq)
    close = next(before, None)
    if close is not None:
        return f"after it was closed at {where(close.stack, cwd)}"
    if event.refs == 0 and any(each.kind == "close" for each in history.events):
        return "without an add-ref: that closed it under its owner"
    return "with no reference left to release"


def _judged_ending(history: History, over: bool, cwd: str) -> _Verdict | None:
    is_open = history.ending in (None, "lost")
    by_finalizer = history.ending in ("dropped", "collected")
    if not is_open and not by_finalizer and history.ending != "swept":
        return None
    disposed = _disposed(history)
    nobody_left = disposed is not None and bool(disposed.flags & Flag.FINALIZER)
    if is_open and not over and not nobody_left:
        return None
    if disposed is not None and not _is_balanced(history):
        forgotten = [each.add_ref for each in references(history.events) if each.release is None]
        if not nobody_left and any(each.seq in history.in_use for each in forgotten):
            # Closed while a thread is inside a read: it closes as that ends.
            forgotten = [each for each in forgotten if each.seq not in history.in_use]
            if not forgotten:
                return None
        return _unbalanced(history, disposed, forgotten, cwd)
    if is_open and any(event.kind == "release-failed" for event in history.events):
        return None  # open because of that, which is told already
    close = next((event for event in reversed(history.events) if event.kind == "close"), None)
    flags = close.flags if close is not None else 0
    who = named(history)
    opened = f"{who} opened at {where(history.opened, cwd)}"
    if by_finalizer and not flags & Flag.FINALIZING:
        how = "its owner was dropped" if history.ending == "dropped" else "the collector found it"
        message = f"{opened} was never closed: a finalizer did it when {how}"
        return _Verdict("abandoned", message, history.opened, "ending")
    if history.importing:
        return None
    return _Verdict("leak", f"{opened} was never closed", history.opened, "ending")


def _unbalanced(
    history: History, disposed: Event, forgotten: Sequence[Event], cwd: str
) -> _Verdict:
    who = named(history)
    asked = "its owner was dropped" if disposed.flags & Flag.FINALIZER else "it was closed"
    if not forgotten:
        at = where(disposed.stack, cwd)
        message = f"{who} stayed open after {asked} at {at}: references were never released"
        return _Verdict("unbalanced", message, disposed.stack, "ending", disposed)
    at = where(forgotten[0].stack, cwd)
    message = f"{who} stayed open after {asked}: the add-ref at {at} was never released"
    if len(forgotten) > 1:
        message += f", nor {plural(len(forgotten) - 1, 'other')}"
    return _Verdict("unbalanced", message, forgotten[0].stack, "ending", forgotten[0])


def _disposed(history: History) -> Event | None:
    """Somebody's wish to close it while references were out.

    The exit sweep asks for every handle: that is nobody."""
    asked = (event for event in history.events if event.kind == "dispose")
    return next((event for event in asked if event.ending != "swept"), None)


def _is_balanced(history: History) -> bool:
    """True when every reference was released in the end."""
    counts = [event.refs for event in history.events if event.kind in _COUNTED]
    return bool(counts) and counts[-1] == 0


def _reason(event: Event) -> str:
    name = errno.errorcode.get(event.value)
    if name is None:
        return event.detail or ""
    return f"{event.detail or os.strerror(event.value)} ({name})"


# --- alike ones ---


def _finding(verdict: _Verdict, history: History, cwd: str, sample: int = 1) -> Finding:
    actor = verdict.event or (history.events[0] if history.events else None)
    return Finding(
        kind=verdict.kind,
        severity="warning" if verdict.kind == "abandoned" else "error",
        fingerprint="",
        count=1,
        pid=history.pid,
        thread=actor.thread if actor else history.thread,
        task=actor.task if actor else history.task,
        test=(actor.test if actor else None) or history.test,
        message=verdict.message,
        handle=history,
        culprit=verdict.culprit,
        events=tuple(history.events),
        cwd=cwd,
        sample=sample,
    )


def _grouped(found: Iterable[tuple[Finding, Sequence[int]]], cwd: str) -> list[Finding]:
    """Merges findings alike, and gives each its fingerprint."""
    groups: dict[_GroupKey, tuple[Finding, list[int]]] = {}
    for finding, serials in found:
        stacks = (finding.handle.opened, finding.culprit)
        key = (_identity(finding, cwd), tuple(lines(stack) for stack in stacks))
        known = groups.get(key)
        if known is None:
            groups[key] = (finding, list(serials))
        else:
            first, known_serials = known
            groups[key] = (replace(first, count=first.count + finding.count), known_serials)
            if len(known_serials) < _MOST_SERIALS:
                known_serials += (each for each in serials if each not in known_serials)
    ordinals: dict[_Identity, int] = {}
    result = []
    for identity, numbers in sorted(groups, key=lambda key: key[1]):
        finding, known_serials = groups[identity, numbers]
        ordinal = ordinals.get(identity, 0)
        ordinals[identity] = ordinal + 1
        result.append(
            replace(
                finding,
                fingerprint=fingerprint(*identity, ordinal),
                serials=tuple(known_serials[:_MOST_SERIALS]),
            )
        )
    result.sort(key=lambda each: (_ORDER[each.kind], -each.count, each.handle.serial))
    return result


def _identity(finding: Finding, cwd: str) -> _Identity:
    handle = finding.handle
    where = places(handle.opened, cwd)
    if finding.culprit != handle.opened:
        where += places(finding.culprit, cwd)
    return finding.kind, handle.owner, where
