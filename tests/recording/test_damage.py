"""Files that are no good: one clear sentence each, never a traceback."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support_recording import RecordingBuilder

from safehandle_debug.recording import RecordingError, open_recording
from safehandle_debug.recording import format as shd
from safehandle_debug.recording.reader import Cursor

ONE_FILE = settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def refusal(path: Path) -> str:
    """The sentence with which opening `path` is refused."""
    with pytest.raises(RecordingError) as caught:
        open_recording(path)
    text = str(caught.value)
    assert str(path) in text
    assert "\n" not in text
    return text


def read_everything(path: Path) -> bool:
    """Reads all there is; False when the file was refused, in one line."""
    refused = ""
    try:
        with open_recording(path) as recording:
            recording.refresh()
            events = list(recording.events())
            for raw in [*events, *recording.live()]:
                recording.stack(raw.stack)
                recording.type(raw.type)
                recording.thread(raw.thread)
                recording.string(raw.detail)
                recording.to_ns(raw.ticks)
            serials = {event.serial for event in events[:50]}
            recording.events_of_many(serials)
            for serial in list(serials)[:3]:
                recording.events_of(serial)
            assert sum(len(data) for _, data in recording.read_new(Cursor())) >= 0
            recording.is_alive()
    except RecordingError as error:
        refused = str(error)
    assert "\n" not in refused
    return not refused


def test_undamaged(lively: bytes, tmp_path: Path) -> None:
    """The file that the tests below damage can be read."""
    (tmp_path / "x.shd").write_bytes(lively)
    assert read_everything(tmp_path / "x.shd")


def test_missing(tmp_path: Path) -> None:
    assert "there is no recording" in refusal(tmp_path / "none.shd")


def test_empty(tmp_path: Path) -> None:
    path = tmp_path / "x.shd"
    path.touch()
    assert "is empty" in refusal(path)


def test_folder(tmp_path: Path) -> None:
    assert "is not a file" in refusal(tmp_path)


def test_fifo(tmp_path: Path) -> None:
    """A pipe is refused at once: nobody waits for its writer."""
    path = tmp_path / "x.shd"
    os.mkfifo(path)
    assert "is not a file" in refusal(path)


def test_symbolic_link(tmp_path: Path, lively: bytes) -> None:
    (tmp_path / "real.shd").write_bytes(lively)
    link = tmp_path / "x.shd"
    link.symlink_to("real.shd")
    assert "is a symbolic link" in refusal(link)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_unreadable(tmp_path: Path, lively: bytes) -> None:
    path = tmp_path / "x.shd"
    path.write_bytes(lively)
    path.chmod(0)
    assert "cannot be read: Permission denied" in refusal(path)


@pytest.mark.parametrize("content", [b"x", b"hello\n" * 10, b"\x7fELF" * 5000])
def test_foreign(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "x.shd"
    path.write_bytes(content)
    assert "is not a recording" in refusal(path)


def test_not_begun(tmp_path: Path) -> None:
    """The file is made before its header is written, magic last."""
    path = tmp_path / "x.shd"
    path.write_bytes(bytes(1 << 16))
    assert "has not begun" in refusal(path)


def test_newer_version(tmp_path: Path) -> None:
    book = RecordingBuilder()
    book.fields["version"] = 7
    text = refusal(book.write(tmp_path))
    assert "newer" in text
    assert "format 7" in text
    assert "upgrade" in text


def test_other_byte_order(tmp_path: Path) -> None:
    book = RecordingBuilder()
    book.fields["byte_order_mark"] = 0x04030201
    assert "other byte order" in refusal(book.write(tmp_path))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("version", 0),
        ("byte_order_mark", 0),
        ("header_size", 64),
        ("block_size", 1),
        ("ended", 77),
        ("level", 9),
    ],
)
def test_senseless_header(field: str, value: int, tmp_path: Path) -> None:
    book = RecordingBuilder()
    book.fields[field] = value
    assert "is corrupt: its header makes no sense" in refusal(book.write(tmp_path))


def test_senseless_blocks(tmp_path: Path, lively: bytes) -> None:
    path = tmp_path / "x.shd"
    for offset, value in ((0, 99), (8, 0xFFFF_FFFF)):
        damaged = bytearray(lively)
        struct.pack_into("=I", damaged, shd.HEADER_SIZE + offset, value)
        path.write_bytes(damaged)
        assert "is corrupt: block 0" in refusal(path)


@pytest.mark.parametrize("size", [1, 7, 8, 100, 4095])
def test_header_cut_off(size: int, tmp_path: Path, lively: bytes) -> None:
    path = tmp_path / "x.shd"
    path.write_bytes(lively[:size])
    assert "is truncated: not even its header is left" in refusal(path)


@pytest.mark.parametrize("size", [4096, 4097, 70_000, -65_536, -1])
def test_blocks_cut_off(size: int, tmp_path: Path, lively: bytes) -> None:
    path = tmp_path / "x.shd"
    path.write_bytes(lively[:size])
    assert "is truncated" in refusal(path)


def test_damage_while_it_is_read(tmp_path: Path) -> None:
    """A header that starts to make no sense is told by refresh."""
    book = RecordingBuilder()
    book.acquire()
    with open_recording(book.write(tmp_path)) as recording:
        book.fields["blocks"] = 1 << 20
        book.write(recording.path)
        with pytest.raises(RecordingError, match="is truncated"):
            recording.refresh()


READ_A_STUMP = """
import os, sys
from safehandle_debug.recording import RecordingError, open_recording
from safehandle_debug.recording.reader import Cursor

path, size, how = sys.argv[1], int(sys.argv[2]), sys.argv[3]
with open_recording(path) as recording:
    ways = {
        "refresh": recording.refresh,
        "events": lambda: list(recording.events()),
        "read_new": lambda: list(recording.read_new(Cursor())),
        "events_of": lambda: recording.events_of(1),
        "live": recording.live,
        "running_threads": recording.running_threads,
        "stack": lambda: recording.stack(stack),
    }
    stack = next(recording.events()).stack
    os.truncate(path, size)
    try:
        ways[how]()
    except RecordingError as error:
        print(error)
"""


@pytest.mark.parametrize("size", [0, 5000])
@pytest.mark.parametrize(
    "way", ["refresh", "events", "read_new", "events_of", "live", "running_threads", "stack"]
)
def test_cut_off_while_it_is_read(tmp_path: Path, lively: bytes, way: str, size: int) -> None:
    """An error and not a fatal signal, hence in a process of its own."""
    path = tmp_path / "x.shd"
    path.write_bytes(lively)
    done = subprocess.run(
        [sys.executable, "-c", READ_A_STUMP, path, str(size), way],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    left = f"{size:,} of {len(lively):,} bytes are left"
    assert done.stdout == f"{path} has been truncated while it was read: {left}\n"


@ONE_FILE
@given(content=st.binary(max_size=20_000))
def test_random_bytes(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.shd"
    path.write_bytes(content)
    assert not read_everything(path)


@ONE_FILE
@given(content=st.binary(min_size=100, max_size=5000), start=st.integers(16, 4096 + 300))
def test_random_bytes_after_a_good_start(
    tmp_path: Path, lively: bytes, content: bytes, start: int
) -> None:
    path = tmp_path / "x.shd"
    path.write_bytes(lively[:start] + content + lively[start + len(content) :])
    read_everything(path)


@ONE_FILE
@given(data=st.data())
def test_flipped_bits(tmp_path: Path, lively: bytes, data: st.DataObject) -> None:
    """Any bits flipped in header, heads and the records that are there."""
    pages = range(0, len(lively), 4096)
    used = [start for start in pages if any(lively[start : start + 4096])]
    damaged = bytearray(lively)
    for _ in range(data.draw(st.integers(1, 8))):
        place = data.draw(st.sampled_from(used)) + data.draw(st.integers(0, 4095))
        damaged[place] ^= 1 << data.draw(st.integers(0, 7))
    path = tmp_path / "x.shd"
    path.write_bytes(damaged)
    read_everything(path)


@ONE_FILE
@given(words=st.lists(st.tuples(st.integers(0, 90), st.integers(0, 2**32 - 1)), max_size=4))
def test_any_header(tmp_path: Path, lively: bytes, words: list[tuple[int, int]]) -> None:
    damaged = bytearray(lively)
    for index, value in words:
        struct.pack_into("=I", damaged, 4 * index, value)
    path = tmp_path / "x.shd"
    path.write_bytes(damaged)
    read_everything(path)


@ONE_FILE
@given(size=st.integers(0, 4 << 16))
def test_truncated_anywhere(tmp_path: Path, lively: bytes, size: int) -> None:
    path = tmp_path / "x.shd"
    path.write_bytes(lively[:size])
    assert read_everything(path) == (size >= len(lively))
