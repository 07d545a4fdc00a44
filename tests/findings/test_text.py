"""What people read."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from types import CodeType

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support_recording import RecordingBuilder, last_line_lasti

from safehandle_debug.findings import (
    Finding,
    find,
    first_line,
    render_finding,
    render_process_death,
    render_summary,
)
from safehandle_debug.findings.source import excerpt
from safehandle_debug.findings.text import MOST_LINES
from safehandle_debug.ledger import Frame, Ledger
from safehandle_debug.recording.format import Ending, EventKind, Flag, Level

Read = Callable[[RecordingBuilder], Ledger]

APP = """\
from store import opening

def main():
    handle = opening("/etc/group", 7)

def use(handle):
    handle.dangerous_add_ref()

def finish(handle):
    handle.close()
"""


@pytest.fixture
def app(tmp_path: Path) -> dict[str, CodeType]:
    """Functions of a program on disk, older than what it did."""
    folder = tmp_path / "srv"
    folder.mkdir()
    path = folder / "app.py"
    path.write_text(APP)
    os.utime(path, (1_600_000_000, 1_600_000_000))
    module = compile(APP, str(path), "exec")
    codes = {each.co_name: each for each in module.co_consts if isinstance(each, CodeType)}
    return codes | {"module": module}


@pytest.fixture
def book(app: dict[str, CodeType]) -> RecordingBuilder:
    return RecordingBuilder(cwd=os.path.dirname(app["main"].co_filename), pid=4711)


def call(code: CodeType) -> tuple[CodeType, int]:
    """A frame at the call on the function's last line."""
    positions = [
        (end - column, 2 * unit)
        for unit, (_, _, column, end) in enumerate(code.co_positions())
        if column is not None and end is not None
    ]
    last = last_line_lasti(code)
    longest = max(size for size, offset in positions if offset >= 0)
    return code, next((offset for size, offset in positions if size == longest), last)


def only(findings: list[Finding]) -> Finding:
    (finding,) = findings
    return finding


def test_leak(app: dict[str, CodeType], book: RecordingBuilder, read: Read) -> None:
    """The first line says what and where, then the line itself, then all."""
    stack = book.stack([call(app["main"]), (app["module"], 0)])
    for _ in range(3):
        book.acquire(value=7, detail="/etc/group", stack=stack, task="Task-1", test="test_x")
    text = render_finding(only(find(read(book.end()))))
    assert text.splitlines() == [
        "leak: SafeFileHandle fd 7 '/etc/group' opened at app.py:4 in main was never closed"
        " (3 times)",
        '    handle = opening("/etc/group", 7)',
        "             ^^^^^^^^^^^^^^^^^^^^^^^^",
        "  handle   SafeFileHandle #1, fd 7 '/etc/group', of process 4711",
        "  thread   MainThread, task Task-1, test test_x",
        "  opened   app.py:4 in main",
        "           app.py:1 in <module>",
        "  ended    still open when the process ended",
    ]


def test_unbalanced(app: dict[str, CodeType], book: RecordingBuilder, read: Read) -> None:
    """Names the add-ref that never came back; the others are folded."""
    opened, used, finished = (
        book.stack([call(app[name]), (app["module"], 0)]) for name in ("main", "use", "finish")
    )
    worker = book.thread("Worker")
    handle = book.acquire(value=7, stack=opened)
    for _ in range(100):
        book.add_ref(handle, stack=finished)
        book.release(handle, stack=finished)
    book.add_ref(handle, stack=used, thread=worker)
    book.dispose(handle, stack=finished)
    book.close(handle, Ending.SWEPT, flags=Flag.FINALIZER | Flag.FINALIZING)
    text = render_finding(only(find(read(book.end()))))
    assert text.splitlines() == [
        "unbalanced: SafeFileHandle fd 7 stayed open after it was closed: "
        "the add-ref at app.py:7 in use was never released",
        "    handle.dangerous_add_ref()",
        "    ^^^^^^^^^^^^^^^^^^^^^^^^^^",
        "  handle   SafeFileHandle #1, fd 7, of process 4711",
        "  thread   Worker (opened in MainThread)",
        "  opened   app.py:4 in main",
        "           app.py:1 in <module>",
        "  add-ref  app.py:7 in use  (refs 1 -> 2)",
        "           app.py:1 in <module>",
        "           never released, in thread Worker",
        "  add-ref  app.py:10 in finish, released at app.py:10 in finish (100 times)",
        "  close    app.py:10 in finish  (refs 2 -> 1)",
        "           app.py:1 in <module>",
        "  ended    closed by the sweep at interpreter exit, after 203 ms",
    ]


def test_double_release(app: dict[str, CodeType], book: RecordingBuilder, read: Read) -> None:
    """Both acts, with their stacks."""
    opened, used, finished = (book.stack([call(app[name])]) for name in ("main", "use", "finish"))
    handle = book.acquire(value=7, stack=opened)
    book.close(handle, stack=finished)
    book.problem(EventKind.DOUBLE_RELEASE, handle, stack=used)
    text = render_finding(only(find(read(book.end()))))
    assert text.startswith(
        "double-release: SafeFileHandle fd 7 was released at app.py:7 in use "
        "after it was closed at app.py:10 in finish\n"
    )
    assert "  closed   app.py:10 in finish\n  released app.py:7 in use\n" in text


def test_libraries_frames_are_folded(
    app: dict[str, CodeType], book: RecordingBuilder, read: Read
) -> None:
    """The program's own frames stand out."""

    def library(file: str) -> tuple[CodeType, int]:
        return app["use"].replace(co_filename=file), 0

    stack = book.stack(
        [
            library("/v/lib/python3.11/site-packages/safehandle_debug/stream.py"),
            library("/v/lib/python3.11/site-packages/requests/api.py"),
            call(app["main"]),
            library("/usr/lib/python3.11/asyncio/events.py"),
            library("/usr/lib/python3.11/asyncio/base_events.py"),
            call(app["finish"]),
            library("<frozen runpy>"),
        ]
    )
    book.acquire(stack=stack)
    text = render_finding(only(find(read(book.end()))))
    assert text.splitlines()[0].endswith(
        "/requests/api.py:6 in use (called at app.py:4 in main) was never closed"
    )
    assert (
        "  opened   ... 2 frames of safehandle_debug, requests\n"
        "           app.py:4 in main\n"
        "           ... 2 frames of asyncio\n"
        "           app.py:10 in finish\n"
        "           ... 1 frame of <frozen runpy>\n"
    ) in text


def test_long_stories_stay_short(
    app: dict[str, CodeType], book: RecordingBuilder, read: Read
) -> None:
    """Deep stacks and many different references: bounded all the same."""
    codes = [
        app["use"].replace(co_name=f"f{number}", co_qualname=f"f{number}") for number in range(40)
    ]
    frames = [(code, 0) for code in codes]
    handle = book.acquire(stack=book.stack(frames))
    for number in range(30):
        book.add_ref(handle, stack=book.stack(frames[number:]))
        book.release(handle, stack=book.stack(frames[number:]))
    for number in range(30):
        book.add_ref(handle, stack=book.stack(frames[number:]))
    book.dispose(handle, stack=book.stack(frames))
    text = render_finding(only(find(read(book.end()))))
    lines = text.splitlines()
    assert len(lines) <= 1 + MOST_LINES
    assert lines[-1] == "  ended    still open when the process ended"
    assert "nor 29 others" in lines[0]


def test_names_are_harmless(book: RecordingBuilder, read: Read) -> None:
    """A file's name can neither break a line nor steer the terminal."""
    book.acquire(detail="/tmp/\x1b[31m\nleak: \x9b\u202e", stack=0)
    finding = only(find(read(book.end())))
    text = render_finding(finding)
    assert "\x1b" not in text
    assert "\x9b" not in text
    assert "\u202e" not in text
    assert len(first_line(finding).splitlines()) == 1
    code = test_names_are_harmless.__code__.replace(co_qualname="f\x1b[2J\n", co_filename="\n\r")
    other = RecordingBuilder(pid=5)
    other.acquire(stack=other.stack([(code, 0)]))
    text = render_finding(only(find(read(other.end()))))
    assert "\x1b" not in text
    assert "\r" not in text


def test_without_source(book: RecordingBuilder, read: Read) -> None:
    """A file that is not there leaves the line out."""
    code = test_without_source.__code__.replace(co_filename="/nowhere/app.py")
    book.acquire(stack=book.stack([(code, 0)]))
    lines = render_finding(only(find(read(book.end())))).splitlines()
    assert "/nowhere/app.py" in lines[0]
    assert lines[1].startswith("  handle ")


def test_without_any_stack(book: RecordingBuilder, read: Read) -> None:
    book.acquire()
    text = render_finding(only(find(read(book.end()))))
    assert "opened at an unknown place" in text
    assert "(stack not recorded)" in text


def test_color(app: dict[str, CodeType], book: RecordingBuilder, read: Read) -> None:
    """Color adds escapes and nothing else."""
    book.acquire(stack=book.stack([call(app["main"])]))
    finding = only(find(read(book.end())))
    plain, colored = render_finding(finding), render_finding(finding, color=True)
    assert "\x1b[" not in plain
    for code in ("\x1b[31m", "\x1b[33m", "\x1b[1m", "\x1b[2m", "\x1b[0m"):
        colored = colored.replace(code, "")
    assert colored == plain


def test_source_is_cut_to_the_width(tmp_path: Path) -> None:
    path = tmp_path / "wide.py"
    path.write_text("x = " + "y" * 500)
    line = excerpt(Frame(str(path), 1, "f", 1, 0, 504), "")
    assert line is not None
    assert len(line.text) == 504


def test_killed_process(app: dict[str, CodeType], book: RecordingBuilder, read: Read) -> None:
    """What it held, alike ones together, with their stacks."""
    stack = book.stack([call(app["main"]), (app["module"], 0)])
    for _ in range(3):
        book.acquire(value=7, detail="/etc/group", stack=stack)
    book.acquire("SafePipeHandle", value=9, stack=book.stack([call(app["finish"])]))
    ledger = read(book)
    assert render_process_death(ledger).splitlines() == [
        "process 4711 (app.py) died holding 4 handles",
        "  SafeFileHandle #1, fd 7 '/etc/group', opened at app.py:4 in main (3 times)",
        "      app.py:4 in main",
        "      app.py:1 in <module>",
        "  SafePipeHandle #4, fd 9, opened at app.py:10 in finish",
        "      app.py:10 in finish",
    ]
    assert render_summary([ledger], []).splitlines() == [
        "nothing found in 1 process, 4 events",
        "process 4711 (app.py) died holding 4 handles",
    ]


def test_no_death_to_tell(book: RecordingBuilder, read: Read) -> None:
    """Of a process that ended, or that held nothing, nothing is said."""
    assert render_process_death(read(book)) == ""
    book.acquire()
    assert render_process_death(read(book.end())) == ""


def test_summary(book: RecordingBuilder, read: Read) -> None:
    for _ in range(2):
        book.close(book.acquire(stack=book.stack_here()), Ending.DROPPED)
    book.acquire(stack=book.stack_here())
    book.event(EventKind.ADD_REF, 3, record=False)
    ledger = read(book.end())
    assert render_summary([ledger], find(ledger)).splitlines() == [
        "2 findings in 1 process, 6 events",
        "  leak 1, abandoned 2",
        "process 4711 (app.py): 1 event dropped to stay within its size",
    ]


@pytest.fixture
def sampled(app: dict[str, CodeType]) -> RecordingBuilder:
    cwd = os.path.dirname(app["main"].co_filename)
    return RecordingBuilder(cwd=cwd, pid=4711, level=Level.SAMPLED)


SHARE = "one handle in 100 was recorded"


def test_a_sampled_process_ended(sampled: RecordingBuilder, read: Read) -> None:
    """What is not found may only not have been recorded; that is said."""
    sampled.acquire(stack=sampled.stack_here())
    again = sampled.acquire(stack=sampled.stack_here())
    sampled.close(again)
    sampled.problem(EventKind.DOUBLE_RELEASE, again, stack=sampled.stack_here())
    ledger = read(sampled.end())
    double, leak = sorted(find(ledger), key=lambda finding: finding.kind)
    note = f"  note     only {SHARE}: there may be more like it"
    assert note in render_finding(leak).splitlines()
    assert SHARE not in render_finding(double)
    assert render_summary([ledger], []).splitlines()[1:] == [
        f"process 4711 (app.py): level sampled, {SHARE}"
    ]


def test_a_sampled_process_died(sampled: RecordingBuilder, read: Read) -> None:
    sampled.acquire(stack=sampled.stack_here())
    heading = render_process_death(read(sampled)).splitlines()[0]
    assert heading == (f"process 4711 (app.py) died holding 1 handle of those recorded ({SHARE})")


def test_at_level_full_nothing_is_said_of_samples(book: RecordingBuilder, read: Read) -> None:
    book.acquire(stack=book.stack_here())
    ledger = read(book.end())
    texts = [render_finding(each) for each in find(ledger)] + [render_summary([ledger], [])]
    assert not [text for text in texts if "was recorded" in text]


def test_marks_count_characters(tmp_path: Path) -> None:
    """Columns are bytes; marks are characters."""
    path = tmp_path / "app.py"
    path.write_text('    größe = öffnen("é")\n')
    start = len("    größe = ".encode())
    end = len('    größe = öffnen("é")'.encode())
    line = excerpt(Frame(str(path), 1, "f", 1, start, end), "")
    assert line is not None
    assert line.text[line.start : line.end] == 'öffnen("é")'


def test_changed_source_is_not_marked(tmp_path: Path) -> None:
    """The line may be another one by now."""
    path = tmp_path / "app.py"
    path.write_text("f()\n")
    frame = Frame(str(path), 1, "f", 1, 0, 3)
    changed = path.stat().st_mtime_ns
    marked, unmarked = (excerpt(frame, "", as_of_ns=changed + each) for each in (1, -1))
    assert marked is not None
    assert unmarked is not None
    assert (marked.start, marked.end) == (0, 3)
    assert (unmarked.start, unmarked.end) == (0, 0)


@given(
    text=st.text(max_size=40),
    line=st.integers(0, 4),
    columns=st.tuples(*[st.none() | st.integers(0, 99)] * 2),
    lines=st.none() | st.integers(0, 9),
)
def test_any_source(
    tmp_path_factory: pytest.TempPathFactory,
    text: str,
    line: int,
    columns: tuple[int | None, int | None],
    lines: int | None,
) -> None:
    """Whatever a file holds by now, the excerpt is one line or none."""
    path = tmp_path_factory.mktemp("source") / "app.py"
    path.write_text(text, encoding="utf-8", errors="replace")
    found = excerpt(Frame(str(path), line, "f", lines, *columns), "")
    if found is not None:
        assert "\n" not in found.text
        assert 0 <= found.start <= found.end <= len(found.text)


@pytest.mark.parametrize("file", ["", "/", "/dev/zero", "/dev/null", "\0", "x" * 5000])
def test_senseless_files(file: str) -> None:
    """Nothing that is not a plain file of text is read."""
    assert excerpt(Frame(file, 1, "f"), "") is None
