"""The reader's side: from recordings on disk to Views."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest
from safehandle_tui.model import tracks
from safehandle_tui.model.columns import Sort
from safehandle_tui.model.detail import HandleDetail, SiteDetail
from safehandle_tui.model.feed import Feed, View, ViewSpec
from safehandle_tui.model.row_columns import HANDLE_COLUMNS, SITE_COLUMNS
from safehandle_tui.model.rows import HandleRow, SiteRow
from safehandle_tui.model.shelf import Shelf
from safehandle_tui.model.states import process_state
from safehandle_tui.model.text import plain
from support_recording import DEAD_PID, STARTED_NS
from support_screens import (
    SECOND,
    FrozenClock,
    Leaky,
    Sources,
    builder,
    end,
    leaky_session,
)

from safehandle_debug.ledger import ledger, parse_filter
from safehandle_debug.recording.format import Ended, Ending, Flag

HANDLES = ViewSpec(mode="handles", sort=Sort("serial", False))


def seen(feed: Feed, spec: ViewSpec) -> View:
    """A view there must be."""
    view = feed.poll(spec)
    assert view is not None
    return view


def handles(view: View) -> list[HandleRow]:
    """The rows of a view of handles."""
    return [row for row in view.rows if isinstance(row, HandleRow)]


def sites(view: View) -> list[SiteRow]:
    """The rows of a view of sites."""
    return [row for row in view.rows if isinstance(row, SiteRow)]


@pytest.fixture
def feed(leaky: Leaky) -> Feed:
    """A feed on the leaky session."""
    return Feed([str(leaky.folder)], FrozenClock())


def test_the_leaking_line_comes_first(feed: Feed) -> None:
    """Sites by number of open handles, and the headline names the worst."""
    view = seen(feed, ViewSpec())
    assert [(site.site, site.open) for site in sites(view)] == [
        ("app/db.py:6 connect", 40),
        ("app/report.py:2 export", 2),
        ("app/config.py:2 load", 1),
    ]
    assert plain(view.headline) == (
        "42 handles open; 40 come from app/db.py:6 connect  (+1 kept since an import)"
    )
    assert view.state == "live"
    assert isinstance(view.detail, SiteDetail)


def test_nothing_new_is_no_view(feed: Feed, leaky: Leaky) -> None:
    """A poll that finds nothing costs nothing more; what is new makes a view."""
    seen(feed, ViewSpec())
    assert feed.poll(ViewSpec()) is None or feed.poll(ViewSpec()) is None
    assert feed.poll(ViewSpec()) is None
    leaky.leak(2)
    leaky.save()
    assert sites(seen(feed, ViewSpec()))[0].open == 42


def test_handles_have_histories(feed: Feed) -> None:
    """The selected handle's detail has all of its events."""
    view = seen(feed, HANDLES)
    row = next(row for row in handles(view) if row.refs == 2)
    view = seen(feed, replace(HANDLES, selected=row.key))
    assert isinstance(view.detail, HandleDetail)
    assert [event.kind for event in view.detail.history.events] == [
        "acquire",
        "add-ref",
        "release",
        "add-ref",
    ]
    assert view.cursor is not None
    assert view.rows[view.cursor].key == row.key


def test_a_double_release_is_shown_although_it_ended(feed: Feed) -> None:
    """Whatever has an error found on it is in the first view, marked."""
    view = seen(feed, HANDLES)
    wrong = [row for row in handles(view) if row.problem]
    assert [(row.problem, row.life) for row in wrong] == [("double-release", "ended")]
    assert "1 double-release" in plain(view.tally)


def test_ended_handles_on_demand(feed: Feed) -> None:
    """Two more rows: with them the well-closed one is there."""
    few = seen(feed, HANDLES)
    all_of_them = seen(feed, replace(HANDLES, ended=True))
    extra = {row.key for row in handles(all_of_them)} - {row.key for row in handles(few)}
    (key,) = extra
    row = next(row for row in handles(all_of_them) if row.key == key)
    assert (row.detail, row.ending, row.life) == ("/etc/hosts", "exited", "ended")


def test_filter_sort_and_site(feed: Feed) -> None:
    """Each narrows or orders, and the counts tell what is hidden."""
    view = seen(feed, replace(HANDLES, filter=parse_filter("kind:pipe")))
    assert (view.shown, view.total) == (2, 44)
    view = seen(feed, replace(HANDLES, sort=Sort("refs", True)))
    assert handles(view)[0].refs == 2
    top = sites(seen(feed, ViewSpec()))[0]
    view = seen(feed, replace(HANDLES, site=top.key))
    assert {row.site for row in handles(view)} == {top.site}
    assert view.total == 40


@pytest.mark.parametrize("name", [column.name for column in HANDLE_COLUMNS])
def test_every_handle_column_sorts(feed: Feed, name: str) -> None:
    """Up and down are each other's reverse where keys differ."""
    up = seen(feed, replace(HANDLES, ended=True, sort=Sort(name, False)))
    down = seen(feed, replace(HANDLES, ended=True, sort=Sort(name, True)))
    assert {row.key for row in up.rows} == {row.key for row in down.rows}
    if name in ("serial", "value"):
        ups, downs = ([getattr(row, name) for row in handles(view)] for view in (up, down))
        assert ups == downs[::-1]


@pytest.mark.parametrize("name", [column.name for column in SITE_COLUMNS])
def test_every_site_column_sorts(feed: Feed, name: str) -> None:
    """No column is without an order."""
    assert len(seen(feed, ViewSpec(sort=Sort(name, True))).rows) == 3


def test_ended_without_leaks(sessions_root: Path) -> None:
    """A process that closed everything is said to have done so."""
    leaky = leaky_session(sessions_root, leaks=0, alive=False)
    for serial in (2, 3):
        leaky.book.close(serial)
    leaky.book.close(1, Ending.DROPPED, flags=Flag.FINALIZING)
    end(leaky)
    view = seen(Feed([str(leaky.path)], FrozenClock()), ViewSpec())
    assert view.state == "ended"
    assert plain(view.headline).startswith("ended: every handle was closed")


def test_what_only_the_end_of_the_interpreter_closed_was_left(sessions_root: Path) -> None:
    """Swept and finalized handles were never closed by the program."""
    leaky = leaky_session(sessions_root, leaks=0, alive=False)
    swept, dropped, closed = leaky.leak(3)
    leaky.book.fields["finalizing_seq"] = leaky.book.seq + 1
    leaky.book.close(closed, flags=Flag.FINALIZING)
    leaky.book.close(dropped, Ending.DROPPED, flags=Flag.FINALIZING | Flag.FINALIZER)
    for serial in (2, 3, swept, 1):
        leaky.book.close(serial, Ending.SWEPT, flags=Flag.FINALIZING)
    end(leaky)
    view = seen(Feed([str(leaky.path)], FrozenClock()), HANDLES)
    left = [row.serial for row in handles(view) if row.life == "left"]
    assert left == [2, 3, swept, dropped]
    assert plain(view.headline).startswith("ended: 4 handles were never closed")
    assert view.processes[0].open == 4


def test_killed_holding_handles(sessions_root: Path) -> None:
    """Post-mortem: how many it died with, and ages stop at its last sign."""
    leaky = leaky_session(sessions_root, alive=False)
    leaky.save()
    feed = Feed([str(leaky.path)], FrozenClock(STARTED_NS + 10**6 * SECOND))
    view = seen(feed, HANDLES)
    assert view.state == "died"
    assert plain(view.headline).startswith("post-mortem: died holding 42 handles; 40 come from")
    assert {row.life for row in handles(view) if row.history.ending == "lost"} == {"held"}
    assert max(row.age_ns(view.now_ns) for row in handles(view)) < 100 * SECOND
    assert not view.ticking


def test_waiting_and_the_first_process(sessions_root: Path) -> None:
    """No target and no session: wait for the first, then show it."""
    feed = Feed([], FrozenClock())
    view = seen(feed, ViewSpec())
    assert (view.state, view.place) == ("waiting", str(sessions_root))
    assert feed.poll(ViewSpec()) is None
    leaky_session(sessions_root)
    assert seen(feed, ViewSpec()).state == "live"


def test_waiting_in_an_empty_session_folder(tmp_path: Path) -> None:
    """A folder that was named may still be empty."""
    folder = tmp_path / "mine"
    folder.mkdir(mode=0o700)
    assert seen(Feed([str(folder)], FrozenClock()), ViewSpec()).state == "waiting"


def test_a_newer_session_is_announced_and_opened(sessions_root: Path) -> None:
    """The one that is watched stays until the user asks for the other."""
    leaky = leaky_session(sessions_root)
    feed = Feed([], FrozenClock())
    assert seen(feed, ViewSpec()).newer is None
    newer = sessions_root / "20991231T235959.000000-99"
    newer.mkdir(mode=0o700)
    sources = Sources(sessions_root / "code")
    builder(sources, alive=False).end().write(newer)
    view = seen(feed, ViewSpec())
    assert (view.newer, view.title) == (newer.name, leaky.folder.name)
    view = seen(feed, ViewSpec(session=newer.name))
    assert (view.newer, view.title, view.state) == (None, newer.name, "ended")


def test_children_join_below_their_parent(leaky: Leaky) -> None:
    """A child's recording appears while we watch; a scope shows it alone."""
    feed = Feed([str(leaky.folder)], FrozenClock())
    parent = seen(feed, HANDLES).processes[0]
    assert parent.info is not None
    child = builder(leaky.sources, alive=False, pid=DEAD_PID, parent_pid=parent.info.pid)
    child.acquire(value=9, stack=leaky.sources.stack(child, "load"), detail="/child")
    path = child.write(leaky.folder)
    view = seen(feed, HANDLES)
    assert [(each.depth, each.path == str(path)) for each in view.processes] == [
        (0, False),
        (1, True),
    ]
    assert view.total == 45
    assert "pid" not in view.hidden
    view = seen(feed, replace(HANDLES, scope=str(path)))
    assert [row.detail for row in handles(view)] == ["/child"]
    assert view.state == "died"


def test_a_vanished_recording_keeps_the_last_view(feed: Feed, leaky: Leaky) -> None:
    """Disconnected is a state with a reason, and the rows stay."""
    before = seen(feed, ViewSpec())
    leaky.path.unlink()
    view = seen(feed, ViewSpec())
    assert view.state == "disconnected"
    assert "vanished" in plain(view.headline)
    assert [site.site for site in sites(view)] == [site.site for site in sites(before)]


def test_a_damaged_recording_is_disconnected(feed: Feed, leaky: Leaky) -> None:
    """Cut off under our eyes: a sentence, and the last rows."""
    seen(feed, ViewSpec())
    with leaky.path.open("r+b") as file:
        file.truncate(100)
    view = seen(feed, ViewSpec())
    assert view.state == "disconnected"
    assert len(view.rows) == 3


@pytest.mark.parametrize("content", [b"", b"garbage" * 1000, b"SHDREC\r\n"])
def test_a_file_that_is_no_recording(tmp_path: Path, content: bytes) -> None:
    """It is listed as unreadable, with the reason."""
    path = tmp_path / "1-2.shd"
    path.write_bytes(content)
    path.chmod(0o600)
    view = seen(Feed([str(path)], FrozenClock()), ViewSpec())
    assert view.state == "disconnected"
    assert view.processes[0].error
    assert view.rows == ()


def test_one_bad_recording_does_not_hide_the_others(leaky: Leaky) -> None:
    """The session is alive as long as one of its processes is."""
    (leaky.folder / "5-6.shd").write_bytes(b"garbage")
    (leaky.folder / "5-6.shd").chmod(0o600)
    view = seen(Feed([str(leaky.folder)], FrozenClock()), ViewSpec())
    assert view.state == "live"
    assert len(view.processes) == 2
    assert sites(view)[0].open == 40


def test_paused_takes_in_nothing(feed: Feed, leaky: Leaky) -> None:
    """The picture stands still and catches up afterwards; keys still work."""
    seen(feed, ViewSpec())
    paused = ViewSpec(paused=True)
    before = seen(feed, paused)
    leaky.leak(5)
    leaky.save()
    assert feed.poll(paused) is None
    view = seen(feed, replace(paused, sort=Sort("site", False)))
    assert sum(site.open for site in sites(view)) == sum(site.open for site in sites(before))
    assert not view.ticking
    assert sites(seen(feed, ViewSpec()))[0].open == 45


def test_a_pinned_handle_is_followed_to_its_end(feed: Feed, leaky: Leaky) -> None:
    """Its page goes on when it leaves the table."""
    row = handles(seen(feed, HANDLES))[-1]
    pinned = replace(HANDLES, selected=row.key, pinned=True)
    seen(feed, pinned)
    leaky.book.close(row.serial)
    leaky.save()
    view = seen(feed, pinned)
    assert view.cursor is None
    assert isinstance(view.detail, HandleDetail)
    assert view.detail.row.key == row.key
    assert view.detail.row.life == "ended"
    assert view.detail.history.events[-1].kind == "close"


def test_lost_events_are_told(leaky: Leaky) -> None:
    """What was dropped to stay in bounds stands beside the headline."""
    leaky.book.dropped_events = 1204
    leaky.save()
    view = seen(Feed([str(leaky.path)], FrozenClock()), ViewSpec())
    assert "1,204 events lost" in plain(view.tally)


def test_growth_a_minute(leaky: Leaky) -> None:
    """Known after some seconds, over the last minute, gone at the end."""
    clock = FrozenClock()
    feed = Feed([str(leaky.folder)], clock)
    assert seen(feed, ViewSpec()).processes[0].rate is None
    for _ in range(10):
        clock.advance(SECOND)
        leaky.leak(1)
        leaky.save()
        view = seen(feed, ViewSpec())
    assert view.processes[0].rate == pytest.approx(60)
    end(leaky, ended=Ended.EXIT)
    assert seen(feed, ViewSpec()).processes[0].rate is None


def test_ages_need_no_new_events(feed: Feed) -> None:
    """A live view ticks: the screen lets the ages grow by itself."""
    assert seen(feed, ViewSpec()).ticking


def test_a_recording_that_comes_late_is_still_found(sessions_root: Path) -> None:
    """The folder of a session may be there long before its first file."""
    folder = sessions_root / "20231114T221320.000000-4711"
    folder.mkdir(mode=0o700)
    old = STARTED_NS - 3600 * SECOND
    os.utime(folder, ns=(old, old))
    os.utime(sessions_root, ns=(old, old))
    feed = Feed([], FrozenClock())
    assert seen(feed, ViewSpec()).state == "waiting"
    book = builder(Sources(sessions_root / "code"), alive=True)
    book.write(folder)
    os.utime(folder, ns=(old, old))
    os.utime(sessions_root, ns=(old, old))
    assert seen(feed, ViewSpec()).state == "live"


def test_folders_are_not_listed_while_nothing_changes(leaky: Leaky) -> None:
    """Only a change in a folder makes the feed look into it again."""
    feed = Feed([], FrozenClock())
    seen(feed, ViewSpec())
    old = STARTED_NS - 3600 * SECOND
    for folder in (leaky.folder, leaky.folder.parent):
        os.utime(folder, ns=(old, old))
    feed.poll(ViewSpec())
    assert not feed._folders_changed()
    os.utime(leaky.folder, ns=(old + 1, old + 1))
    assert feed._folders_changed()


def test_rows_of_handles_that_are_gone_are_forgotten(
    leaky: Leaky, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many handles come and go, the viewer does not grow."""
    monkeypatch.setattr(ledger, "MOST_ENDED", 10)
    track = tracks.Track(leaky.path, FrozenClock())
    for _ in range(20):
        serials = leaky.leak(50)
        leaky.save()
        track.refresh()
        track.stand(ended=True)
        for serial in serials:
            leaky.book.close(serial)
    leaky.save()
    track.refresh()
    stand = track.stand(ended=True)
    assert stand is not None
    assert len(Shelf([stand])) == 44 + 10
    row = track.row_of(serials[0])
    assert row is not None
    assert row.life == "ended"


def test_a_large_recording_is_shown_before_it_is_read(
    leaky: Leaky, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is open needs no event; the rest follows, and that is said."""
    monkeypatch.setattr(tracks, "_MANY_EVENTS", 10)
    feed = Feed([str(leaky.path)], FrozenClock())
    view = seen(feed, ViewSpec())
    assert sites(view)[0].open == 40
    assert plain(view.tally) == "  reading 51 events …".strip()
    assert "1 double-release" in plain(seen(feed, ViewSpec()).tally)


def test_a_child_that_left_without_a_word_is_no_alarm(sessions_root: Path) -> None:
    """os._exit in a child that holds nothing: the session just ended."""
    folder = sessions_root / "20231114T221320.000000-4711"
    folder.mkdir(mode=0o700)
    sources = Sources(sessions_root / "code")
    parent = builder(sources, alive=False, pid=DEAD_PID)
    parent.close(parent.acquire())
    parent.end().write(folder)
    child = builder(sources, alive=False, pid=DEAD_PID + 1, parent_pid=DEAD_PID)
    child.close(child.acquire())
    child.write(folder)
    feed = Feed([str(folder)], FrozenClock())
    view = seen(feed, ViewSpec())
    assert view.state == "ended"
    assert process_state(view.processes[1]) == ("○ gone", "muted")
    child.acquire()
    child.write(folder)
    view = seen(Feed([str(folder)], FrozenClock()), ViewSpec())
    assert view.state == "died"
    assert plain(view.headline).startswith("post-mortem: died holding 1 handle")


def test_a_glance_sees_what_was_written(leaky: Leaky) -> None:
    """And nothing else: that a process is gone takes a whole look."""
    feed = Feed([str(leaky.path)], FrozenClock())
    spec = ViewSpec()
    assert feed.poll(spec, glance=True) is not None  # the first one looks at all
    while feed.poll(spec) is not None:
        pass
    assert feed.poll(spec, glance=True) is None
    leaky.leak(1)
    leaky.save()
    view = feed.poll(spec, glance=True)
    assert view is not None
    assert view.rows[0].open == 41
    assert feed.poll(HANDLES, glance=True) is not None
    feed.close()
