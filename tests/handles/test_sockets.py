"""Sockets: made, paired, accepted; with the addresses of the socket module."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from support_handles import State, refs, state
from support_programs import recorded, run_program
from support_waiting import until

from safehandle_debug import (
    HandleClosedError,
    NullHandleError,
    SafeFileHandle,
    SafeSocketHandle,
    _native,
)

WAIT_S = 60


def as_socket(handle: SafeSocketHandle) -> socket.socket:
    """A socket object with a descriptor of its own."""
    return socket.socket(fileno=os.dup(handle.fileno()))


def listen(family: int, address: object) -> SafeSocketHandle:
    handle = SafeSocketHandle.create(family)
    with as_socket(handle) as sock:
        sock.bind(address)  # type: ignore[arg-type]
        sock.listen(4)
    return handle


@pytest.fixture
def listener() -> Iterator[SafeSocketHandle]:
    with listen(socket.AF_INET, ("127.0.0.1", 0)) as handle:
        yield handle


def connect(listener: SafeSocketHandle) -> socket.socket:
    with as_socket(listener) as sock:
        family, address = sock.family, sock.getsockname()
    client = socket.socket(family)
    client.connect(address)
    return client


@pytest.mark.parametrize(
    ("family", "kind"),
    [
        (socket.AF_INET, socket.SOCK_STREAM),
        (socket.AF_INET6, socket.SOCK_DGRAM),
        (socket.AF_UNIX, socket.SOCK_SEQPACKET),
        (socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK),
    ],
)
def test_creating(family: int, kind: int) -> None:
    with SafeSocketHandle.create(family, kind) as handle:
        assert not os.get_inheritable(handle.fileno())
        assert os.get_blocking(handle.fileno()) == (not kind & socket.SOCK_NONBLOCK)
        with as_socket(handle) as sock:
            assert sock.family == family
            assert sock.type == kind & ~socket.SOCK_NONBLOCK
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(handle.handle)


@pytest.mark.parametrize(
    "call",
    [
        lambda: SafeSocketHandle.create(9999),
        lambda: SafeSocketHandle.create(socket.AF_INET, socket.SOCK_STREAM, 12345),
        lambda: SafeSocketHandle.pair(socket.AF_INET),
        lambda: SafeSocketHandle.create("inet"),  # type: ignore[arg-type]
        lambda: SafeSocketHandle.pair(socket.AF_UNIX, 2**40),
    ],
)
def test_what_the_kernel_refuses(call: object) -> None:
    assert callable(call)
    live, count = _native.live_count(), len(os.listdir("/proc/self/fd"))
    with pytest.raises((OSError, TypeError, OverflowError)):
        call()
    assert (_native.live_count(), len(os.listdir("/proc/self/fd"))) == (live, count)


def test_pairs_talk() -> None:
    one, other = SafeSocketHandle.pair()
    with one, other:
        os.write(one.fileno(), b"to the other")
        assert os.read(other.fileno(), 100) == b"to the other"
        assert not os.get_inheritable(one.handle)
        assert not os.get_inheritable(other.handle)


def test_a_socket_object_takes_it_over() -> None:
    """detach() leaves one owner: the object."""
    one, other = SafeSocketHandle.pair()
    with socket.socket(fileno=one.detach()) as taken, other:
        taken.sendall(b"x")
        assert os.read(other.fileno(), 2) == b"x"
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(one.handle)


# --- accept ---


def test_accepting(listener: SafeSocketHandle, tmp_path: Path) -> None:
    with recorded(tmp_path) as told, connect(listener) as client:
        handle, address = SafeSocketHandle.accept(listener)
        with handle:
            assert address == client.getsockname()
            assert not os.get_inheritable(handle.handle)
            client.sendall(b"hello")
            assert os.read(handle.fileno(), 10) == b"hello"
        assert refs(listener) == 1
    accepted = told[0].of(handle.handle)
    assert accepted.kind == "socket"
    assert (accepted.detail or "").startswith("accepted by #")


@pytest.mark.parametrize(
    ("family", "address"),
    [
        (socket.AF_INET6, ("::1", 0)),
        (socket.AF_UNIX, "path"),
        (socket.AF_UNIX, b"\0abstract of the test"),
    ],
    ids=["inet6", "unix", "abstract"],
)
def test_addresses_are_the_socket_modules(
    family: int, address: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both accept the same client's second connection and say the same."""
    monkeypatch.chdir(tmp_path)
    try:
        listener = listen(family, address)
    except OSError as error:
        if family == socket.AF_INET6:
            pytest.skip(f"no IPv6 here: {error}")
        raise
    with listener, as_socket(listener) as twin:
        for bound in (
            (None, "client", b"\0client of the test") if family == socket.AF_UNIX else (None,)
        ):
            addresses = []
            for accept in (lambda: SafeSocketHandle.accept(listener), twin.accept):
                client = socket.socket(family)
                if bound is not None:
                    client.bind(bound)
                with client:
                    client.connect(twin.getsockname())
                    accepted, peer = accept()
                    accepted.close()
                    assert peer == client.getsockname()
                    addresses.append(peer)
                if isinstance(bound, str):
                    os.unlink(bound)
            if family == socket.AF_UNIX:
                assert addresses[0] == addresses[1]


def test_the_listener_cannot_go_while_somebody_waits(listener: SafeSocketHandle) -> None:
    """Closed meanwhile: the call gets its connection, then the listener closes."""
    accepted: list[tuple[SafeSocketHandle, object]] = []
    with as_socket(listener) as twin:
        thread = threading.Thread(
            target=lambda: accepted.append(SafeSocketHandle.accept(listener))
        )
        thread.start()
        until(lambda: refs(listener) == 2)
        listener.close()
        assert state(listener) == State(1, True, False)
        with socket.create_connection(twin.getsockname()) as client:
            thread.join(WAIT_S)
            handle, address = accepted[0]
            assert address == client.getsockname()
            handle.close()
    assert listener.is_closed


def test_nobody_there(listener: SafeSocketHandle) -> None:
    os.set_blocking(listener.fileno(), False)
    live = _native.live_count()
    with pytest.raises(BlockingIOError):
        SafeSocketHandle.accept(listener)
    assert _native.live_count() == live
    assert refs(listener) == 1


def test_only_listening_sockets_accept() -> None:
    one, other = SafeSocketHandle.pair()
    with other:
        with pytest.raises(OSError, match=r"Invalid argument|not supported"):
            SafeSocketHandle.accept(one)
        one.close()
        with pytest.raises(HandleClosedError):
            SafeSocketHandle.accept(one)
        with pytest.raises(NullHandleError):
            SafeSocketHandle.accept(None)  # type: ignore[arg-type]
        with SafeFileHandle.memfd("x") as file:
            for wrong in (file, 3, socket.socket):
                with pytest.raises(TypeError, match="needs a listening SafeSocketHandle"):
                    SafeSocketHandle.accept(wrong)  # type: ignore[arg-type]
        with pytest.raises(OSError, match="Bad file descriptor"):
            SafeSocketHandle.accept(SafeSocketHandle())


def test_subclasses_accept_themselves(listener: SafeSocketHandle) -> None:
    class Connection(SafeSocketHandle):
        pass

    with connect(listener):
        handle, _ = Connection.accept(listener)
        assert type(handle) is Connection
        handle.close()


def test_a_constructor_that_fails_leaves_the_connection(listener: SafeSocketHandle) -> None:
    """It fails before the kernel is asked: the next one gets the connection."""

    class Failing(SafeSocketHandle):
        def __init__(self) -> None:
            raise LookupError

    with connect(listener) as client:
        with pytest.raises(LookupError):
            Failing.accept(listener)
        handle, address = SafeSocketHandle.accept(listener)
        assert address == client.getsockname()
        handle.close()
    assert refs(listener) == 1


def test_waiting_can_be_interrupted(tmp_path: Path) -> None:
    run_program(
        """
        import os, signal, socket
        from safehandle_debug import SafeSocketHandle, _native

        class Stop(Exception):
            pass

        ticks = []

        def note(*_):
            ticks.append(1)
            if len(ticks) == 3:
                raise Stop

        listener = SafeSocketHandle.create(socket.AF_UNIX)
        with socket.socket(fileno=os.dup(listener.fileno())) as twin:
            twin.bind(b"\\0of this test")
            twin.listen()
        before = len(os.listdir("/proc/self/fd"))
        signal.signal(signal.SIGALRM, note)
        signal.setitimer(signal.ITIMER_REAL, 0.02, 0.02)
        try:
            SafeSocketHandle.accept(listener)
        except Stop:
            signal.setitimer(signal.ITIMER_REAL, 0)
        assert len(ticks) >= 3
        assert len(os.listdir("/proc/self/fd")) == before
        assert _native.live_count() == 1
        listener.close()
        assert listener.is_closed
        """,
        tmp_path / "program",
    ).ok()
