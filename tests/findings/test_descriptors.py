"""Wrong acts with bare descriptor numbers: one bug each, and the right culprit."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from support_recording import RecordingBuilder

from safehandle_debug.findings import Finding, find, findings_of, render_finding
from safehandle_debug.ledger import Ledger
from safehandle_debug.recording.format import Ending, EventKind, Flag

Read = Callable[[RecordingBuilder], Ledger]


def opens(book: RecordingBuilder, type: str = "raw", **more: object) -> int:
    return book.acquire(type, stack=book.stack_here(), **more)  # type: ignore[arg-type]


def closes(book: RecordingBuilder, handle: int, ending: Ending = Ending.CLOSED) -> None:
    flags = Flag.FINALIZER if ending in (Ending.DROPPED, Ending.COLLECTED) else Flag(0)
    book.close(handle, ending, stack=book.stack_here(), flags=flags)


def closes_again(book: RecordingBuilder, handle: int, detail: str = "close") -> None:
    book.problem(
        EventKind.DOUBLE_RELEASE,
        handle,
        stack=book.stack_here(),
        detail=detail,
        flags=Flag.STALE,
    )


def uses(book: RecordingBuilder, handle: int, function: str = "write") -> None:
    book.problem(
        EventKind.USE_CLOSED, handle, stack=book.stack_here(), detail=function, flags=Flag.STALE
    )


def hits(
    book: RecordingBuilder,
    handle: int,
    victim: int,
    function: str = "write",
    *,
    prevented: bool = True,
) -> None:
    flags = Flag.STALE | (Flag.PREVENTED if prevented else Flag(0))
    book.problem(
        EventKind.RECYCLED,
        handle,
        value=victim,
        stack=book.stack_here(),
        detail=function,
        flags=flags,
    )


def closes_behind(book: RecordingBuilder, handle: int, how: str = "close") -> None:
    stack = book.stack_here()
    book.close(handle, stack=stack)
    book.problem(EventKind.CLOSED_BEHIND, handle, stack=stack, detail=how)


def owns_too(book: RecordingBuilder, handle: int) -> None:
    book.problem(EventKind.DOUBLE_OWNER, handle, value=handle, stack=book.stack_here())


def only(findings: list[Finding]) -> Finding:
    (finding,) = findings
    return finding


def culprit(finding: Finding) -> str:
    return finding.culprit[0].function


def test_closed_twice(book: RecordingBuilder, read: Read) -> None:
    handle = opens(book, detail="/etc/group")
    closes(book, handle)
    closes_again(book, handle)
    finding = only(find(read(book.end())))
    assert (finding.kind, finding.severity) == ("double-release", "error")
    assert culprit(finding) == "closes_again"
    assert finding.message.startswith("file fd 7 '/etc/group' was closed again at ")
    assert "after it was closed at" in finding.message


def test_used_after_close(book: RecordingBuilder, read: Read) -> None:
    handle = opens(book, "FileIO")
    closes(book, handle)
    for _ in range(3):
        uses(book, handle)
    finding = only(find(read(book.end())))
    assert finding.kind == "use-after-close"
    assert culprit(finding) == "uses"
    assert finding.message.startswith("FileIO fd 7 was used by write() at ")


@pytest.mark.parametrize("prevented", [True, False])
def test_recycled(prevented: bool, book: RecordingBuilder, read: Read) -> None:
    """Culprit and victim, in the sentence and with their stacks."""
    handle = opens(book, detail="/a")
    closes(book, handle)
    victim = opens(book, "FileIO", value=8, detail="/b")
    hits(book, handle, victim, prevented=prevented)
    closes(book, victim)
    finding = only(find(read(book.end())))
    assert (finding.kind, finding.prevented) == ("recycled", prevented)
    assert culprit(finding) == "hits"
    assert finding.victim is not None
    assert finding.victim.serial == victim
    was = "would have been" if prevented else "was"
    assert "was closed at" in finding.message
    assert "and used by write() at" in finding.message
    assert f"when it {was} FileIO '/b' opened at " in finding.message
    assert finding.message.endswith("(prevented by the quarantine)") is prevented
    text = render_finding(finding)
    assert "  victim   " in text
    assert "  used     " in text


def test_what_a_victim_suffers_is_no_bug_of_its_own(book: RecordingBuilder, read: Read) -> None:
    """The stale close hit it in earnest; its owner's close comes too late."""
    handle = opens(book)
    closes(book, handle)
    victim = opens(book, "FileIO")
    hits(book, handle, victim, "close", prevented=False)
    closes(book, victim)
    closes_again(book, victim)
    finding = only(find(read(book.end())))
    assert (finding.kind, culprit(finding)) == ("recycled", "hits")


def test_victim_of_a_prevented_act_can_have_bugs(book: RecordingBuilder, read: Read) -> None:
    handle = opens(book)
    closes(book, handle)
    victim = opens(book, "FileIO", value=8)
    hits(book, handle, victim)
    closes(book, victim)
    closes_again(book, victim)
    assert [each.kind for each in find(read(book.end()))] == ["recycled", "double-release"]


@pytest.mark.parametrize("late", ["nothing", "closes_again", "hits"])
def test_closed_behind_its_owner(late: str, book: RecordingBuilder, read: Read) -> None:
    """Whatever its owner does afterwards is part of that."""
    handle = opens(book)
    book.owned(handle, "FileIO")
    closes_behind(book, handle)
    if late == "closes_again":
        closes_again(book, handle)
    elif late == "hits":
        hits(book, handle, opens(book, "socket", value=9), "close")
    found = find(read(book))
    finding = only([each for each in found if each.handle.serial == handle])
    assert finding.kind == ("recycled" if late == "hits" else "closed-behind-owner")
    assert culprit(finding) == "closes_behind"
    assert finding.message.startswith("FileIO fd 7 was closed behind its owner by close() at ")
    assert ("closed again at" in finding.message) is (late != "nothing")


def test_replaced_behind_its_owner(book: RecordingBuilder, read: Read) -> None:
    handle = opens(book, "FileIO")
    closes_behind(book, handle, "dup2")
    assert " was replaced behind its owner by dup2() at " in only(find(read(book))).message


@pytest.mark.parametrize("late", [False, True])
def test_two_owners(late: bool, book: RecordingBuilder, read: Read) -> None:
    """The second adoption is the bug, not the close that follows from it."""
    handle = opens(book, "socket")
    owns_too(book, handle)
    closes(book, handle)
    if late:
        closes_again(book, handle)
    finding = only(find(read(book.end())))
    assert (finding.kind, culprit(finding)) == ("double-owner", "owns_too")
    assert "got a second owner at" in finding.message
    assert finding.victim is None
    labels = [line.split()[0] for line in render_finding(finding).splitlines() if line[2:3] != " "]
    assert [each for each in labels if each in ("adopted", "closed", "again")] == [
        "adopted",
        "closed",
        *(["again"] if late else []),
    ]


def test_two_owners_and_a_recycled_number(book: RecordingBuilder, read: Read) -> None:
    handle = opens(book)
    owns_too(book, handle)
    closes(book, handle)
    hits(book, handle, opens(book, value=9), "close")
    finding = find(read(book.end()))[0]
    assert (finding.kind, culprit(finding)) == ("recycled", "owns_too")


@pytest.mark.parametrize("ending", [Ending.DROPPED, Ending.COLLECTED])
def test_number_of_a_dropped_owner(ending: Ending, book: RecordingBuilder, read: Read) -> None:
    """fd = open(path).fileno(): the drop is the bug, told once."""
    handle = opens(book, "FileIO")
    closes(book, handle, ending)
    uses(book, handle)
    closes_again(book, handle)
    finding = only(find(read(book.end())))
    assert (finding.kind, culprit(finding)) == ("use-after-close", "closes")
    assert "was closed at" in finding.message
    assert "when its owner was dropped, and used by write() at" in finding.message


def test_dropped_ones_beside_it_are_told(book: RecordingBuilder, read: Read) -> None:
    stack = book.stack_here()
    for number in range(3):
        handle = book.acquire("FileIO", stack=stack)
        closes(book, handle, Ending.DROPPED)
        if number == 0:
            uses(book, handle)
    found = {each.kind: each.count for each in find(read(book.end()))}
    assert found == {"use-after-close": 1, "abandoned": 2}


def test_closed_while_a_thread_waits_on_it(book: RecordingBuilder, read: Read) -> None:
    handle = opens(book, "socket")
    book.close(handle, stack=book.stack_here(), flags=Flag.IN_USE)
    finding = only(find(read(book.end())))
    assert finding.kind == "use-after-close"
    assert culprit(finding) == "test_closed_while_a_thread_waits_on_it"
    assert finding.message.endswith("while another thread was blocked on it")


def test_the_same_bug_many_times(book: RecordingBuilder, read: Read) -> None:
    for _ in range(1000):
        handle = opens(book)
        closes(book, handle)
        closes_again(book, handle)
    assert only(find(read(book.end()))).count == 1000


def test_a_safe_handle_whose_number_is_closed(book: RecordingBuilder, read: Read) -> None:
    """It is an owner like others; its leak is another matter."""
    handle = opens(book, "SafeFileHandle")
    closes_behind(book, handle)
    finding = only(find(read(book.end())))
    assert (finding.kind, culprit(finding)) == ("closed-behind-owner", "closes_behind")


def test_victim_of_a_handle_judged_alone(book: RecordingBuilder, read: Read) -> None:
    """A test's own report looks the victim up, or names its number."""
    handle = opens(book)
    closes(book, handle)
    victim = opens(book, "FileIO", value=8, detail="/b")
    hits(book, handle, victim)
    ledger = read(book)
    history = ledger.history(handle)
    assert history is not None
    assert f"another handle (#{victim})" in only(findings_of(history, over=False)).message
    told = only(findings_of(history, over=False, look_up=ledger.history))
    assert "FileIO '/b' opened at" in told.message
    assert told.victim is not None


def test_an_act_without_a_place_names_nobody(book: RecordingBuilder, read: Read) -> None:
    """A forked child that finalizes what its parent left it."""
    handle = opens(book, "FileIO")
    closes(book, handle)
    book.problem(EventKind.DOUBLE_RELEASE, handle, detail="close", flags=Flag.STALE)
    assert find(read(book.end())) == []


def test_closed_by_whom_the_owner_let_it_go_to(book: RecordingBuilder, read: Read) -> None:
    """A library takes the number of a socket, closes it, and has it detached then."""
    handle = opens(book, "socket")
    closes_behind(book, handle)
    book.owned(handle, "raw", stack=book.stack_here())
    assert find(read(book.end())) == []


def test_numbers_of_imported_files_are_nobodys(book: RecordingBuilder, read: Read) -> None:
    """A number from the command line that an import has had for a moment."""
    code = uses.__code__.replace(co_filename="<frozen importlib._bootstrap_external>")
    handle = book.acquire("FileIO", stack=book.stack([(code, 0)]), flags=Flag.IMPORTING)
    closes(book, handle)
    uses(book, handle)
    assert find(read(book.end())) == []
