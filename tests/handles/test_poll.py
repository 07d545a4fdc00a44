"""epoll and inotify handles."""

from __future__ import annotations

import errno
import os
import select
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support_handles import refs
from support_programs import recorded, run_program
from support_waiting import until

from safehandle_debug import (
    HandleClosedError,
    NullHandleError,
    SafeInotifyHandle,
    SafePipeHandle,
    SafePollHandle,
    SafeWaitHandle,
    _native,
)


@pytest.fixture(autouse=True)
def _nothing_is_left() -> Iterator[None]:
    """Every test closes what it opens."""
    live = _native.live_count()
    yield
    assert _native.live_count() == live


# --- epoll ---


def test_create() -> None:
    with SafePollHandle.create() as poll:
        assert not os.get_inheritable(poll.fileno())
        assert "eventpoll" in os.readlink(f"/proc/self/fd/{poll.fileno()}")
        assert poll.poll(0) == []


def test_events_of_what_is_registered() -> None:
    with SafePollHandle.create() as poll, SafeWaitHandle.event() as event:
        poll.register(event)
        assert poll.poll(0) == []
        event.set()
        assert poll.poll() == [(event.fileno(), select.EPOLLIN)]
        poll.modify(event, select.EPOLLOUT)
        assert poll.poll() == [(event.fileno(), select.EPOLLOUT)]
        poll.unregister(event)
        assert poll.poll(0) == []


def test_numbers_and_objects_are_registered_too() -> None:
    with SafePollHandle.create() as poll:
        one, two = socket.socketpair()
        with one, two:
            poll.register(one, select.EPOLLIN)
            poll.register(two.fileno(), select.EPOLLIN | select.EPOLLOUT)
            one.send(b"x")
            assert poll.poll() == [(two.fileno(), select.EPOLLIN | select.EPOLLOUT)]
            two.send(b"x")
            assert {fd for fd, _ in poll.poll()} == {one.fileno(), two.fileno()}


def test_at_most_so_many_events() -> None:
    with SafePollHandle.create() as poll:
        events = [SafeWaitHandle.event(1) for _ in range(5)]
        for event in events:
            poll.register(event)
        assert len(poll.poll(max_events=3)) == 3
        assert len(poll.poll(0)) == 5
        for event in events:
            event.close()


@pytest.mark.parametrize("most", [0, -1, 2**31 - 1])
def test_numbers_of_events_are_refused(most: int) -> None:
    with SafePollHandle.create() as poll, pytest.raises((ValueError, MemoryError)):
        poll.poll(0, max_events=most)


def test_a_closed_handle_is_not_registered() -> None:
    with SafePollHandle.create() as poll:
        event = SafeWaitHandle.event()
        event.close()
        with pytest.raises(HandleClosedError):
            poll.register(event)
        with pytest.raises(NullHandleError):
            poll.register(None)  # type: ignore[arg-type]
        with pytest.raises(TypeError):
            poll.register("1")  # type: ignore[arg-type]
        assert refs(poll) == 1


def test_registering_takes_no_lasting_reference() -> None:
    """Closing ends the registration, as it does for plain descriptors."""
    with SafePollHandle.create() as poll:
        event = SafeWaitHandle.event(1)
        poll.register(event)
        assert refs(event) == 1
        event.close()
        assert event.is_closed
        assert poll.poll(0) == []


def test_errors_are_the_kernels() -> None:
    with SafePollHandle.create() as poll, SafeWaitHandle.event() as event:
        poll.register(event)
        with pytest.raises(FileExistsError):
            poll.register(event)
        poll.unregister(event)
        with pytest.raises(FileNotFoundError):
            poll.unregister(event)
        with pytest.raises(OSError, match="Invalid") as caught:
            poll.register(poll)
        assert caught.value.errno == errno.EINVAL
        with pytest.raises(OSError, match="Bad file descriptor"):
            poll.register(10**6)
        assert (refs(poll), refs(event)) == (1, 1)


@pytest.mark.parametrize(
    "use",
    [
        lambda poll: poll.poll(0),
        lambda poll: poll.register(0),
        lambda poll: poll.modify(0, 1),
        lambda poll: poll.unregister(0),
        lambda poll: poll.fileno(),
    ],
)
def test_a_closed_poll_is_not_used(use: Callable[[SafePollHandle], object]) -> None:
    poll = SafePollHandle.create()
    poll.close()
    with pytest.raises(HandleClosedError):
        use(poll)


def test_closing_while_another_thread_polls() -> None:
    """The poll completes, then it closes."""
    poll = SafePollHandle.create()
    with SafeWaitHandle.event() as event:
        poll.register(event)
        results: list[list[tuple[int, int]]] = []
        waiting = threading.Thread(target=lambda: results.append(poll.poll(60)))
        waiting.start()
        until(lambda: refs(poll) == 2)
        poll.close()
        assert not poll.is_closed
        event.set()
        waiting.join(60)
        assert results == [[(event.fileno(), select.EPOLLIN)]]
        assert poll.is_closed


def test_a_signal_interrupts_a_poll(tmp_path: Path) -> None:
    result = run_program(
        """
        import signal
        from safehandle_debug import SafeInotifyHandle, SafePollHandle, _native

        class Stop(Exception):
            pass

        def stop(*_):
            raise Stop

        signal.signal(signal.SIGALRM, stop)
        for handle, wait in [
            (SafePollHandle.create(), SafePollHandle.poll),
            (SafeInotifyHandle.create(), SafeInotifyHandle.read_events),
        ]:
            signal.setitimer(signal.ITIMER_REAL, 0.02)
            try:
                wait(handle)
            except Stop:
                print("stopped")
            handle.close()
        assert _native.live_count() == 0
        """,
        tmp_path,
    ).ok()
    assert result.lines == ["stopped", "stopped"]


# --- inotify ---


def test_inotify(tmp_path: Path) -> None:
    with SafeInotifyHandle.create() as inotify:
        assert not os.get_inheritable(inotify.fileno())
        watch = inotify.add_watch(tmp_path, inotify.CREATE | inotify.CLOSE_WRITE)
        assert inotify.read_events(0) == []
        (tmp_path / "file").write_text("text")
        assert inotify.read_events(60) == [
            (watch, inotify.CREATE, 0, "file"),
            (watch, inotify.CLOSE_WRITE, 0, "file"),
        ]
        inotify.remove_watch(watch)
        assert inotify.read_events(60) == [(watch, inotify.IGNORED, 0, "")]


def test_a_rename_has_a_cookie(tmp_path: Path) -> None:
    (tmp_path / "old").touch()
    with SafeInotifyHandle.create() as inotify:
        watch = inotify.add_watch(str(tmp_path), inotify.MOVED_FROM | inotify.MOVED_TO)
        (tmp_path / "old").rename(tmp_path / "new")
        one, two = inotify.read_events(60)
        assert one == (watch, inotify.MOVED_FROM, one[2], "old")
        assert two == (watch, inotify.MOVED_TO, one[2], "new")
        assert one[2] != 0


def test_names_that_are_no_unicode(tmp_path: Path) -> None:
    name = os.fsdecode(b"\xff\xfe")
    with SafeInotifyHandle.create() as inotify:
        watch = inotify.add_watch(os.fsencode(tmp_path), inotify.CREATE)
        (tmp_path / name).touch()
        assert inotify.read_events(60) == [(watch, inotify.CREATE, 0, name)]


def test_many_events_are_all_read(tmp_path: Path) -> None:
    """More than one read holds: nothing is lost or cut."""
    with SafeInotifyHandle.create() as inotify:
        inotify.add_watch(tmp_path, inotify.CREATE)
        names = [f"{number:04}" + "n" * 200 for number in range(600)]
        for name in names:
            (tmp_path / name).touch()
        seen: list[str] = []
        while len(seen) < len(names):
            events = inotify.read_events(60)
            assert events
            seen += [name for _, _, _, name in events]
        assert seen == names


def test_watching_what_is_not_there(tmp_path: Path) -> None:
    with SafeInotifyHandle.create() as inotify:
        with pytest.raises(FileNotFoundError) as caught:
            inotify.add_watch(tmp_path / "missing", inotify.CREATE)
        assert caught.value.filename == tmp_path / "missing"
        with pytest.raises(OSError, match="Invalid"):
            inotify.add_watch(tmp_path, 0)
        for number in (77, -1, 2**40):
            with pytest.raises(OSError, match="Invalid"):
                inotify.remove_watch(number)
        for path in (None, 3, "nul\0in name"):
            with pytest.raises((TypeError, ValueError)):
                inotify.add_watch(path, 1)  # type: ignore[arg-type]
        assert refs(inotify) == 1


@pytest.mark.parametrize(
    "use",
    [
        lambda inotify: inotify.add_watch("/", 1),
        lambda inotify: inotify.remove_watch(1),
        lambda inotify: inotify.read_events(0),
        lambda inotify: inotify.fileno(),
    ],
)
def test_a_closed_inotify_is_not_used(use: Callable[[SafeInotifyHandle], object]) -> None:
    inotify = SafeInotifyHandle.create()
    inotify.close()
    with pytest.raises(HandleClosedError):
        use(inotify)


def test_reading_lets_other_threads_run(tmp_path: Path) -> None:
    with SafeInotifyHandle.create() as inotify:
        inotify.add_watch(tmp_path, inotify.CREATE)
        toucher = threading.Thread(target=(tmp_path / "file").touch)
        toucher.start()
        assert inotify.read_events(60)[0][3] == "file"
        toucher.join(60)


def test_reading_what_is_no_inotify_is_an_error() -> None:
    """A pipe adopted by mistake: its bytes are not taken for events."""
    reader, writer = SafePipeHandle.pair()
    with reader, writer, SafeInotifyHandle(reader.fileno(), owns_handle=False) as inotify:
        os.write(writer.fileno(), b"x" * 40)
        with pytest.raises(OSError, match="Invalid"):
            inotify.add_watch("/", inotify.CREATE)
        with pytest.raises(OSError, match="Invalid"):
            inotify.read_events(0)


# --- both ---


def test_recorded_as_what_they_are(tmp_path: Path) -> None:
    with recorded(tmp_path) as told:
        SafePollHandle.create().close()
        SafeInotifyHandle.create().close()
    assert [(h.kind, h.ending) for h in told[0].handles] == [
        ("poll", "closed"),
        ("inotify", "closed"),
    ]


def test_no_descriptor_left(tmp_path: Path) -> None:
    """Making one fails: the error is the kernel's, nothing is left."""
    result = run_program(
        """
        import errno, os, resource
        from safehandle_debug import SafeInotifyHandle, SafePollHandle, SafeProcessHandle
        from safehandle_debug import SafeWaitHandle, _native

        SafeProcessHandle.open(os.getpid()).close()
        used = max(map(int, os.listdir("/proc/self/fd")))
        resource.setrlimit(resource.RLIMIT_NOFILE, (used, used))
        fillers = []
        try:
            while True:
                fillers.append(os.dup(0))
        except OSError:
            pass
        for make in (
            SafePollHandle.create,
            SafeInotifyHandle.create,
            SafeWaitHandle.event,
            lambda: SafeWaitHandle.timer(1),
            lambda: SafeProcessHandle.open(os.getpid()),
            lambda: SafeProcessHandle.spawn(["true"]),
        ):
            try:
                make()
            except OSError as error:
                assert error.errno == errno.EMFILE, error
                print("refused")
        assert _native.live_count() == 0
        """,
        tmp_path,
        level=None,
    ).ok()
    assert result.lines == ["refused"] * 6
