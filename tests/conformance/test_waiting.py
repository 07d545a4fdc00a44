"""Cases 189 to 194: processes and waits."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path

import pytest
from support_handles import refs, state
from support_programs import recorded
from support_waiting import process_state, until

from safehandle_debug import (
    AutoResetEvent,
    HandleClosedError,
    ManualResetEvent,
    SafeProcessHandle,
    SafeWaitHandle,
    WaitHandle,
    wait_all,
    wait_any,
)

LAST_PID = Path("/proc/sys/kernel/ns_last_pid")


def reaped(pid: int) -> bool:
    """Whether the child is gone for good: nobody can wait for it any more."""
    try:
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return True
    return False


def sleeper() -> int:
    """The pid of a forked child that runs until it is killed."""
    pid = os.fork()
    if pid == 0:
        signal.pause()
        os._exit(0)
    return pid


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


def another_with(pid: int) -> bool:
    """Forks until the child gets this pid; False when the kernel will not have it."""
    for _ in range(300):
        try:
            LAST_PID.write_text(str(pid - 1))
        except OSError:
            return False
        child = sleeper()
        if child == pid:
            return True
        kill(child)
    return False


def test_an_unread_child_is_reaped_by_close() -> None:
    """Case 189: the child's status is not asked for; closing reaps it, once."""
    process = SafeProcessHandle.spawn(["true"])
    assert WaitHandle(process).wait(60)
    assert process_state(process.pid) == "Z"
    process.close()
    assert process_state(process.pid) == ""
    assert reaped(process.pid)


def test_the_last_reference_reaps() -> None:
    """Case 189: not the close, the end of the last use."""
    process = SafeProcessHandle.spawn(["true"])
    assert WaitHandle(process).wait(60)
    with process.hold():
        process.close()
        assert process_state(process.pid) == "Z"
    assert reaped(process.pid)


def test_waiting_threads_reap_once() -> None:
    """Case 189: many wait for one child, all get its status."""
    pipe = os.pipe()
    process = SafeProcessHandle.spawn(["sh", "-c", "read line; exit 5"], stdin=pipe[0])
    statuses: list[int | None] = []
    threads = [
        threading.Thread(target=lambda: statuses.append(process.wait(60))) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    until(lambda: refs(process) == 9)
    for fd in pipe:
        os.close(fd)
    for thread in threads:
        thread.join(60)
    assert statuses == [5] * 8
    assert refs(process) == 1
    process.close()


def test_a_reused_pid_is_another_process() -> None:
    """Case 189: a recycled pid is neither waited for nor killed."""
    pid = sleeper()
    process = SafeProcessHandle.open(pid)
    kill(pid)
    if not another_with(pid):
        process.close()
        pytest.skip("the kernel does not let us choose a pid")
    try:
        with pytest.raises(ProcessLookupError):
            process.send_signal(signal.SIGKILL)
        with pytest.raises(ChildProcessError):
            process.wait()
        process.close()
        assert process_state(pid) in {"R", "S"}
    finally:
        kill(pid)


def test_closing_does_not_reap_who_got_the_pid() -> None:
    """Case 189: the child was reaped behind the handle's back, its pid reused."""
    process = SafeProcessHandle.spawn(["true"])
    pid = process.pid
    os.waitpid(pid, 0)
    if not another_with(pid):
        process.close()
        pytest.skip("the kernel does not let us choose a pid")
    os.kill(pid, signal.SIGKILL)
    until(lambda: process_state(pid) == "Z")
    process.close()
    assert os.waitpid(pid, 0) == (pid, signal.SIGKILL)


@pytest.mark.parametrize("pid", [0, -1, -(2**31)])
def test_no_process_has_a_number_below_one(pid: int) -> None:
    """Case 190: to the kernel 0 and below are groups, or everybody."""
    with pytest.raises(ValueError, match="no process"):
        SafeProcessHandle.open(pid)


def test_dispose_lets_the_wait_complete() -> None:
    """Case 191: the wait holds a reference; the close comes after it."""
    event = SafeWaitHandle.event()
    results: list[bool] = []
    waiting = threading.Thread(target=lambda: results.append(event.wait(60)))
    waiting.start()
    until(lambda: refs(event) == 2)
    event.close()
    assert not event.is_closed
    assert state(event).disposed
    event.set()  # a use of its own, while the wait keeps it open
    waiting.join(60)
    assert results == [True]
    assert event.is_closed
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(event.handle)


def test_dispose_during_a_wait_is_no_finding(tmp_path: Path) -> None:
    """Case 191: it is how a wait ends."""
    with recorded(tmp_path) as told:
        event = SafeWaitHandle.event()
        waiting = threading.Thread(target=event.wait)
        waiting.start()
        until(lambda: refs(event) == 2)
        event.close()
        event.set()
        waiting.join(60)
    (history,) = told[0].handles
    assert history.ending == "closed"


@pytest.mark.parametrize("use", ["wait", "set", "reset", "fileno", "is_set"])
def test_nothing_works_after_dispose(use: str) -> None:
    """Case 192: waiting and setting a closed event raise the closed error."""
    event = ManualResetEvent(True)
    event.close()
    with pytest.raises(HandleClosedError):
        getattr(event, use)()


def test_replacing_the_handle_does_not_close_the_old_one() -> None:
    """Case 193: who set another handle keeps the old one."""
    event = ManualResetEvent()
    old = event.safe_wait_handle
    event.safe_wait_handle = SafeWaitHandle.event(1)
    assert event.wait(0)
    assert not old.is_closed
    assert refs(old) == 1
    old.close()
    event.close()


def test_a_wait_goes_on_with_the_old_handle() -> None:
    """Case 193: a wait that has begun waits for what it began with."""
    event = AutoResetEvent()
    old = event.safe_wait_handle
    assert isinstance(old, SafeWaitHandle)
    results: list[bool] = []
    waiting = threading.Thread(target=lambda: results.append(event.wait(60)))
    waiting.start()
    until(lambda: refs(old) == 2)
    event.safe_wait_handle = SafeWaitHandle.event()
    old.set()
    waiting.join(60)
    assert results == [True]
    assert not event.wait(0)
    old.close()
    event.close()


@pytest.mark.parametrize("closed", [0, 1, 2])
@pytest.mark.parametrize("wait", [wait_any, wait_all])
def test_one_closed_of_several(wait: object, closed: int) -> None:
    """Case 194: the closed error; the references of the others are dropped and
    nothing is taken from them."""
    assert callable(wait)
    events = [AutoResetEvent(True) for _ in range(3)]
    events[closed].close()
    with pytest.raises(HandleClosedError):
        wait(events, 0)
    for number, event in enumerate(events):
        if number != closed:
            assert refs(event.safe_wait_handle) == 1
            assert event.wait(0)
        event.close()
