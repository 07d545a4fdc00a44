"""The card of an alarm, the graph of references, and how a handle ends."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from safehandle_tui.model.alarm_card import alarm_lines, alarm_title
from safehandle_tui.model.alarms import AlarmRow
from safehandle_tui.model.detail import HandleDetail, handle_detail
from safehandle_tui.model.references import references_lines
from safehandle_tui.model.rows import HandleRow
from safehandle_tui.model.source import SourceFiles
from safehandle_tui.model.text import line_width, plain
from safehandle_tui.model.way_out import way_out_lines
from support_samples import watched

from safehandle_debug.findings import Finding, find
from safehandle_debug.ledger import Event, Frame, History, Ledger
from safehandle_debug.recording import open_recording
from safehandle_debug.recording.format import Flag

MS = 1_000_000
START = 1_700_000_000_000 * MS


@pytest.fixture(scope="module")
def stale(tmp_path_factory: pytest.TempPathFactory) -> Finding:
    """What is found in a program that writes to a number that it gave back."""
    sessions = watched("stale_number.py", [], tmp_path_factory.mktemp("stale")).sessions
    (path,) = sessions.glob("*/*.shd")
    ledger = Ledger(open_recording(path))
    while ledger.refresh():
        pass
    (finding,) = [each for each in find(ledger) if each.kind == "recycled"]
    ledger.close()
    return finding


@pytest.mark.parametrize(("cells", "room"), [(78, 12), (98, 12), (158, 24), (238, 30)])
def test_both_acts_and_the_victim_at_any_size(stale: Finding, cells: int, room: int) -> None:
    """Side by side, the victim below them; nothing sticks out."""
    source = SourceFiles().around(
        frame for stack in (stale.culprit, stale.events[-1].stack) for frame in stack
    )
    lines = alarm_lines(AlarmRow("p", stale, START), None, source, cells, room)
    texts = [plain(line) for line in lines]
    assert len(texts) <= room
    assert all(line_width(line) <= cells for line in lines)
    (heads,) = [text for text in texts if "┌─ 1st: closed" in text]
    assert "┌─ 2nd: stale use" in heads
    at = texts.index(heads)
    assert "Journal.rotate" in texts[at + 1].partition("│ │")[0]
    assert "Journal.write" in texts[at + 1].partition("│ │")[2]
    assert stale.victim is not None
    victim = next(text for text in texts if "would have been given to" in text)
    assert f"#{stale.victim.serial}" in victim
    assert "← the victim: Enter" in victim
    assert any("stale_number.py:38 main" in text for text in texts[texts.index(victim) :])


def test_with_room_nothing_is_left_out(stale: Finding) -> None:
    """All frames with their source lines, and the whole sentence."""
    source = SourceFiles().around(stale.culprit)
    text = "\n".join(
        plain(line) for line in alarm_lines(AlarmRow("p", stale, START), None, source, 200, 1000)
    )
    assert "…" not in text
    assert "os.write(self.number, line.encode())" in text
    assert "prevented by the quarantine" in text


def test_equal_alarms_are_one_with_a_number(stale: Finding) -> None:
    """On the card's title and at its end."""
    row = AlarmRow("p", replace(stale, count=14), START)
    assert "  14 times  " in plain(alarm_title(row))
    last = plain(alarm_lines(row, None, {}, 120, 100)[-1])
    assert "14 such alarms from these places" in last


# --- references ---


def event(seq: int, kind: str, refs: int, **more: object) -> Event:
    """The seq-th event of handle #1, a millisecond after the one before."""
    fields: dict[str, object] = {
        "seq": seq, "at_ns": START + (seq - 1) * MS, "serial": 1, "kind": kind, "ending": None,
        "refs": refs, "value": 5, "stack": (), "thread": "MainThread", "task": None, "test": None,
        "detail": None, "flags": 0, **more,
    }  # fmt: skip
    return Event(**fields)  # type: ignore[arg-type]


def graph(refs: list[int], cells: int, *, is_open: bool = True) -> list[str]:
    """The lines for events with so many references after each."""
    events = [event(seq, "add-ref", number) for seq, number in enumerate(refs, 1)]
    lines = references_lines(
        events, cells, since_ns=START, until_ns=START + 600_000 * MS, is_open=is_open
    )
    assert all(line_width(line) <= cells for line in lines)
    return [plain(line) for line in lines]


def test_references_are_drawn() -> None:
    """One line a number, from the acquire to now."""
    title, two, one, none, times = graph([1, 2, 1], 100)
    assert title == "references, event by event  at most 2, now 1"
    assert two.strip() == "2 ┤          ╭───────╮"
    assert one.rstrip().endswith("╭───────╯       ╰" + "─" * 69)
    assert none.strip() == "0 ┤──╯"
    assert times.split() == ["+0", "+2.0", "ms", "now", "+10m00s"]


def test_few_cells_and_few_references() -> None:
    """A strip where there is no room; nothing where there is nothing to tell."""
    assert graph([1, 1], 120) == []
    assert graph([1, 2, 1, 0], 60, is_open=False) == [
        "references, event by event  ▄█▄   at most 2, now 0"
    ]


@given(st.lists(st.integers(0, 9), min_size=1, max_size=300), st.integers(90, 240), st.booleans())
def test_each_rise_and_fall_is_drawn(refs: list[int], cells: int, is_open: bool) -> None:
    """As far as there is a line for it, and no line is too long."""
    lines = graph(refs, cells, is_open=is_open)
    if max(refs) < 2:
        assert lines == []
        return
    drawn = "".join(lines[1:-1])
    assert drawn.count("╭") == drawn.count("╯")
    assert drawn.count("╮") == drawn.count("╰")
    if max(refs) <= 3 and len(refs) < 50:
        steps = list(zip([0, *refs], refs, strict=False))
        assert drawn.count("╭") == sum(before < after for before, after in steps)
        assert drawn.count("╮") == sum(before > after for before, after in steps)
        assert len(lines) == 1 + max(refs) + 1 + 1


# --- how it ends ---

PLACE = Frame("/code/app.py", 12, "work")


def way(life: str = "open", references: int = 0, **changes: object) -> str:
    """What is said of the way out of handle #1."""
    fields: dict[str, object] = {
        "pid": 7, "serial": 1, "kind": "file", "owner": "SafeFileHandle", "space": "fd",
        "value": 5, "detail": "/srv/a", "opened_at_ns": START, "opened": (),
        "thread": "MainThread", "task": None, "test": None, "events": [], **changes,
    }  # fmt: skip
    history = History(**fields)  # type: ignore[arg-type]
    row = HandleRow(history, process="p", cwd="/code")
    row.life = life  # type: ignore[assignment]
    detail: HandleDetail = handle_detail(row, history, SourceFiles(), over=False, cwd="/code")
    lines = way_out_lines(detail, references, 300)
    assert len(lines) > 1
    return "\n".join(plain(line) for line in lines)


def ended(ending: str, flags: int = 0) -> dict[str, object]:
    """A history with its last event."""
    close = event(2, "close", 0, ending=ending, stack=(PLACE,), flags=flags)
    return {"ending": ending, "closed_at_ns": START + MS, "events": [close]}


def test_the_way_out_of_what_is_open() -> None:
    """Who would close it, and what keeps them from it."""
    assert "if dropped: its finalizer → release_handle() → fd 5 is closed" in way()
    assert "it waits for 2 references to be released" in way(references=2)
    asked = event(2, "dispose", 1, stack=(PLACE,))
    assert "close was asked for at app.py:12 work, MainThread" in way(events=[asked], references=1)
    assert "FileIO's finalizer → close(5)" in way(watched=True, owner="FileIO")
    assert "no object owns fd 5" in way(watched=True, owner="raw")
    assert "somebody else's to close" in way(borrowed=True)


@pytest.mark.parametrize(
    ("ending", "said"),
    [
        ("closed", "closed at app.py:12 work, MainThread → release_handle() → fd 5"),
        ("exited", "its with block ended at app.py:12 work"),
        ("dropped", "nobody closed it: the last reference to it went at app.py:12 work"),
        ("collected", "the cyclic collector ran at app.py:12 work"),
        ("swept", "the interpreter's exit did"),
        ("transferred", "detached at app.py:12 work"),
        ("lost", "the process ended, and the kernel took it back"),
    ],
)
def test_the_way_that_it_took(ending: str, said: str) -> None:
    """Each ending by its own words, with the place."""
    text = way("ended", **ended(ending))
    assert text.startswith("how it ended")
    assert said in text


def test_an_ending_at_the_interpreters_end() -> None:
    """Is said to be one."""
    swept = ended("swept")
    asked = event(1, "dispose", 1, stack=(PLACE,))
    text = way("left", **{**swept, "events": [asked, *swept["events"]]})  # type: ignore[misc]
    assert "close was asked for at app.py:12 work, MainThread, and waited" in text
    assert "nobody closed it" not in text
    text = way("ended", **ended("dropped", Flag.FINALIZING | Flag.FINALIZER))
    assert "while the interpreter was ending" in text
    assert "the process died" in way("held", **ended("lost"))
