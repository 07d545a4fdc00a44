"""The index in C against a recount from scratch in Python."""

from __future__ import annotations

import random
from collections import Counter, deque
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support_recording import RecordingBuilder

from safehandle_debug.ledger import Ledger
from safehandle_debug.ledger._index import BUCKETS, LIFETIMES, Index, Slots
from safehandle_debug.ledger.census import Census, Place, Span, evidence_of
from safehandle_debug.ledger.verdict import judge
from safehandle_debug.recording import format as shd
from safehandle_debug.recording import open_recording
from safehandle_debug.recording.format import Ending, EventKind, Flag

Row = tuple[int, ...]
TICKS = 1000


def event(
    seq: int, serial: int, kind: int, *, stack: int = 1, ending: int = 0, flags: int = 0
) -> Row:
    """One event of a made-up process, at seq * TICKS."""
    return (seq, seq * TICKS, serial, serial, stack, 1, 0, 0, 0, 7, 1, kind, ending, flags)


def packed(rows: list[Row]) -> bytes:
    return b"".join(shd.EVENT.pack(*row) for row in rows)


def open_in(slots: Slots) -> dict[int, int]:
    """serial -> acquire ticks of live slots."""
    return {row[0]: row[1] for row in shd.LIVE.iter_unpack(slots.packed())}


@st.composite
def programs(draw: st.DrawFn) -> list[Row]:
    """Events of a correct program: acquire, references, close."""
    rng = random.Random(draw(st.integers(0, 2**32)))
    rows: list[Row] = []
    alive: list[int] = []
    serial = 0
    for seq in range(1, draw(st.integers(1, 400)) + 1):
        what = rng.random()
        if not alive or what < 0.4:
            serial += 1
            alive.append(serial)
            rows.append(event(seq, serial, EventKind.ACQUIRE, stack=rng.randrange(5)))
        elif what < 0.6:
            rows.append(event(seq, rng.choice(alive), EventKind.ADD_REF))
        else:
            gone = alive.pop(rng.randrange(len(alive)))
            ending = rng.choice([Ending.CLOSED, Ending.EXITED, Ending.DROPPED])
            rows.append(event(seq, gone, EventKind.CLOSE, ending=ending))
    return rows


@given(rows=programs(), threads=st.integers(1, 4), parts=st.integers(1, 5), data=st.data())
def test_the_index_equals_a_recount(
    rows: list[Row], threads: int, parts: int, data: st.DataObject
) -> None:
    """However the events are spread over threads and over refreshes."""
    rng = random.Random(len(rows))
    index = Index(0, 0, 1)
    told: list[Row] = []
    size = len(rows) // parts + 1
    for at in range(0, len(rows), size):
        part: list[list[Row]] = [[] for _ in range(threads)]
        for row in rows[at : at + size]:
            part[rng.randrange(threads)].append(row)
        chunks = sorted((thread[0][0], packed(thread)) for thread in part if thread)
        assert index.take(iter(chunks), lambda row, acquired: told.append(row)) == len(
            rows[at : at + size]
        )
    begun = {row[2]: row for row in rows if row[11] == EventKind.ACQUIRE}
    ended = {row[2]: row for row in rows if row[11] == EventKind.CLOSE}
    alive = begun.keys() - ended.keys()
    assert open_in(index.open()) == {serial: begun[serial][1] for serial in alive}
    assert index.open_count == len(alive)
    dropped = [row[0] for row in ended.values() if row[12] == Ending.DROPPED]
    assert sorted(row[0] for row in told) == sorted(dropped)
    places = {place[0]: place for place in index.places()}
    for stack, place in places.items():
        own = [row for row in begun.values() if row[4] == stack]
        gone = [ended[row[2]] for row in own if row[2] in ended]
        assert place[2:4] == (len(own), len(gone))
        assert place[4] == sum(row[12] == Ending.DROPPED for row in gone)
        assert sum(memoryview(place[10]).cast("I")) == len(own)
        assert sum(memoryview(place[11]).cast("I")) == len(own) - len(gone)
        lives = Counter((row[1] - begun[row[2]][1]).bit_length() - 1 for row in gone)
        counted = memoryview(place[12]).cast("I")
        assert {power: n for power, n in enumerate(counted) if n} == dict(lives)
    assert len(places) == len({row[4] for row in begun.values()})
    seq = data.draw(st.integers(0, len(rows) + 1))
    then = {row[2] for row in begun.values() if row[0] <= seq}
    then -= {row[2] for row in ended.values() if row[0] <= seq}
    past = index.restored(seq)
    past.take([(1, packed([row for row in rows if row[0] <= seq]))], None)
    assert open_in(past.open()).keys() == then
    counts = {place[0]: place[2:4] for place in past.places()}
    assert counts == {
        stack: (
            sum(row[4] == stack and row[0] <= seq for row in begun.values()),
            sum(begun[row[2]][4] == stack and row[0] <= seq for row in ended.values()),
        )
        for stack in {row[4] for row in begun.values() if row[0] <= seq}
    }


def test_births_keep_their_places_when_windows_widen() -> None:
    """32 windows always; those before now are half full at least."""
    index = Index(0, 0, 1)
    rows = [event(seq, seq, EventKind.ACQUIRE) for seq in range(1, 1001)]
    index.take([(1, packed(rows))], None)
    start, width, _ = index.span()
    assert start == 0
    assert BUCKETS * width > 1000 * TICKS >= BUCKETS * width // 2
    births = memoryview(index.places()[0][10]).cast("I")
    assert len(births) == BUCKETS
    full = [number for number in births if number]
    assert max(full[:-1]) - min(full[:-1]) <= 1


@pytest.mark.parametrize("kept_alive", [20, 30_000])
def test_moments_of_a_long_recording(kept_alive: int) -> None:
    """Copies are kept on the way, and what is between them is replayed."""
    index = Index(0, 0, 1)
    whole = Index(0, 0, 1)
    rows = []
    alive: deque[int] = deque()
    for serial in range(1, 150_001):
        rows.append(event(len(rows) + 1, serial, EventKind.ACQUIRE, stack=serial % 100))
        alive.append(serial)
        if len(alive) > kept_alive:
            gone = alive.popleft()
            rows.append(event(len(rows) + 1, gone, EventKind.CLOSE, ending=Ending.CLOSED))
    index.take([(1, packed(rows))], None)
    for seq in (0, 1, 100_000, 250_001, len(rows)):
        kept = index.before(seq)
        assert kept <= seq
        assert seq - kept < 150_000
        past = index.restored(seq)
        after = packed(rows[kept:seq])
        past.take([(kept + 1, after)], None)
        whole = Index(0, 0, 1)
        whole.take([(1, packed(rows[:seq]))], None)
        assert open_in(past.open()) == open_in(whole.open())
        assert past.span() == whole.span()
        assert past.places() == whole.places()


def test_what_comes_late_takes_back_the_moments_after_it() -> None:
    """A thread's old events are in every moment that is given back."""
    index = Index()
    rows = []
    for seq in range(2, 200_002, 2):
        rows.append(event(seq, seq, EventKind.ACQUIRE))
        rows.append(event(seq + 1, seq, EventKind.CLOSE, ending=Ending.CLOSED))
    index.take([(2, packed(rows))], None)
    assert index.before(200_000) > 100_000
    index.take([(1, packed([event(1, 900_000, EventKind.ACQUIRE)]))], None)
    assert index.before(200_000) == 0
    assert len(open_in(index.restored(200_000).open())) == 0


def test_alarms_are_noted() -> None:
    """Those that are findings by themselves, and no others."""
    index = Index()
    kinds = list(EventKind)
    index.take([(1, packed([event(at, 50 + at, kind) for at, kind in enumerate(kinds)]))], None)
    seqs = memoryview(index.alarms()).cast("Q").tolist()
    assert {kinds[seq] for seq in seqs} == {
        EventKind.SET_VALUE,
        EventKind.DOUBLE_RELEASE,
        EventKind.RELEASE_FAILED,
        EventKind.DOUBLE_OWNER,
        EventKind.OVERFLOW,
        EventKind.CLOSED_BEHIND,
        EventKind.RECYCLED,
        EventKind.EXHAUSTED,
    }


def test_a_close_may_come_before_its_acquire_is_seen() -> None:
    """Another thread had not committed it yet; one that never comes is told."""
    index = Index(2, 0, 1)
    told: list[tuple[Row, object]] = []
    close = event(2, 5, EventKind.CLOSE, ending=Ending.COLLECTED, stack=9)
    lost = event(3, 6, EventKind.CLOSE, ending=Ending.CLOSED)
    inherited = event(4, 1, EventKind.CLOSE, ending=Ending.COLLECTED)
    index.take([(2, packed([close, lost, inherited]))], lambda *each: told.append(each))
    assert told == []
    late = event(1, 5, EventKind.ACQUIRE, stack=4, flags=Flag.IMPORTING)
    index.take([(1, packed([late]))], lambda *each: told.append(each))
    row = (2, 5, 9, 7, EventKind.CLOSE, Ending.COLLECTED, 0)
    assert told == [(row, (7, 4, Flag.IMPORTING))]
    index.settle(lambda *each: told.append(each))
    assert [each[0][1] for each in told] == [5, 6]
    assert told[1][1] is None


def test_disposed_handles_and_problems_are_told() -> None:
    """Also when they end well after that; references are not."""
    index = Index()
    told: list[tuple[Row, object]] = []
    rows = [
        event(1, 1, EventKind.ACQUIRE),
        event(2, 1, EventKind.ADD_REF),
        event(3, 1, EventKind.DISPOSE),
        event(4, 1, EventKind.CLOSE, ending=Ending.CLOSED),
        event(5, 1, EventKind.DOUBLE_RELEASE),
    ]
    index.take([(1, packed(rows))], lambda *each: told.append(each))
    assert [(row[4], acquired) for row, acquired in told] == [
        (EventKind.DISPOSE, None),
        (EventKind.CLOSE, (7, 1, 0)),
        (EventKind.DOUBLE_RELEASE, None),
    ]


def test_prune_forgets() -> None:
    """Handles of which it is known from elsewhere that they are closed."""
    index = Index()
    rows = [event(seq, seq, EventKind.ACQUIRE) for seq in range(1, 1001)]
    index.take([(1, packed(rows))], None)
    index.prune({1, 500, 2000})
    assert open_in(index.open()).keys() == {1, 500}


@pytest.mark.parametrize("chunks", [[1], [(1,)], [("1", b"")], [(1, "text")], 5])
def test_bad_chunks_are_refused(chunks: object) -> None:
    """With an exception, and the index goes on."""
    index = Index()
    with pytest.raises(TypeError):
        index.take(chunks, None)  # type: ignore[arg-type]
    assert index.take([(1, packed([event(1, 1, EventKind.ACQUIRE)]))], None) == 1


def test_what_the_callback_raises_comes_out() -> None:
    """And it cannot start the index again from inside."""
    index = Index()
    rows = packed([event(1, 1, EventKind.DOUBLE_RELEASE)])
    with pytest.raises(RuntimeError, match="taking events"):
        index.take([(1, rows)], lambda *each: index.take([], None))
    with pytest.raises(ZeroDivisionError):
        index.take([(1, rows)], lambda *each: 1 // 0)
    with pytest.raises(TypeError):
        index.prune([1])  # type: ignore[arg-type]


@given(data=st.binary(min_size=64, max_size=640))
@settings(max_examples=50)
def test_any_bytes_can_be_taken(data: bytes) -> None:
    """A damaged recording gives wrong numbers, nothing worse."""
    index = Index(0, 0, 1)
    index.take([(0, data)], lambda *each: None)
    index.places()
    past = index.restored(2**63)
    past.take([(0, data)], None)
    assert len(past.open()) == past.open_count


def test_census_of_a_recording(tmp_path: Path) -> None:
    """Times are wall clock, and any moment can be had again."""
    book = RecordingBuilder()
    stack = book.stack_here()
    serials = [book.acquire(value=n, stack=stack) for n in range(3, 13)]
    for serial in serials[:4]:
        book.close(serial, stack=stack)
    middle = book.seq
    for serial in serials[4:8]:
        book.close(serial, stack=stack)
    census = Census(open_recording(book.write(tmp_path)))
    assert census.refresh()
    assert not census.refresh()
    (place,) = census.places()
    assert (place.opened, place.closed, place.live) == (10, 8, 2)
    assert sum(number for _, number in place.lives) == 8
    assert place.newest_ns > place.first_ns > census.span.start_ns
    assert len(place.births) == BUCKETS
    assert LIFETIMES == 64
    for seq, wanted in ((middle, serials[4:]), (3, serials[:3]), (0, []), (4, serials[:4])):
        assert sorted(open_in(census.at(seq).slots())) == wanted
    assert census.alarms() == []


def test_several_histories_in_one_pass(tmp_path: Path) -> None:
    """With their events; a serial that nobody had is left out."""
    book = RecordingBuilder()
    stack = book.stack_here()
    serials = [book.acquire(value=n, stack=stack) for n in range(3, 6)]
    book.close(serials[0], stack=stack)
    with Ledger(open_recording(book.write(tmp_path))) as ledger:
        ledger.refresh()
        found = ledger.histories_of([serials[0], serials[2], 99])
        assert [history.serial for history in found] == [serials[0], serials[2]]
        assert [event.kind for event in found[0].events] == ["acquire", "close"]


@pytest.mark.parametrize("many", [1, 3000])
def test_a_history_up_to_an_event(tmp_path: Path, many: int) -> None:
    """Only what had happened by then, wherever in the recording that is."""
    book = RecordingBuilder()
    stack = book.stack_here()
    old = book.acquire(stack=stack)
    book.add_ref(old)
    for _ in range(many):
        book.close(book.acquire(stack=stack))
    middle = book.seq
    book.release(old)
    for _ in range(many):
        book.close(book.acquire(stack=stack))
    book.close(old, Ending.EXITED)
    with Ledger(open_recording(book.write(tmp_path))) as ledger:
        ledger.refresh()
        for seq, kinds, ending in (
            (1, ["acquire"], None),
            (middle, ["acquire", "add-ref"], None),
            (book.seq - 1, ["acquire", "add-ref", "release"], None),
            (book.seq, ["acquire", "add-ref", "release", "close"], "exited"),
        ):
            history = ledger.history_until(old, seq)
            assert history is not None
            assert [event.kind for event in history.events] == kinds
            assert history.ending == ending
        assert ledger.history_until(old, 0) is None
        assert ledger.history_until(10**6, book.seq) is None
        looked_at = sum(until - after for after, until in ledger.index.stretches(old, book.seq))
        assert looked_at <= max(3 * 1024, len(kinds))


@given(
    rows=st.lists(st.tuples(st.integers(1, 3000), st.integers(0, 40)), max_size=3000),
    serial=st.integers(0, 41),
    until=st.integers(0, 3001),
)
@settings(max_examples=50)
def test_stretches_miss_no_event(rows: list[tuple[int, int]], serial: int, until: int) -> None:
    """In whatever order they are taken in."""
    index = Index()
    for seq, each in rows:
        index.take([(seq, packed([event(seq, each, EventKind.ADD_REF)]))], None)
    ranges = index.stretches(serial, until)
    assert all(after < last <= until for after, last in ranges)
    for seq, each in rows:
        if each == serial and seq <= until:
            assert any(after < seq <= last for after, last in ranges)


def test_births_after_the_end_are_judged_too() -> None:
    """The clocks of a process that was killed may say that it ended before."""
    late = (0,) * 3 + (2,) + (0,) * (BUCKETS - 4)
    place = Place(
        stack=1, type=1, opened=2, closed=0, live=2, finalized=0, importing=0, first_ns=400,
        newest_ns=400, last_close_ns=0, close_stack=0, births=late,
        survivors=late, lives=(),
    )  # fmt: skip
    evidence = evidence_of(place, Span(start_ns=100, width_ns=100.0), now_ns=90)
    assert sum(evidence.births) == sum(evidence.survivors) == 2
    assert judge(evidence).word == "in use"
