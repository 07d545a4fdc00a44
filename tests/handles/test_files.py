"""Files: locks and deletion, each seen from another open file or process."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support_programs import Run, recorded, run_program
from support_waiting import until

from safehandle_debug import HandleClosedError, SafeFileHandle, _native

WAIT_S = 60

# Locks the file, says so, and keeps the lock until it is told to go on.
HOLDER = """
import fcntl, os, sys
fd = os.open(sys.argv[1], os.O_RDWR)
fcntl.flock(fd, fcntl.LOCK_EX)
print("locked", flush=True)
sys.stdin.readline()
exec(sys.argv[2])
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "file"
    file.write_bytes(b"text")
    return file


@pytest.fixture
def holder(path: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts a process that holds the lock until a line is written to it; then
    it does `last` and exits."""
    started: list[subprocess.Popen[str]] = []

    def start(last: str = "") -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-c", HOLDER, str(path), last],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == "locked\n"
        return process

    yield start
    for process in started:
        with process:
            process.kill()


def go_on(process: subprocess.Popen[str]) -> None:
    """Lets a holder finish, and waits for its end."""
    process.communicate("\n", timeout=WAIT_S)


def free_for(path: Path, operation: int) -> bool:
    """Whether somebody else could have the lock now."""
    fd = os.open(path, os.O_RDWR)
    try:
        fcntl.flock(fd, operation | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    else:
        return True
    finally:
        os.close(fd)


def wait_for_a_waiter(path: Path) -> None:
    """Returns once somebody waits for the file's lock."""
    inode = f":{path.stat().st_ino} "
    until(
        lambda: any(
            "->" in line and inode in line for line in Path("/proc/locks").read_text().splitlines()
        )
    )


def test_an_exclusive_lock_keeps_others_out(path: Path) -> None:
    with SafeFileHandle.open(path, os.O_RDWR, lock="exclusive"):
        assert not free_for(path, fcntl.LOCK_SH)
    assert free_for(path, fcntl.LOCK_EX)


def test_a_shared_lock_lets_readers_in(path: Path) -> None:
    with SafeFileHandle.open(path, lock="shared"), SafeFileHandle.open(path, lock="shared"):
        assert free_for(path, fcntl.LOCK_SH)
        assert not free_for(path, fcntl.LOCK_EX)
    assert free_for(path, fcntl.LOCK_EX)


@pytest.mark.parametrize("word", ["", "Shared", 1, True, b"shared"])
def test_other_words_are_no_lock(path: Path, word: object) -> None:
    count = len(os.listdir("/proc/self/fd"))
    with pytest.raises(ValueError, match="lock must be 'shared', 'exclusive' or None, not"):
        SafeFileHandle.open(path, lock=word)  # type: ignore[arg-type]
    assert len(os.listdir("/proc/self/fd")) == count


def test_opening_waits_for_another_process(
    path: Path, holder: Callable[..., subprocess.Popen[str]]
) -> None:
    """What the holder wrote before it let go is there when open() returns."""
    process = holder("os.write(fd, b'done')")
    helper = threading.Thread(target=go_on, args=[process])
    helper.start()
    with SafeFileHandle.open(path, os.O_RDONLY, lock="exclusive") as handle:
        assert os.read(handle.fileno(), 4) == b"done"
    helper.join(WAIT_S)


def test_a_file_replaced_meanwhile_is_opened_again(
    path: Path, holder: Callable[..., subprocess.Popen[str]]
) -> None:
    """Never the lock of a file that the name no longer leads to."""
    process = holder("os.rename(sys.argv[1] + '.new', sys.argv[1])")
    new = path.with_name("file.new")
    new.write_bytes(b"new")
    inode = new.stat().st_ino
    opened: list[SafeFileHandle] = []
    count = len(os.listdir("/proc/self/fd"))
    waiter = threading.Thread(
        target=lambda: opened.append(SafeFileHandle.open(path, lock="exclusive"))
    )
    waiter.start()
    wait_for_a_waiter(path)
    go_on(process)
    waiter.join(WAIT_S)
    (handle,) = opened
    with handle:
        assert os.fstat(handle.fileno()).st_ino == inode
        assert not free_for(path, fcntl.LOCK_SH)
    assert len(os.listdir("/proc/self/fd")) == count - 2  # the holder's pipes went too


def test_a_nameless_file_can_be_locked(tmp_path: Path) -> None:
    with SafeFileHandle.open(
        tmp_path, os.O_TMPFILE | os.O_RDWR, lock="exclusive", delete_on_close=True
    ) as handle:
        os.write(handle.fileno(), b"x")
    assert list(tmp_path.iterdir()) == []


def test_locking_later(path: Path, holder: Callable[..., subprocess.Popen[str]]) -> None:
    process = holder()
    with SafeFileHandle.open(path, os.O_RDWR) as handle:
        with pytest.raises(BlockingIOError):
            handle.lock(blocking=False)
        go_on(process)
        handle.lock()
        assert not free_for(path, fcntl.LOCK_SH)
        handle.lock(shared=True)
        assert free_for(path, fcntl.LOCK_SH)
        handle.unlock()
        assert free_for(path, fcntl.LOCK_EX)
        handle.unlock()
        handle.lock()
    assert free_for(path, fcntl.LOCK_EX)


def test_closing_unlocks_for_duplicates_too(path: Path) -> None:
    """The lock is the handle's that took it, not the last descriptor's."""
    handle = SafeFileHandle.open(path, os.O_RDWR, lock="exclusive")
    with handle.duplicate() as twin:
        handle.close()
        assert free_for(path, fcntl.LOCK_EX)
        assert os.read(twin.fileno(), 4) == b"text"


def test_a_duplicate_does_not_unlock(path: Path) -> None:
    with SafeFileHandle.open(path, os.O_RDWR, lock="exclusive") as handle:
        handle.duplicate().close()
        assert not free_for(path, fcntl.LOCK_SH)


def test_only_files_with_a_handle_are_locked(path: Path) -> None:
    handle = SafeFileHandle.open(path)
    handle.close()
    for call in (handle.lock, handle.unlock):
        with pytest.raises(HandleClosedError):
            call()
    for call in (SafeFileHandle().lock, SafeFileHandle().unlock):
        with pytest.raises(OSError, match="Bad file descriptor"):
            call()


def test_a_borrowed_descriptor_stays_locked(path: Path) -> None:
    fd = os.open(path, os.O_RDWR)
    with SafeFileHandle(fd, owns_handle=False) as handle:
        handle.lock()
    assert not free_for(path, fcntl.LOCK_SH)
    os.close(fd)
    assert free_for(path, fcntl.LOCK_EX)


def test_invalidated_while_waiting(
    path: Path, holder: Callable[..., subprocess.Popen[str]]
) -> None:
    """The waiting call ends well; the handle stays closed and gives nothing back."""
    process = holder()
    handle = SafeFileHandle.open(path, os.O_RDWR)
    fd = handle.handle
    waiter = threading.Thread(target=handle.lock)
    waiter.start()
    wait_for_a_waiter(path)
    handle.set_handle_as_invalid()
    go_on(process)
    waiter.join(WAIT_S)
    assert not waiter.is_alive()
    assert not free_for(path, fcntl.LOCK_SH)
    os.close(fd)


def test_closing_waits_for_a_waiting_lock(
    path: Path, holder: Callable[..., subprocess.Popen[str]]
) -> None:
    process = holder()
    handle = SafeFileHandle.open(path, os.O_RDWR)
    waiter = threading.Thread(target=handle.lock)
    waiter.start()
    wait_for_a_waiter(path)
    handle.close()
    assert not handle.is_closed
    go_on(process)
    waiter.join(WAIT_S)
    assert handle.is_closed
    assert free_for(path, fcntl.LOCK_EX)


@pytest.mark.parametrize(
    "call", ["SafeFileHandle.open('file', os.O_RDWR, lock='exclusive')", "handle.lock()"]
)
def test_waiting_can_be_interrupted(tmp_path: Path, call: str) -> None:
    """A handler that returns changes nothing; one that raises ends the wait."""
    run_program(
        f"""
        import fcntl, os, signal
        from safehandle_debug import SafeFileHandle, _native

        class Stop(Exception):
            pass

        ticks = []

        def note(*_):
            ticks.append(1)
            if len(ticks) == 3:
                raise Stop

        handle = SafeFileHandle.open("file", os.O_RDWR | os.O_CREAT)
        other = os.open("file", os.O_RDWR)
        fcntl.flock(other, fcntl.LOCK_EX)
        before = len(os.listdir("/proc/self/fd"))
        signal.signal(signal.SIGALRM, note)
        signal.setitimer(signal.ITIMER_REAL, 0.02, 0.02)
        try:
            {call}
        except Stop:
            signal.setitimer(signal.ITIMER_REAL, 0)
        assert len(ticks) >= 3
        assert len(os.listdir("/proc/self/fd")) == before
        assert _native.live_count() == 1
        handle.close()
        assert handle.is_closed
        """,
        tmp_path / "program",
    ).ok()


# --- deletion ---


def test_closing_deletes(path: Path) -> None:
    with SafeFileHandle.open(path, delete_on_close=True):
        assert path.exists()
    assert not path.exists()


def test_dropping_deletes(path: Path) -> None:
    SafeFileHandle.open(path, delete_on_close=True)
    assert not path.exists()


def test_a_name_that_went_is_no_error(path: Path, tmp_path: Path) -> None:
    with recorded(tmp_path) as told, SafeFileHandle.open(path, delete_on_close=True):
        path.unlink()
    (history,) = told[0].handles
    assert [event.kind for event in history.events] == ["acquire", "close"]


def test_a_name_that_is_another_files_now_stays(path: Path) -> None:
    with SafeFileHandle.open(path, delete_on_close=True):
        path.rename(path.with_name("moved"))
        path.write_bytes(b"another")
    assert path.read_bytes() == b"another"
    assert path.with_name("moved").exists()


def test_the_folder_may_change_meanwhile(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    handle = SafeFileHandle.open("file", delete_on_close=True)
    monkeypatch.chdir("/")
    handle.close()
    assert not path.exists()


def test_below_an_open_folder(path: Path, tmp_path: Path) -> None:
    with SafeFileHandle.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY) as folder:
        SafeFileHandle.open("file", dir_fd=folder.fileno(), delete_on_close=True).close()
    assert not path.exists()


def test_a_link_leads_to_what_is_deleted(path: Path) -> None:
    """The file that was opened goes, not the link that led to it."""
    link = path.with_name("link")
    link.symlink_to(path)
    SafeFileHandle.open(link, delete_on_close=True).close()
    assert link.is_symlink()
    assert not path.exists()


def test_detaching_keeps_name_and_lock(path: Path) -> None:
    handle = SafeFileHandle.open(path, os.O_RDWR, lock="exclusive", delete_on_close=True)
    fd = handle.detach()
    assert path.exists()
    assert not free_for(path, fcntl.LOCK_SH)
    os.close(fd)
    assert path.exists()


def test_who_waits_gets_a_file_with_a_name(path: Path) -> None:
    """The name goes before the lock: nobody ends up with a deleted file."""
    handle = SafeFileHandle.open(path, os.O_RDWR, lock="exclusive", delete_on_close=True)
    opened: list[SafeFileHandle] = []
    waiter = threading.Thread(
        target=lambda: opened.append(
            SafeFileHandle.open(path, os.O_RDWR | os.O_CREAT, lock="exclusive")
        )
    )
    waiter.start()
    wait_for_a_waiter(path)
    handle.close()
    waiter.join(WAIT_S)
    with opened[0] as after:
        assert os.fstat(after.fileno()).st_ino == path.stat().st_ino
        assert os.read(after.fileno(), 4) == b""


def test_a_forked_child_leaves_the_parents_file_alone(tmp_path: Path) -> None:
    """Neither its explicit close nor its end deletes or unlocks."""
    run_program(
        """
        import fcntl, os
        from safehandle_debug import SafeFileHandle

        handles = [
            SafeFileHandle.open(name, os.O_RDWR | os.O_CREAT, lock="exclusive",
                                delete_on_close=True)
            for name in ("one", "two")
        ]
        pid = os.fork()
        if pid == 0:
            handles[0].close()
            raise SystemExit
        assert os.waitpid(pid, 0)[1] == 0
        for name in ("one", "two"):
            fd = os.open(name, os.O_RDWR)
            try:
                fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                print("locked")
        handles[0].close()
        handles[1].close()
        assert not os.path.exists("one") and not os.path.exists("two")
        """,
        tmp_path / "program",
    ).ok()


END = """
import os, sys
from safehandle_debug import SafeFileHandle
kept = SafeFileHandle.open("file", os.O_RDWR | os.O_CREAT, delete_on_close=True)
"""


@pytest.mark.parametrize("end", ["", "sys.exit(3)", "raise LookupError"])
def test_the_end_of_the_process_deletes(tmp_path: Path, end: str) -> None:
    result = run_program(END + end, tmp_path / "program")
    assert not (tmp_path / "program" / "file").exists()
    (history,) = result.first().handles
    assert history.ending in {"dropped", "swept"}


def test_a_killed_process_deletes_nothing(tmp_path: Path) -> None:
    """What no program can do any more; the recording tells what it held."""
    result = run_program(END + "os.kill(os.getpid(), 9)", tmp_path / "program")
    assert result.code == -signal.SIGKILL
    assert (tmp_path / "program" / "file").exists()
    (history,) = result.first().handles
    assert history.ending == "lost"
    assert (history.detail or "").endswith("file")


def test_a_python_hook_can_pass_it_on(path: Path) -> None:
    """An override that calls its base deletes and unlocks as well."""

    class Noting(SafeFileHandle):
        def release_handle(self) -> bool | None:
            assert path.exists()
            return super().release_handle()

    Noting.open(path, os.O_RDWR, lock="exclusive", delete_on_close=True).close()
    assert not path.exists()


def test_a_failed_open_leaves_nothing(tmp_path: Path) -> None:
    live, serial = _native.live_count(), _native.newest_serial()
    with pytest.raises(FileNotFoundError) as caught:
        SafeFileHandle.open(tmp_path / "missing", lock="shared", delete_on_close=True)
    assert caught.value.filename == str(tmp_path / "missing")
    assert (_native.live_count(), _native.newest_serial()) == (live, serial)


def test_programs_with_locks_have_no_findings(run: Callable[..., Run]) -> None:
    result = run(
        """
        import os
        from safehandle_debug import SafeFileHandle
        for _ in range(3):
            with SafeFileHandle.open("file", os.O_RDWR | os.O_CREAT, lock="exclusive",
                                     delete_on_close=True) as handle:
                handle.unlock()
                handle.lock(shared=True)
        """
    ).ok()
    for history in result.first().handles:
        assert history.ending == "exited"
        assert {event.kind for event in history.events} <= {
            "acquire",
            "add-ref",
            "release",
            "close",
        }
