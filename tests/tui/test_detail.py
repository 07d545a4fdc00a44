"""What is said of one handle and of one site."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from safehandle_tui.model.detail import HandleDetail, handle_detail, site_detail
from safehandle_tui.model.handle_page import handle_lines, handle_page, handle_title
from safehandle_tui.model.references import outstanding
from safehandle_tui.model.rows import HandleRow
from safehandle_tui.model.site_pane import site_lines, site_title
from safehandle_tui.model.source import SourceFiles
from safehandle_tui.model.text import line_width, plain
from support_bunches import sites_of

from safehandle_debug.ledger import Event, Frame, History

MS = 1_000_000
START = 1_700_000_000_000 * MS


def event(
    seq: int, kind: str, *, refs: int = 1, thread: str = "MainThread", **more: object
) -> Event:
    """The seq-th event of handle #1, a millisecond after the one before."""
    fields: dict[str, object] = {
        "seq": seq, "at_ns": START + (seq - 1) * MS, "serial": 1, "kind": kind, "ending": None,
        "refs": refs, "value": 5, "stack": (), "thread": thread, "task": None, "test": None,
        "detail": None, "flags": 0, **more,
    }  # fmt: skip
    return Event(**fields)  # type: ignore[arg-type]


def history(*events: Event, **changes: object) -> History:
    """Handle #1 with these events."""
    fields: dict[str, object] = {
        "pid": 7, "serial": 1, "kind": "file", "owner": "SafeFileHandle", "space": "fd",
        "value": 5, "detail": "/srv/a", "opened_at_ns": START, "opened": (),
        "thread": "MainThread", "task": None, "test": None, "events": list(events), **changes,
    }  # fmt: skip
    return History(**fields)  # type: ignore[arg-type]


def detail_of(told: History, *, life: str = "open", over: bool = False) -> HandleDetail:
    """Its detail, as the reader collects it."""
    row = HandleRow(told, process="p", cwd="/code")
    row.life = life  # type: ignore[assignment]
    return handle_detail(row, told, SourceFiles(), over=over, cwd="/code")


def texts(lines: list) -> str:  # type: ignore[type-arg]
    """Lines as one text."""
    return "\n".join(plain(line) for line in lines)


def test_an_add_ref_without_release_is_named() -> None:
    """A release takes back the newest add-ref of its own thread."""
    events = [
        event(1, "acquire"),
        event(2, "add-ref", refs=2, thread="A"),
        event(3, "add-ref", refs=3, thread="B"),
        event(4, "release", refs=2, thread="A"),
    ]
    assert outstanding(events) == {3}
    lines = texts(handle_lines(detail_of(history(*events, refs=2)), START, 120, 8))
    marked = [line for line in lines.splitlines() if "unreleased" in line]
    assert len(marked) == 1
    assert "add-ref" in marked[0]


def test_balanced_references_are_not_named() -> None:
    """Also when another thread released them, and when a close ended all."""
    swept = event(4, "close", ending="swept")
    assert outstanding([event(1, "acquire"), event(2, "add-ref"), swept]) == {2}
    across = [
        event(1, "acquire"),
        event(2, "add-ref", thread="A"),
        event(3, "release", thread="B"),
    ]
    assert outstanding(across) == set()
    assert outstanding([*across, event(4, "add-ref"), event(5, "close", ending="closed")]) == set()


def test_titles_say_how_it_stands() -> None:
    """Open, held, never closed or ended, each in words."""
    later = START + 5000 * MS
    assert "open 5.0s · refs 1" in plain(handle_title(detail_of(history()), later))
    lost = history(ending="lost")
    assert "until the process died" in plain(handle_title(detail_of(lost, life="held"), later))
    swept = history(ending="swept", closed_at_ns=later)
    assert "never closed (swept at exit)" in plain(
        handle_title(detail_of(swept, life="left"), later)
    )
    closed = history(ending="closed", closed_at_ns=later)
    assert "closed after 5.0s" in plain(handle_title(detail_of(closed, life="ended"), later))


def test_history_says_what_is_missing() -> None:
    """Dropped events, no events and no stack are each said."""
    dropped = texts(
        handle_lines(detail_of(history(event(9, "release"), events_dropped=True)), START, 120, 8)
    )
    assert "older events were dropped" in dropped
    bare = texts(handle_page(detail_of(history()), START, 100))
    assert "no event of it is left" in bare
    assert "no stack was recorded" in bare


def test_findings_on_it_come_first() -> None:
    """The sentence of the report stands above the stack."""
    told = history(
        event(1, "acquire"),
        event(2, "close", refs=0, ending="closed"),
        event(3, "double-release", refs=0),
        ending="closed",
        closed_at_ns=START + MS,
    )
    lines = handle_lines(detail_of(told, life="ended", over=True), START, 120, 8)
    assert plain(lines[0]).startswith("✗ ")
    narrow = handle_page(detail_of(told, life="ended", over=True), START, 60)
    shown = " ".join(plain(line).strip() for line in narrow)
    (message,) = detail_of(told, life="ended", over=True).messages
    assert message in shown


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "db.py"
    path.write_text("def connect():\n    # \x1b[31m café\n    return open_it(\n        'x')\n")
    return path


def test_frames_come_with_their_source(source: Path) -> None:
    """The line itself below the table, its surroundings on the page."""
    told = history(event(1, "acquire"), opened=(Frame(str(source), 3, "connect"),))
    detail = detail_of(told)
    assert "return open_it(" in texts(handle_lines(detail, START, 120, 8))
    page = texts(handle_page(detail, START, 100))
    assert "▸     3      return open_it(" in page
    assert "    1  def connect():" in page
    assert "\\x1b[31m café" in page
    assert "\x1b" not in page


@pytest.mark.parametrize("line", [0, 5, 10**9])
def test_a_line_that_is_not_there_is_left_out(source: Path, line: int) -> None:
    """The file may have changed since: no error, no wrong line."""
    assert SourceFiles().line(str(source), line) is None


def test_odd_files_are_not_read(tmp_path: Path) -> None:
    """Devices, folders, huge and undecodable files have no lines."""
    huge = tmp_path / "huge.py"
    with huge.open("wb") as file:
        file.truncate(3 << 20)
    binary = tmp_path / "binary.py"
    binary.write_bytes(b"\xff\xfe\x00")
    for path in (huge, binary, tmp_path, tmp_path / "none.py", Path("/dev/zero"), Path("a\0b")):
        assert SourceFiles().line(str(path), 1) is None


def test_source_is_read_again_when_it_changes(source: Path) -> None:
    """An edited file shows its new line."""
    files = SourceFiles()
    assert files.line(str(source), 1) == "def connect():"
    source.write_text("def changed(a, b):\n")
    assert files.line(str(source), 1) == "def changed(a, b):"


def test_only_the_latest_files_are_kept(tmp_path: Path) -> None:
    """However many files a program has, memory stays bounded."""
    files = SourceFiles()
    for number in range(100):
        path = tmp_path / f"m{number}.py"
        path.write_text("x\n")
        assert files.line(str(path), 1) == "x"
    assert len(files._files) <= 64


@given(st.integers(60, 200), st.text(max_size=60), st.integers(1, 8))
def test_every_line_fits(cells: int, text: str, number: int) -> None:
    """Names from the program can be anything: no line is wider than asked."""
    events = [event(seq + 1, "add-ref", thread=text, task=text or None) for seq in range(number)]
    told = history(*events, detail=text, thread=text, opened=(Frame(f"/x/{text}.py", 3, text),))
    detail = detail_of(told)
    for lines in (handle_lines(detail, START, cells, 12), handle_page(detail, START, cells)):
        assert all(line_width(line) <= cells for line in lines)
        assert "\x1b" not in texts(lines)
    site = sites_of([detail.row], START, START)[0]
    about = site_detail(site, SourceFiles(), cwd="/x")
    assert all(line_width(line) <= cells for line in site_lines(about, START, cells, 30))


def test_library_frames_are_folded() -> None:
    """The program's own lines stand out; the others are counted."""
    stack = (
        Frame("/v/lib/python3.11/site-packages/httpx/_a.py", 1, "a"),
        Frame("/v/lib/python3.11/site-packages/httpx/_a.py", 2, "b"),
        Frame("/code/app/db.py", 88, "connect"),
    )
    lines = texts(handle_lines(detail_of(history(opened=stack)), START, 120, 8))
    assert "… 2 library frames" in lines
    assert "app/db.py:88 connect" in lines


def test_a_site_lists_its_handles() -> None:
    """Oldest first, those that ended last, and no more than can be read."""
    rows = [HandleRow(history(serial=n, opened_at_ns=START + n), process="p") for n in range(300)]
    rows[0].life = "ended"
    site = sites_of(rows, START, START + 1000)[0]
    detail = site_detail(site, SourceFiles(), cwd="")
    lines = texts(site_lines(detail, START, 80, 9)).splitlines()
    assert "299 open · 1 ended" in plain(site_title(detail, START))
    first = next(line for line in lines if "#" in line)
    assert "#1 " in first
    assert lines[-1] == "  … and 260 more"
