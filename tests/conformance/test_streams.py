"""Python streams over a handle (cases 203 and 204)."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from support_programs import recorded

from safehandle_debug import FileStream, HandleClosedError, SafeFileHandle


def identity(fd: int) -> tuple[int, int]:
    """What tells one open file from another."""
    status = os.fstat(fd)
    return status.st_dev, status.st_ino


@pytest.mark.parametrize(
    "use",
    [
        lambda s: s.read(1),
        lambda s: s.readall(),
        lambda s: s.readinto(bytearray(1)),
        lambda s: s.write(b"x"),
        lambda s: s.seek(0),
        lambda s: s.tell(),
        lambda s: s.truncate(),
        lambda s: s.fileno(),
        lambda s: s.isatty(),
        lambda s: s.buffered().read(1),
        lambda s: s.text().read(1),
    ],
)
def test_a_stream_whose_handle_is_closed(use: Callable[[FileStream], object]) -> None:
    """Case 203: use raises the closed error, close is silent and closes no stranger."""
    handle = SafeFileHandle.memfd("file")
    stream = FileStream(handle)
    handle.close()
    with SafeFileHandle.memfd("stranger") as stranger:
        assert stranger.handle == handle.handle  # the number is somebody else's now
        before = identity(stranger.fileno())
        with pytest.raises(HandleClosedError):
            use(stream)
        stream.close()
        stream.close()
        assert stream.closed
        assert identity(stranger.fileno()) == before


def test_buffers_whose_handle_is_closed() -> None:
    """Case 203: a buffer with data says once that it is lost; an empty one is silent."""
    handle = SafeFileHandle.memfd("file")
    empty = FileStream(handle).buffered()
    full = FileStream(handle).buffered()
    full.write(b"data")
    handle.close()
    empty.close()
    with pytest.raises(HandleClosedError):
        full.flush()
    with pytest.raises(HandleClosedError):
        full.close()
    full.close()
    assert full.closed


def test_ownership_goes_to_the_standard_library(tmp_path: Path) -> None:
    """Case 204: os.fdopen(handle.detach()): closed without a release, `transferred`."""
    with recorded(tmp_path) as told:
        handle = SafeFileHandle.memfd("file")
        number = handle.handle
        with os.fdopen(handle.detach(), "w+") as file:
            assert handle.is_closed
            handle.close()
            del handle
            assert file.fileno() == number
            file.write("text")
            file.seek(0)
            assert file.read() == "text"
    (history,) = told[0].handles
    assert history.ending == "transferred"
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(number)


def test_what_detach_of_a_stream_keeps() -> None:
    """Case 204: a buffer's detach() gives the stream back; the handle stays its owner."""
    handle = SafeFileHandle.memfd("file")
    stream = FileStream(handle)
    buffered = io.BufferedRandom(stream)
    buffered.write(b"text")
    assert buffered.detach() is stream
    assert not handle.is_closed
    assert os.pread(stream.fileno(), 4, 0) == b"text"
    stream.close()
    assert handle.is_closed
