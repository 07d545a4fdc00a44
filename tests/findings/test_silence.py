"""Correct programs that look like bugs: no finding."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from support_recording import RecordingBuilder

from safehandle_debug.findings import find
from safehandle_debug.ledger import Ledger
from safehandle_debug.recording.format import Ended, Ending, EventKind, Flag

Read = Callable[[RecordingBuilder], Ledger]


def balanced(book: RecordingBuilder) -> None:
    """Add-refs in two threads, all released; then closed."""
    handle = book.acquire(stack=book.stack_here())
    worker = book.thread("Worker")
    book.add_ref(handle, stack=book.stack_here())
    book.add_ref(handle, stack=book.stack_here(), thread=worker)
    book.release(handle, stack=book.stack_here())
    book.release(handle, stack=book.stack_here(), thread=worker)
    book.close(handle)


def with_block(book: RecordingBuilder) -> None:
    """Closed by its with block."""
    book.close(book.acquire(stack=book.stack_here()), Ending.EXITED)


def detached(book: RecordingBuilder) -> None:
    """Ownership left: os.fdopen(handle.detach())."""
    book.close(book.acquire(stack=book.stack_here()), Ending.TRANSFERRED)


def invalidated(book: RecordingBuilder) -> None:
    """Given to somebody else by set_handle_as_invalid()."""
    handle = book.acquire(stack=book.stack_here())
    book.event(EventKind.INVALIDATE, handle, refs=1, ending=Ending.TRANSFERRED)
    book.free_slot(handle)


def closed_while_in_use(book: RecordingBuilder) -> None:
    """Closed during a read in another thread; the read's end gives it back."""
    handle = book.acquire(stack=book.stack_here())
    worker = book.thread("Worker")
    book.add_ref(handle, stack=book.stack_here(), thread=worker)
    book.dispose(handle, stack=book.stack_here())
    book.release(handle, stack=book.stack_here(), thread=worker)
    book.close(handle, thread=worker)


def used_after_close(book: RecordingBuilder) -> None:
    """Refused with an error, which the program handles."""
    handle = book.acquire(stack=book.stack_here())
    book.close(handle)
    book.event(EventKind.USE_CLOSED, handle, stack=book.stack_here())


def borrowed_and_kept(book: RecordingBuilder) -> None:
    """Somebody else's to close: sys.stdin's descriptor."""
    handle = book.acquire(value=0, stack=book.stack_here(), flags=Flag.BORROWED)
    book.problem(EventKind.SET_VALUE, handle, value=0, flags=Flag.BORROWED)


def borrowed_and_dropped(book: RecordingBuilder) -> None:
    """Its object goes; the resource stays with its owner."""
    handle = book.acquire(value=0, stack=book.stack_here(), flags=Flag.BORROWED)
    book.close(handle, Ending.DROPPED, flags=Flag.FINALIZER)


def borrowed_with_a_reference_out(book: RecordingBuilder) -> None:
    handle = book.acquire(value=0, stack=book.stack_here(), flags=Flag.BORROWED)
    book.add_ref(handle)
    book.dispose(handle)


def kept_from_import(book: RecordingBuilder) -> None:
    """A module's log file, open as long as the process."""
    book.acquire(stack=book.stack_here(), flags=Flag.IMPORTING)


def kept_from_import_until_swept(book: RecordingBuilder) -> None:
    handle = book.acquire(stack=book.stack_here(), flags=Flag.IMPORTING)
    book.close(handle, Ending.SWEPT, flags=Flag.FINALIZER | Flag.FINALIZING)


def kept_from_import_until_teardown(book: RecordingBuilder) -> None:
    handle = book.acquire(stack=book.stack_here(), flags=Flag.IMPORTING)
    book.close(handle, Ending.DROPPED, flags=Flag.FINALIZER | Flag.FINALIZING)


PROGRAMS = [
    balanced,
    with_block,
    detached,
    invalidated,
    closed_while_in_use,
    used_after_close,
    borrowed_and_kept,
    borrowed_and_dropped,
    borrowed_with_a_reference_out,
    kept_from_import,
    kept_from_import_until_swept,
    kept_from_import_until_teardown,
]


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.__name__)
@pytest.mark.parametrize("now", [False, True])
def test_correct_program(
    program: Callable[[RecordingBuilder], None], now: bool, book: RecordingBuilder, read: Read
) -> None:
    for _ in range(3):
        program(book)
    assert find(read(book.end()), now=now) == []


def test_running_process_with_open_handles(read: Read) -> None:
    """A server holds what it serves; closing with readers inside may take."""
    book = RecordingBuilder(alive=True)
    book.acquire(stack=book.stack_here())
    busy = book.acquire(stack=book.stack_here())
    book.add_ref(busy)
    book.dispose(busy)
    assert find(read(book)) == []


def test_daemon_thread_inside_a_read_at_exit(book: RecordingBuilder, read: Read) -> None:
    """Its reference is in use, not forgotten, when the process ends."""
    worker = book.thread("Worker")
    handle = book.acquire(stack=book.stack_here())
    book.add_ref(handle, stack=book.stack_here(), thread=worker)
    book.dispose(handle, stack=book.stack_here())
    book.close(handle, Ending.SWEPT, flags=Flag.FINALIZER | Flag.FINALIZING)
    assert find(read(book.end(threads_run=True))) == []
    assert [finding.kind for finding in find(read(book.end()))] == ["unbalanced"]


def test_killed_process_with_open_handles(book: RecordingBuilder, read: Read) -> None:
    """Nobody could close them: listed as held, not as leaked."""
    book.acquire(stack=book.stack_here())
    assert find(read(book)) == []
    assert find(read(book.end(15, Ended.SIGNAL))) == []


@pytest.mark.parametrize("alive", [False, True])
def test_recording_stopped_with_open_handles(alive: bool, read: Read) -> None:
    """The process went on unwatched: it may have closed them."""
    book = RecordingBuilder(alive=alive)
    book.acquire(stack=book.stack_here())
    assert find(read(book.end(0, Ended.STOPPED))) == []


def test_forked_child(read: Read) -> None:
    """Handles of the parent are the parent's, whatever the child's end did."""
    book = RecordingBuilder(inherited_serials=5)
    type = book.type("SafeFileHandle")
    flags = Flag.FINALIZER | Flag.FINALIZING | Flag.INHERITED
    for serial in range(1, 6):
        book.event(EventKind.CLOSE, serial, type=type, ending=Ending.SWEPT, flags=flags)
        book.event(EventKind.RELEASE_FAILED, serial, type=type, value=9, flags=flags)
        book.event(EventKind.DISPOSE, serial, type=type, refs=1, flags=flags)
    assert find(read(book.end()), now=True) == []


def test_dropped_history(book: RecordingBuilder, read: Read) -> None:
    """Of handles whose acquire was dropped it is not known whether an import
    made them: what the interpreter's end closed is no finding."""
    handles = [book.acquire(slot=False) for _ in range(10)]
    (block,) = book.blocks_of(1)
    book.recycle(block)
    for handle in handles:
        book.close(handle, Ending.SWEPT, flags=Flag.FINALIZER | Flag.FINALIZING)
    assert find(read(book.end())) == []


def test_handle_of_dropped_close(book: RecordingBuilder, read: Read) -> None:
    """Its close was not recorded, but it has no slot: it was closed."""
    handle = book.acquire(stack=book.stack_here())
    book.close(handle, record=False)
    ledger = read(book.end())
    assert find(ledger) == []
    assert ledger.open() == []
