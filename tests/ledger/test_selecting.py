"""Handles counted, chosen and ordered in C, against a recount in Python."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support_recording import RecordingBuilder

from safehandle_debug.ledger import Ledger, parse_filter
from safehandle_debug.ledger import _index as index
from safehandle_debug.ledger._index import Handles, Index, Question, Selection
from safehandle_debug.ledger.facts import HandleFacts
from safehandle_debug.ledger.histories import ENDINGS, from_slot
from safehandle_debug.ledger.names import Names
from safehandle_debug.ledger.selecting import LIVES, Chooser, ordered, selected
from safehandle_debug.ledger.sites import place
from safehandle_debug.recording import RawLive, open_recording
from safehandle_debug.recording import format as shd
from safehandle_debug.recording.format import Ending, EventKind, Flag

PROBLEMS = ["double-release", "recycled"]
NOW = 10**9
TERMS = [
    "kind:file", "kind=FILE|pipe", "owner:Pipe", "detail:a", "detail=/srv/b", "site:test_select",
    "file:test_selecting", "function:one", "line>1", "line<3", "thread:w", "task:fetch|none",
    "test:no", "value>3", "value<=-1", "value=2|5", f"value<{10**30}", f"value:-{10**30}",
    "refs>1", "refs=1", "serial<6", "serial:#3", "age>1us", "age<2us", "life>1us", "pid:4711",
    "pid>5000", "state:open", "state:ended", "state:borrowed|importing", "state:problem",
    "problem:double", "ending:lost", "ending:closed", "lib:app", "lib:stdlib", "file", "srv",
    "#1", "#", "12", "w|pipe", "one", "/^#1/", r"/srv.[ab]$/", r"/file\n/", '"a b"',
    "/^$/", "/[^a]b$/", "/#1|one/", "/o(n|x)e|srv/", '"\n"', r"/\Aa b\Z/", "/w-?1/", "/1[0-4]$/",
]  # fmt: skip


def slots_of(rows: list[tuple[int, ...]]) -> bytes:
    return b"".join(shd.LIVE.pack(*row) for row in rows)


@st.composite
def shelves(draw: st.DrawFn) -> list[list[tuple[int, ...]]]:
    """Slots of up to three processes, some of them free."""
    rng = random.Random(draw(st.integers(0, 2**32)))
    processes = []
    for _ in range(draw(st.integers(1, 3))):
        serials = rng.sample(range(1, 5000), draw(st.integers(0, 60)))
        processes.append(
            [
                (
                    rng.choice([serial] * 9 + [0]), rng.randrange(10**6), rng.randrange(-3, 9),
                    rng.randrange(4), rng.randrange(2), rng.randrange(2), 0, rng.randrange(3),
                    rng.randrange(3), rng.randrange(3),
                    rng.choice([0, 0, 0, Flag.BORROWED, Flag.IMPORTING, Flag.INHERITED]), 0, 0,
                )
                for serial in serials
            ]
        )  # fmt: skip
    return processes


def own(rows: list[tuple[int, ...]], inherited: int = 0) -> list[tuple[int, ...]]:
    return [row for row in rows if row[0] > inherited and not row[10] & Flag.INHERITED]


@given(processes=shelves(), descending=st.booleans())
def test_groups_and_orders_equal_a_recount(
    processes: list[list[tuple[int, ...]]], descending: bool
) -> None:
    """Counts, births, extremes; any order, equal ones by serial."""
    clock = (100, 5_000, 2.0)
    handles = tuple(
        Handles([(slots_of(rows), None, 1)], 3, 7 + at, clock) for at, rows in enumerate(processes)
    )
    selection = Selection(handles)
    kept = [(at, row) for at, rows in enumerate(processes) for row in own(rows, 3)]
    assert len(selection) == len(kept)
    for each, rows in zip(handles, processes, strict=True):
        assert each.count() == len(own(rows, 3))
        borrowed = [row for row in own(rows, 3) if row[10] & Flag.BORROWED]
        assert each.count(Flag.BORROWED) == len(own(rows, 3)) - len(borrowed)
        wanted = {row[0] for row in rows[::2]} - {0}
        among = [shd.LIVE.unpack(slot) for slot in each.among(wanted)]
        assert sorted(among) == sorted(row for row in rows if row[0] in wanted)

    def birth(row: tuple[int, ...]) -> int:
        return 5_000 + (row[1] - 100) * 2 if 5_000 + (row[1] - 100) * 2 >= 0 else 0

    start, span, buckets = 6_000, 1_900_000, 24
    groups: dict[Any, list[tuple[int, ...]]] = defaultdict(list)
    for at, row in kept:
        flags = row[10] & (Flag.BORROWED | Flag.IMPORTING)
        groups[at, (row[3], row[8], 1 | flags << 24)].append(row)
    found = selection.groups((index.STACK, index.TYPE, index.STATE), start, span, buckets)
    assert len(found) == len(groups)
    for process, ids, count, oldest, newest, serial, least, greatest, births in found:
        members = groups[process, ids]
        expected = [0] * buckets
        for row in members:
            expected[min(max((birth(row) - start) * buckets // span, 0), buckets - 1)] += 1
        assert count == len(members)
        assert (oldest, newest) == (min(map(birth, members)), max(map(birth, members)))
        assert serial == max((birth(row), row[0]) for row in members)[1]
        assert (least, greatest) == (min(r[2] for r in members), max(r[2] for r in members))
        assert list(births) == expected

    sign = -1 if descending else 1
    by_value = sorted(kept, key=lambda each: (sign * each[1][2], each[1][0], each[0]))
    keys: list[Any] = [(index.VALUE, 0, None)] * len(handles)
    told = selection.sorted(keys, descending, NOW)
    assert [shd.LIVE.unpack(told[at][1]) for at in range(len(told))] == [r for _, r in by_value]
    assert [told[at][0] for at in range(len(told))] == [process for process, _ in by_value]
    serials = memoryview(told.numbers(index.SERIAL)).cast("q")
    assert serials.tolist() == [row[0] for _, row in by_value]
    for at, (process, row) in enumerate(by_value):
        assert told.find(process, row[0]) == at or processes[process].count(row) > 1
    by_age = sorted(kept, key=lambda each: (sign * max(0, NOW - birth(each[1])), each[1][0]))
    keys = [(index.AGE, 0, None)] * len(handles)
    told = selection.sorted(keys, descending, NOW)
    assert [shd.LIVE.unpack(told[at][1])[0] for at in range(len(told))] == [
        row[0] for _, row in by_age
    ]
    asked: list[tuple[int, int]] = []

    def rank(stack: int, type: int) -> int:
        asked.append((stack, type))
        return stack * 10 + type

    question = Question(rank)
    keys = [(index.STACK, index.TYPE, question)] * len(handles)
    told = selection.sorted(keys, descending, NOW)
    by_rank = sorted(kept, key=lambda each: (sign * (each[1][3] * 10 + each[1][8]), each[1][0]))
    assert [shd.LIVE.unpack(told[at][1])[0] for at in range(len(told))] == [
        row[0] for _, row in by_rank
    ]
    assert len(asked) == len(set(asked))


@pytest.fixture(scope="module")
def ledgers(tmp_path_factory: pytest.TempPathFactory) -> list[Ledger]:
    """Two processes with handles of all sorts."""
    rng = random.Random(7)
    found = []
    for pid in (4711, 5222):
        book = RecordingBuilder(alive=False)
        book.fields["pid"] = pid

        def one(book: RecordingBuilder = book) -> int:
            return book.stack_here(limit=2)

        def two(book: RecordingBuilder = book) -> int:
            return book.stack_here(limit=1)

        threads = [book.main, book.thread("w-1"), book.thread("w 2")]
        for number in range(150):
            serial = book.acquire(
                rng.choice(["SafeFileHandle", "SafePipeHandle", "FileIO"]),
                value=rng.randrange(-2, 9),
                stack=rng.choice([one(), two(), 0]),
                thread=rng.choice(threads),
                task=rng.choice([None, "fetch#1", "fetch#2"]),
                test=rng.choice([None, "test_no"]),
                detail=rng.choice([None, "/srv/a", "/srv/b", "a b", f"/n/{number}"]),
                flags=rng.choice([0, 0, 0, Flag.BORROWED, Flag.IMPORTING]),
            )
            for _ in range(rng.randrange(3)):
                book.add_ref(serial)
        ledger = Ledger(open_recording(book.write(tmp_path_factory.mktemp("book"))))
        ledger.refresh()
        found.append(ledger)
    return found


def shelf_of(ledger: Ledger) -> tuple[Handles, Chooser, list[HandleFacts]]:
    """Its handles: of every third the process died, every third was closed."""
    slots = [row for part in ledger.slots() for row in shd.LIVE.iter_unpack(part.packed())]
    header = ledger.recording.header
    problems = {slots[at][0]: at % 2 + 1 for at in range(0, len(slots), 7)}
    until = ledger.recording.to_ns(slots[-1][1]) + 500
    lost = LIVES.index("held") | Ending.LOST << 8
    closed = LIVES.index("ended") | Ending.CLOSED << 8
    ended = [(*row[:11], closed, 0) for row in slots[2::3]]
    ticks = b"".join((row[1] + 3).to_bytes(8, "little") for row in ended)
    handles = Handles(
        [
            (slots_of(slots[0::3]), None, 0),
            (slots_of(slots[1::3]), None, lost),
            (slots_of(ended), ticks, 0),
        ],
        header.inherited_serials,
        header.pid,
        ledger.recording.clock,
        problems,
        until,
    )
    names = Names(ledger.recording, place=lambda frame: place(frame, ""))
    chooser = Chooser(names, header.pid, PROBLEMS)
    facts = []
    for at, row in enumerate(slots):
        history = from_slot(RawLive._make(row), ledger.recording)
        if at % 3:
            history.ending = "lost" if at % 3 == 1 else "closed"
        if at % 3 == 2:
            history.closed_at_ns = ledger.recording.to_ns(row[1] + 3)
        problem = PROBLEMS[problems[row[0]] - 1] if row[0] in problems else ""
        facts.append(HandleFacts(history, until_ns=until, problem=problem))
    return handles, chooser, facts


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    terms=st.lists(
        st.tuples(st.sampled_from(["", "!", "-"]), st.sampled_from(TERMS)), min_size=1, max_size=3
    ),
    now=st.sampled_from([0, 2**61]),
)
def test_a_filter_selects_what_it_matches(
    ledgers: list[Ledger], terms: list[tuple[str, str]], now: int
) -> None:
    """Exactly the handles that matches() is true for, of each process."""
    wanted = parse_filter(" ".join(sign + term for sign, term in terms))
    shelves = [shelf_of(ledger) for ledger in ledgers]
    found = selected(
        Selection(tuple(handles for handles, _, _ in shelves)),
        [chooser for _, chooser, _ in shelves],
        wanted,
        now,
    )
    expected = {
        (at, facts.serial)
        for at, (_, _, all_facts) in enumerate(shelves)
        for facts in all_facts
        if wanted.matches(facts, now)
    }
    assert {
        (found[at][0], shd.LIVE.unpack(found[at][1])[0]) for at in range(len(found))
    } == expected
    assert len(found) == len(expected)


ORDERS: dict[str, Callable[[HandleFacts], Any]] = {
    "kind": lambda facts: facts.kind,
    "owner": lambda facts: facts.owner,
    "site": lambda facts: facts.site,
    "detail": lambda facts: facts.detail,
    "actor": lambda facts: facts.task or facts.thread,
    "value": lambda facts: facts.value,
    "refs": lambda facts: facts.refs,
    "age": lambda facts: facts.age_ns(2**61),
    "serial": lambda facts: facts.pid,
    "state": lambda facts: (facts.ending, facts.problem, facts.borrowed, facts.importing),
}


@pytest.mark.parametrize("descending", [False, True])
@pytest.mark.parametrize("by", ORDERS)
def test_orders_equal_those_of_python(ledgers: list[Ledger], by: str, descending: bool) -> None:
    """By text, number or state, whatever process they are of."""
    shelves = [shelf_of(ledger) for ledger in ledgers]
    found = ordered(
        Selection(tuple(handles for handles, _, _ in shelves)),
        [chooser for _, chooser, _ in shelves],
        by,
        descending=descending,
        now_ns=2**61,
        state_key=lambda state: (state.ending, state.problem, state.borrowed, state.importing),
    )
    expected = [(at, facts) for at, (_, _, every) in enumerate(shelves) for facts in every]
    flip = by == "serial" and descending
    expected.sort(key=lambda each: -each[1].serial if flip else each[1].serial)
    expected.sort(key=lambda each: ORDERS[by](each[1]), reverse=descending)
    if descending:  # sort() keeps the order of equal ones also when it is turned round
        assert expected
    told = [(found[at][0], shd.LIVE.unpack(found[at][1])[0]) for at in range(len(found))]
    assert [ORDERS[by](dict_of(shelves, each)) for each in told] == [
        ORDERS[by](facts) for _, facts in expected
    ]
    assert [serial for _, serial in told] == [facts.serial for _, facts in expected]


def dict_of(shelves: list[Any], key: tuple[int, int]) -> HandleFacts:
    process, serial = key
    facts: HandleFacts = next(each for each in shelves[process][2] if each.serial == serial)
    return facts


@given(
    most=st.integers(0, 40),
    ends=st.lists(
        st.tuples(
            st.sampled_from([EventKind.CLOSE, EventKind.INVALIDATE]),
            st.sampled_from(list(Ending)),
            st.sampled_from([0, Flag.FINALIZING, Flag.BORROWED]),
        ),
        max_size=60,
    ),
)
def test_the_newest_that_ended_are_kept(most: int, ends: list[tuple[int, int, int]]) -> None:
    """In order, with how and when; apart those that only the end closed."""
    counter = Index(most_ended=most)
    rows = []
    for number, (kind, ending, flags) in enumerate(ends):
        acquire = (2 * number + 1, 50, number + 1, 4, 5, 6, 0, 0, 0, 7, 1, EventKind.ACQUIRE, 0, 0)
        close = (
            2 * number + 2,
            90 + number,
            number + 1,
            4,
            8,
            6,
            0,
            0,
            0,
            7,
            0,
            kind,
            ending,
            flags,
        )
        rows += [shd.EVENT.pack(*acquire), shd.EVENT.pack(*close)]
    counter.take([(1, b"".join(rows))], None)
    slots, ticks = counter.ended()
    newest = list(enumerate(ends))[-most:] if most else []
    found = list(shd.LIVE.iter_unpack(slots))
    assert [row[0] for row in found] == [number + 1 for number, _ in newest]
    assert memoryview(ticks).cast("Q").tolist() == [90 + number for number, _ in newest]
    for row, (_, (kind, ending, _flags)) in zip(found, newest, strict=True):
        default = Ending.TRANSFERRED if kind == EventKind.INVALIDATE else Ending.CLOSED
        assert ENDINGS[row[11] >> 8] == ENDINGS[ending or default]
        assert LIVES[row[11] & 0xFF] == "ended"
        assert (row[9], row[12]) == (0, 8)
    left = [
        number + 1
        for number, (kind, ending, flags) in newest
        if kind == EventKind.CLOSE
        and not flags & Flag.BORROWED
        and (
            ending == Ending.SWEPT
            or (ending in (Ending.DROPPED, Ending.COLLECTED) and flags & Flag.FINALIZING)
        )
    ]
    told = list(shd.LIVE.iter_unpack(counter.ended(True)[0]))
    assert [row[0] for row in told] == left
    assert all(LIVES[row[11] & 0xFF] == "left" for row in told)


def test_blocks_that_stand_still_are_the_same_objects(tmp_path: Path) -> None:
    """And those that changed are new ones; an odd version is waited for, not for ever."""
    book = RecordingBuilder()
    serials = [book.acquire(value=n) for n in range(shd.LIVE_A_BLOCK + 10)]
    ledger = Ledger(open_recording(book.write(tmp_path)))
    before = ledger.slots()
    assert [len(part) for part in before] == [shd.LIVE_A_BLOCK, 10]
    assert all(old is new for old, new in zip(before, ledger.slots(), strict=True))
    book.close(serials[-1])
    book.write(ledger.recording.path)
    ledger.refresh()
    after = ledger.slots()
    assert after[0] is before[0]
    assert after[1] is not before[1]
    assert ledger.handles().count() == len(serials) - 1
    assert ledger.process.live == len(serials) - 1


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: Handles([("x", None, 0)]),  # type: ignore[list-item]
        lambda: Handles([(b"\1" * 64, b"", 0)]),
        lambda: Handles(5),  # type: ignore[arg-type]
        lambda: Handles([], problems={"x": 1}),  # type: ignore[dict-item]
        lambda: Selection((1,)),  # type: ignore[arg-type]
        lambda: Selection((Handles([]),)).where([], 0),
        lambda: Selection((Handles([]),)).where([[(False, [])]], 0),
        lambda: Selection((Handles([]),)).where([[(False, [[(0, 99, 0, 1)]])]], 0),
        lambda: Selection((Handles([]),)).where([[(False, [[(1, 0, 9, 1)]])]], 0),
        lambda: Selection((Handles([]),)).where([[(False, [[(2, 0, 0, "x")]])]], 0),
        lambda: Selection((Handles([]),)).where([[(False, [[()]])]], 0),
        lambda: Selection((Handles([]),)).sorted([(99, 0, None)], False, 0),
        lambda: Selection((Handles([]),)).sorted([], False, 0),
        lambda: Selection((Handles([]),)).groups((99,)),
        lambda: Selection((Handles([]),)).groups((1,) * 7),
        lambda: Selection((Handles([]),)).groups((1,), 0, 0, 1),
        lambda: Selection((Handles([]),)).groups((1,), 0, 1, 99),
        lambda: Selection((Handles([]),)).where([[(False, [[(3, 0, 0, "x")]])]], 0),
        lambda: Selection((Handles([]),)).numbers(99),
        lambda: index.copied(b"", [0], []),
        lambda: index.copied(b"x" * 70_000, [10_000], []),
        lambda: index.copied(b"x", ["y"], []),  # type: ignore[list-item]
    ],
)
def test_bad_arguments_are_refused(wrong: Callable[[], object]) -> None:
    """With an exception."""
    with pytest.raises((TypeError, ValueError)):
        wrong()


def test_what_a_question_raises_comes_out() -> None:
    """Also from inside another question of the same selection."""
    handles = Handles(
        [(slots_of([(n, 0, 0, n, 0, 0, 0, 0, 0, 0, 0, 0, 0) for n in range(1, 500)]), None, 0)]
    )
    selection = Selection((handles,))
    asked: list[int] = []

    def nested(stack: int, _: int) -> bool:
        asked.append(stack)
        if len(asked) < 3:
            test()
        return stack > 250

    question = Question(nested)

    def test() -> Selection:
        return selection.where([[(False, [[(0, index.STACK, index.NONE, question)]])]], 0)

    assert len(test()) == 249
    bad = Question(lambda one, other: 1 // 0)
    with pytest.raises(ZeroDivisionError):
        selection.where([[(False, [[(0, index.STACK, index.NONE, bad)]])]], 0)
    with pytest.raises(ZeroDivisionError):
        selection.sorted([(index.STACK, index.NONE, bad)], False, 0)
    with pytest.raises(IndexError):
        selection[499]


def test_states_and_ages_of_odd_handles() -> None:
    """What an import opened was not left behind; a clock that was set back
    makes no age negative."""
    lost = LIVES.index("left") | Ending.LOST << 8
    rows = [(n, 50, 0, 0, 0, 0, 0, 0, 0, 0, flags, 0, 0) for n, flags in ((1, 0), (2, 32))]
    handles = Handles([(slots_of(rows), None, lost)], 0, 1, (0, 1000, 1.0), until=900)
    selection = Selection((handles,))
    assert [LIVES[selection[at][3] & 0xFF] for at in (0, 1)] == ["left", "ended"]
    at_most_0 = [[(False, [[(1, index.AGE, 1, 0)]])]]
    at_least_0 = [[(False, [[(1, index.AGE, 3, 0)]])]]
    assert len(selection.where(at_most_0, 0)) == len(selection.where(at_least_0, 0)) == 2
