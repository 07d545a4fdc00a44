"""SafeBuffer: bounds, types, exported memory, and pages that are not there any more."""

from __future__ import annotations

import ctypes
import errno
import gc
import mmap
import os
import struct
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support_handles import refs
from support_programs import Run, recorded, run_program

from safehandle_debug import (
    HandleClosedError,
    HandleStateError,
    SafeBuffer,
    SafeMemoryMappedFileHandle,
    SafeMemoryMappedViewHandle,
)

PAGE = mmap.PAGESIZE


class Memory(SafeBuffer):
    """Memory of ctypes as a buffer; notes its release."""

    def __init__(self, size: int, owns_handle: bool = True) -> None:
        super().__init__(owns_handle)
        self.memory = ctypes.create_string_buffer(size)
        self.released: list[int] = []
        self.set_handle(ctypes.addressof(self.memory))

    def release_handle(self) -> bool:
        self.released.append(self.handle)
        return True


@pytest.fixture
def buffer() -> Iterator[Memory]:
    """16 bytes."""
    with Memory(16) as memory:
        memory.initialize(16)
        yield memory


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., Run]:
    """Runs a program of its own."""
    return lambda source, **options: run_program(source, tmp_path / "program", **options)


def test_the_base_is_abstract() -> None:
    with pytest.raises(TypeError, match="release_handle"):
        SafeBuffer()


def test_a_buffer_begins_as_invalid() -> None:
    class Nothing(SafeBuffer):
        def release_handle(self) -> bool:
            return True

    nothing = Nothing()
    assert (nothing.handle, nothing.is_invalid, nothing.is_closed) == (0, True, False)
    nothing.initialize(8)
    for use in (
        lambda: nothing.read(0, "B"),
        lambda: nothing.acquire_pointer(),
        lambda: memoryview(nothing),
    ):
        with pytest.raises(HandleStateError, match="no memory"):
            use()
    assert refs(nothing) == 1


def test_initialize() -> None:
    with Memory(64) as memory:
        memory.initialize(8, 4)
        assert memory.byte_length == 32
        with pytest.raises(HandleStateError, match="32 bytes already"):
            memory.initialize(64)
        assert memory.byte_length == 32


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ((-1,), ValueError),
        ((1, -1), ValueError),
        ((sys.maxsize, 2), OverflowError),
        ((sys.maxsize + 1,), OverflowError),
        ((1 << 62, 4), OverflowError),
        (("8",), TypeError),
        ((), TypeError),
    ],
)
def test_lengths_that_cannot_be(arguments: tuple[object, ...], error: type[Exception]) -> None:
    with Memory(16) as memory:
        with pytest.raises(error):
            memory.initialize(*arguments)  # type: ignore[arg-type]
        with pytest.raises(HandleStateError, match="initialize"):
            _ = memory.byte_length


@pytest.mark.parametrize(
    ("format", "value"),
    [
        ("B", 255),
        ("<h", -2),
        ("=Q", 2**64 - 1),
        ("d", 1.5),
        ("?", True),
        ("4s", b"text"),
        ("<IH", (7, 8)),
        ("4B", (1, 2, 3, 4)),
        (b"i", -5),
        ("0s", b""),
        ("", ()),
    ],
)
def test_typed_access(buffer: Memory, format: str, value: object) -> None:
    """What the struct module makes of the same bytes; one value is not wrapped."""
    buffer.write(3, format, value)
    assert buffer.read(3, format) == value
    values = value if isinstance(value, tuple) else (value,)
    packed = struct.pack(format, *values)
    assert bytes(buffer.memory)[3 : 3 + len(packed)] == packed
    assert refs(buffer) == 1


def test_formats_that_are_none(buffer: Memory) -> None:
    for use in (
        lambda: buffer.read(0, "Z"),
        lambda: buffer.write(0, "Z", 1),
        lambda: buffer.write(0, "B", 256),
        lambda: buffer.write(0, "B", "x"),
        lambda: buffer.write(0, "BB", 1),
        lambda: buffer.write(0, "B", (1, 2)),
    ):
        with pytest.raises(struct.error):
            use()
    assert bytes(buffer.memory) == bytes(16)


def test_bulk_access(buffer: Memory) -> None:
    assert buffer.write_bytes(2, b"twelve bytes") == 12
    assert buffer.read_bytes(2, 12) == b"twelve bytes"
    assert buffer.read_bytes(16, 0) == b""
    target = bytearray(6)
    assert buffer.read_into(9, target) == 6
    assert target == b"bytes\0"
    assert buffer.write_bytes(0, memoryview(b"a-b-c")[::1]) == 5
    assert buffer.write_bytes(16, b"") == 0


def test_bulk_access_without_the_interpreter() -> None:
    """Large copies let other threads run; they copy the same."""
    size = 1 << 20
    data = os.urandom(size)
    with Memory(size) as memory:
        memory.initialize(size)
        assert memory.write_bytes(0, data) == size
        assert memory.read_bytes(0, size) == data


@pytest.mark.parametrize("offset", [-1, 13, 16, 2**31, 2**63 - 1, 2**64 - 3, -(2**64), 10**4000])
def test_outside_of_the_buffer(buffer: Memory, offset: int) -> None:
    for use in (
        lambda: buffer.read(offset, "I"),
        lambda: buffer.write(offset, "I", 1),
        lambda: buffer.read_bytes(offset, 4),
        lambda: buffer.read_into(offset, bytearray(4)),
        lambda: buffer.write_bytes(offset, b"1234"),
    ):
        with pytest.raises(IndexError, match="4 bytes at offset"):
            use()
    assert bytes(buffer.memory) == bytes(16)


def test_sizes_outside_of_the_buffer(buffer: Memory) -> None:
    for size in (17, sys.maxsize):
        with pytest.raises(IndexError):
            buffer.read_bytes(0, size)
    with pytest.raises(ValueError, match="negative"):
        buffer.read_bytes(0, -1)
    with pytest.raises(IndexError):
        buffer.write_bytes(0, bytes(17))


def test_bounds_are_checked_before_the_reference(tmp_path: Path) -> None:
    """A closed buffer outside of its bounds: no use of a closed handle is recorded."""
    with recorded(tmp_path) as told:
        memory = Memory(16)
        memory.initialize(16)
        memory.close()
        with pytest.raises(IndexError):
            memory.read(13, "I")
        with pytest.raises(HandleClosedError):
            memory.read(12, "I")
    (history,) = told[0].handles
    assert [event.kind for event in history.events] == ["acquire", "close", "use-closed"]


def test_offsets_are_indexes(buffer: Memory) -> None:
    class Index:
        def __index__(self) -> int:
            return 4

    buffer.write(Index(), "B", 9)
    assert buffer.read(4, "B") == 9
    with pytest.raises(TypeError):
        buffer.read(4.0, "B")  # type: ignore[arg-type]


def test_pointers(buffer: Memory) -> None:
    address = buffer.acquire_pointer()
    assert address == buffer.handle == ctypes.addressof(buffer.memory)
    assert refs(buffer) == 2
    buffer.close()
    assert not buffer.is_closed
    buffer.release_pointer()
    assert buffer.is_closed
    assert buffer.released == [address]


def test_a_pointer_released_too_often_is_told(tmp_path: Path) -> None:
    with recorded(tmp_path) as told:
        memory = Memory(16)
        memory.initialize(16)
        memory.release_pointer()
        assert memory.is_closed
        with pytest.raises(HandleClosedError):
            memory.release_pointer()
    (history,) = told[0].handles
    assert [e.kind for e in history.events if e.kind == "double-release"] == ["double-release"] * 2


def test_the_value_is_gone_after_the_release(buffer: Memory) -> None:
    """The hook still finds the address; nobody else does."""
    address = buffer.handle
    buffer.close()
    assert buffer.released == [address]
    assert buffer.handle == buffer.dangerous_get_handle() == -1
    assert buffer.is_invalid


def test_exports_hold_references(buffer: Memory) -> None:
    one = memoryview(buffer)
    other = memoryview(buffer)
    part = one[4:8]
    assert refs(buffer) == 3  # a slice shares the export of its whole
    one[0] = 7
    assert buffer.read(0, "B") == 7
    assert (one.nbytes, one.readonly, one.format) == (16, False, "B")
    buffer.close()
    one.release()
    other.release()
    assert not buffer.is_closed
    part[0] = 8
    part.release()
    assert buffer.is_closed
    with pytest.raises(HandleClosedError):
        memoryview(buffer)


def test_exports_that_are_dropped(buffer: Memory) -> None:
    export = memoryview(buffer)
    with pytest.raises(HandleStateError, match="1 references are out"):
        buffer.detach()
    assert bytes(export[:2]) == b"\0\0"
    del export
    assert refs(buffer) == 1
    assert bytes(buffer) == bytes(16)
    assert refs(buffer) == 1


def test_an_export_keeps_the_handle_alive() -> None:
    released: list[int] = []

    def make() -> memoryview:
        memory = Memory(16)
        memory.released = released
        memory.initialize(16)
        return memoryview(memory)

    export = make()
    gc.collect()
    assert released == []
    export[0] = 1
    export.release()
    del export
    assert len(released) == 1


def test_an_export_in_a_cycle(tmp_path: Path) -> None:
    """The close that waits for it comes with the collection."""

    class Owner:
        pass

    with SafeMemoryMappedFileHandle.create(PAGE) as file, recorded(tmp_path) as told:
        view = SafeMemoryMappedViewHandle.map(file)
        owner = Owner()
        owner.export = memoryview(view)  # type: ignore[attr-defined]
        owner.me = owner  # type: ignore[attr-defined]
        view.close()
        del view, owner
        gc.collect()
    (history,) = [h for h in told[0].handles if h.kind == "mapped-view"]
    assert history.ending == "closed"


def test_an_export_released_while_an_exception_passes(buffer: Memory) -> None:
    def fail() -> None:
        with memoryview(buffer):
            buffer.close()
            raise LookupError("passes")

    with pytest.raises(LookupError, match="passes"):
        fail()
    assert buffer.is_closed


def test_what_takes_bytes_takes_a_buffer(tmp_path: Path, buffer: Memory) -> None:
    buffer.write_bytes(0, b"sixteen bytes...")
    (tmp_path / "file").write_bytes(buffer)
    with open(tmp_path / "file", "rb") as file:
        assert file.readinto(buffer) == 16
    assert struct.unpack_from("7s", buffer) == (b"sixteen",)
    assert refs(buffer) == 1


def test_reading_while_another_thread_closes() -> None:
    """Every read gives the bytes or says that the buffer is closed."""
    for _ in range(50):
        memory = Memory(64)
        memory.initialize(64)
        memory.write_bytes(0, b"x" * 64)
        wrong: list[bytes] = []
        closed = threading.Event()

        def read(
            memory: Memory = memory, wrong: list[bytes] = wrong, closed: threading.Event = closed
        ) -> None:
            while True:
                try:
                    data = memory.read_bytes(0, 64)
                except HandleClosedError:
                    closed.set()
                    return
                if data != b"x" * 64:
                    wrong.append(data)

        thread = threading.Thread(target=read)
        thread.start()
        memory.close()
        thread.join(60)
        assert closed.is_set()
        assert wrong == []
        assert len(memory.released) == 1


def test_an_address_that_is_none_is_an_error() -> None:
    """The kernel looks before it copies: no signal ends the process."""

    class Wrong(Memory):
        def __init__(self) -> None:
            SafeBuffer.__init__(self)
            self.released = []
            self.set_handle(PAGE // 2)
            self.initialize(16)

    with Wrong() as wrong:
        with pytest.raises(OSError, match="not there") as caught:
            wrong.read(0, "I")
        assert caught.value.errno == errno.EFAULT
        with pytest.raises(OSError, match="not there"):
            wrong.write_bytes(0, b"1")
    assert wrong.released == [PAGE // 2]


@pytest.fixture
def truncated(tmp_path: Path) -> Iterator[SafeMemoryMappedViewHandle]:
    """A view of three pages of a file that has one and 100 bytes left."""
    path = tmp_path / "file"
    path.write_bytes(b"x" * (3 * PAGE))
    with SafeMemoryMappedFileHandle.open(path) as file:
        view = SafeMemoryMappedViewHandle.map(file)
    os.truncate(path, PAGE + 100)
    with view:
        yield view


def test_a_truncated_file(truncated: SafeMemoryMappedViewHandle) -> None:
    """What the file has can be read, what it has no page for raises."""
    assert truncated.read_bytes(PAGE - 2, 4) == b"xxxx"
    assert truncated.read_bytes(PAGE + 98, 4) == b"xx\0\0"
    for use in (
        lambda: truncated.read(2 * PAGE, "B"),
        lambda: truncated.read(3 * PAGE - 8, "Q"),
        lambda: truncated.read_bytes(0, 3 * PAGE),
        lambda: truncated.read_into(2 * PAGE - 1, bytearray(2)),
        lambda: truncated.write(2 * PAGE, "B", 1),
        lambda: truncated.write_bytes(2 * PAGE + 5, b"12345"),
        lambda: truncated.read_bytes(PAGE, 2 * PAGE),
    ):
        with pytest.raises(OSError, match="truncated under the view") as caught:
            use()
        assert caught.value.errno == errno.EFAULT
    assert refs(truncated) == 1


def test_a_truncated_file_that_grows_again(
    truncated: SafeMemoryMappedViewHandle, tmp_path: Path
) -> None:
    os.truncate(tmp_path / "file", 3 * PAGE)
    assert truncated.read_bytes(3 * PAGE - 2, 2) == b"\0\0"
    truncated.write(3 * PAGE - 1, "B", 1)
    assert (tmp_path / "file").read_bytes()[-1] == 1


def test_truncated_while_it_is_read(run: Callable[..., Run]) -> None:
    """There is no moment between a check and the copy."""
    result = run(
        """
        import errno, mmap, os, threading
        from safehandle_debug import SafeMemoryMappedFileHandle, SafeMemoryMappedViewHandle

        size = 64 * mmap.PAGESIZE
        file = SafeMemoryMappedFileHandle.create(size)
        view = SafeMemoryMappedViewHandle.map(file)
        done = threading.Event()

        def truncate():
            with file.hold() as fd:
                while not done.wait(0.0002):
                    os.ftruncate(fd, 0)

        thread = threading.Thread(target=truncate)
        thread.start()
        counts = {"read": 0, "refused": 0}
        while min(counts.values()) < 20 and sum(counts.values()) < 1_000_000:
            os.ftruncate(file.handle, size)
            try:
                view.read_bytes(0, size)
                counts["read"] += 1
            except OSError as error:
                assert error.errno == errno.EFAULT
                counts["refused"] += 1
        done.set()
        thread.join()
        view.close()
        file.close()
        print(min(counts.values()) >= 20 or counts)
        """,
        level=None,
    ).ok()
    assert result.lines == ["True"]


FILTER = """
import ctypes, platform, struct
ENOSYS, READ, WRITE = 38, *{"x86_64": (310, 311), "aarch64": (270, 271)}[platform.machine()]
instructions = [
    (0x20, 0, 0, 0),  # the number of the call
    (0x15, 1, 0, READ), (0x15, 0, 1, WRITE),
    (0x06, 0, 0, 0x00050000 | ENOSYS),
    (0x06, 0, 0, 0x7FFF0000),
]
program = b"".join(struct.pack("=HBBI", *one) for one in instructions)
kept = ctypes.create_string_buffer(program)
head = struct.pack("@HP", len(instructions), ctypes.addressof(kept))
libc = ctypes.CDLL(None, use_errno=True)
assert libc.prctl(38, 1, 0, 0, 0) == 0
assert libc.prctl(22, 2, ctypes.c_char_p(head)) == 0, ctypes.get_errno()
vector = (ctypes.c_size_t * 2)(ctypes.addressof(kept), 4)
count = libc.process_vm_readv(__import__("os").getpid(), vector, 1, vector, 1, 0)
assert (count, ctypes.get_errno()) == (-1, ENOSYS)
"""


def test_where_the_kernel_refuses_to_copy(run: Callable[..., Run]) -> None:
    """Containers may forbid process_vm_readv(2): slower, and as safe."""
    result = run(
        FILTER
        + """
import mmap, os
from safehandle_debug import SafeMemoryMappedFileHandle, SafeMemoryMappedViewHandle
file = SafeMemoryMappedFileHandle.create(3 * mmap.PAGESIZE)
view = SafeMemoryMappedViewHandle.map(file)
descriptors = os.listdir("/proc/self/fd")
view.write_bytes(10, b"text")
data = os.urandom(2 * mmap.PAGESIZE)
view.write_bytes(100, data)
assert view.read_bytes(100, len(data)) == data
print(view.read(10, "4s"))
os.ftruncate(file.fileno(), mmap.PAGESIZE)
for use in (
    lambda: view.read(mmap.PAGESIZE - 1, "H"),
    lambda: view.write(2 * mmap.PAGESIZE, "B", 1),
):
    try:
        use()
    except OSError as error:
        print(error.errno)
assert os.listdir("/proc/self/fd") == descriptors
view.close()
file.close()
""",
        level=None,
    ).ok()
    assert result.lines == ["b'text'", str(errno.EFAULT), str(errno.EFAULT)]


def test_a_read_only_buffer_is_not_written() -> None:
    with (
        SafeMemoryMappedFileHandle.create(PAGE) as file,
        SafeMemoryMappedViewHandle.map(file, 0, mmap.ACCESS_READ) as view,
    ):
        assert view.readonly
        assert memoryview(view).readonly
        for use in (
            lambda: view.write(0, "B", 1),
            lambda: view.write_bytes(0, b"1"),
            lambda: view.write_bytes(PAGE, b""),
        ):
            with pytest.raises(TypeError, match="read-only"):
                use()
        with pytest.raises((BufferError, TypeError)):
            os.readv(file.fileno(), [view])  # nothing can be read into it
        assert refs(view) == 1
