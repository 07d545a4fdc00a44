"""JSON, version 1: keys and types that other programs rely on."""

from __future__ import annotations

import json
from collections.abc import Callable

from support_recording import DEAD_PID, RecordingBuilder

from safehandle_debug.findings import find, to_json
from safehandle_debug.findings.json import MOST_EVENTS
from safehandle_debug.ledger import Ledger
from safehandle_debug.recording.format import EventKind

Read = Callable[[RecordingBuilder], Ledger]


def test_report(book: RecordingBuilder, read: Read) -> None:
    first = book.acquire(value=7, detail="/etc/group", stack=book.stack_here(), task="T", test="t")
    second = book.acquire(value=7, stack=book.stack_here())
    book.problem(EventKind.DOUBLE_OWNER, second, value=first, stack=book.stack_here())
    book.close(second)
    ledger = read(book.end())
    report = json.loads(json.dumps(to_json([ledger], find(ledger))))
    assert list(report) == ["version", "session", "processes", "findings"]
    assert (report["version"], report["session"]) == (1, "synthetic")
    assert report["processes"] == [
        {
            "pid": DEAD_PID,
            "argv": ["app.py"],
            "started": "2023-11-14T22:13:20.000000Z",
            "ended": "exit",
            "events": 4,
            "dropped": 0,
            "live": 1,
            "sample": 1,
            "watched": False,
            "abrupt": False,
        }
    ]
    owner, leak = report["findings"]
    assert list(leak) == [
        "kind",
        "severity",
        "fingerprint",
        "count",
        "pid",
        "thread",
        "task",
        "test",
        "message",
        "handle",
        "culprit",
        "victim",
        "prevented",
        "holders",
        "events",
    ]
    assert (leak["kind"], leak["severity"], leak["count"]) == ("leak", "error", 1)
    assert (leak["thread"], leak["task"], leak["test"]) == ("MainThread", "T", "t")
    assert leak["victim"] is None
    assert leak["prevented"] is False
    handle = leak["handle"]
    assert handle == {
        "serial": first,
        "kind": "file",
        "value": 7,
        "owner": "SafeFileHandle",
        "detail": "/etc/group",
        "opened": handle["opened"],
    }
    assert handle["opened"][0]["function"] == "test_report"
    assert set(handle["opened"][0]) == {"file", "line", "function"}
    assert leak["culprit"] == handle["opened"]
    assert [event["kind"] for event in leak["events"]] == ["acquire"]
    assert owner["kind"] == "double-owner"
    assert owner["victim"]["serial"] == first
    assert owner["victim"]["opened"] == handle["opened"]


def test_killed_process(book: RecordingBuilder, read: Read) -> None:
    """What it held is listed with the process."""
    handle = book.acquire(stack=book.stack_here())
    ledger = read(book)
    (process,) = to_json([ledger], find(ledger))["processes"]
    assert (process["ended"], process["live"]) == ("signal", 1)
    assert [each["serial"] for each in process["held"]] == [handle]
    assert process["held"][0]["opened"]


def test_long_history_is_cut(book: RecordingBuilder, read: Read) -> None:
    """A finding never carries more than so many events."""
    handle = book.acquire()
    for _ in range(MOST_EVENTS):
        book.add_ref(handle)
        book.release(handle)
    ledger = read(book.end())
    (finding,) = to_json([ledger], find(ledger))["findings"]
    assert len(finding["events"]) == MOST_EVENTS
    assert finding["events"][0]["kind"] == "acquire"
    assert finding["events"][-1]["seq"] == book.seq


def test_no_processes() -> None:
    """Nothing to report on is a report as well."""
    assert to_json([], []) == {"version": 1, "session": "", "processes": [], "findings": []}
