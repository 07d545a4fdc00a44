"""The concrete handles: acquired in one call, with what the os module promises."""

from __future__ import annotations

import errno
import os
import pathlib
import socket
import stat
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from support_handles import refs
from support_programs import Run, recorded

from safehandle_debug import HandleClosedError, SafeFileHandle, SafePipeHandle, _native


def is_open(fd: int) -> bool:
    """Whether the number names anything."""
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True


@pytest.mark.parametrize("form", [str, os.fsencode, pathlib.Path], ids=["str", "bytes", "path"])
def test_open_takes_any_path(tmp_path: Path, form: Callable[[str], object]) -> None:
    name = str(tmp_path / "file")
    with SafeFileHandle.open(form(name), os.O_WRONLY | os.O_CREAT, 0o640) as handle:  # type: ignore[arg-type]
        assert type(handle) is SafeFileHandle
        assert os.write(handle.fileno(), b"text") == 4
        assert not handle.is_invalid
        assert not os.get_inheritable(handle.handle)
    assert Path(name).read_bytes() == b"text"
    assert not is_open(handle.handle)


def test_open_takes_names_that_are_no_unicode(tmp_path: Path) -> None:
    name = os.fsdecode(os.fsencode(tmp_path) + b"/\xff\xfe")
    with recorded(tmp_path) as told:
        SafeFileHandle.open(name, os.O_WRONLY | os.O_CREAT).close()
    assert Path(name).exists()
    (history,) = told[0].handles
    assert history.detail is not None
    assert history.detail.startswith(str(tmp_path))


def test_open_reads_by_default(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"text")
    with SafeFileHandle.open(tmp_path / "file") as handle:
        assert os.read(handle.fileno(), 10) == b"text"


def test_open_obeys_mode_and_umask(tmp_path: Path) -> None:
    previous = os.umask(0o027)
    try:
        SafeFileHandle.open(tmp_path / "one", os.O_WRONLY | os.O_CREAT).close()
        SafeFileHandle.open(tmp_path / "two", os.O_WRONLY | os.O_CREAT, 0o777).close()
        SafeFileHandle.open(tmp_path / "three", os.O_WRONLY | os.O_CREAT, mode=0o600).close()
    finally:
        os.umask(previous)
    modes = [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("one", "two", "three")]
    assert modes == [0o640, 0o750, 0o600]


def test_open_below_a_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"text")
    with SafeFileHandle.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY) as folder:
        with SafeFileHandle.open("file", os.O_RDONLY, dir_fd=folder.fileno()) as handle:
            assert os.read(handle.fileno(), 10) == b"text"
        with pytest.raises(FileNotFoundError):
            SafeFileHandle.open("missing", os.O_RDONLY, dir_fd=folder.fileno())


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (("/missing/file", os.O_RDONLY), FileNotFoundError),
        (("/", os.O_WRONLY), IsADirectoryError),
        (("/dev/null/x", os.O_RDONLY), NotADirectoryError),
    ],
)
def test_open_fails_as_os_open_does(arguments: tuple[str, int], error: type[OSError]) -> None:
    """The same exception with the same attributes, no handle, no descriptor."""
    with pytest.raises(error) as expected:
        os.open(*arguments)
    live, serial = _native.live_count(), _native.newest_serial()
    count = len(os.listdir("/proc/self/fd"))
    with pytest.raises(error) as caught:
        SafeFileHandle.open(*arguments)
    assert caught.value.errno == expected.value.errno
    assert caught.value.filename == expected.value.filename
    assert str(caught.value) == str(expected.value)
    assert len(os.listdir("/proc/self/fd")) == count
    assert (_native.live_count(), _native.newest_serial()) == (live, serial)


@pytest.mark.parametrize(
    "arguments",
    [
        (None, os.O_RDONLY),
        (3, os.O_RDONLY),
        ("file", "r"),
        ("file", os.O_RDONLY, "rw"),
        (),
        ("nul\0in name", os.O_RDONLY),
        ("file", 2**70),
    ],
)
def test_open_refuses_what_is_no_path(arguments: tuple[object, ...]) -> None:
    """TypeError, ValueError or OverflowError; never a descriptor."""
    count = len(os.listdir("/proc/self/fd"))
    live = _native.live_count()
    with pytest.raises((TypeError, ValueError, OverflowError)):
        SafeFileHandle.open(*arguments)  # type: ignore[arg-type]
    assert len(os.listdir("/proc/self/fd")) == count
    assert _native.live_count() == live


def test_open_raises_the_audit_event() -> None:
    """What watches os.open sees our opens as well."""
    seen: list[tuple[object, ...]] = []
    active = True

    def hook(event: str, args: tuple[object, ...]) -> None:
        if active and event == "open":
            seen.append(args)

    sys.addaudithook(hook)
    SafeFileHandle.open("/dev/null", os.O_RDONLY).close()
    active = False
    assert seen[0][0] == "/dev/null"


def test_open_waits_through_signals(run: Callable[..., Run]) -> None:
    """A handler that returns does not end a blocking open; one that raises does."""
    result = run(
        """
        import os, signal, threading
        from safehandle_debug import SafeFileHandle, _native

        os.mkfifo("fifo")
        ticks = []

        def note(*_):
            ticks.append(1)
            if len(ticks) == 5:
                writer = threading.Thread(target=lambda: os.close(os.open("fifo", os.O_WRONLY)))
                writer.start()

        signal.signal(signal.SIGALRM, note)
        signal.setitimer(signal.ITIMER_REAL, 0.02, 0.02)
        with SafeFileHandle.open("fifo", os.O_RDONLY) as handle:
            assert os.read(handle.fileno(), 1) == b""
        assert len(ticks) >= 5

        class Stop(Exception):
            pass

        def stop(*_):
            raise Stop

        signal.signal(signal.SIGALRM, stop)
        signal.setitimer(signal.ITIMER_REAL, 0.02)
        before = len(os.listdir("/proc/self/fd"))
        try:
            SafeFileHandle.open("fifo", os.O_RDONLY)
        except Stop:
            print("stopped")
        assert len(os.listdir("/proc/self/fd")) == before
        assert _native.live_count() == 0
        """
    ).ok()
    assert result.lines == ["stopped"]


def test_open_lets_other_threads_run(tmp_path: Path) -> None:
    """The interpreter is not blocked while the kernel is."""
    os.mkfifo(tmp_path / "fifo")
    opened: list[SafeFileHandle] = []
    reader = threading.Thread(
        target=lambda: opened.append(SafeFileHandle.open(tmp_path / "fifo", os.O_RDONLY))
    )
    reader.start()
    with SafeFileHandle.open(tmp_path / "fifo", os.O_WRONLY) as writer:
        reader.join(60)
        assert os.write(writer.fileno(), b"x") == 1
    assert os.read(opened[0].fileno(), 10) == b"x"
    opened[0].close()


def test_memfd() -> None:
    with SafeFileHandle.memfd("name") as handle:
        os.write(handle.fileno(), b"text")
        assert os.pread(handle.fileno(), 10, 0) == b"text"
        assert "memfd:name" in os.readlink(f"/proc/self/fd/{handle.handle}")
        assert not os.get_inheritable(handle.handle)


def test_duplicates_are_handles_of_their_own() -> None:
    handle = SafeFileHandle.memfd("name")
    twin = handle.duplicate()
    assert type(twin) is SafeFileHandle
    assert twin.handle != handle.handle
    assert not os.get_inheritable(twin.handle)
    os.write(handle.fileno(), b"text")
    handle.close()
    assert os.pread(twin.fileno(), 10, 0) == b"text"
    twin.close()


def test_a_closed_handle_has_no_duplicate() -> None:
    handle = SafeFileHandle.memfd("name")
    handle.close()
    with pytest.raises(HandleClosedError):
        handle.duplicate()
    with pytest.raises(HandleClosedError):
        handle.fileno()


def test_an_invalid_handle_has_no_descriptor() -> None:
    """No -1 is handed to the kernel."""
    handle = SafeFileHandle()
    with pytest.raises((ValueError, OSError, RuntimeError)):
        handle.duplicate()


def test_pairs() -> None:
    reader, writer = SafePipeHandle.pair()
    with reader, writer:
        assert type(reader) is type(writer) is SafePipeHandle
        assert os.write(writer.fileno(), b"text") == 4
        assert os.read(reader.fileno(), 10) == b"text"
        assert not os.get_inheritable(reader.handle)
        assert not os.get_inheritable(writer.handle)
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(reader.handle)


def test_pairs_take_flags() -> None:
    reader, writer = SafePipeHandle.pair(os.O_NONBLOCK | os.O_CLOEXEC)
    with reader, writer, pytest.raises(BlockingIOError):
        os.read(reader.fileno(), 1)


def test_one_end_closed_is_seen_at_the_other() -> None:
    reader, writer = SafePipeHandle.pair()
    writer.close()
    assert os.read(reader.fileno(), 1) == b""
    reader.close()
    reader, writer = SafePipeHandle.pair()
    reader.close()
    with pytest.raises(BrokenPipeError):
        os.write(writer.fileno(), b"x")
    writer.close()


def test_subclasses_acquire_themselves() -> None:
    """Class methods give the class that was asked, through its constructor."""

    class Named(SafeFileHandle):
        def __init__(self, value: int = -1, owns_handle: bool = True) -> None:
            super().__init__(value, owns_handle)
            self.name = "named"

    class Ends(SafePipeHandle):
        pass

    with Named.open("/dev/null", os.O_RDONLY) as handle, Named.memfd("x") as other:
        assert type(handle) is type(other) is Named
        assert handle.name == other.name == "named"
        with handle.duplicate() as twin:
            assert type(twin) is Named
    reader, writer = Ends.pair()
    with reader, writer:
        assert type(reader) is type(writer) is Ends


def test_a_constructor_that_fails_runs_before_the_kernel(tmp_path: Path) -> None:
    """Nothing is created for an object that cannot be."""

    class Failing(SafeFileHandle):
        def __init__(self) -> None:
            raise LookupError("constructor failed")

    class Strange(SafeFileHandle):
        def __init__(self, needed: object) -> None:
            super().__init__()

    count = len(os.listdir("/proc/self/fd"))
    with pytest.raises(LookupError):
        Failing.open(tmp_path / "one", os.O_WRONLY | os.O_CREAT)
    with pytest.raises(TypeError):
        Strange.open(tmp_path / "two", os.O_WRONLY | os.O_CREAT)
    assert list(tmp_path.iterdir()) == []
    assert len(os.listdir("/proc/self/fd")) == count


def test_a_native_type_with_a_python_hook() -> None:
    """An override runs in place of the native release, and can call it."""
    calls: list[int] = []

    class Noting(SafeFileHandle):
        def release_handle(self) -> bool | None:
            calls.append(self.handle)
            return super().release_handle()

    with Noting.open("/dev/null", os.O_RDONLY) as handle:
        fd = handle.handle
    assert calls == [fd]
    assert not is_open(fd)
    fd = Noting.open("/dev/null", os.O_RDONLY).handle
    assert calls == [fd, fd]
    assert not is_open(fd)


def test_adopted_values_are_owned() -> None:
    fd = os.open("/dev/null", os.O_RDONLY)
    handle = SafeFileHandle(fd)
    assert handle.fileno() == fd
    assert refs(handle) == 1
    handle.close()
    assert not is_open(fd)
    fd = os.open("/dev/null", os.O_RDONLY)
    SafeFileHandle(fd, owns_handle=False).close()
    assert is_open(fd)
    os.close(fd)


def test_a_socket_adopted_as_pipe() -> None:
    """Any descriptor can be adopted; detach() is the other half."""
    one, other = socket.socketpair()
    with other, SafePipeHandle(one.detach()) as handle:
        os.write(handle.fileno(), b"x")
        assert other.recv(1) == b"x"


@pytest.mark.parametrize("value", ["3", 3.0, None, 2**64, -(2**63) - 1])
def test_what_is_no_value(value: object) -> None:
    with pytest.raises((TypeError, OverflowError)):
        SafeFileHandle(value)  # type: ignore[arg-type]
    with pytest.raises((TypeError, OverflowError)):
        SafeFileHandle().set_handle(value)  # type: ignore[arg-type]


def test_values_are_indexes() -> None:
    class Index:
        def __index__(self) -> int:
            return 2

    assert SafeFileHandle(Index(), owns_handle=False).handle == 2


def test_detach_gives_the_number_away(tmp_path: Path) -> None:
    with recorded(tmp_path) as told:
        handle = SafeFileHandle.memfd("name")
        fd = handle.detach()
        assert fd == handle.handle
        assert handle.is_closed
        handle.close()
        with pytest.raises(HandleClosedError):
            handle.detach()
        del handle
        assert is_open(fd)
        os.close(fd)
    (history,) = told[0].handles
    assert history.ending == "transferred"


def test_detach_waits_for_nobody() -> None:
    """While others hold references the number is not given away."""
    handle = SafeFileHandle.memfd("name")
    with handle.hold() as fd:
        with pytest.raises(RuntimeError):
            handle.detach()
        assert not handle.is_closed
        os.fstat(fd)
    os.close(handle.detach())


def test_a_number_closed_behind_the_handle(tmp_path: Path) -> None:
    """EBADF is an event, not an error; and never a second close."""
    with recorded(tmp_path) as told:
        handle = SafeFileHandle.memfd("name")
        os.close(handle.handle)
        handle.close()
        handle.close()
    (history,) = told[0].handles
    (failed,) = [event for event in history.events if event.kind == "release-failed"]
    assert failed.value == errno.EBADF


def test_two_owners_of_one_number(tmp_path: Path) -> None:
    """Told where the second one was made, with the serial of the first."""
    with recorded(tmp_path) as told:
        one = SafeFileHandle.memfd("name")
        other = SafePipeHandle(one.handle)
        other.detach()
        one.close()
    first, second = told[0].handles
    (event,) = [event for event in second.events if event.kind == "double-owner"]
    assert event.value == first.serial
    assert event.stack[0].function == "test_two_owners_of_one_number"


def test_representation_says_what_it_is() -> None:
    handle = SafeFileHandle.memfd("name")
    text = repr(handle)
    assert "SafeFileHandle" in text
    assert str(handle.handle) in text
    assert "open" in text
    handle.close()
    assert "closed" in repr(handle)
