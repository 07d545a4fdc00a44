"""From events to histories."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable

import pytest
from support_recording import STARTED_NS, RecordingBuilder

from safehandle_debug.ledger import Ledger
from safehandle_debug.recording.format import BlockType, Ended, Ending, EventKind, Flag

Read = Callable[[RecordingBuilder], Ledger]


def test_history_from_beginning_to_end(book: RecordingBuilder, read: Read) -> None:
    """Each event with its words, the ending, the times."""
    worker = book.thread("Worker")
    handle = book.acquire(
        value=7, detail="/etc/group", stack=book.stack_here(), task="T", test="t"
    )
    book.add_ref(handle, stack=book.stack_here(), thread=worker)
    book.release(handle)
    book.close(handle, Ending.EXITED)
    history = read(book).history(handle)
    assert history is not None
    assert [event.kind for event in history.events] == ["acquire", "add-ref", "release", "close"]
    assert [event.refs for event in history.events] == [1, 2, 1, 0]
    assert [event.thread for event in history.events] == ["MainThread", "Worker"] + [
        "MainThread"
    ] * 2
    assert (history.owner, history.kind, history.space) == ("SafeFileHandle", "file", "fd")
    assert (history.value, history.detail, history.task, history.test) == (
        7,
        "/etc/group",
        "T",
        "t",
    )
    assert history.ending == history.events[-1].ending == "exited"
    assert history.opened == history.events[0].stack
    assert history.site is not None
    assert history.site.function == "test_history_from_beginning_to_end"
    assert history.opened_at_ns == STARTED_NS + 1_000_000
    assert history.closed_at_ns == STARTED_NS + 4_000_000
    assert not history.is_open
    assert not history.events_dropped


@pytest.mark.parametrize("ending", [each for each in Ending if each not in (0, Ending.LOST)])
def test_endings(ending: Ending, book: RecordingBuilder, read: Read) -> None:
    """Every ending has its word."""
    handle = book.acquire()
    book.close(handle, ending)
    history = read(book).history(handle)
    assert history is not None
    assert history.ending == ending.name.lower()


def test_invalidated_is_transferred(book: RecordingBuilder, read: Read) -> None:
    """A handle that was set invalid is nobody's to close any more."""
    handle = book.acquire()
    book.event(EventKind.INVALIDATE, handle, refs=1, ending=Ending.TRANSFERRED)
    book.free_slot(handle)
    history = read(book).history(handle)
    assert history is not None
    assert history.ending == "transferred"


def test_unknown_handle(book: RecordingBuilder, read: Read) -> None:
    """Nothing is known of a number that was never given out."""
    book.acquire()
    ledger = read(book)
    for serial in (0, 2, 99, -1, 1 << 64):
        assert ledger.history(serial) is None


def test_open_handles_oldest_first(book: RecordingBuilder, read: Read) -> None:
    """Those with a slot, with their references, without events."""
    handles = [book.acquire(stack=book.stack_here()) for _ in range(1500)]
    for handle in handles[::2]:
        book.close(handle)
    book.add_ref(handles[1])
    found = read(RecordingBuilder(alive=True)).open()
    assert found == []
    found = read(book).open()
    assert [history.serial for history in found] == handles[1::2]
    assert found[0].refs == 2
    assert found[0].opened


def test_open_keeps_its_objects(read: Read) -> None:
    """What did not change is the same object, what did is up to date."""
    book = RecordingBuilder(alive=True)
    first, second = book.acquire(), book.acquire()
    ledger = read(book)
    before = ledger.open()
    assert all(history.is_open for history in before)
    book.close(first)
    book.add_ref(second)
    third = book.acquire()
    book.write(ledger.recording.path)
    assert ledger.refresh()
    after = ledger.open()
    assert [history.serial for history in after] == [second, third]
    assert after[0] is before[1]
    assert after[0].refs == 2


def test_killed_process_held_its_handles(book: RecordingBuilder, read: Read) -> None:
    """Whoever was killed lost what it held."""
    handle = book.acquire()
    ledger = read(book)
    assert ledger.process.ended == "signal"
    assert ledger.process.exit_code is None
    (history,) = ledger.open()
    assert history.ending == "lost"
    assert ledger.history(handle).ending == "lost"  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("ended", "alive", "word"),
    [
        (Ended.EXIT, False, "exit"),
        (Ended.EXIT, True, "exit"),
        (Ended.SIGNAL, False, "signal"),
        (Ended.RUNNING, True, "running"),
        (Ended.RUNNING, False, "signal"),
        (Ended.STOPPED, True, "running"),
        (Ended.STOPPED, False, "exit"),
    ],
)
def test_how_a_process_ended(ended: Ended, alive: bool, word: str, read: Read) -> None:
    book = RecordingBuilder(alive=alive)
    if ended:
        book.end(9, ended)
    process = read(book).process
    assert process.ended == word
    stamped = ended in (Ended.EXIT, Ended.SIGNAL)
    assert process.exit_code == (9 if stamped else None)
    assert (process.ended_at_ns is not None) == stamped


def test_process(read: Read) -> None:
    book = RecordingBuilder(pid=77, parent_pid=66, argv=["a.py", "-v"], cwd="/srv")
    book.acquire()
    process = read(book.end()).process
    assert (process.pid, process.parent_pid, process.argv) == (77, 66, ("a.py", "-v"))
    assert (process.cwd, process.level, process.live) == ("/srv", "full", 1)
    assert (process.events, process.dropped, process.error) == (1, 0, None)
    assert process.started_at_ns == STARTED_NS


@pytest.mark.parametrize("meta", ["{}", "[", '{"argv": 3, "cwd": 4, "python": null}'])
def test_process_with_senseless_meta(meta: str, read: Read) -> None:
    """A damaged description leaves a process without one."""
    process = read(RecordingBuilder(meta=meta)).process
    assert process.argv == ()
    assert process.cwd == ""
    assert process.python.startswith("3.")


def test_why_a_recording_lost_something(read: Read) -> None:
    book = RecordingBuilder()
    book.fields |= {"error": 28, "dropped_live": 3, "dropped_stacks": 2}
    error = read(book).process.error
    assert error is not None
    assert "3 open handles, 2 stacks" in error
    assert os.strerror(28) in error


def test_dropped_acquire_is_told_by_the_slot(book: RecordingBuilder, read: Read) -> None:
    """An open handle keeps its acquire stack when its events are dropped."""
    handle = book.acquire(stack=book.stack_here(), detail="/etc/group")
    (block,) = book.blocks_of(BlockType.EVENTS)
    book.recycle(block)
    book.add_ref(handle)
    history = read(book).history(handle)
    assert history is not None
    assert history.opened
    assert history.detail == "/etc/group"
    assert history.events_dropped
    assert [event.kind for event in history.events] == ["add-ref"]
    assert history.refs == 2


def test_dropped_acquire_of_a_closed_handle(book: RecordingBuilder, read: Read) -> None:
    """What is left of it makes a history without an acquire stack."""
    handle = book.acquire(stack=book.stack_here())
    (block,) = book.blocks_of(BlockType.EVENTS)
    book.recycle(block)
    book.close(handle)
    history = read(book).history(handle)
    assert history is not None
    assert history.opened == ()
    assert history.ending == "closed"
    assert history.events_dropped


def test_dropped_close(book: RecordingBuilder, read: Read) -> None:
    """A handle without slot is not open, even if nobody saw it close."""
    handle = book.acquire()
    book.close(handle, record=False)
    history = read(book.end()).history(handle)
    assert history is not None
    assert not history.is_open
    assert history.events_dropped


def test_unsampled_handle(book: RecordingBuilder, read: Read) -> None:
    """A problem of a handle that was sampled out: no slot, no acquire."""
    handle = book.acquire(slot=False)
    (block,) = book.blocks_of(BlockType.EVENTS)
    book.recycle(block)
    book.dropped_events = 0
    book.problem(EventKind.DOUBLE_RELEASE, handle, stack=book.stack_here())
    history = read(book).history(handle)
    assert history is not None
    assert history.unsampled
    assert history.owner == "SafeFileHandle"
    assert history.opened == ()
    assert not history.events_dropped


def test_inherited_handles_are_the_parents(read: Read) -> None:
    """Events of handles from before the fork make no history."""
    book = RecordingBuilder(inherited_serials=10)
    type = book.type("SafeFileHandle")
    book.event(EventKind.CLOSE, 4, type=type, ending=Ending.DROPPED, flags=Flag.INHERITED)
    book.event(EventKind.DOUBLE_RELEASE, 5, type=type, flags=Flag.INHERITED)
    own = book.acquire()
    ledger = read(book.end())
    assert own == 11
    assert ledger.history(4) is None
    assert ledger.history(5) is None
    assert [history.serial for history in ledger.open()] == [own]
    assert [each.example.serial for each in ledger.suspicions()] == [own]


def test_all_histories(book: RecordingBuilder, read: Read) -> None:
    """Closed ones as they closed, then open ones; each once."""
    handles = [book.acquire() for _ in range(5)]
    for handle in (handles[3], handles[0]):
        book.close(handle)
    found = list(read(book).histories())
    assert [history.serial for history in found] == [handles[each] for each in (3, 0, 1, 2, 4)]
    assert found[0].ending == "closed"
    assert found[0].events == []


def test_refresh_tells_changes(book: RecordingBuilder, read: Read) -> None:
    ledger = read(book)
    ledger.refresh()
    assert not ledger.refresh()
    book.acquire()
    book.write(ledger.recording.path)
    assert ledger.refresh()
    ledger.refresh()
    assert not ledger.refresh()


def test_refresh_finds_what_was_committed_late(read: Read) -> None:
    """An event whose seq the header knew before it was written."""
    book = RecordingBuilder(alive=True)
    handle = book.acquire()
    book.close(handle, Ending.DROPPED)
    (block,) = book.blocks_of(BlockType.EVENTS)
    at = book.block_offset(block) + 8
    struct.pack_into("=I", book.data, at, 1)
    ledger = read(book)
    assert ledger.counts.abandoned == 0
    struct.pack_into("=I", book.data, at, 2)
    book.write(ledger.recording.path)
    assert ledger.refresh()
    assert ledger.counts.abandoned == 1


def test_close_seen_before_its_acquire(read: Read) -> None:
    """Another thread's close may be committed first."""
    book = RecordingBuilder(alive=True)
    worker = book.thread("Worker")
    stack = book.stack_here()
    handle = book.acquire(stack=stack, slot=False)
    (block,) = book.blocks_of(BlockType.EVENTS)
    at = book.block_offset(block) + 8
    book.close(handle, Ending.DROPPED, thread=worker)
    struct.pack_into("=I", book.data, at, 0)
    ledger = read(book)
    assert ledger.suspicions() == []
    struct.pack_into("=I", book.data, at, 1)
    book.write(ledger.recording.path)
    ledger.refresh()
    (suspicion,) = ledger.suspicions()
    assert suspicion.example.opened == ledger.recording.stack(stack)


def test_alike_ones_are_one_suspicion(book: RecordingBuilder, read: Read) -> None:
    """A thousand abandoned alike are a count and an example."""
    stacks = [book.stack_here(), book.stack_here()]
    for number in range(1000):
        handle = book.acquire(stack=stacks[number % 2])
        book.close(handle, Ending.DROPPED if number % 4 else Ending.COLLECTED)
    ledger = read(book.end())
    suspicions = ledger.suspicions()
    assert sorted(each.count for each in suspicions) == [250, 250, 500]
    assert sum(len(each.serials) for each in suspicions) < 100
    assert all(each.example.events for each in suspicions)
    assert ledger.counts.abandoned == 1000
    assert [history.serial for history in ledger.suspects()] == [1, 2, 3]


def test_closed_handles_are_forgotten(book: RecordingBuilder, read: Read) -> None:
    """Nothing is kept of handles that were closed as they should be."""
    for _ in range(3000):
        book.close(book.acquire(stack=book.stack_here()))
    ledger = read(book.end())
    assert ledger._replay.open_count == 0
    assert ledger.suspicions() == []


def test_own_running_process(read: Read) -> None:
    """A ledger over a process that goes on sees open handles as open."""
    book = RecordingBuilder(alive=True)
    handle = book.acquire()
    ledger = read(book)
    assert ledger.process.ended == "running"
    assert ledger.suspicions() == []
    (suspicion,) = ledger.suspicions(now=True)
    assert suspicion.example.serial == handle
    assert suspicion.example.is_open


def test_live_handles_are_those_to_close(read: Read) -> None:
    """Neither borrowed nor inherited ones count, whatever the header says."""
    book = RecordingBuilder(inherited_serials=3)
    book.acquire()
    book.acquire(flags=Flag.BORROWED)
    book.fields["live"] = 5
    ledger = read(book)
    assert ledger.process.live == ledger.counts.live == 1


def test_problems_are_counted_as_they_happen(read: Read) -> None:
    """Handles with events that are findings, also in a running process."""
    book = RecordingBuilder(alive=True)
    ledger = read(book)
    wrong, dropped, fine = (book.acquire() for _ in range(3))
    book.add_ref(dropped)
    book.dispose(dropped, Ending.DROPPED, flags=Flag.FINALIZER)
    book.add_ref(fine)
    book.dispose(fine)
    for _ in range(2):
        book.problem(EventKind.DOUBLE_RELEASE, wrong)
    book.write(ledger.recording.path)
    ledger.refresh()
    assert ledger.counts.problems == 2
