"""Memory: SafeBuffer and views of mapped files (cases 177 to 183)."""

from __future__ import annotations

import errno
import mmap
import os
from pathlib import Path

import pytest
from support_handles import refs
from support_programs import recorded

from safehandle_debug import (
    HandleClosedError,
    HandleStateError,
    SafeBuffer,
    SafeMemoryMappedFileHandle,
    SafeMemoryMappedViewHandle,
)


def is_mapped(address: int) -> bool:
    """Whether anything is mapped at the address."""
    ranges = (line.split()[0] for line in Path("/proc/self/maps").read_text().splitlines())
    pairs = ([int(end, 16) for end in one.split("-")] for one in ranges)
    return any(start <= address < end for start, end in pairs)


def view_of(size: int, offset: int = 0) -> SafeMemoryMappedViewHandle:
    """A view of memory whose file is closed already."""
    with SafeMemoryMappedFileHandle.create(offset + size) as file:
        return SafeMemoryMappedViewHandle.map(file, size, mmap.ACCESS_WRITE, offset)


def test_use_before_initialize() -> None:
    """Case 177: before initialize() there is no length, no reading and no pointer."""

    class Memory(SafeBuffer):
        def release_handle(self) -> bool:
            return True

    with Memory() as memory:
        memory.set_handle(mmap.PAGESIZE)
        for use in (
            lambda: memory.byte_length,
            lambda: memory.read(0, "B"),
            lambda: memory.write(0, "B", 1),
            lambda: memory.read_bytes(0, 1),
            lambda: memory.write_bytes(0, b"1"),
            lambda: memory.read_into(0, bytearray(1)),
            lambda: memory.acquire_pointer(),
            lambda: memory.release_pointer(),
            lambda: memoryview(memory),
        ):
            with pytest.raises(HandleStateError, match="initialize"):
                use()
        assert refs(memory) == 1


@pytest.mark.parametrize("offset", [13, -1, 2**63 - 1, 2**63, 2**64 - 4, 2**64])
def test_bounds(offset: int) -> None:
    """Case 178: the last four of 16 bytes are read, nothing around them; no sum wraps."""
    with view_of(16) as view:
        assert view.read(12, "I") == 0
        for use in (
            lambda: view.read(offset, "I"),
            lambda: view.write(offset, "I", 1),
            lambda: view.read_bytes(offset, 4),
            lambda: view.write_bytes(offset, b"1234"),
        ):
            with pytest.raises(IndexError):
                use()
        assert view.read_bytes(0, 16) == bytes(16)
        assert refs(view) == 1


def test_dispose_with_exports_out() -> None:
    """Case 179: the memory stays until the last export and the last pointer are gone."""
    view = view_of(16)
    address = view.handle
    one, other = memoryview(view), memoryview(view)
    assert view.acquire_pointer() == address
    view.close()
    assert not view.is_closed
    one.release()
    view.release_pointer()
    assert is_mapped(address)
    other[3] = 7
    assert view.read(3, "B") == 7
    other.release()
    assert view.is_closed
    assert not is_mapped(address)


def test_acquiring_a_closed_view() -> None:
    """Case 180: the closed error, and no pointer."""
    view = view_of(16)
    view.close()
    pointer = None
    with pytest.raises(HandleClosedError):
        pointer = view.acquire_pointer()
    assert pointer is None
    with pytest.raises(HandleClosedError):
        memoryview(view)
    with pytest.raises(HandleClosedError):
        view.read(0, "B")


def test_a_view_outlives_the_handle_of_its_file() -> None:
    """Case 181: the file's handle is closed, the view works."""
    file = SafeMemoryMappedFileHandle.create(16)
    view = SafeMemoryMappedViewHandle.map(file)
    view.write(0, "I", 7)
    file.close()
    assert file.is_closed
    assert view.read(0, "I") == 7
    view.write(4, "I", 8)
    assert view.read(0, "II") == (7, 8)
    view.close()


def test_a_file_truncated_under_its_view() -> None:
    """Case 182: what the file has no page for any more raises EFAULT; no signal."""
    size = 2 * mmap.PAGESIZE
    with (
        SafeMemoryMappedFileHandle.create(size) as file,
        SafeMemoryMappedViewHandle.map(file) as view,
    ):
        view.write_bytes(0, b"x" * size)
        os.ftruncate(file.fileno(), 5)
        assert view.read_bytes(0, 8) == b"xxxxx\0\0\0"
        for use in (
            lambda: view.read(size - 4, "I"),
            lambda: view.write(size - 4, "I", 1),
            lambda: view.read_bytes(0, size),
        ):
            with pytest.raises(OSError, match="truncated under the view") as caught:
                use()
            assert caught.value.errno == errno.EFAULT
        os.ftruncate(file.fileno(), 0)
        with pytest.raises(OSError, match="truncated under the view"):
            view.read(0, "B")


def test_release_of_a_view(tmp_path: Path) -> None:
    """Case 183: all of the mapping is unmapped, once, from whatever offset; the value is -1."""
    page = mmap.PAGESIZE
    with recorded(tmp_path) as told:
        view = view_of(3 * page, offset=page - 1)
        address = view.handle
        first, last = address - (page - 1), address + 3 * page - 1
        assert is_mapped(first)
        assert is_mapped(last)
        view.close()
        assert (view.handle, view.is_invalid) == (-1, True)
        assert not any(is_mapped(first + n * page) for n in range(4))
        # The kernel gives the same place again: a second unmapping would take it away.
        with (
            SafeMemoryMappedFileHandle.create(4 * page) as file,
            SafeMemoryMappedViewHandle.map(file) as again,
        ):
            view.close()
            view.dispose()
            again.write_bytes(0, b"x" * again.byte_length)
    (history,) = [h for h in told[0].handles if h.value == address]
    assert [event.kind for event in history.events] == ["acquire", "close"]
