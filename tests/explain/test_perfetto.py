"""A trace of handles, decoded with Perfetto's own schema and held against the tables.

The processor that Perfetto's viewer is built on is a program of its own; where
`PERFETTO_TRACE_PROCESSOR` names one, it opens the trace too.
"""

from __future__ import annotations

import csv
import os
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from support_house import run

from safehandle_debug.exports.packets import MOST_INTERNED, Interned, Packets, varint

PROGRAM = """
import contextlib, os, threading
from safehandle_debug import SafeFileHandle, SafePipeHandle

KEPT = []

def keep(number):
    for _ in range(number):
        KEPT.append(SafeFileHandle.open("/dev/null"))

def churn(number):
    for _ in range(number):
        with SafeFileHandle.open("/dev/zero"):
            pass

def twice():
    handle = SafeFileHandle.open("/dev/null")
    handle.close()
    with contextlib.suppress(ValueError):
        handle.dangerous_release()

def main():
    keep(3)
    threads = [threading.Thread(target=churn, args=(500,), name=f"worker {n}") for n in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    reader, writer = SafePipeHandle.pair()
    reader.close()
    writer.close()
    twice()
    if os.fork() == 0:
        churn(2)
        os._exit(0)
    os.wait()

main()
os._exit(0)
"""
HANDLES = 3 + 3 * 500 + 2 + 1 + 2


@dataclass
class Event:
    """One event of a track, its names found."""

    at_ns: int
    type: int
    name: str
    categories: list[str]
    details: dict[str, Any]


@dataclass
class Decoded:
    """What a reader makes of a trace."""

    tracks: dict[int, Any] = field(default_factory=dict)
    events: dict[int, list[Event]] = field(default_factory=dict)  # by track, in time
    counts: dict[int, list[int]] = field(default_factory=dict)


class Sequence:
    """The texts that the packets of one sequence have named so far."""

    def __init__(self) -> None:
        self.tables: dict[str, dict[int, str]] = {}

    def learn(self, interned: Any) -> None:
        for descriptor, entries in interned.ListFields():
            table = self.tables.setdefault(descriptor.name, {})
            for entry in entries:
                assert entry.iid not in table
                table[entry.iid] = (
                    entry.str.decode() if descriptor.name.endswith("string_values") else entry.name
                )

    def detail(self, annotation: Any) -> tuple[str, Any]:
        name = self.tables["debug_annotation_names"][annotation.name_iid]
        which = annotation.WhichOneof("value")
        value = getattr(annotation, which)
        if which == "string_value_iid":
            value = self.tables["debug_annotation_string_values"][value]
        return name, value


def decoded(data: bytes) -> Decoded:
    """Reads a trace to the last bit; fails on whatever a reader would trip over."""
    schema = pytest.importorskip("perfetto.protos.perfetto.trace.perfetto_trace_pb2")
    unknown = pytest.importorskip("google.protobuf.unknown_fields").UnknownFieldSet
    trace = schema.Trace()
    assert trace.ParseFromString(data) == len(data)

    def check(message: Any) -> None:
        assert list(unknown(message)) == [], message
        for descriptor, value in message.ListFields():
            if descriptor.message_type is not None:
                for each in value if descriptor.is_repeated else [value]:
                    check(each)

    found = Decoded()
    sequences: dict[int, Sequence] = {}
    for packet in trace.packet:
        check(packet)
        number = packet.trusted_packet_sequence_id
        assert number != 0
        if packet.sequence_flags & packet.SEQ_INCREMENTAL_STATE_CLEARED:
            assert number not in sequences
            sequences[number] = Sequence()
        sequence = sequences[number]
        sequence.learn(packet.interned_data)
        if packet.HasField("track_descriptor"):
            track = packet.track_descriptor
            assert track.uuid not in found.tracks
            assert track.parent_uuid in found.tracks or not track.HasField("parent_uuid")
            found.tracks[track.uuid] = track
        elif packet.HasField("track_event"):
            take(found, packet, sequence)
        else:
            assert {clock.clock_id for clock in packet.clock_snapshot.clocks} == {1, 6}
    for events in found.events.values():
        events.sort(key=lambda event: event.at_ns)  # as readers do: stable
    return found


def take(found: Decoded, packet: Any, sequence: Sequence) -> None:
    """Notes an event on its track."""
    event = packet.track_event
    assert event.track_uuid in found.tracks
    assert packet.timestamp > 0
    if event.type == event.TYPE_COUNTER:
        assert found.tracks[event.track_uuid].HasField("counter")
        found.counts.setdefault(event.track_uuid, []).append(event.counter_value)
        return
    name = sequence.tables["event_names"][event.name_iid] if event.name_iid else event.name
    categories = [sequence.tables["event_categories"][iid] for iid in event.category_iids]
    details = dict(sequence.detail(each) for each in event.debug_annotations)
    each = Event(packet.timestamp, event.type, name, categories, details)
    found.events.setdefault(event.track_uuid, []).append(each)


@dataclass
class Slice:
    """A handle in a trace."""

    track: Any
    begin: Event
    end: Event | None


def slices(found: Decoded) -> Iterator[Slice]:
    """Every slice; those of a track follow one another."""
    for uuid, events in found.events.items():
        begun: Event | None = None
        for event in events:
            if event.type == 1:
                assert begun is None
                begun = event
            elif event.type == 2:
                assert begun is not None
                yield Slice(found.tracks[uuid], begun, event)
                begun = None
        if begun is not None:
            yield Slice(found.tracks[uuid], begun, None)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where a program ran, and its trace and tables are."""
    folder = tmp_path_factory.mktemp("perfetto")
    (folder / "app.py").write_text(PROGRAM)
    session = {"SAFEHANDLE_DEBUG_DIR": str(folder / "s")}
    watched = session | {"SAFEHANDLE_DEBUG": "full,fds=off"}
    assert run([sys.executable, "app.py"], cwd=folder, env=watched).returncode == 0
    command = [sys.executable, "-m", "safehandle_debug", "export"]
    for form, name in (("perfetto", "trace.pftrace"), ("csv", "tables")):
        done = run([*command, "--format", form, "--output", name], cwd=folder, env=session)
        assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def trace(folder: Path) -> Decoded:
    return decoded((folder / "trace.pftrace").read_bytes())


def test_every_handle_is_a_slice_with_its_times(folder: Path, trace: Decoded) -> None:
    with (folder / "tables" / "handles.csv").open(newline="") as file:
        rows = {(row["pid"], row["serial"]): row for row in csv.DictReader(file)}
    found = list(slices(trace))

    assert len(found) == HANDLES
    assert len(found) <= len(rows)
    for each in found:
        pid = str(trace.tracks[each.track.parent_uuid].process.pid)
        row = rows[pid, str(each.begin.details["serial"])]
        assert (each.track.name, each.begin.name) == (row["kind"], row["detail"] or row["owner"])
        assert str(each.begin.details["value"]) == row["value"]
        assert each.begin.details["thread"] == row["thread"]
        assert each.begin.details["opened at"].startswith(f"app.py:{row['line']}")
        assert each.begin.details["stack"].startswith(each.begin.details["opened at"])
        assert abs(each.begin.at_ns - int(row["opened_ns"])) < 1000
        if each.end is None:
            assert row["closed_ns"] == ""
        else:
            assert abs(each.end.at_ns - int(row["closed_ns"])) < 1000
            assert each.end.details["ending"] == row["ending"]
            assert each.end.details["owner"] == row["owner"]


def test_tracks_are_as_many_as_handles_were_open_at_once(trace: Decoded) -> None:
    names = Counter(track.name for track in trace.tracks.values() if track.name)
    assert names["open handles"] == 2
    assert names["pipe"] == 2
    # Three are kept, each of three threads has one at a time; a thread's next may begin
    # before another's, that is written down already, ends.
    assert 4 <= names["file"] <= 3 + 3 * 2 + 2


def test_the_counter_follows(trace: Decoded) -> None:
    by_process = sorted(trace.counts.values(), key=len)
    assert len(by_process) == 2
    assert all(abs(one - other) == 1 for counts in by_process for one, other in pairwise(counts))
    assert by_process[1][-1] == 3


def test_misuse_is_an_instant_on_its_thread(trace: Decoded) -> None:
    found = [
        (trace.tracks[uuid].thread.thread_name, event.name, event.categories)
        for uuid, events in trace.events.items()
        for event in events
        if event.type == 3
    ]
    assert found == [("MainThread", "double-release", ["misuse"])]


def test_handles_whose_events_were_dropped_are_there(tmp_path: Path) -> None:
    """An open handle is never lost, whatever became of its history."""
    program = PROGRAM.partition("def main")[0] + "keep(3)\nchurn(200_000)\nos._exit(0)\n"
    (tmp_path / "app.py").write_text(program)
    session = {"SAFEHANDLE_DEBUG_DIR": str(tmp_path / "s")}
    watched = session | {"SAFEHANDLE_DEBUG": "full,fds=off,size=1M"}
    assert run([sys.executable, "app.py"], cwd=tmp_path, env=watched).returncode == 0
    command = [sys.executable, "-m", "safehandle_debug", "export", "--format", "perfetto"]
    run([*command, "--output", "trace"], cwd=tmp_path, env=session)

    found = decoded((tmp_path / "trace").read_bytes())

    still_open = [each for each in slices(found) if each.end is None]
    assert [each.begin.name for each in still_open] == ["/dev/null"] * 3
    (counts,) = found.counts.values()
    assert counts[-1] == 3


def test_the_check_can_fail() -> None:
    packets = Packets(1, 10)
    packets.name("a", "a")
    for data in (
        packets.count(20, 5, 1),  # begins nowhere, on no track
        packets.track(5, "x") + packets.track(5, "x"),
        b"\x0a\x02\xfa\x7f",
    ):
        with pytest.raises(Exception):  # noqa: B017, PT011
            decoded(data)


def test_texts_beyond_the_bound_are_written_out() -> None:
    few = Interned(29, 2, most=1)
    assert few.add("a", "a")[0] == 1
    assert few.add("b", "b") == (0, b"")
    assert few.known("a") == 1
    assert few.known("b") == 0
    packets = Packets(1, 10)
    for number in range(MOST_INTERNED):
        packets.detail("x", str(number))
    assert b"last" in packets.detail("x", "last")
    assert b"999" not in packets.detail("x", "999")


@pytest.mark.parametrize(
    ("number", "written"),
    [
        (0, b"\0"),
        (127, b"\x7f"),
        (128, b"\x80\x01"),
        (300, b"\xac\x02"),
        (-1, b"\xff" * 9 + b"\1"),
    ],
)
def test_numbers_are_written_in_sevens(number: int, written: bytes) -> None:
    assert varint(number) == written


def test_a_trace_opens_in_perfettos_own_processor(folder: Path) -> None:
    processor = pytest.importorskip("perfetto.trace_processor")
    binary = os.environ.get("PERFETTO_TRACE_PROCESSOR")
    if binary is None:
        pytest.skip("PERFETTO_TRACE_PROCESSOR does not name trace_processor_shell")
    config = processor.TraceProcessorConfig(bin_path=binary)
    with processor.TraceProcessor(trace=str(folder / "trace.pftrace"), config=config) as opened:
        (row,) = opened.query("select count(*) as number from slice where category = 'handle'")
        (bad,) = opened.query("select sum(value) as number from stats where severity = 'error'")
    assert row.number == HANDLES
    assert not bad.number
