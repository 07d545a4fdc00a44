"""A busy handle's history stays small and keeps what matters."""

from __future__ import annotations

from pathlib import Path

from support_recording import RecordingBuilder

from safehandle_debug.recording import RawEvent, open_recording
from safehandle_debug.recording.format import EventKind
from safehandle_debug.recording.thinning import MOST, thin


def raw(seq: int, kind: EventKind, thread: int = 1) -> RawEvent:
    return RawEvent(seq, 0, 1, 0, 0, thread, 0, 0, 0, 0, 0, kind, 0, 0)


def pairs(first_seq: int, count: int) -> list[RawEvent]:
    """Add-ref and release, `count` times."""
    kinds = (EventKind.ADD_REF, EventKind.RELEASE)
    return [raw(first_seq + number, kinds[number % 2]) for number in range(2 * count)]


def test_short_history_is_only_sorted() -> None:
    """Nothing is left out of what is short enough."""
    events = pairs(1, 10)
    shuffled = events[::-1]
    thin(shuffled, 20)
    assert shuffled == events


def test_references_without_release_stay() -> None:
    """Of many, those that matter are kept: the acquire, the forgotten."""
    acquire, forgotten = raw(1, EventKind.ACQUIRE), raw(500, EventKind.ADD_REF)
    events = [acquire, *pairs(2, 200), forgotten, *pairs(501, 300)]
    thin(events, 100)
    assert len(events) <= 100
    assert acquire in events
    assert forgotten in events
    assert events == sorted(events)


def test_nested_pairs_cancel_out() -> None:
    """References released inside one another leave nothing behind."""
    nested = [raw(seq, EventKind.ADD_REF) for seq in range(1, 101)]
    nested += [raw(seq, EventKind.RELEASE) for seq in range(101, 201)]
    last = [raw(seq, EventKind.USE_CLOSED) for seq in range(201, 301)]
    events = nested + last
    thin(events, 200)
    assert set(last) <= set(events)
    assert len(events) <= 200


def test_releases_of_other_threads_do_not_cancel() -> None:
    """Which reference another thread's release drops is not known."""
    events = [raw(1, EventKind.ADD_REF, 1), raw(2, EventKind.RELEASE, 2), *pairs(3, 100)]
    thin(events, 60)
    assert events[:2] == [raw(1, EventKind.ADD_REF, 1), raw(2, EventKind.RELEASE, 2)]


def test_too_many_all_the_same() -> None:
    """Where nothing cancels out, the middle goes."""
    events = [raw(seq, EventKind.ADD_REF) for seq in range(1, 1001)]
    first, last = events[0], events[-1]
    thin(events, 100)
    assert 90 <= len(events) <= 101
    assert (events[0], events[-1]) == (first, last)


def test_reader_thins(tmp_path: Path) -> None:
    """A handle with a hundred thousand events has a bounded history."""
    book = RecordingBuilder()
    handle = book.acquire()
    for _ in range(25_000):
        book.add_ref(handle)
        book.release(handle)
    with open_recording(book.write(tmp_path)) as recording:
        events = recording.events_of(handle)
        many = recording.events_of_many([handle])[handle]
    for found in (events, many):
        assert len(found) <= MOST
        assert found[0].kind == EventKind.ACQUIRE
        assert found[-1].seq == book.seq
