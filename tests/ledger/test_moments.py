"""Open handles and counts at any moment, against a recount from scratch in Python."""

from __future__ import annotations

import random
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from safehandle_debug.ledger._index import BUCKETS, Handles, Index, Selection, Slots
from safehandle_debug.recording import format as shd
from safehandle_debug.recording.format import Ending, EventKind, Flag

Row = tuple[int, ...]
RAW, OWNED = 5, 9  # types


def events(rng: random.Random, number: int, alive: int, jitter: int) -> list[Row]:
    """A program that keeps about so many handles open.

    Serials come out of order by up to `jitter`, as threads commit theirs."""
    coming = list(range(1, number + jitter + 1))
    for at in range(0, len(coming), jitter + 1):
        window = coming[at : at + jitter + 1]
        rng.shuffle(window)
        coming[at : at + jitter + 1] = window
    coming.reverse()
    is_open: list[int] = []
    rows: list[Row] = []
    for seq in range(1, number + 1):
        what = rng.random()
        stack, thread = rng.randrange(1, 9), rng.choice([1, 1, 1, 70_000])
        if not is_open or what < (0.5 if len(is_open) < alive else 0.2):
            serial, kind = coming.pop(), EventKind.ACQUIRE
            is_open.append(serial)
        else:
            at = rng.randrange(max(0, len(is_open) - rng.choice([4, 40, 10**6])), len(is_open))
            serial = is_open[at]
            kind = rng.choice([EventKind.CLOSE] * 6 + [
                EventKind.ADD_REF, EventKind.OWNED, EventKind.DISOWNED, EventKind.DISPOSE,
                EventKind.INVALIDATE,
            ])  # fmt: skip
            if kind in (EventKind.CLOSE, EventKind.INVALIDATE):
                is_open[at] = is_open[-1]
                is_open.pop()
        type = OWNED if kind == EventKind.OWNED else RAW
        ending = rng.choice([Ending.CLOSED, Ending.DROPPED]) if kind == EventKind.CLOSE else 0
        flags = rng.choice([0, 0, Flag.IMPORTING]) if kind == EventKind.ACQUIRE else 0
        value = rng.choice([serial, -1, 2**62, -(2**62)]) if jitter else serial % 1000
        detail = rng.choice([0, 0, rng.randrange(2**32)])
        ticks = 1_000_000 + seq * 10
        rows.append(
            (seq, ticks, serial, value, stack, thread, 0, 3, detail, type, rng.randrange(300),
             kind, ending, flags)
        )  # fmt: skip
    return rows


def packed(rows: list[Row]) -> bytes:
    return b"".join(shd.EVENT.pack(*row) for row in rows)


def recounted(rows: list[Row]) -> tuple[list[Row], dict[tuple[int, int], list[int]]]:
    """(live slots by serial, (stack, type) -> opened, closed, importing) after the events."""
    slots: dict[int, list[int]] = {}
    closed: Counter[tuple[int, int]] = Counter()
    opened: Counter[tuple[int, int]] = Counter()
    importing: Counter[tuple[int, int]] = Counter()
    over: list[list[int]] = []
    for row in rows:
        _, ticks, serial, value, stack, *names, detail, type, refs, kind, _, flags = row
        if kind == EventKind.ACQUIRE:
            slots[serial] = [
                serial, ticks, value, stack, *names, detail, type, refs, flags, 0, stack,
            ]  # fmt: skip
        elif kind in (EventKind.CLOSE, EventKind.INVALIDATE):
            slot = slots.pop(serial)
            over.append(slot)
            closed[slot[3], slot[8]] += 1
        else:
            slot = slots[serial]
            slot[9], slot[12] = refs, stack
            if kind in (EventKind.OWNED, EventKind.DISOWNED):
                slot[8] = type
    for slot in (*slots.values(), *over):
        opened[slot[3], slot[8]] += 1
        importing[slot[3], slot[8]] += bool(slot[10])
    places = {key: [opened[key], closed[key], importing[key]] for key in opened}
    return [tuple(slot) for _, slot in sorted(slots.items())], places


def check(index: Index, rows: list[Row]) -> None:
    """The index says of all that is open what the events say."""
    slots, places = recounted(rows)
    is_open = index.open()
    assert len(is_open) == index.open_count == len(slots)
    assert list(shd.LIVE.iter_unpack(is_open.packed())) == slots
    told = {place[:2]: place for place in index.places()}
    assert {key: [place[2], place[3], place[5]] for key, place in told.items()} == places
    start, width, ends = index.span()
    survivors: dict[tuple[int, int], list[int]] = {key: [0] * BUCKETS for key in places}
    for slot in slots:
        survivors[slot[3], slot[8]][min((slot[1] - start) // width, BUCKETS - 1)] += 1
    assert {key: list(memoryview(place[11]).cast("I")) for key, place in told.items()} == survivors
    assert all(sum(memoryview(place[10]).cast("I")) == place[2] for place in told.values())
    assert sum(memoryview(ends).cast("Q")) == sum(place[3] for place in told.values())
    selection = Selection((Handles([(is_open, None, 0)]),))
    assert len(selection) == len(slots)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    number=st.integers(1, 3000),
    alive=st.sampled_from([1, 20, 300, 1200]),
    jitter=st.sampled_from([0, 1, 8, 700]),
    parts=st.integers(1, 4),
)
def test_any_program(seed: int, number: int, alive: int, jitter: int, parts: int) -> None:
    """However many are open, in whatever order their serials come."""
    rng = random.Random(seed)
    rows = events(rng, number, alive, jitter)
    index = Index(0, 1_000_000, 1)
    before: list[tuple[Slots, bytes]] = []
    size = number // parts + 1
    for at in range(0, number, size):
        index.take([(at + 1, packed(rows[at : at + size]))], None)
        check(index, rows[: at + size])
        before.append((index.open(), index.open().packed()))
    # What was given away does not change with the index.
    assert all(slots.packed() == then for slots, then in before)
    gone = {row[2] for row in rows if rng.random() < 0.7}
    left = [row for row in recounted(rows)[0] if row[0] not in gone]
    index.prune({row[0] for row in left})
    assert list(shd.LIVE.iter_unpack(index.open().packed())) == left
    survivors = [sum(memoryview(place[11]).cast("I")) for place in index.places()]
    assert sum(survivors) == len(left)


@pytest.mark.parametrize(("alive", "jitter"), [(5, 0), (700, 8), (20_000, 30)])
def test_any_moment_of_a_long_program(alive: int, jitter: int) -> None:
    """From the copy before it, which later events and other moments leave as it was."""
    rng = random.Random(alive)
    rows = events(rng, 150_000, alive, jitter)
    index = Index(0, 1_000_000, 1)
    for at in range(0, len(rows), 40_000):
        index.take([(at + 1, packed(rows[at : at + 40_000]))], None)
    check(index, rows)
    moments = [rng.randrange(len(rows)) for _ in range(5)]
    for seq in (*moments, *moments[:2], 0):
        kept = index.before(seq)
        assert kept <= seq
        assert seq - kept < 70_000
        past = index.restored(seq)
        past.take([(kept + 1, packed(rows[kept:seq]))], None)
        check(past, rows[:seq])
    check(index, rows)


@given(
    rows=st.lists(
        st.tuples(*[st.integers(0, 2**64 - 1)] * 2, st.integers(-(2**63), 2**63 - 1),
                  *[st.one_of(st.integers(0, 300), st.integers(0, 2**31 - 1))] * 10),
        max_size=20,
    ),
    times=st.integers(1, 40),
)  # fmt: skip
def test_slots_are_packed_as_they_are(rows: list[Row], times: int) -> None:
    """Whatever numbers there are in a column, and however many slots."""
    data = b"".join(shd.LIVE.pack(*row) for row in rows) * times
    slots = Slots(data)
    assert slots.packed() == data
    assert len(slots) == len(rows) * times


def test_another_way_on_from_a_moment_changes_nothing() -> None:
    """What comes after a moment in its copy is not seen where it came otherwise."""
    kinds = [EventKind.ACQUIRE] + [EventKind.ADD_REF] * 100 + [EventKind.ACQUIRE] * 32_700
    rows: list[Row] = []
    serial = 0
    for seq, kind in enumerate(kinds, 1):
        serial += kind == EventKind.ACQUIRE
        rows.append((seq, 1_000_000 + seq, serial, 5, 1, 1, 0, 0, 0, RAW, 1, kind, 0, 0))
    index = Index(0, 1_000_000, 1)
    index.take([(1, packed(rows))], None)
    kept = index.before(len(rows))
    assert 0 < len(rows) - kept < 100
    other = [
        (seq, 1_000_000 + seq, 10**6 + seq, 6, 2, 1, 0, 0, 0, RAW, 1, EventKind.ACQUIRE, 0, 0)
        for seq in range(kept + 1, len(rows) + 1)
    ]
    past = index.restored(kept)
    past.take([(kept + 1, packed(other))], None)
    check(past, rows[:kept] + other)
    check(index, rows)
