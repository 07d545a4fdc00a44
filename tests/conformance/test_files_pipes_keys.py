"""Files, pipes and kernel keys: cases 184 to 188, 201 and 202."""

from __future__ import annotations

import errno
import gc
import os
import subprocess
import sys
import uuid
from pathlib import Path

import pytest
from support_handles import refs
from support_programs import recorded
from support_waiting import until

from safehandle_debug import (
    HandleClosedError,
    HandleNotSupportedError,
    SafeFileHandle,
    SafeKeyringHandle,
    SafePipeHandle,
    SafeSocketHandle,
    _native,
)


@pytest.mark.parametrize("more", [{}, {"lock": "exclusive"}, {"delete_on_close": True}])
def test_a_failed_open_leaves_nothing(tmp_path: Path, more: dict[str, object]) -> None:
    """Case 184: the errno of the system, no handle, no finalizer's work, no event."""
    live, serial = _native.live_count(), _native.newest_serial()
    count = len(os.listdir("/proc/self/fd"))
    with recorded(tmp_path) as told:
        with pytest.raises(OSError, match="No such file") as error:
            SafeFileHandle.open(tmp_path / "missing", **more)  # type: ignore[arg-type]
        gc.collect()
    assert error.value.errno == errno.ENOENT
    assert error.value.filename == str(tmp_path / "missing")
    assert told[0].handles == ()
    assert (_native.live_count(), _native.newest_serial()) == (live, serial)
    assert len(os.listdir("/proc/self/fd")) == count


TRIES_TO_LOCK = """
import fcntl, os, sys
fd = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT)
try:
    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
except BlockingIOError:
    sys.exit(7)
"""


def other_process_locks(path: Path) -> bool:
    """Whether another process can lock the file at once."""
    done = subprocess.run([sys.executable, "-c", TRIES_TO_LOCK, str(path)], check=False)
    assert done.returncode in {0, 7}
    return done.returncode == 0


COUNTS_NAMES_WHEN_LOCKED = """
import fcntl, os, sys
fd = os.open(sys.argv[1], os.O_RDWR)
print("waits", flush=True)
fcntl.flock(fd, fcntl.LOCK_EX)
print(os.fstat(fd).st_nlink)
"""


def test_deleted_before_it_is_unlocked(tmp_path: Path) -> None:
    """Case 185: who gets the lock sees the name gone; one that went before is no error."""
    path = tmp_path / "file"
    flags = os.O_RDWR | os.O_CREAT
    with recorded(tmp_path) as told:
        handle = SafeFileHandle.open(path, flags, lock="exclusive", delete_on_close=True)
        inode = f":{path.stat().st_ino} "
        with subprocess.Popen(
            [sys.executable, "-c", COUNTS_NAMES_WHEN_LOCKED, str(path)],
            stdout=subprocess.PIPE,
            text=True,
        ) as waiter:
            assert waiter.stdout is not None
            assert waiter.stdout.readline() == "waits\n"
            locks = Path("/proc/locks")
            until(lambda: any("->" in x and inode in x for x in locks.read_text().splitlines()))
            handle.close()
            assert waiter.stdout.read() == "0\n"
        assert not path.exists()
        again = SafeFileHandle.open(path, flags, delete_on_close=True)
        path.unlink()
        again.close()
    for history in told[0].handles:
        assert "release-failed" not in {event.kind for event in history.events}


def test_unlocked_by_closing(tmp_path: Path) -> None:
    """Case 186: unlocked explicitly, so at once and for everybody, even where a
    duplicate keeps the file open."""
    path = tmp_path / "file"
    handle = SafeFileHandle.open(path, os.O_RDWR | os.O_CREAT, lock="exclusive")
    assert not other_process_locks(path)
    with handle.duplicate():
        handle.close()
        assert other_process_locks(path)


def test_an_end_disposed_is_seen_at_the_other() -> None:
    """Case 187: end of file for the reader, EPIPE for the writer."""
    reader, writer = SafePipeHandle.pair()
    writer.close()
    assert os.read(reader.fileno(), 1) == b""
    reader.close()
    reader, writer = SafePipeHandle.pair()
    reader.close()
    with pytest.raises(BrokenPipeError):
        os.write(writer.fileno(), b"x")
    writer.close()


def test_a_pipe_on_a_socket() -> None:
    """Case 188: the socket closes after the pipe, whose reference is dropped then."""
    socket, other = SafeSocketHandle.pair()
    with other:
        pipe = SafePipeHandle.from_socket(socket)
        socket.close()
        assert not socket.is_closed
        os.write(pipe.fileno(), b"x")
        pipe.close()
        assert socket.is_closed
        assert refs(socket) == 0
        assert os.read(other.fileno(), 2) == b"x"
        assert os.read(other.fileno(), 2) == b""


def add_key() -> SafeKeyringHandle:
    """A key that no other process has; skips where the kernel has none."""
    try:
        return SafeKeyringHandle.add("user", f"safehandle case {uuid.uuid4().hex}", b"secret")
    except (HandleNotSupportedError, OSError) as error:
        pytest.skip(f"no kernel keys: {error}")


def test_a_key_after_its_end() -> None:
    """Case 201: closed for us; for who has the raw number, revoked."""
    key = add_key()
    key.close()
    with pytest.raises(HandleClosedError):
        key.read()
    with pytest.raises(OSError, match="revoked") as error:
        SafeKeyringHandle(key.handle, owns_handle=False).read()
    assert error.value.errno == errno.EKEYREVOKED


def test_a_borrowed_keyring_is_not_closed() -> None:
    """Case 202: neither borrowed keys nor the keyrings that every process has."""
    with add_key() as key:
        SafeKeyringHandle(key.handle, owns_handle=False).close()
        for special in (-2, -3, -4, -5):
            SafeKeyringHandle(special, owns_handle=False).close()
            SafeKeyringHandle(special).close()
        assert key.read() == b"secret"
        with add_key() as another:
            assert another.read() == b"secret"
