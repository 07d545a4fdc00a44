"""What a recording says is what was written."""

from __future__ import annotations

import os
import struct
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from support_recording import FIRST_TICKS, STARTED_NS, RecordingBuilder

from safehandle_debug.recording import Recording, RecordingError, open_recording
from safehandle_debug.recording import format as shd
from safehandle_debug.recording.format import Ended, Ending, EventKind
from safehandle_debug.recording.reader import Cursor

Read = Callable[[RecordingBuilder], Recording]


def test_header_and_meta(book: RecordingBuilder, read: Read) -> None:
    """Header fields and the JSON of the meta string come through."""
    recording = read(book.end(3))
    assert recording.header.pid == book.fields["pid"]
    assert recording.header.exit_code == 3
    assert recording.header.ended == Ended.EXIT
    assert recording.meta["argv"] == ["app.py"]
    assert recording.meta["executable"] == sys.executable


@pytest.mark.parametrize("meta", ["", "{", "[]", "[" * 50_000, "null"])
def test_meta_that_is_no_json_object(meta: str, read: Read) -> None:
    """Whatever the meta string holds, `meta` is a dictionary."""
    assert read(RecordingBuilder(meta=meta)).meta == {}


def test_event_fields(book: RecordingBuilder, read: Read) -> None:
    """Each field of an event comes through, ids resolve."""
    worker = book.thread("Worker", ident=99, native=77)
    handle = book.acquire(
        value=-5, detail="/tmp/ü", task="Task-1", test="test_x", thread=worker, flags=32
    )
    recording = read(book)
    (event,) = recording.events()
    assert (event.seq, event.serial, event.value, event.refs) == (1, handle, -5, 1)
    assert (event.kind, event.ending, event.flags) == (EventKind.ACQUIRE, Ending.NONE, 32)
    assert recording.string(event.detail) == "/tmp/ü"
    assert recording.string(event.task) == "Task-1"
    assert recording.string(event.test) == "test_x"
    assert recording.thread(event.thread) == (99, 77, "Worker")
    assert recording.type(event.type) == ("SafeFileHandle", "file", "fd")


def test_ids_that_lead_nowhere(book: RecordingBuilder, read: Read) -> None:
    """An unknown id is "?" or nothing, never an error."""
    book.acquire(stack=book.stack_here())
    recording = read(book)
    for id in (0, 1, 511, 520, 9999, 1 << 20, 0xFFFF_FFFF):
        assert isinstance(recording.string(id), str)
        assert recording.type(id).name
        assert recording.thread(id).name
        assert isinstance(recording.stack(id), tuple)
    assert recording.string(0) == ""
    assert recording.type(0).kind == "?"
    assert recording.stack(0) == ()


def test_events_of_threads_are_ordered(book: RecordingBuilder, read: Read) -> None:
    """Events come by seq, whatever thread wrote them, over many blocks."""
    threads = [book.thread(name) for name in "abc"]
    for number in range(4000):
        book.event(EventKind.ADD_REF, 1, thread=threads[number * number % 7 % 3])
    recording = read(book)
    assert [event.seq for event in recording.events()] == list(range(1, 4001))
    assert [event.seq for event in recording.events(after=3990)] == list(range(3991, 4001))


def test_events_of_one_handle(book: RecordingBuilder, read: Read) -> None:
    """Only the handle's events, also where its number occurs in other fields."""
    other = book.thread("other")
    for number in range(3000):
        serial = number % 300 + 1
        book.event(EventKind.ADD_REF, serial, value=7, thread=other if number % 2 else None)
    recording = read(book)
    events = recording.events_of(7)
    assert [event.seq for event in events] == list(range(7, 3001, 300))
    assert {event.serial for event in events} == {7}
    assert recording.events_of_many([7, 9, 12345]) == {
        7: events,
        9: recording.events_of(9),
        12345: [],
    }


@pytest.mark.parametrize("serial", [0, -1, 1 << 64, 1 << 70])
def test_events_of_no_handle(serial: int, book: RecordingBuilder, read: Read) -> None:
    """A number that no handle can have has no events."""
    book.acquire()
    assert read(book).events_of(serial) == []


def test_live_slots(book: RecordingBuilder, read: Read) -> None:
    """Slots in use, over several blocks, by serial; freed ones are not there."""
    handles = [book.acquire(value=number) for number in range(2100)]
    for handle in handles[::3]:
        book.close(handle)
    kept = [handle for number, handle in enumerate(handles) if number % 3]
    recording = read(book)
    assert [slot.serial for slot in recording.live()] == kept
    assert all(slot.value == slot.serial - 1 for slot in recording.live())


def test_slot_that_was_left_changing(book: RecordingBuilder, read: Read) -> None:
    """A writer killed while it changed a slot leaves it readable."""
    first, second = book.acquire(), book.acquire()
    struct.pack_into("=I", book.data, book.slot_offset_of(first) + 56, 3)
    assert [slot.serial for slot in read(book).live()] == [first, second]


def test_stack_frames(book: RecordingBuilder, read: Read) -> None:
    """Innermost first, with lines, columns and qualified names."""

    class Shop:
        def open(self) -> int:
            return book.stack_here(limit=2)

    id, line = Shop().open(), sys._getframe().f_lineno
    inner, outer = read(book).stack(id)
    assert inner.function == "test_stack_frames.<locals>.Shop.open"
    assert (inner.line, inner.end_line) == (line - 2, line - 2)
    assert (outer.line, outer.function) == (line, "test_stack_frames")
    assert outer.file == __file__
    text = Path(__file__).read_text().splitlines()[line - 1]
    assert text[outer.column : outer.end_column] == "Shop().open()"


def test_stack_in_a_recycled_block(book: RecordingBuilder, read: Read) -> None:
    """A caller's node may have a greater id than its callee's."""
    code = test_stack_in_a_recycled_block.__code__
    first = book.stack([(code, 0)])
    second = book.stack([(code, 2), (code, 0)])
    nodes = struct.pack("=IIII", second, book.code(code), 4, 2)
    book.data[first * 16 : first * 16 + 16] = nodes
    nodes = struct.pack("=IIII", 0, book.code(code), 6, 1)
    book.data[second * 16 : second * 16 + 16] = nodes
    assert len(read(book).stack(first)) == 2


def test_stack_that_bites_its_tail(book: RecordingBuilder, read: Read) -> None:
    """A damaged stack that leads back to itself ends."""
    code = test_stack_that_bites_its_tail.__code__
    first = book.stack([(code, 0)])
    second = book.stack([(code, 2), (code, 0)])
    book.data[first * 16 : first * 16 + 4] = struct.pack("=I", second)
    assert len(read(book).stack(second)) == 2


def test_times(book: RecordingBuilder, read: Read) -> None:
    """Monotonic ticks are counted from the first anchor's wall clock."""
    recording = read(book)
    assert recording.to_ns(FIRST_TICKS + 5) == STARTED_NS + 5
    assert recording.to_ns(1 << 63) == 0


def test_times_of_cycles(read: Read) -> None:
    """Cycles are scaled by the two anchors, by the estimate before that."""
    book = RecordingBuilder(clock=1, ticks_per_ns=2.0)
    recording = read(book)
    assert recording.to_ns(FIRST_TICKS + 2000) == STARTED_NS + 1000
    book.fields |= {
        "second_ticks": FIRST_TICKS + 4000,
        "second_monotonic_ns": FIRST_TICKS + 1000,
        "second_realtime_ns": STARTED_NS - 10**12,  # the wall clock was set back
        "second_version": 2,
    }
    book.write(recording.path)
    recording.refresh()
    assert recording.to_ns(FIRST_TICKS + 2000) == STARTED_NS + 500


@pytest.mark.parametrize("rate", [0.0, -1.0, float("nan"), float("inf"), 1e-300])
def test_times_with_a_senseless_rate(rate: float, read: Read) -> None:
    """No rate makes a time an error."""
    recording = read(RecordingBuilder(clock=1, ticks_per_ns=rate))
    assert isinstance(recording.to_ns(FIRST_TICKS * 3), int)


def test_refresh_follows_a_growing_file(book: RecordingBuilder, read: Read) -> None:
    """New events, slots and blocks appear after a refresh, and only then."""
    book.acquire()
    recording = read(book)
    assert not recording.refresh()
    for _ in range(3000):
        book.acquire(stack=book.stack_here())
    book.write(recording.path)
    assert recording.header.newest_serial == 1
    assert recording.refresh()
    assert not recording.refresh()
    assert len(list(recording.events())) == len(recording.live()) == 3001
    assert recording.stack(recording.live()[-1].stack)


def test_read_new_gives_each_event_once(book: RecordingBuilder, read: Read) -> None:
    """What was read is not read again; what comes later is missed by none."""
    cursor = Cursor()
    worker = book.thread("Worker")
    recording = read(book)
    seen: list[int] = []
    for _ in range(5):
        for number in range(700):
            book.event(EventKind.ADD_REF, 1, thread=worker if number % 2 else None)
        book.write(recording.path)
        recording.refresh()
        chunks = list(recording.read_new(cursor))
        assert [first for first, _ in chunks] == sorted(first for first, _ in chunks)
        for first, data in chunks:
            rows = list(shd.EVENT.iter_unpack(data))
            assert rows[0][0] == first
            seen += [row[0] for row in rows]
    assert list(recording.read_new(cursor)) == []
    assert sorted(seen) == list(range(1, 3501))


def test_recycled_block(book: RecordingBuilder, read: Read) -> None:
    """A block that was emptied and filled anew is read from its start."""
    cursor = Cursor()
    book.event(EventKind.ADD_REF, 1)
    book.event(EventKind.ADD_REF, 1)
    recording = read(book)
    assert len(list(recording.read_new(cursor))) == 1
    (block,) = book.blocks_of(shd.BlockType.EVENTS)
    book.recycle(block)
    book.event(EventKind.ADD_REF, 2)
    book.write(recording.path)
    recording.refresh()
    ((first, data),) = recording.read_new(cursor)
    assert first == 3
    assert len(data) == shd.EVENT.size
    assert recording.events_of(1) == []


def test_block_that_is_being_recycled(book: RecordingBuilder, read: Read) -> None:
    """An odd generation keeps a block unread."""
    book.event(EventKind.ADD_REF, 1)
    (block,) = book.blocks_of(shd.BlockType.EVENTS)
    struct.pack_into("=I", book.data, book.block_offset(block) + 4, 1)
    assert list(read(book).events()) == []


def test_alive(read: Read) -> None:
    """This process is alive; one with its number that started at another
    time, or on another boot, is not."""
    assert read(RecordingBuilder(alive=True)).is_alive()
    assert not read(RecordingBuilder(pid=os.getpid(), start_ticks=1)).is_alive()
    assert not read(RecordingBuilder(alive=True, boot_id="another")).is_alive()
    assert not read(RecordingBuilder()).is_alive()


def test_exec_ends_a_recording(read: Read) -> None:
    """The process goes on, but another program records for it."""
    recording = read(RecordingBuilder(alive=True))
    name = f"{recording.header.pid}-{recording.header.start_ticks}-2.shd"
    recording.path.with_name(name).touch()
    assert not recording.is_alive()


def test_stopping_does_not_end_the_process(read: Read) -> None:
    """Recording was stopped and begun again: the process lives."""
    recording = read(RecordingBuilder(alive=True).end(0, Ended.STOPPED))
    name = f"{recording.header.pid}-{recording.header.start_ticks}-2.shd"
    recording.path.with_name(name).touch()
    assert recording.is_alive()


def test_zombie_is_not_alive(read: Read) -> None:
    """A process that ended and was not waited for yet has ended."""
    pid = os.posix_spawn(sys.executable, [sys.executable, "-c", ""], {})
    try:
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        stat = Path(f"/proc/{pid}/stat").read_text()
        started = int(stat.rpartition(")")[2].split()[19])
        assert not read(RecordingBuilder(pid=pid, start_ticks=started)).is_alive()
    finally:
        os.waitpid(pid, 0)


def test_closing(book: RecordingBuilder, tmp_path: Path) -> None:
    """Closing twice is fine; a closed recording says so."""
    with open_recording(book.write(tmp_path)) as recording:
        pass
    recording.close()
    with pytest.raises(RecordingError, match="has been closed"):
        recording.refresh()
