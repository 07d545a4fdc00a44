"""Mapped files and views of them: memfd, shared memory, files on disk."""

from __future__ import annotations

import errno
import mmap
import os
import re
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support_handles import refs
from support_programs import Run, recorded, run_program

from safehandle_debug import (
    HandleClosedError,
    HandleStateError,
    NullHandleError,
    SafeFileHandle,
    SafeHandleMinusOneIsInvalid,
    SafeMemoryMappedFileHandle,
    SafeMemoryMappedViewHandle,
    SafePipeHandle,
    _native,
)

PAGE = mmap.PAGESIZE


def mapped(address: int) -> tuple[int, int, str] | None:
    """(start, end, permissions) of the mapping that an address lies in."""
    for line in Path("/proc/self/maps").read_text().splitlines():
        start, end, permissions = re.match(r"(\w+)-(\w+) (\S+)", line).groups()  # type: ignore[union-attr]
        if int(start, 16) <= address < int(end, 16):
            return int(start, 16), int(end, 16), permissions
    return None


def descriptors() -> list[str]:
    return os.listdir("/proc/self/fd")


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., Run]:
    """Runs a program of its own."""
    return lambda source, **options: run_program(source, tmp_path / "program", **options)


@pytest.fixture
def shm_name() -> Iterator[str]:
    """A name of shared memory that nobody else has; gone after the test."""
    name = f"safehandle-test-{uuid.uuid4().hex}"
    yield name
    Path("/dev/shm", name).unlink(missing_ok=True)


@pytest.fixture
def content() -> bytes:
    """Three pages and a bit that are different everywhere."""
    return os.urandom(3 * PAGE + 123)


@pytest.fixture
def path(tmp_path: Path, content: bytes) -> Path:
    (tmp_path / "file").write_bytes(content)
    return tmp_path / "file"


@pytest.fixture
def file(path: Path) -> Iterator[SafeMemoryMappedFileHandle]:
    with SafeMemoryMappedFileHandle.open(path) as handle:
        yield handle


# --- mapped files ---


def test_create() -> None:
    with SafeMemoryMappedFileHandle.create(5000, "name") as handle:
        assert type(handle) is SafeMemoryMappedFileHandle
        assert os.fstat(handle.fileno()).st_size == 5000
        assert "memfd:name" in os.readlink(f"/proc/self/fd/{handle.handle}")
        assert not os.get_inheritable(handle.handle)
        assert handle.handle_space == "fd"


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ((0,), ValueError),
        ((-1,), ValueError),
        ((2**63,), OverflowError),
        (("5",), TypeError),
        ((5, 5), TypeError),
        ((5, "x" * 300), OSError),
        ((5, "nul\0"), ValueError),
        ((), TypeError),
    ],
)
def test_create_fails_cleanly(arguments: tuple[object, ...], error: type[Exception]) -> None:
    live, serial, count = _native.live_count(), _native.newest_serial(), len(descriptors())
    with pytest.raises(error):
        SafeMemoryMappedFileHandle.create(*arguments)  # type: ignore[arg-type]
    assert (_native.live_count(), _native.newest_serial()) == (live, serial)
    assert len(descriptors()) == count


def test_open_grows_the_file(tmp_path: Path) -> None:
    path = tmp_path / "new"
    flags = os.O_RDWR | os.O_CREAT
    with SafeMemoryMappedFileHandle.open(path, flags, 0o600, size=5000):
        assert path.stat().st_size == 5000
    with SafeMemoryMappedFileHandle.open(path, size=10):
        assert path.stat().st_size == 5000
    with (
        SafeFileHandle.open(tmp_path, os.O_RDONLY) as folder,
        SafeMemoryMappedFileHandle.open(b"new", dir_fd=folder.fileno(), size=6000),
    ):
        assert path.stat().st_size == 6000


def test_open_refuses_what_cannot_be_mapped(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    live, count = _native.live_count(), len(descriptors())
    for name, flags, number in [
        ("missing", os.O_RDWR, errno.ENOENT),
        ("fifo", os.O_RDWR, errno.ENODEV),
        (".", os.O_RDONLY, errno.EISDIR),
        (".", os.O_RDWR, errno.EISDIR),
    ]:
        with pytest.raises(OSError, match=re.escape(os.strerror(number))) as caught:
            SafeMemoryMappedFileHandle.open(tmp_path / name, flags)
        assert caught.value.errno == number
        assert caught.value.filename == str(tmp_path / name)
    assert (_native.live_count(), len(descriptors())) == (live, count)


def test_growing_what_is_read_only_fails(path: Path, content: bytes) -> None:
    count = len(descriptors())
    with pytest.raises(OSError, match=str(path)):
        SafeMemoryMappedFileHandle.open(path, os.O_RDONLY, size=1 << 20)
    assert path.stat().st_size == len(content)
    assert len(descriptors()) == count


def test_a_device_is_mapped() -> None:
    with (
        SafeMemoryMappedFileHandle.open("/dev/zero") as zero,
        SafeMemoryMappedViewHandle.map(zero, 100, mmap.ACCESS_COPY) as view,
    ):
        assert view.read_bytes(0, 100) == bytes(100)
        with pytest.raises(ValueError, match="size is needed"):
            SafeMemoryMappedViewHandle.map(zero)


# --- shared memory ---


def test_shared_memory_is_shared(shm_name: str) -> None:
    with (
        SafeMemoryMappedFileHandle.shm(shm_name, 100) as made,
        SafeMemoryMappedFileHandle.shm("/" + shm_name) as opened,
        SafeMemoryMappedViewHandle.map(made) as one,
        SafeMemoryMappedViewHandle.map(opened) as other,
    ):
        one.write(50, "I", 7)
        assert other.read(50, "I") == 7
        assert other.byte_length == 100
        assert Path("/dev/shm", shm_name).stat().st_mode & 0o777 == 0o600


def test_the_maker_removes_the_name(shm_name: str) -> None:
    place = Path("/dev/shm", shm_name)
    made = SafeMemoryMappedFileHandle.shm(shm_name, 100)
    opened = SafeMemoryMappedFileHandle.shm(shm_name)
    opened.close()
    assert place.exists()
    opened = SafeMemoryMappedFileHandle.shm(shm_name)
    made.close()
    assert not place.exists()
    assert os.fstat(opened.fileno()).st_size == 100
    opened.close()


def test_a_name_that_is_gone_is_no_error(shm_name: str, tmp_path: Path) -> None:
    with recorded(tmp_path) as told:
        made = SafeMemoryMappedFileHandle.shm(shm_name, 100)
        SafeMemoryMappedFileHandle.shm_unlink(shm_name)
        made.close()
    (history,) = told[0].handles
    assert [event.kind for event in history.events] == ["acquire", "close"]
    assert history.detail == f"/{shm_name}"
    with pytest.raises(FileNotFoundError):
        SafeMemoryMappedFileHandle.shm_unlink(shm_name)


def test_names_that_stay(shm_name: str) -> None:
    """unlink=False; and a detached descriptor takes nothing with it."""
    place = Path("/dev/shm", shm_name)
    SafeMemoryMappedFileHandle.shm(shm_name, 100, mode=0o640, unlink=False).close()
    assert place.stat().st_mode & 0o777 == 0o640 & ~_umask()
    SafeMemoryMappedFileHandle.shm_unlink("/" + shm_name)
    os.close(SafeMemoryMappedFileHandle.shm(shm_name, 100).detach())
    assert place.exists()


def _umask() -> int:
    previous = os.umask(0)
    os.umask(previous)
    return previous


def test_shared_memory_that_is_refused(shm_name: str) -> None:
    live, serial, count = _native.live_count(), _native.newest_serial(), len(descriptors())
    with pytest.raises(FileNotFoundError) as caught:
        SafeMemoryMappedFileHandle.shm(shm_name)
    assert caught.value.filename == f"/{shm_name}"
    for wrong in ("", "a/b", "nul\0", "x" * 300):
        with pytest.raises((OSError, ValueError)):
            SafeMemoryMappedFileHandle.shm(wrong, 100)
    for none in (None, b"name", 5):
        with pytest.raises(TypeError):
            SafeMemoryMappedFileHandle.shm(none, 100)  # type: ignore[arg-type]
        with pytest.raises(TypeError):
            SafeMemoryMappedFileHandle.shm_unlink(none)  # type: ignore[arg-type]
    assert (_native.live_count(), _native.newest_serial()) == (live, serial)
    assert len(descriptors()) == count


def test_sizes_that_are_refused(run: Callable[..., Run], shm_name: str) -> None:
    """What was made before the size was refused does not stay."""
    result = run(
        f"""
        import errno, os, resource
        from safehandle_debug import SafeMemoryMappedFileHandle, _native

        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))
        descriptors = os.listdir("/proc/self/fd")
        for use in (
            lambda: SafeMemoryMappedFileHandle.create(1 << 21),
            lambda: SafeMemoryMappedFileHandle.shm({shm_name!r}, 1 << 21),
            lambda: SafeMemoryMappedFileHandle.shm({shm_name!r}, 1 << 21, unlink=False),
            lambda: SafeMemoryMappedFileHandle.open("new", os.O_RDWR | os.O_CREAT, size=1 << 21),
        ):
            try:
                use()
            except OSError as error:
                print(errno.errorcode[error.errno], error.filename)
        assert os.listdir("/proc/self/fd") == descriptors
        assert not os.path.exists("/dev/shm/{shm_name}")
        print(_native.live_count(), _native.newest_serial())
        """,
        level=None,
    ).ok()
    assert result.lines == [
        "EFBIG memfd:mapping",
        f"EFBIG /{shm_name}",
        f"EFBIG /{shm_name}",
        "EFBIG new",
        "0 0",
    ]


def test_a_taken_name_stays_its_makers(shm_name: str) -> None:
    with SafeMemoryMappedFileHandle.shm(shm_name, 100):
        with pytest.raises(FileExistsError):
            SafeMemoryMappedFileHandle.shm(shm_name, 100)
        assert Path("/dev/shm", shm_name).exists()


ENDS = {
    "with-block": "with shm(name, 100): pass",
    "dropped": "shm(name, 100)",
    "collected": "a = [shm(name, 100)]; a.append(a); del a; gc.collect()",
    "kept": "kept = shm(name, 100)",
    "kept by C": "ctypes.pythonapi.Py_IncRef(ctypes.py_object(shm(name, 100)))",
    "error": "kept = shm(name, 100); raise SystemExit(0)",
}


@pytest.mark.parametrize("how", ENDS)
def test_the_name_goes_whatever_the_ending(
    run: Callable[..., Run], shm_name: str, how: str
) -> None:
    """Also when the interpreter is gone and only the live table knows the name."""
    run(
        f"""
        import ctypes, gc, os
        from safehandle_debug import SafeMemoryMappedFileHandle
        shm, name = SafeMemoryMappedFileHandle.shm, {shm_name!r}
        {ENDS[how]}
        """
    ).ok()
    assert not Path("/dev/shm", shm_name).exists()


def test_a_child_leaves_the_name_alone(run: Callable[..., Run], shm_name: str) -> None:
    """It has a copy of the handle, not of the name."""
    result = run(
        f"""
        import os
        from safehandle_debug import SafeMemoryMappedFileHandle
        place = "/dev/shm/{shm_name}"
        for end in ("close", "exit"):
            handle = SafeMemoryMappedFileHandle.shm("{shm_name}", 100)
            pid = os.fork()
            if pid == 0:
                if end == "close":
                    handle.close()
                raise SystemExit
            os.waitpid(pid, 0)
            print(os.path.exists(place), flush=True)
            handle.close()
            print(os.path.exists(place), flush=True)
        """
    ).ok()
    assert result.lines == ["True", "False"] * 2


def test_shared_memory_of_two_processes(run: Callable[..., Run], shm_name: str) -> None:
    with (
        SafeMemoryMappedFileHandle.shm(shm_name, PAGE) as file,
        SafeMemoryMappedViewHandle.map(file) as view,
    ):
        run(
            f"""
            from safehandle_debug import SafeMemoryMappedFileHandle, SafeMemoryMappedViewHandle
            with SafeMemoryMappedFileHandle.shm({shm_name!r}) as file:
                with SafeMemoryMappedViewHandle.map(file) as view:
                    view.write_bytes(10, b"from another process")
            """
        ).ok()
        assert view.read_bytes(10, 20) == b"from another process"


# --- views ---


@pytest.mark.parametrize("offset", [0, 1, 100, PAGE - 1, PAGE, PAGE + 1, 2 * PAGE + 77])
@pytest.mark.parametrize("size", [1, 7, PAGE, 0])
def test_any_offset(
    file: SafeMemoryMappedFileHandle, content: bytes, offset: int, size: int
) -> None:
    """The value is the address of the byte that was asked for."""
    with SafeMemoryMappedViewHandle.map(file, size, "r", offset) as view:
        assert view.byte_length == (size or len(content) - offset)
        assert view.handle % PAGE == offset % PAGE
        expected = content[offset : offset + view.byte_length]
        assert view.read_bytes(0, view.byte_length) == expected == bytes(memoryview(view))
        address = view.handle
    assert view.is_closed
    assert mapped(address) is None


@pytest.mark.parametrize(
    ("access", "permissions"),
    [
        (mmap.ACCESS_READ, "r--s"),
        (mmap.ACCESS_WRITE, "rw-s"),
        (mmap.ACCESS_COPY, "rw-p"),
        ("r", "r--s"),
        ("rw", "rw-s"),
        ("c", "rw-p"),
    ],
)
def test_access(
    file: SafeMemoryMappedFileHandle, content: bytes, access: int | str, permissions: str
) -> None:
    with SafeMemoryMappedViewHandle.map(file, 100, access) as view:
        found = mapped(view.handle)
        assert found is not None
        assert found[2] == permissions
        assert view.readonly == ("w" not in permissions)
        if not view.readonly:
            view.write_bytes(0, b"changed")
        view.flush()
        expected = b"changed" if permissions == "rw-s" else content[:7]
        assert os.pread(file.fileno(), 7, 0) == expected


def test_a_view_reads_and_writes_by_default(file: SafeMemoryMappedFileHandle) -> None:
    with SafeMemoryMappedViewHandle.map(file) as view:
        assert not view.readonly
        memoryview(view)[:7] = b"changed"
        view.flush()
        assert os.pread(file.fileno(), 7, 0) == b"changed"


def test_writing_needs_a_writable_file(path: Path) -> None:
    live = _native.live_count()
    with SafeMemoryMappedFileHandle.open(path, os.O_RDONLY) as file:
        with pytest.raises(PermissionError):
            SafeMemoryMappedViewHandle.map(file, 10, mmap.ACCESS_WRITE)
        with SafeMemoryMappedViewHandle.map(file, 10, mmap.ACCESS_COPY) as view:
            view.write(0, "B", 1)
        assert refs(file) == 1
    assert _native.live_count() == live


def test_extents_that_the_file_does_not_have(
    file: SafeMemoryMappedFileHandle, content: bytes, tmp_path: Path
) -> None:
    live, serial = _native.live_count(), _native.newest_serial()
    for size, offset in [
        (len(content) + 1, 0),
        (1, len(content)),
        (0, len(content)),
        (0, 2**62),
        (2**63 - 1, 1),
        (2**63 - 1, 2**63 - 1),
    ]:
        with pytest.raises(ValueError, match=rf"the file has {len(content)}$"):
            SafeMemoryMappedViewHandle.map(file, size, "r", offset)
    for size, offset in [(-1, 0), (1, -1)]:
        with pytest.raises(ValueError, match="negative"):
            SafeMemoryMappedViewHandle.map(file, size, "r", offset)
    for size, offset in [(2**63, 0), (1, 2**63)]:
        with pytest.raises(OverflowError):
            SafeMemoryMappedViewHandle.map(file, size, "r", offset)
    assert (_native.live_count(), _native.newest_serial()) == (live, serial)
    assert refs(file) == 1
    with (
        SafeMemoryMappedFileHandle.open(tmp_path / "e", os.O_RDWR | os.O_CREAT) as empty,
        pytest.raises(ValueError, match="the file has 0"),
    ):
        SafeMemoryMappedViewHandle.map(empty)


@pytest.mark.parametrize("access", [0, 4, -1, "w", "", "rwx", "R"])
def test_access_that_is_none(file: SafeMemoryMappedFileHandle, access: int | str) -> None:
    with pytest.raises(ValueError, match="access must be"):
        SafeMemoryMappedViewHandle.map(file, 10, access)


def test_what_can_be_mapped(path: Path) -> None:
    """Any handle of a descriptor; nothing else."""

    class Other(SafeHandleMinusOneIsInvalid):
        def release_handle(self) -> bool:
            return True

    with (
        SafeFileHandle.open(path, os.O_RDWR) as file,
        SafeMemoryMappedViewHandle.map(file, 10) as view,
    ):
        with pytest.raises(TypeError, match="handle of a descriptor"):
            SafeMemoryMappedViewHandle.map(view, 10)
        with pytest.raises(TypeError, match="handle of a descriptor"):
            SafeMemoryMappedViewHandle.map(file.fileno(), 10)  # type: ignore[arg-type]
    with Other() as other, pytest.raises(TypeError, match="handle of a descriptor"):
        SafeMemoryMappedViewHandle.map(other, 10)
    with pytest.raises(NullHandleError, match="None"):
        SafeMemoryMappedViewHandle.map(None, 10)  # type: ignore[arg-type]
    with pytest.raises(HandleClosedError):
        SafeMemoryMappedViewHandle.map(file, 10)
    with pytest.raises(OSError, match="Bad file descriptor"):
        SafeMemoryMappedViewHandle.map(SafeMemoryMappedFileHandle(), 10)
    reader, writer = SafePipeHandle.pair()
    with reader, writer, pytest.raises(OSError, match="No such device") as caught:
        SafeMemoryMappedViewHandle.map(reader, 10, "r")
    assert caught.value.errno == errno.ENODEV


def test_a_view_needs_no_descriptor(file: SafeMemoryMappedFileHandle, content: bytes) -> None:
    before = len(descriptors())
    view = SafeMemoryMappedViewHandle.map(file, 100)
    assert len(descriptors()) == before
    assert refs(file) == 1
    file.close()
    assert file.is_closed
    assert view.read_bytes(0, 100) == content[:100]
    view.flush()
    view.close()


def test_an_export_defers_the_unmap(file: SafeMemoryMappedFileHandle, content: bytes) -> None:
    view = SafeMemoryMappedViewHandle.map(file, PAGE)
    address = view.handle
    with memoryview(view) as export:
        view.close()
        assert mapped(address) is not None
        assert export[:5] == content[:5]
    assert mapped(address) is None


def test_a_dropped_view_is_unmapped(file: SafeMemoryMappedFileHandle, tmp_path: Path) -> None:
    with recorded(tmp_path) as told:
        address = SafeMemoryMappedViewHandle.map(file, PAGE).handle
    assert mapped(address) is None
    (history,) = told[0].handles
    assert (history.kind, history.space, history.ending) == ("mapped-view", "memory", "dropped")
    assert history.detail is not None
    assert history.detail.startswith(f"{PAGE} bytes at 0 of #")


def test_views_are_swept(run: Callable[..., Run]) -> None:
    """At the process's end the live table alone knows address and length."""
    result = run(
        """
        import ctypes
        from safehandle_debug import SafeMemoryMappedFileHandle, SafeMemoryMappedViewHandle
        file = SafeMemoryMappedFileHandle.create(10000)
        view = SafeMemoryMappedViewHandle.map(file, 3000, "rw", 5000)
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(view))
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(file))
        """
    ).ok()
    told = result.first()
    assert {handle.kind: handle.ending for handle in told.handles} == {
        "mapped-file": "swept",
        "mapped-view": "swept",
    }
    assert all(e.kind != "release-failed" for h in told.handles for e in h.events)


def test_a_child_unmaps_its_own_copy(run: Callable[..., Run]) -> None:
    result = run(
        """
        import os
        from safehandle_debug import SafeMemoryMappedFileHandle, SafeMemoryMappedViewHandle
        file = SafeMemoryMappedFileHandle.create(10000)
        view = SafeMemoryMappedViewHandle.map(file)
        pid = os.fork()
        if pid == 0:
            view.write(0, "I", 77)
            view.close()
            raise SystemExit
        os.waitpid(pid, 0)
        print(view.read(0, "I"))
        view.close()
        file.close()
        """
    ).ok()
    assert result.lines == ["77"]


def test_adopted_mappings(file: SafeMemoryMappedFileHandle, content: bytes) -> None:
    """detach() gives the address away, the constructor takes it, also unaligned."""
    view = SafeMemoryMappedViewHandle.map(file, PAGE, "r", 100)
    length = view.byte_length
    address = view.detach()
    assert view.is_closed
    assert mapped(address) is not None
    borrowed = SafeMemoryMappedViewHandle(address, False, byte_length=length, readonly=True)
    assert borrowed.readonly
    borrowed.close()
    assert mapped(address) is not None
    with SafeMemoryMappedViewHandle(address, byte_length=length) as adopted:
        assert adopted.read_bytes(0, length) == content[100 : 100 + length]
        with pytest.raises(OSError, match="not there"):
            adopted.write(0, "B", 1)  # it said writable, the page is not
    assert mapped(address) is None
    assert mapped(address + length - 1) is None


def test_adopting_needs_the_length(tmp_path: Path) -> None:
    with recorded(tmp_path) as told:
        for length in (0, -1, 2**63 - 1):
            with pytest.raises(ValueError, match="byte_length"):
                SafeMemoryMappedViewHandle(12345, byte_length=length)
    assert told[0].handles == ()


def test_a_view_without_memory() -> None:
    view = SafeMemoryMappedViewHandle()
    assert view.is_invalid
    with pytest.raises(HandleStateError):
        view.flush()
    with pytest.raises(HandleStateError):
        view.read(0, "B")
    view.close()
    with pytest.raises(HandleStateError):
        _ = view.byte_length


def test_a_subclass_maps_itself(file: SafeMemoryMappedFileHandle) -> None:
    """Its hook runs in place of the unmapping, and can call it."""
    calls: list[int] = []

    class Noting(SafeMemoryMappedViewHandle):
        def release_handle(self) -> bool | None:
            calls.append(self.handle)
            return super().release_handle()

    with Noting.map(file, PAGE, "r", 50) as view:
        assert type(view) is Noting
        address = view.handle
    assert calls == [address]
    assert view.handle == -1
    assert mapped(address) is None

    class Named(SafeMemoryMappedFileHandle):
        pass

    with Named.create(10) as created:
        assert type(created) is Named


def test_mapping_is_never_interrupted(run: Callable[..., Run]) -> None:
    """No mapping and no descriptor is lost between the call and the object."""
    result = run(
        """
        import os, signal
        from safehandle_debug import SafeMemoryMappedFileHandle, SafeMemoryMappedViewHandle
        from safehandle_debug import _native

        class Stop(Exception):
            pass

        armed = False

        def stop(*_):
            if armed:
                raise Stop

        signal.signal(signal.SIGALRM, stop)
        stopped = rounds = 0
        while stopped < 500 and rounds < 1_000_000:
            rounds += 1
            try:
                armed = True
                signal.setitimer(signal.ITIMER_REAL, 1e-5 * (1 + rounds % 7))
                for _ in range(100):
                    with SafeMemoryMappedFileHandle.create(4096) as file:
                        with SafeMemoryMappedViewHandle.map(file):
                            pass
                armed = False
            except Stop:
                armed = False
                stopped += 1
            file = None
        print(stopped, _native.live_count(), open("/proc/self/maps").read().count("memfd:mapping"))
        """,
        level=None,
    ).ok()
    assert result.lines == ["500 0 0"]


def test_out_of_descriptors_and_addresses(run: Callable[..., Run]) -> None:
    """The errors are the program's own; nothing is kept of what failed."""
    result = run(
        """
        import errno, os, resource
        from safehandle_debug import SafeMemoryMappedFileHandle, SafeMemoryMappedViewHandle
        from safehandle_debug import _native

        file = SafeMemoryMappedFileHandle.create(1 << 40)
        used = int(open("/proc/self/statm").read().split()[0]) * 4096
        resource.setrlimit(resource.RLIMIT_AS, (used + (1 << 30), used + (1 << 30)))
        resource.setrlimit(resource.RLIMIT_NOFILE, (4, 4))
        for use in (
            lambda: SafeMemoryMappedFileHandle.create(1),
            lambda: SafeMemoryMappedFileHandle.shm("safehandle-none", 1),
            lambda: SafeMemoryMappedFileHandle.open("/dev/zero"),
            lambda: SafeMemoryMappedViewHandle.map(file),
        ):
            try:
                use()
            except OSError as error:
                print(errno.errorcode[error.errno])
        print(_native.live_count())
        file.close()
        """,
        level=None,
    ).ok()
    assert result.lines == ["EMFILE"] * 3 + ["ENOMEM", "1"]
