"""Is the thread still inside the block that took the reference?"""

from __future__ import annotations

from collections.abc import Callable

import pytest
from support_recording import RecordingBuilder

from safehandle_debug.ledger import Ledger

Read = Callable[[RecordingBuilder], Ledger]


def inside(book: RecordingBuilder) -> int:
    return book.stack_here(limit=2)


def elsewhere(book: RecordingBuilder) -> int:
    return book.stack_here(limit=2)


def used(read: Read, book: RecordingBuilder, act: Callable[[RecordingBuilder, int], None]) -> bool:
    """Whether the reference counts as in use after what the thread did."""
    worker = book.thread("Worker")
    handle, other = book.acquire(), book.acquire()
    seq = book.add_ref(handle, stack=inside(book), thread=worker)
    act(book, other)
    book.dispose(handle)
    history = read(book).history(handle)
    assert history is not None
    assert history.in_use <= {seq}
    return bool(history.in_use)


def nothing(book: RecordingBuilder, other: int) -> None:
    """It is blocked."""


def works_inside(book: RecordingBuilder, other: int) -> None:
    """A call made by the same function, with another handle."""
    frames = [(elsewhere.__code__, 0), (inside.__code__, 0), (used.__code__, 0)]
    stack = book.stack(frames)
    book.add_ref(other, stack=stack, thread=book.thread("Worker"))


def works_elsewhere(book: RecordingBuilder, other: int) -> None:
    """Another function in its place: it has returned."""
    stack = book.stack([(elsewhere.__code__, 0), (used.__code__, 0)])
    book.add_ref(other, stack=stack, thread=book.thread("Worker"))


def works_above(book: RecordingBuilder, other: int) -> None:
    """Its caller does something: it has returned."""
    stack = book.stack([(used.__code__, 0)])
    book.add_ref(other, stack=stack, thread=book.thread("Worker"))


def another_thread_works(book: RecordingBuilder, other: int) -> None:
    """Says nothing of this one."""
    book.add_ref(other, stack=book.stack([(elsewhere.__code__, 0)]), thread=book.thread("b"))


def works_without_stack(book: RecordingBuilder, other: int) -> None:
    """Where it was is not known."""
    book.add_ref(other, thread=book.thread("Worker"))


@pytest.mark.parametrize(
    ("act", "in_use"),
    [
        (nothing, True),
        (works_inside, True),
        (another_thread_works, True),
        (works_without_stack, True),
        (works_elsewhere, False),
        (works_above, False),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_what_the_thread_did_since(
    act: Callable[[RecordingBuilder, int], None],
    in_use: bool,
    book: RecordingBuilder,
    read: Read,
) -> None:
    assert used(read, book, act) == in_use


def test_the_same_place_once_more(book: RecordingBuilder, read: Read) -> None:
    """Coming to the same instruction again: the first block was left."""
    worker = book.thread("Worker")
    handle = book.acquire()
    stack = inside(book)
    book.add_ref(handle, stack=stack, thread=worker)
    second = book.add_ref(handle, stack=stack, thread=worker)
    book.dispose(handle)
    history = read(book).history(handle)
    assert history is not None
    assert history.in_use == {second}


def test_cut_stacks_say_nothing(book: RecordingBuilder, read: Read) -> None:
    """Of stacks as deep as are kept, the outer frames are missing."""
    book.fields["frames"] = 2
    assert used(read, book, works_elsewhere)


def test_main_thread_and_ended_threads(book: RecordingBuilder, read: Read) -> None:
    """What the main thread, or one that is gone, forgot is forgotten."""
    handle = book.acquire()
    book.add_ref(handle, stack=inside(book))
    book.add_ref(handle, stack=inside(book), thread=book.thread("Worker"))
    book.dispose(handle)
    history = read(book.end()).history(handle)
    assert history is not None
    assert history.in_use == frozenset()


def worker_opens(
    book: RecordingBuilder, times: int, *, owner: str, stack: int, closes: bool = False
) -> None:
    """Descriptors that a thread opened at one place, and has open; `closes`: it
    closed one of that place before."""
    worker = book.thread("Worker")
    if closes:
        book.close(book.acquire(owner, stack=stack, thread=worker, value=7), thread=worker)
    for value in range(7, 7 + times):
        book.acquire(owner, stack=stack, thread=worker, value=value)


@pytest.mark.parametrize(
    ("owner", "times", "judged"),
    [("raw", 1, []), ("raw", 5, [4]), ("socket", 2, []), ("socket", 6, [4])],
)
@pytest.mark.parametrize("threads_run", [True, False])
def test_what_a_daemon_thread_has_at_the_end(
    owner: str,
    times: int,
    judged: list[int],
    threads_run: bool,
    book: RecordingBuilder,
    read: Read,
) -> None:
    """The last one at each place may be in use, with its other end; of a thread that
    had ended nothing is."""
    worker_opens(book, times, owner=owner, stack=inside(book), closes=True)
    ledger = read(book.end(threads_run=threads_run))
    counts = [each.count for each in ledger.suspicions()]
    assert counts == (judged if threads_run else [times])


def test_what_a_daemon_thread_never_closes(book: RecordingBuilder, read: Read) -> None:
    """Nothing says that it would have closed this one."""
    worker_opens(book, 1, owner="FileIO", stack=inside(book))
    (suspicion,) = read(book.end(threads_run=True)).suspicions()
    assert suspicion.count == 1


def test_what_a_running_thread_has_before_the_end(book: RecordingBuilder, read: Read) -> None:
    """Whoever asks now wants to hear of all."""
    worker_opens(book, 3, owner="raw", stack=inside(book))
    (suspicion,) = read(book).suspicions(now=True)
    assert suspicion.count == 3
