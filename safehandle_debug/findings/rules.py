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
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from safehandle_debug.findings.accepted import accepted, is_internal, is_of_libc
from safehandle_debug.findings.descriptors import is_about_number, judged_acts
from safehandle_debug.findings.fingerprint import Place, fingerprint, lines, places
from safehandle_debug.findings.generators import made_at
from safehandle_debug.findings.holders.told import read_holders
from safehandle_debug.findings.kept import sort_out
from safehandle_debug.findings.lives import retold
from safehandle_debug.findings.model import Finding, FindingKind
from safehandle_debug.findings.verdict import Verdict
from safehandle_debug.findings.wording import named, plural, where
from safehandle_debug.ledger import Event, History, Ledger
from safehandle_debug.ledger.references import references
from safehandle_debug.ledger.watched import RAW
from safehandle_debug.recording.format import Flag

_ORDER: dict[FindingKind, int] = {
    "recycled": 0,
    "closed-behind-owner": 1,
    "double-owner": 2,
    "double-release": 3,
    "use-after-close": 4,
    "release-failed": 5,
    "unbalanced": 6,
    "leak": 7,
    "abandoned": 8,
}
_COUNTED = ("add-ref", "release", "dispose")  # events that change the count
_HELD = ("leak", "abandoned")  # of handles that are open at the end
_STDERR = 2  # what is made stdin, stdout or stderr is so for the life of the process
COPIED = "dup"  # as `_core/watch` tells it
_LOCK = "lock"  # at the end of the process, the same
_MOST_SERIALS = 16  # of handles alike

_Identity = tuple[str, str, tuple[Place, ...]]  # kind, owner, places
_Among = tuple[bool, tuple[tuple[int, ...], ...]]  # accepted, and their lines
_GroupKey = tuple[_Identity, _Among]


def held_by(ledger: Ledger) -> list[History]:
    """What a killed process had to close yet, oldest first; of others nothing."""
    if ledger.ended != "signal":
        return []
    return [history for history in ledger.open() if not history.borrowed]


def findings_of(
    history: History,
    *,
    over: bool,
    cwd: str = "",
    look_up: Callable[[int], History | None] = lambda serial: None,
    before: Callable[[History], History | None] = lambda history: None,
) -> list[Finding]:
    """What is wrong with one handle.

    Args:
        history: the handle, with its events.
        over: the scope in which it should have been closed has ended (the
            process, a test), so that an open handle is a leak.
        cwd: shown paths are relative to it.
        look_up: finds a victim by its serial, as Ledger.history does.
        before: finds who had its number before, as Ledger.life_before does.
    """
    found = []
    for verdict in _judged(history, over, cwd):
        told = retold(verdict, history, before, cwd)
        found.append((_finding(*told, look_up, cwd), (history.serial,)))
    return _grouped([each for each in found if accepted(each[0]) is None], cwd)


def find(ledger: Ledger, *, now: bool = False) -> list[Finding]:
    """The findings of one process, alike ones grouped, errors first.

    Args:
        now: judge a running process as if it ended now: open handles are leaks.
    """
    return sort_out(find_all(ledger, now=now))[0]


def find_all(ledger: Ledger, *, now: bool = False) -> list[Finding]:
    """The same with those that `sort_out` accepts."""
    over = now or ledger.saw_exit
    judged = [
        (suspicion, verdict)
        for suspicion in ledger.suspicions(now=now)
        for verdict in _judged(suspicion.example, over, ledger.cwd)
        if verdict.about == suspicion.about
    ]
    hit = _hit_in_earnest(verdict for _, verdict in judged)
    found: list[tuple[Finding, Sequence[int]]] = []
    for suspicion, verdict in judged:
        if suspicion.example.serial in hit and verdict.about == "events":
            continue  # its owner acts on a number that somebody closed by mistake
        verdict, history = retold(verdict, suspicion.example, ledger.life_before, ledger.cwd)
        finding = _finding(verdict, history, ledger.history, ledger.cwd, ledger.sample)
        found.append((replace(finding, count=suspicion.count), suspicion.serials))
    return _with_holders(_grouped(found, ledger.cwd), ledger)


def _with_holders(found: list[Finding], ledger: Ledger) -> list[Finding]:
    """The findings with what the process itself said, at its end, who holds what."""
    if not any(finding.kind in _HELD for finding in found):
        return found
    told = read_holders(ledger.recording)
    if not told:
        return found
    result = []
    for finding in found:
        serial = next((each for each in finding.serials if each in told), None)
        if finding.kind in _HELD and serial is not None:
            finding = replace(finding, holders=tuple(told[serial].lines()))
        result.append(finding)
    return result


def _hit_in_earnest(verdicts: Iterable[Verdict]) -> set[int]:
    """Serials of handles that a stale act on their number has really hit."""
    return {
        verdict.victim_serial
        for verdict in verdicts
        if verdict.kind == "recycled" and verdict.victim_serial and not verdict.prevented
    }


# --- the rules ---


def _judged(history: History, over: bool, cwd: str) -> list[Verdict]:
    if history.inherited:
        return []
    verdicts: list[Verdict] = []
    acts = judged_acts(history, cwd)
    if acts is not None:
        verdicts.append(acts)
        if history.watched:
            return verdicts  # what became of it is part of that
    for event in history.events:
        if is_about_number(event):
            continue
        if acts is not None and event.kind == "release-failed" and event.value == errno.EBADF:
            continue  # there was nothing left to give back
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


def _judged_event(history: History, event: Event, cwd: str) -> Verdict | None:
    at = where(event.stack, cwd)
    who = named(history)
    if event.kind == "double-release":
        message = f"{who} was released at {at} {_why_double(history, event, cwd)}"
        return Verdict("double-release", message, event.stack, "events", event)
    if event.kind == "release-failed":
        why = f": {reason}" if (reason := _reason(event)) else ""
        message = f"{who} could not be given back at {at}{why}"
        return Verdict("release-failed", message, event.stack, "events", event)
    if event.kind == "double-owner":
        message = f"{who} got a second owner at {at}: handle #{event.value} owns it already"
        return Verdict("double-owner", message, event.stack, "events", event, event.value)
    if event.kind == "set-value" and not history.borrowed and not event.flags & Flag.BORROWED:
        was = f"{history.owner} {history.space} {event.value}"
        message = f"{was} was overwritten at {at} and can never be closed"
        return Verdict("leak", message, event.stack, "events", event)
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


def _judged_ending(history: History, over: bool, cwd: str) -> Verdict | None:
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
    if history.watched:
        return _judged_watched(history, by_finalizer and not flags & Flag.FINALIZING, cwd)
    opened = f"{named(history)} opened at {where(history.opened, cwd)}"
    if by_finalizer and not flags & Flag.FINALIZING:
        message = f"{opened} was never closed: a finalizer did it when {_found_by(history)}"
        return Verdict("abandoned", message, history.opened, "ending")
    if history.importing:
        return None
    return Verdict("leak", f"{opened} was never closed", history.opened, "ending")


def _judged_watched(history: History, abandoned: bool, cwd: str) -> Verdict | None:
    """A descriptor or child process that nobody closed or waited for.

    What a native thread opened has no place in any Python code: nobody could
    do anything about it."""
    is_child = history.space == "pid"
    is_standard = not is_child and history.value <= _STDERR
    if history.late:
        return None if abandoned or is_of_libc(history) else _seen_late(history)
    if is_standard or not history.opened:
        return None
    began = f"{named(history)} {'started' if is_child else 'opened'}"
    began += f" at {where(history.opened, cwd)}"
    never = f"never {'waited for' if is_child else 'closed'}"
    if abandoned and is_internal(history):
        return None
    if abandoned:
        message = f"{began} was {never}: a finalizer did it when {_found_by(history)}"
        return Verdict("abandoned", message, history.opened, "ending")
    if history.importing or _is_lock(history) or _opened_at_the_end(history):
        return None
    let_go = _let_go(history)
    if let_go is None:
        made = made_at(history.opened, cwd)
        if made is not None:
            began += f", by a generator made at {where(made, cwd)},"
        return Verdict("leak", f"{began} was {never}", made or history.opened, "ending")
    at = where(let_go.stack, cwd)
    done = "copied" if let_go.detail == COPIED else "let go of by its owner"
    message = f"{began} was {done} at {at} and {never}"
    return Verdict("leak", message, let_go.stack, "ending", let_go)


def _is_lock(history: History) -> bool:
    """True for a file that a program keeps locked for its whole life: that only
    one of its kind may run.  What a test leaves behind is not meant."""
    return history.test is None and any(
        event.detail == _LOCK and event.kind in ("owned", "close") for event in history.events
    )


def _opened_at_the_end(history: History) -> bool:
    """True for what a finalizer opened while the interpreter ended, to save what it has.

    Whoever closes it then is taken for a finalizer, too."""
    return any(
        event.kind == "acquire" and event.flags & Flag.FINALIZING for event in history.events
    )


def _seen_late(history: History) -> Verdict:
    message = f"{named(history)} was never closed; it went round libc and was seen late,"
    return Verdict("leak", f"{message} so that nobody knows who opened it", (), "ending")


def _found_by(history: History) -> str:
    return "its owner was dropped" if history.ending == "dropped" else "the collector found it"


def _let_go(history: History) -> Event | None:
    """The detach() after which nobody owned it, or the last who copied the
    number then, if that was the end."""
    if history.owner != RAW:
        return None  # such as the socket from which a Connection has its number
    changes = [each for each in history.events if each.kind in ("owned", "disowned")]
    return changes[-1] if changes and changes[-1].kind == "disowned" else None


def _unbalanced(
    history: History, disposed: Event, forgotten: Sequence[Event], cwd: str
) -> Verdict:
    who = named(history)
    asked = "its owner was dropped" if disposed.flags & Flag.FINALIZER else "it was closed"
    if not forgotten:
        at = where(disposed.stack, cwd)
        message = f"{who} stayed open after {asked} at {at}: references were never released"
        return Verdict("unbalanced", message, disposed.stack, "ending", disposed)
    at = where(forgotten[0].stack, cwd)
    message = f"{who} stayed open after {asked}: the add-ref at {at} was never released"
    if len(forgotten) > 1:
        message += f", nor {plural(len(forgotten) - 1, 'other')}"
    return Verdict("unbalanced", message, forgotten[0].stack, "ending", forgotten[0])


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


def _finding(
    verdict: Verdict,
    history: History,
    look_up: Callable[[int], History | None],
    cwd: str,
    sample: int = 1,
) -> Finding:
    victim = None if verdict.victim_serial is None else look_up(verdict.victim_serial)
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
        message=verdict.sentence(victim, cwd),
        handle=history,
        culprit=verdict.culprit,
        victim=victim,
        prevented=verdict.prevented,
        events=tuple(history.events),
        cwd=cwd,
        sample=sample,
    )


def _grouped(found: Iterable[tuple[Finding, Sequence[int]]], cwd: str) -> list[Finding]:
    """Merges findings alike, and gives each its fingerprint."""
    groups: dict[_GroupKey, tuple[Finding, list[int]]] = {}
    for finding, serials in found:
        stacks = (finding.handle.opened, finding.culprit)
        # A library's own affairs may have been opened by the same line as the program's.
        among = (accepted(finding) is not None, tuple(lines(stack) for stack in stacks))
        key = (_identity(finding, cwd), among)
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
    for identity, among in sorted(groups, key=lambda key: key[1]):
        finding, known_serials = groups[identity, among]
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
