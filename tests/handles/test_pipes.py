"""Named pipes, and pipes that live on a socket."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from support_handles import State, refs, state
from support_programs import Run, recorded, run_program

from safehandle_debug import (
    HandleClosedError,
    HandleNotSupportedError,
    NullHandleError,
    SafeFileHandle,
    SafePipeHandle,
    SafeSocketHandle,
    _native,
)

WAIT_S = 60


def descriptors() -> set[str]:
    return set(os.listdir("/proc/self/fd"))


def is_open(fd: int) -> bool:
    """Whether the number names anything."""
    return os.path.lexists(f"/proc/self/fd/{fd}")


# --- named pipes ---


@pytest.fixture
def fifo(tmp_path: Path) -> Path:
    path = tmp_path / "fifo"
    os.mkfifo(path)
    return path


def test_between_processes(fifo: Path) -> None:
    source = "import sys; open(sys.argv[1], 'wb').write(b'from afar')"
    with subprocess.Popen([sys.executable, "-c", source, str(fifo)]) as writer:
        with SafePipeHandle.fifo(fifo) as reader:
            assert not os.get_inheritable(reader.handle)
            with open(reader.fileno(), "rb", closefd=False) as stream:
                assert stream.read() == b"from afar"
        assert writer.wait(WAIT_S) == 0


def test_one_end_waits_for_the_other(fifo: Path) -> None:
    ends: list[SafePipeHandle] = []
    thread = threading.Thread(target=lambda: ends.append(SafePipeHandle.fifo(fifo, os.O_WRONLY)))
    thread.start()
    with SafePipeHandle.fifo(fifo) as reader:
        thread.join(WAIT_S)
        os.write(ends[0].fileno(), b"x")
        ends[0].close()
        assert os.read(reader.fileno(), 2) == b"x"
        assert os.read(reader.fileno(), 2) == b""


def test_nobody_at_the_other_end(fifo: Path) -> None:
    with pytest.raises(OSError, match="No such device or address") as error:
        SafePipeHandle.fifo(fifo, os.O_WRONLY | os.O_NONBLOCK)
    assert error.value.filename == str(fifo)
    SafePipeHandle.fifo(fifo, os.O_RDONLY | os.O_NONBLOCK).close()


def test_what_is_no_pipe(tmp_path: Path) -> None:
    """A file, a folder, nothing, a socket: nothing stays open."""
    (tmp_path / "file").touch()
    before, live, serial = descriptors(), _native.live_count(), _native.newest_serial()
    with pytest.raises(OSError, match="Invalid argument"):
        SafePipeHandle.fifo(tmp_path / "file")
    with pytest.raises(OSError, match="Invalid argument"):
        SafePipeHandle.fifo(tmp_path)
    with pytest.raises(FileNotFoundError):
        SafePipeHandle.fifo(tmp_path / "missing")
    for wrong in (None, 3, "nul\0inside"):
        with pytest.raises((TypeError, ValueError)):
            SafePipeHandle.fifo(wrong)  # type: ignore[arg-type]
    assert descriptors() == before
    assert (_native.live_count(), _native.newest_serial()) == (live, serial)


def test_waiting_can_be_interrupted(tmp_path: Path) -> None:
    run_program(
        """
        import os, signal
        from safehandle_debug import SafePipeHandle, _native

        class Stop(Exception):
            pass

        ticks = []

        def note(*_):
            ticks.append(1)
            if len(ticks) == 3:
                raise Stop

        os.mkfifo("fifo")
        before = len(os.listdir("/proc/self/fd"))
        signal.signal(signal.SIGALRM, note)
        signal.setitimer(signal.ITIMER_REAL, 0.02, 0.02)
        try:
            SafePipeHandle.fifo("fifo")
        except Stop:
            signal.setitimer(signal.ITIMER_REAL, 0)
        assert len(ticks) >= 3
        assert len(os.listdir("/proc/self/fd")) == before
        assert _native.live_count() == 0
        """,
        tmp_path / "program",
    ).ok()


def test_opening_a_named_pipe_raises_the_audit_event(fifo: Path) -> None:
    seen: list[object] = []
    active = True

    def hook(event: str, args: tuple[object, ...]) -> None:
        if active and event == "open":
            seen.append(args[0])

    sys.addaudithook(hook)
    SafePipeHandle.fifo(fifo, os.O_RDONLY | os.O_NONBLOCK).close()
    active = False
    assert seen == [fifo]


# --- a pipe on a socket ---


def test_the_pipe_keeps_the_socket_open() -> None:
    """Whichever is disposed first: the descriptor goes with the last."""
    one, other = SafeSocketHandle.pair()
    with other:
        pipe = SafePipeHandle.from_socket(one)
        assert pipe.handle == one.handle
        assert refs(one) == 2
        one.close()
        assert state(one) == State(1, True, False)
        os.write(pipe.fileno(), b"x")
        assert os.read(other.fileno(), 2) == b"x"
        pipe.close()
        assert one.is_closed
        assert not is_open(one.handle)
        assert os.read(other.fileno(), 2) == b""


def test_the_socket_outlives_the_pipe() -> None:
    one, other = SafeSocketHandle.pair()
    with one, other:
        with SafePipeHandle.from_socket(one) as pipe:
            pass
        assert pipe.is_closed
        assert refs(one) == 1
        os.write(one.fileno(), b"x")


def test_several_pipes_on_one_socket() -> None:
    one, other = SafeSocketHandle.pair()
    with other:
        pipes = [SafePipeHandle.from_socket(one) for _ in range(3)]
        one.close()
        for left in (3, 2, 1):
            assert refs(one) == left
            pipes.pop().close()
        assert one.is_closed


@pytest.mark.parametrize("cycle", [False, True], ids=["dropped", "collected"])
def test_both_abandoned(tmp_path: Path, cycle: bool) -> None:
    """The pipe goes first, then the socket; the number is closed once."""
    with recorded(tmp_path) as told:
        one, other = SafeSocketHandle.pair()
        fd = one.handle
        kept: list[object] = [SafePipeHandle.from_socket(one), one]
        del one
        if cycle:
            kept.append(kept)
        del kept
        gc.collect()
        assert not is_open(fd)
        other.close()
    socket_, _, pipe = told[0].handles
    for history in (socket_, pipe):
        assert {event.kind for event in history.events} <= {
            "acquire",
            "add-ref",
            "release",
            "dispose",
            "close",
        }
    closes = [
        (event.seq, history.kind)
        for history in (socket_, pipe)
        for event in history.events
        if event.kind == "close"
    ]
    assert [kind for _, kind in sorted(closes)] == ["pipe", "socket"]


def test_the_end_of_the_process_closes_both(run: Callable[..., Run]) -> None:
    """Swept by value, when no object can be asked any more: no failure, no finding
    of two owners."""
    result = run(
        """
        import builtins, os
        from safehandle_debug import SafePipeHandle, SafeSocketHandle
        one, builtins.other = SafeSocketHandle.pair()
        builtins.kept = [one, SafePipeHandle.from_socket(one)]
        os.write(builtins.kept[1].fileno(), b"x")
        """
    ).ok()
    assert result.err == ""
    for history in result.first().handles:
        assert history.ending in {"dropped", "collected", "swept"}
        assert not {"release-failed", "double-owner", "double-release"} & {
            event.kind for event in history.events
        }


def test_its_number_cannot_be_given_away() -> None:
    """It is the socket's."""
    one, other = SafeSocketHandle.pair()
    with one, other, SafePipeHandle.from_socket(one) as pipe:
        with pytest.raises(HandleNotSupportedError, match="it lives on another handle"):
            pipe.detach()
        assert not pipe.is_closed


def test_an_invalidated_pipe_lets_go_of_the_socket() -> None:
    one, other = SafeSocketHandle.pair()
    with other:
        pipe = SafePipeHandle.from_socket(one)
        one.close()
        pipe.set_handle_as_invalid()
        assert one.is_closed


def test_a_python_hook_on_the_pipe() -> None:
    """With or without a call of its base, the socket is let go of, after it."""
    for calls_base in (True, False):
        seen: list[bool] = []
        one, other = SafeSocketHandle.pair()

        class Noting(SafePipeHandle):
            def release_handle(
                self,
                seen: list[bool] = seen,
                one: SafeSocketHandle = one,
                calls_base: bool = calls_base,
            ) -> bool | None:
                seen.append(one.is_closed)
                return super().release_handle() if calls_base else True

        with other:
            pipe = Noting.from_socket(one)
            one.close()
            pipe.close()
            assert seen == [False]
            assert one.is_closed


def test_only_open_sockets_make_pipes() -> None:
    one, other = SafeSocketHandle.pair()
    one.close()
    other.close()
    live = _native.live_count()
    with pytest.raises(HandleClosedError):
        SafePipeHandle.from_socket(one)
    with pytest.raises(NullHandleError):
        SafePipeHandle.from_socket(None)  # type: ignore[arg-type]
    with SafeFileHandle.memfd("x") as file:
        for wrong in (file, 3, object()):
            with pytest.raises(TypeError, match="needs a SafeSocketHandle"):
                SafePipeHandle.from_socket(wrong)  # type: ignore[arg-type]
    assert _native.live_count() == live


def test_an_invalid_socket_makes_an_invalid_pipe() -> None:
    """It holds a reference all the same, and drops it."""
    socket = SafeSocketHandle()
    pipe = SafePipeHandle.from_socket(socket)
    assert pipe.is_invalid
    pipe.close()
    assert refs(socket) == 1
