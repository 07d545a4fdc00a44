"""What is wrong is found, with the right culprit."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from support_recording import RecordingBuilder

from safehandle_debug.findings import Finding, find, findings_of
from safehandle_debug.ledger import Ledger
from safehandle_debug.recording.format import Ending, EventKind, Flag

Read = Callable[[RecordingBuilder], Ledger]


def functions(finding: Finding) -> list[str]:
    return [frame.function for frame in finding.culprit]


def opened_here(book: RecordingBuilder, **more: object) -> int:
    return book.acquire(stack=book.stack_here(), **more)  # type: ignore[arg-type]


def acts_here(book: RecordingBuilder) -> int:
    return book.stack_here()


def only(findings: list[Finding]) -> Finding:
    (finding,) = findings
    return finding


def test_leak_at_exit(book: RecordingBuilder, read: Read) -> None:
    """Still open when the process ended normally."""
    handle = opened_here(book, value=7, detail="/etc/group", task="T", test="t")
    finding = only(find(read(book.end())))
    assert (finding.kind, finding.severity, finding.count) == ("leak", "error", 1)
    assert (finding.thread, finding.task, finding.test) == ("MainThread", "T", "t")
    assert functions(finding)[0] == "opened_here"
    assert "SafeFileHandle fd 7 '/etc/group' opened at" in finding.message
    assert finding.message.endswith("in opened_here was never closed")
    assert finding.serials == (handle,)
    assert finding.culprit == finding.handle.opened


@pytest.mark.parametrize("ending", [Ending.SWEPT, Ending.DROPPED, Ending.COLLECTED])
def test_leak_closed_by_the_interpreters_end(
    ending: Ending, book: RecordingBuilder, read: Read
) -> None:
    """Swept, or finalized as the globals were torn down: nobody closed it."""
    book.close(opened_here(book), ending, flags=Flag.FINALIZER | Flag.FINALIZING)
    assert only(find(read(book.end()))).kind == "leak"


def test_leak_on_demand(read: Read) -> None:
    """Open in a running process: a leak only when asked for."""
    book = RecordingBuilder(alive=True)
    opened_here(book)
    ledger = read(book)
    assert find(ledger) == []
    assert only(find(ledger, now=True)).kind == "leak"


def test_leak_at_the_end_of_a_test(read: Read) -> None:
    """One history, judged as its scope ends."""
    book = RecordingBuilder(alive=True)
    handle = opened_here(book)
    history = read(book).history(handle)
    assert history is not None
    assert findings_of(history, over=False) == []
    finding = only(findings_of(history, over=True))
    assert (finding.kind, finding.serials) == ("leak", (handle,))


def test_leak_by_overwriting(book: RecordingBuilder, read: Read) -> None:
    """set_handle over a live value: the old one can never be closed."""
    handle = opened_here(book, value=5)
    book.problem(EventKind.SET_VALUE, handle, value=5, stack=acts_here(book))
    book.close(handle)
    finding = only(find(read(book.end())))
    assert finding.kind == "leak"
    assert functions(finding)[0] == "acts_here"
    assert "fd 5 was overwritten" in finding.message


@pytest.mark.parametrize("ending", [Ending.DROPPED, Ending.COLLECTED])
def test_abandoned(ending: Ending, book: RecordingBuilder, read: Read) -> None:
    """A finalizer had to close it: a warning, with the acquire stack."""
    book.close(opened_here(book), ending, flags=Flag.FINALIZER)
    finding = only(find(read(book.end())))
    assert (finding.kind, finding.severity) == ("abandoned", "warning")
    assert functions(finding)[0] == "opened_here"


def test_abandoned_in_a_running_process(read: Read) -> None:
    """It has happened: no need to wait for the end."""
    book = RecordingBuilder(alive=True)
    book.close(opened_here(book), Ending.DROPPED, flags=Flag.FINALIZER)
    assert only(find(read(book))).kind == "abandoned"


def test_double_release_after_close(book: RecordingBuilder, read: Read) -> None:
    """The late release is the culprit."""
    handle = opened_here(book)
    book.close(handle)
    book.problem(EventKind.DOUBLE_RELEASE, handle, stack=acts_here(book))
    finding = only(find(read(book.end())))
    assert (finding.kind, finding.severity) == ("double-release", "error")
    assert functions(finding)[0] == "acts_here"
    assert "after it was closed at" in finding.message


def test_double_release_that_closed_it(book: RecordingBuilder, read: Read) -> None:
    """A release nobody owed takes the owner's reference; what follows from
    it on the same handle is not another finding."""
    handle = opened_here(book)
    book.problem(EventKind.DOUBLE_RELEASE, handle, stack=acts_here(book))
    book.close(handle)
    for _ in range(3):
        book.problem(EventKind.DOUBLE_RELEASE, handle, stack=book.stack_here())
    finding = only(find(read(book.end())))
    assert functions(finding)[0] == "acts_here"
    assert "without an add-ref" in finding.message or "no reference" in finding.message


def test_double_release_of_a_borrowed_handle(book: RecordingBuilder, read: Read) -> None:
    """Somebody else closes it, but its references are counted all the same."""
    handle = opened_here(book, flags=Flag.BORROWED)
    book.close(handle)
    book.problem(EventKind.DOUBLE_RELEASE, handle, stack=acts_here(book), flags=Flag.BORROWED)
    assert only(find(read(book.end()))).kind == "double-release"


def test_release_failed(book: RecordingBuilder, read: Read) -> None:
    """The reason is part of the message."""
    handle = opened_here(book)
    book.close(handle)
    book.problem(
        EventKind.RELEASE_FAILED, handle, value=9, stack=acts_here(book), detail="no such thing"
    )
    finding = only(find(read(book.end())))
    assert finding.kind == "release-failed"
    assert finding.message.endswith("in acts_here: no such thing (EBADF)")


def test_double_owner(book: RecordingBuilder, read: Read) -> None:
    """The second owner is the culprit, the first the victim."""
    first = opened_here(book, detail="/etc/group")
    stack = acts_here(book)
    second = book.acquire(stack=stack)
    book.problem(EventKind.DOUBLE_OWNER, second, value=first, stack=stack)
    book.close(second)
    book.close(first)
    finding = only(find(read(book.end())))
    assert finding.kind == "double-owner"
    assert finding.handle.serial == second
    assert finding.victim is not None
    assert finding.victim.serial == first
    assert functions(finding)[0] == "acts_here"


def forgets(book: RecordingBuilder, handle: int) -> None:
    book.add_ref(handle, stack=book.stack_here())


def balances(book: RecordingBuilder, handle: int) -> None:
    book.add_ref(handle, stack=book.stack_here())
    book.release(handle, stack=book.stack_here())


@pytest.mark.parametrize("end", ["open", "swept"])
def test_unbalanced(end: str, book: RecordingBuilder, read: Read) -> None:
    """Closed while a reference was out that never came back."""
    handle = opened_here(book)
    balances(book, handle)
    forgets(book, handle)
    balances(book, handle)
    book.dispose(handle, stack=acts_here(book))
    if end == "swept":
        book.close(handle, Ending.SWEPT, flags=Flag.FINALIZER | Flag.FINALIZING)
    finding = only(find(read(book.end())))
    assert (finding.kind, finding.count) == ("unbalanced", 1)
    assert functions(finding)[0] == "forgets"
    assert "in forgets was never released" in finding.message


def test_unbalanced_beside_a_busy_thread(book: RecordingBuilder, read: Read) -> None:
    """Who forgot is named, not who still reads."""
    handle = opened_here(book)
    book.add_ref(handle, stack=acts_here(book), thread=book.thread("Worker"))
    forgets(book, handle)
    book.dispose(handle)
    finding = only(find(read(book.end(threads_run=True))))
    assert functions(finding)[0] == "forgets"
    assert "nor" not in finding.message


def test_unbalanced_by_a_finalizer(read: Read) -> None:
    """The object is gone: nobody can release it any more, so it is told at
    once, and once only at the end."""
    book = RecordingBuilder(alive=True)
    handle = opened_here(book)
    forgets(book, handle)
    book.dispose(handle, Ending.DROPPED, flags=Flag.FINALIZER)
    ledger = read(book)
    assert only(find(ledger)).kind == "unbalanced"
    assert only(find(ledger, now=True)).kind == "unbalanced"
    book.close(handle, Ending.SWEPT, flags=Flag.FINALIZER)
    book.end().write(ledger.recording.path)
    ledger.refresh()
    finding = only(find(ledger))
    assert (finding.kind, finding.count) == ("unbalanced", 1)
    assert functions(finding)[0] == "forgets"


def test_unbalanced_and_leaks_of_one_place(book: RecordingBuilder, read: Read) -> None:
    """Handles opened alike that ended differently are told apart."""
    stack = book.stack_here()
    for number in range(6):
        handle = book.acquire(stack=stack)
        if number % 3 == 0:
            forgets(book, handle)
            book.dispose(handle)
    found = {finding.kind: finding.count for finding in find(read(book.end()))}
    assert found == {"unbalanced": 2, "leak": 4}


def test_the_same_bug_a_thousand_times(book: RecordingBuilder, read: Read) -> None:
    """One group with a count, whatever thread and process lifetime."""
    worker = book.thread("Worker")
    for number in range(1000):
        opened_here(book, thread=worker if number % 2 else None, detail=f"/tmp/{number}")
    finding = only(find(read(book.end())))
    assert finding.count == 1000
    assert 1 < len(finding.serials) <= 16


def test_two_lines_of_one_function_are_two_bugs(book: RecordingBuilder, read: Read) -> None:
    for _ in range(3):
        book.acquire(stack=book.stack_here())
        book.acquire(stack=book.stack_here())
    found = find(read(book.end()))
    assert [finding.count for finding in found] == [3, 3]
    assert len({finding.fingerprint for finding in found}) == 2


def test_errors_come_first(book: RecordingBuilder, read: Read) -> None:
    book.close(opened_here(book), Ending.DROPPED)
    opened_here(book)
    assert [finding.kind for finding in find(read(book.end()))] == ["leak", "abandoned"]


def test_several_things_wrong_with_one_handle(book: RecordingBuilder, read: Read) -> None:
    """Each is told once."""
    handle = opened_here(book)
    book.close(handle, Ending.DROPPED, flags=Flag.FINALIZER)
    book.problem(EventKind.RELEASE_FAILED, handle, value=5, flags=Flag.FINALIZER)
    book.problem(EventKind.DOUBLE_RELEASE, handle, stack=acts_here(book))
    found = {finding.kind: finding.count for finding in find(read(book.end()))}
    assert found == {"abandoned": 1, "release-failed": 1, "double-release": 1}


def test_fingerprint_survives_edits_and_runs(book: RecordingBuilder, read: Read) -> None:
    """Lines added above, another process and folder: the same bug."""
    places = []
    for shift, cwd, pid in ((0, "/srv/one", 10), (40, "/srv/two", 11)):
        code = test_errors_come_first.__code__
        code = code.replace(
            co_filename=f"{cwd}/app.py", co_firstlineno=code.co_firstlineno + shift
        )
        each = RecordingBuilder(cwd=cwd, pid=pid)
        each.acquire(stack=each.stack([(code, 0)]))
        finding = only(find(read(each.end())))
        places.append((finding.fingerprint, finding.culprit[0].line))
    assert places[0][0] == places[1][0]
    assert places[0][1] != places[1][1]


def test_fingerprints_differ(book: RecordingBuilder, read: Read) -> None:
    """Another kind, type or place is another bug."""
    stack, other = book.stack_here(), acts_here(book)
    book.acquire(stack=stack)
    book.acquire(stack=other)
    book.acquire("SafePipeHandle", stack=stack)
    book.close(book.acquire(stack=stack), Ending.DROPPED)
    found = find(read(book.end()))
    assert len(found) == len({finding.fingerprint for finding in found}) == 4
    assert all(len(finding.fingerprint) == 16 for finding in found)
