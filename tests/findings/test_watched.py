"""Descriptors and children of any code: what is a leak, what is not, whose they are."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from types import CodeType

import pytest
from support_recording import RecordingBuilder

from safehandle_debug.findings import (
    Finding,
    find,
    find_all,
    render_exhaustion,
    render_finding,
    render_summary,
    to_json,
)
from safehandle_debug.ledger import Ledger
from safehandle_debug.recording.format import Ended, Ending, EventKind, Flag

Read = Callable[[RecordingBuilder], Ledger]

LIBRARY = Path(os.__file__).parent
TEARDOWN = Flag.FINALIZER | Flag.FINALIZING


def only(findings: list[Finding]) -> Finding:
    (finding,) = findings
    return finding


def frame(file: str, function: str, instruction: int = 0) -> tuple[CodeType, int]:
    """A frame of a function that is not loaded here."""

    def any() -> None: ...

    code = any.__code__.replace(co_filename=file, co_qualname=function)
    return code, instruction


def in_library(book: RecordingBuilder, *places: tuple[str, str], instruction: int = 0) -> int:
    """The stack of functions of the standard library, called by the program."""
    inner = [frame(str(LIBRARY / file), function) for file, function in places]
    return book.stack([*inner, frame("/srv/app.py", "main", instruction)])


def child(book: RecordingBuilder, **more: object) -> int:
    places = ("subprocess.py", "Popen._execute_child"), ("subprocess.py", "Popen.__init__")
    return book.acquire(
        "child",
        value=4711,
        stack=in_library(book, *places),
        detail="vfork",
        **more,  # type: ignore[arg-type]
    )


def test_leak(book: RecordingBuilder, read: Read) -> None:
    book.acquire("raw", stack=book.stack_here(), detail="/etc/group")
    finding = only(find(read(book.end())))
    assert finding.kind == "leak"
    assert finding.message.startswith("file fd 7 '/etc/group' opened at ")
    assert finding.message.endswith(" was never closed")


def test_leak_of_an_owner_that_lived_to_the_end(book: RecordingBuilder, read: Read) -> None:
    handle = book.acquire("raw", stack=book.stack_here())
    book.owned(handle, "FileIO", stack=book.stack_here())
    book.close(handle, Ending.DROPPED, flags=TEARDOWN)
    finding = only(find(read(book.end())))
    assert finding.kind == "leak"
    assert finding.handle.owner == "FileIO"
    assert finding.message.startswith("FileIO fd 7 opened at ")


def test_leak_that_a_python_finalizer_closed_at_the_end(
    book: RecordingBuilder, read: Read
) -> None:
    """There are no stacks any more, and nothing but finalizers runs."""
    handle = book.acquire("raw", stack=book.stack_here())
    book.close(handle, flags=Flag.FINALIZING)
    assert only(find(read(book.end()))).kind == "leak"


def test_leak_after_detach(book: RecordingBuilder, read: Read) -> None:
    """Who let go of it is the culprit: it was in good hands until then."""

    def detaches() -> int:
        return book.stack_here()

    handle = book.acquire("socket", stack=book.stack_here())
    book.owned(handle, "raw", stack=detaches())
    finding = only(find(read(book.end())))
    assert finding.culprit[0].function.endswith("detaches")
    assert "was let go of by its owner at" in finding.message
    assert "\n  let go   " in render_finding(finding)


def test_taken_over_after_detach(book: RecordingBuilder, read: Read) -> None:
    handle = book.acquire("socket", stack=book.stack_here())
    book.owned(handle, "raw", stack=book.stack_here())
    book.owned(handle, "FileIO", stack=book.stack_here())
    finding = only(find(read(book.end())))
    assert finding.culprit == finding.handle.opened


def test_an_owner_in_python_that_took_the_number_of_a_socket(
    book: RecordingBuilder, read: Read
) -> None:
    """multiprocessing's Pipe() detaches its sockets: the Connections own the numbers."""
    pipe = in_library(book, ("multiprocessing/connection.py", "Pipe"))
    handle = book.acquire("socket", stack=pipe)
    book.owned(handle, "raw", stack=pipe)
    finding = only(find(read(book.end())))
    assert finding.handle.owner == "Connection"
    assert finding.culprit == finding.handle.opened
    assert finding.message.endswith(" was never closed")
    assert "let go" not in finding.message


@pytest.mark.parametrize("ending", [Ending.DROPPED, Ending.COLLECTED])
def test_abandoned(ending: Ending, book: RecordingBuilder, read: Read) -> None:
    handle = book.acquire("FileIO", stack=book.stack_here())
    book.close(handle, ending, flags=Flag.FINALIZER)
    finding = only(find(read(book.end())))
    assert (finding.kind, finding.severity) == ("abandoned", "warning")


def test_abandoned_to_a_finalizer_in_python(book: RecordingBuilder, read: Read) -> None:
    """`__del__` calls os.close(): nobody else would have."""
    handle = book.acquire("raw", stack=book.stack_here())
    closer = book.stack([frame("/srv/pool.py", "Pool.__del__"), frame("/srv/app.py", "main")])
    book.close(handle, stack=closer)
    ledger = read(book.end())
    finding = only(find(ledger))
    assert finding.kind == "abandoned"
    assert finding.handle.ending == "dropped"
    assert ledger.counts.abandoned == 1


def test_opened_by_the_library_and_dropped_by_the_program(
    book: RecordingBuilder, read: Read
) -> None:
    """On the same line even: it was in the program's hands."""
    handle = book.acquire("socket", stack=in_library(book, ("socket.py", "create_connection")))
    finalizer = ("multiprocessing/connection.py", "_ConnectionBase.__del__")
    book.close(handle, stack=in_library(book, finalizer, instruction=2))
    assert only(find(read(book.end()))).kind == "abandoned"


def test_child_that_was_not_waited_for(book: RecordingBuilder, read: Read) -> None:
    child(book)
    finding = only(find(read(book.end())))
    assert finding.message.startswith("Popen pid 4711 started at /srv/app.py:")
    assert finding.message.endswith("was never waited for")


@pytest.mark.parametrize("function", ["Popen.__del__", "_cleanup"])
def test_child_that_its_finalizer_waited_for(
    function: str, book: RecordingBuilder, read: Read
) -> None:
    handle = child(book)
    book.close(handle, stack=in_library(book, ("subprocess.py", function)))
    assert only(find(read(book.end()))).kind == "abandoned"


# --- correct programs ---


def closed(book: RecordingBuilder) -> None:
    book.close(book.acquire("FileIO", stack=book.stack_here()), stack=book.stack_here())


def changed_hands(book: RecordingBuilder) -> None:
    handle = book.acquire("raw", stack=book.stack_here())
    for owner in ("socket", "raw", "socket"):
        book.owned(handle, owner, stack=book.stack_here())
    book.close(handle, stack=book.stack_here())


def given_to_a_safe_handle(book: RecordingBuilder) -> None:
    book.close(book.acquire("raw", stack=book.stack_here()), Ending.TRANSFERRED)


def seen_late(book: RecordingBuilder) -> None:
    """By a library that makes its own system calls: nobody knows where."""
    book.acquire("raw", stack=book.stack_here(), flags=Flag.LATE)
    handle = book.acquire("raw", stack=book.stack_here(), flags=Flag.LATE)
    book.close(handle, Ending.DROPPED, flags=Flag.FINALIZER)


def native_thread(book: RecordingBuilder) -> None:
    """A native thread's descriptors are opened by no line of Python."""
    book.acquire("raw")
    book.close(book.acquire("raw"), Ending.DROPPED, flags=TEARDOWN)


def kept_from_import(book: RecordingBuilder) -> None:
    book.acquire("FileIO", stack=book.stack_here(), flags=Flag.IMPORTING)
    handle = book.acquire("FileIO", stack=book.stack_here(), flags=Flag.IMPORTING)
    book.close(handle, Ending.DROPPED, flags=TEARDOWN)


def opened_and_closed_by_a_finalizer(book: RecordingBuilder) -> None:
    """A finalizer's own files, as shutil.rmtree() opens them."""
    inside = [frame("/srv/temp.py", "Temp.__del__"), frame("/srv/app.py", "main")]
    handle = book.acquire("raw", stack=book.stack([frame("/srv/temp.py", "wipe"), *inside]))
    book.close(handle, stack=book.stack([frame("/srv/temp.py", "wipe"), *inside]))


def opened_and_dropped_by_one_call_of_the_library(book: RecordingBuilder) -> None:
    """The program never had it."""
    inside = ("multiprocessing/managers.py", "BaseProxy._incref")
    opener = ("multiprocessing/connection.py", "Client")
    finalizer = ("multiprocessing/connection.py", "_ConnectionBase.__del__")
    handle = book.acquire("socket", stack=in_library(book, opener, inside))
    book.close(handle, stack=in_library(book, finalizer, inside))
    for stack in (in_library(book, inside), in_library(book)):
        handle = book.acquire("socket", stack=in_library(book, opener, inside))
        book.close(handle, Ending.DROPPED, flags=Flag.FINALIZER, stack=stack)


def close_that_calls_the_finalizer(book: RecordingBuilder) -> None:
    """`def close(self): self.__del__()`."""
    handle = book.acquire("raw", stack=book.stack_here())
    places = ("Pool.__del__", "Pool.close", "main")
    book.close(handle, stack=book.stack([frame("/srv/pool.py", each) for each in places]))


def redirected_output(book: RecordingBuilder) -> None:
    """dup2() onto stdout, for good."""
    book.acquire("raw", value=1, stack=book.stack_here())


def child_waited_for(book: RecordingBuilder) -> None:
    book.close(child(book), stack=in_library(book, ("subprocess.py", "Popen._wait")))


def child_that_still_runs(book: RecordingBuilder) -> None:
    """A daemon outlives who started it."""
    book.close(child(book), Ending.INHERITED, flags=Flag.FINALIZING)


def closed_number_refused(book: RecordingBuilder) -> None:
    """A SafeHandle's own refusal is an error that the program handles."""
    handle = book.acquire("SafeFileHandle", stack=book.stack_here())
    book.close(handle)
    book.event(EventKind.USE_CLOSED, handle, stack=book.stack_here())


def resource_tracker(book: RecordingBuilder) -> None:
    place = ("multiprocessing/resource_tracker.py", "ResourceTracker.ensure_running")
    book.acquire("raw", stack=in_library(book, place))
    book.acquire("child", value=12, stack=in_library(book, place))


def loop_of_a_library(book: RecordingBuilder) -> None:
    hub = frame("/venv/lib/python3.12/site-packages/gevent/hub.py", "Hub.run")
    book.acquire("raw", stack=book.stack([hub, frame("/srv/app.py", "main")]))


def queue(book: RecordingBuilder) -> None:
    stack = in_library(
        book,
        ("multiprocessing/connection.py", "Pipe"),
        ("multiprocessing/queues.py", "Queue.__init__"),
    )
    book.close(book.acquire("raw", stack=stack), Ending.DROPPED, flags=Flag.FINALIZER)
    book.acquire("raw", stack=stack)


PROGRAMS = [
    closed,
    changed_hands,
    given_to_a_safe_handle,
    seen_late,
    native_thread,
    kept_from_import,
    opened_and_closed_by_a_finalizer,
    opened_and_dropped_by_one_call_of_the_library,
    close_that_calls_the_finalizer,
    redirected_output,
    child_waited_for,
    child_that_still_runs,
    closed_number_refused,
    resource_tracker,
    loop_of_a_library,
    queue,
]


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.__name__)
def test_correct_program(
    program: Callable[[RecordingBuilder], None], book: RecordingBuilder, read: Read
) -> None:
    for _ in range(3):
        program(book)
    assert find(read(book.end()), now=True) == []


@pytest.mark.parametrize("program", [resource_tracker, queue])
def test_what_is_accepted_is_found(
    program: Callable[[RecordingBuilder], None], book: RecordingBuilder, read: Read
) -> None:
    program(book)
    assert find_all(read(book.end()))


def test_a_program_of_that_name_is_not_accepted(book: RecordingBuilder, read: Read) -> None:
    """Only the standard library's own file is."""
    stack = book.stack([frame("/srv/multiprocessing/queues.py", "Queue.__init__")])
    book.acquire("raw", stack=stack)
    assert only(find(read(book.end()))).kind == "leak"


def test_processes_that_end_without_teardown(book: RecordingBuilder, read: Read) -> None:
    """os._exit() and exec: what is open then nobody was meant to close."""
    book.fields["abrupt"] = 1
    book.acquire("raw", stack=book.stack_here())
    book.close(book.acquire("FileIO", stack=book.stack_here()), Ending.DROPPED)
    ledger = read(book.end())
    assert [each.kind for each in find(ledger)] == ["abandoned"]
    assert ledger.process.abrupt
    assert "1 process ended by os._exit() or exec" in render_summary([ledger], [])


def test_the_totals_say_that_descriptors_were_watched(book: RecordingBuilder, read: Read) -> None:
    book.fields |= {"watch": 1, "bare": 3}
    book.acquire("raw", stack=book.stack_here())
    ledger = read(book.end(0, Ended.STOPPED))
    assert ledger.process.live == 4
    text = render_summary([ledger], [])
    assert "1 process, 1 event; all descriptors were watched" in text
    assert "3 descriptors counted, not recorded" in text


def test_no_descriptor_left(book: RecordingBuilder, read: Read) -> None:
    """Who was refused, and where most of those open then were opened."""
    many, few = book.stack_here(), in_library(book, ("socket.py", "socket.accept"))
    for number in range(30):
        handle = book.acquire("raw", value=number, stack=many if number % 3 else few)
        if number % 3 and number < 10:
            book.close(handle)
    book.event(EventKind.EXHAUSTED, 0, value=64, stack=few, detail="accept4", flags=0)
    for handle in range(20, 31):
        book.close(handle)
    ledger = read(book.end())
    text = render_exhaustion(ledger)
    assert text.startswith("EMFILE: descriptors exhausted in accept4() at /srv/app.py:")
    assert "24 handles open, the limit is 64" in text
    assert [line.split()[0] for line in text.splitlines()[1:]] == ["14", "10"]
    (process,) = to_json([ledger], [])["processes"]
    (moment,) = process["exhausted"]
    assert (moment["limit"], moment["open"]) == (64, 24)
    assert moment["top"][1]["site"]["file"] == "/srv/app.py"
