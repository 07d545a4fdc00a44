"""Handles as a trace that ui.perfetto.dev and chrome://tracing open.

The JSON form of traces: a slice from acquire to close for each handle, an
instant for each misuse, a counter of open handles.  It is written as it is
read, an event at a time.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, TextIO

from safehandle_debug.ledger import Ledger, site_of
from safehandle_debug.ledger.histories import ENDINGS, KINDS
from safehandle_debug.ledger.sites import place
from safehandle_debug.recording import RawEvent
from safehandle_debug.recording.format import EventKind

__all__ = ["write_perfetto"]

_EVERY: Final = 65_536  # events between two words on the progress
_INSTANTS: Final = frozenset(
    {
        EventKind.DOUBLE_RELEASE,
        EventKind.USE_CLOSED,
        EventKind.RELEASE_FAILED,
        EventKind.DOUBLE_OWNER,
        EventKind.CLOSED_BEHIND,
        EventKind.RECYCLED,
        EventKind.EXHAUSTED,
    }
)


def write_perfetto(
    ledgers: Sequence[Ledger],
    file: TextIO,
    progress: Callable[[int], None] = lambda done: None,
) -> None:
    """Writes the trace of some processes.

    Raises:
        OSError: the file cannot be written.
    """
    file.write('{"displayTimeUnit": "ns", "traceEvents": [\n')
    between = ""
    # Counted from the beginning: nanoseconds since 1970 are too many for a float.
    began_ns = min((ledger.process.started_at_ns for ledger in ledgers), default=0)
    for ledger in ledgers:
        for entry in _entries(ledger, began_ns, progress):
            file.write(between)
            file.write(json.dumps(entry))
            between = ",\n"
    file.write("\n]}\n")


def _entries(
    ledger: Ledger, began_ns: int, progress: Callable[[int], None]
) -> Iterator[dict[str, Any]]:
    process = ledger.process
    recording = ledger.recording
    pid = process.pid
    yield _meta("process_name", pid, 0, " ".join(process.argv) or "?")
    inherited = recording.header.inherited_serials
    threads: dict[int, int] = {}
    last_us = 0.0
    begun: dict[int, tuple[str, int]] = {}  # handles that are open: name, thread
    done = 0
    for raw in recording.events():
        done += 1
        if done == _EVERY:
            progress(done)
            done = 0
        if raw.serial <= inherited and raw.serial:
            continue
        if raw.thread not in threads:
            info = recording.thread(raw.thread)
            threads[raw.thread] = info.native or pid
            yield _meta("thread_name", pid, threads[raw.thread], info.name)
        thread = threads[raw.thread]
        at_us = last_us = (recording.to_ns(raw.ticks) - began_ns) / 1000
        common: dict[str, Any] = {"pid": pid, "tid": thread, "ts": at_us, "cat": "handle"}
        if raw.kind == EventKind.ACQUIRE:
            name = _name(raw, ledger)
            begun[raw.serial] = (name, thread)
            yield common | _slice("b", pid, raw.serial, name) | {"args": _about(raw, ledger)}
        elif raw.kind in (EventKind.CLOSE, EventKind.INVALIDATE):
            known = begun.pop(raw.serial, None)
            if known is None:
                continue
            ending = ENDINGS.get(raw.ending, "transferred")
            told: dict[str, Any] = {"ending": ending, "closed at": _site(raw, ledger)}
            yield (
                common
                | {"tid": known[1]}
                | _slice("e", pid, raw.serial, known[0])
                | {"args": told}
            )
        elif raw.kind in _INSTANTS:
            told = {"serial": raw.serial, "at": _site(raw, ledger)}
            yield common | {"ph": "i", "s": "t", "name": KINDS[raw.kind], "args": told}
            continue
        else:
            continue
        yield {
            "ph": "C",
            "pid": pid,
            "ts": at_us,
            "name": "open handles",
            "args": {"count": len(begun)},
        }
    progress(done)
    for serial, (name, thread) in begun.items():
        end: dict[str, Any] = {"pid": pid, "tid": thread, "ts": last_us, "cat": "handle"}
        yield end | _slice("e", pid, serial, name) | {"args": {"ending": "still open"}}


def _slice(phase: str, pid: int, serial: int, name: str) -> dict[str, Any]:
    return {"ph": phase, "id": f"{pid}:{serial}", "name": name}


def _meta(name: str, pid: int, thread: int, text: str) -> dict[str, Any]:
    return {"ph": "M", "name": name, "pid": pid, "tid": thread, "args": {"name": text}}


def _name(raw: RawEvent, ledger: Ledger) -> str:
    owner = ledger.recording.type(raw.type).name
    detail = ledger.recording.string(raw.detail)
    return f"{owner} {detail}" if detail else owner


def _about(raw: RawEvent, ledger: Ledger) -> dict[str, Any]:
    frames = ledger.recording.stack(raw.stack)
    return {
        "serial": raw.serial,
        "value": raw.value,
        "opened at": _site(raw, ledger),
        "stack": "\n".join(place(frame, ledger.cwd) for frame in frames),
    }


def _site(raw: RawEvent, ledger: Ledger) -> str:
    return place(site_of(ledger.recording.stack(raw.stack)), ledger.cwd)
