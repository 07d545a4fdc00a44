"""Findings as JSON, version 1: a stable format for other programs.

Stacks are innermost frame first.  Keys are only ever added.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from safehandle_debug.findings.model import Finding
from safehandle_debug.findings.rules import held_by
from safehandle_debug.ledger import Event, Exhaustion, Frame, History, Ledger

VERSION: Final = 1
MOST_EVENTS: Final = 200  # of one finding; the first and the last ones


def to_json(
    ledgers: Sequence[Ledger],
    findings: Iterable[Finding],
    held: Callable[[Ledger], Iterable[History]] = held_by,
) -> dict[str, Any]:
    """The report on some processes of one session, as plain data.

    A killed process has the key `held`: the handles that were open then."""
    session = next((text for ledger in ledgers if (text := _session(ledger))), "")
    return {
        "version": VERSION,
        "session": session,
        "processes": [_process(ledger, held) for ledger in ledgers],
        "findings": [_finding(finding) for finding in findings],
    }


def _session(ledger: Ledger) -> str:
    session = ledger.recording.meta.get("session")
    return session if isinstance(session, str) else ""


def _process(ledger: Ledger, held: Callable[[Ledger], Iterable[History]]) -> dict[str, Any]:
    process = ledger.process
    result: dict[str, Any] = {
        "pid": process.pid,
        "argv": list(process.argv),
        "started": _time(process.started_at_ns),
        "ended": process.ended,
        "events": process.events,
        "dropped": process.dropped,
        "live": process.live,
        "sample": process.sample,
        "watched": process.watched,
        "abrupt": process.abrupt,
    }
    if moments := ledger.exhausted():
        result["exhausted"] = [_exhaustion(moment) for moment in moments]
    if process.ended == "signal":
        result["held"] = [_handle(history) for history in held(ledger)]
    return result


def _exhaustion(moment: Exhaustion) -> dict[str, Any]:
    return {
        "at": _time(moment.event.at_ns),
        "limit": moment.event.value,
        "open": moment.open,
        "stack": _stack(moment.event.stack),
        "top": [
            {"site": None if site is None else _frame(site), "count": count}
            for site, count in moment.top
        ],
    }


def _finding(finding: Finding) -> dict[str, Any]:
    return {
        "kind": finding.kind,
        "severity": finding.severity,
        "fingerprint": finding.fingerprint,
        "count": finding.count,
        "pid": finding.pid,
        "thread": finding.thread,
        "task": finding.task,
        "test": finding.test,
        "message": finding.message,
        "handle": _handle(finding.handle),
        "culprit": _stack(finding.culprit),
        "victim": _handle(finding.victim) if finding.victim is not None else None,
        "prevented": finding.prevented,
        "holders": list(finding.holders),
        "events": [_event(event) for event in _bounded(finding.events)],
    }


def _handle(history: History) -> dict[str, Any]:
    return {
        "serial": history.serial,
        "kind": history.kind,
        "value": history.value,
        "owner": history.owner,
        "detail": history.detail,
        "opened": _stack(history.opened),
    }


def _event(event: Event) -> dict[str, Any]:
    return {
        "seq": event.seq,
        "at": _time(event.at_ns),
        "kind": event.kind,
        "ending": event.ending,
        "refs": event.refs,
        "value": event.value,
        "thread": event.thread,
        "task": event.task,
        "test": event.test,
        "detail": event.detail,
        "stack": _stack(event.stack),
    }


def _bounded(events: Sequence[Event]) -> list[Event]:
    if len(events) <= MOST_EVENTS:
        return list(events)
    half = MOST_EVENTS // 2
    return [*events[:half], *events[-half:]]


def _stack(stack: Sequence[Frame]) -> list[dict[str, Any]]:
    return [_frame(frame) for frame in stack]


def _frame(frame: Frame) -> dict[str, Any]:
    return {"file": frame.file, "line": frame.line, "function": frame.function}


def _time(ns: int) -> str:
    """ISO 8601, UTC, microseconds."""
    seconds, rest = divmod(ns, 1_000_000_000)
    moment = datetime.fromtimestamp(seconds, UTC).replace(microsecond=rest // 1000)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
