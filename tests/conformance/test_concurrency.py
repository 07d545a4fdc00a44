"""Threads, signals and forks: cases 106 to 113."""

from __future__ import annotations

import contextlib
import os
import signal
import sysconfig
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from support_handles import Probe, State, refs, state
from support_programs import Run

from safehandle_debug import HandleClosedError, SafeFileHandle, SafePipeHandle

pytestmark = pytest.mark.usefixtures("fast_switching")

NO_GIL = bool(sysconfig.get_config_var("Py_GIL_DISABLED"))


def users_against_one_dispose(rounds: int) -> None:
    """Four threads use a handle while a fifth disposes of it, round by round."""
    for _ in range(rounds):
        released: list[int] = []
        in_use: list[None] = []
        wrong: list[str] = []
        handle = Probe(released)
        handle.during = lambda _, in_use=in_use, wrong=wrong: (  # type: ignore[misc]
            wrong.append(f"released with {len(in_use)} users") if in_use else None
        )
        line = threading.Barrier(5)

        def use(
            handle: Probe = handle,
            line: threading.Barrier = line,
            in_use: list[None] = in_use,
            wrong: list[str] = wrong,
        ) -> None:
            line.wait()
            with contextlib.suppress(HandleClosedError):
                for _ in range(20):
                    handle.dangerous_add_ref()
                    in_use.append(None)
                    if handle.is_closed:
                        wrong.append("closed in use")
                    in_use.pop()
                    handle.dangerous_release()

        def dispose(handle: Probe = handle, line: threading.Barrier = line) -> None:
            line.wait()
            handle.dispose()

        together([use] * 4 + [dispose])
        assert wrong == []
        assert released == [5]
        assert state(handle) == State(0, disposed=True, closed=True)


def racing_disposes(rounds: int) -> None:
    """Four threads dispose of the same handle at once, round by round."""
    for _ in range(rounds):
        released: list[int] = []
        handle = Probe(released)
        line = threading.Barrier(4)

        def dispose(handle: Probe = handle, line: threading.Barrier = line) -> None:
            line.wait()
            handle.dispose()

        together([dispose] * 4)
        assert released == [5]


def last_release_against_add_ref(rounds: int) -> None:
    """One thread releases the last reference while another adds one."""
    for _ in range(rounds):
        released: list[int] = []
        handle = Probe(released)
        handle.dangerous_add_ref()
        handle.dispose()
        line = threading.Barrier(2)
        late: list[bool] = []

        def add(
            handle: Probe = handle,
            line: threading.Barrier = line,
            late: list[bool] = late,
            released: list[int] = released,
        ) -> None:
            line.wait()
            try:
                handle.dangerous_add_ref()
            except HandleClosedError:
                late.append(False)
                return
            late.append(bool(released))
            handle.dangerous_release()

        def release(handle: Probe = handle, line: threading.Barrier = line) -> None:
            line.wait()
            handle.dangerous_release()

        together([add, release])
        assert late == [False]
        assert released == [5]
        assert handle.is_closed


def test_users_against_one_dispose() -> None:
    """Case 106: released exactly once a round, never while in use."""
    users_against_one_dispose(300)


def test_racing_disposes() -> None:
    """Case 107: released once each of 500 rounds."""
    racing_disposes(500)


def test_the_last_release_against_add_ref() -> None:
    """Case 108: success before the release began, or HandleClosedError."""
    last_release_against_add_ref(500)


def test_dispose_while_another_thread_reads(tmp_path: Path) -> None:
    """Case 109: dispose returns at once, the read completes, then it is closed."""
    reader, writer = SafePipeHandle.pair()
    fd = reader.handle
    answer: list[bytes] = []
    held = threading.Event()

    def read() -> None:
        with reader.hold() as number:
            held.set()
            answer.append(os.read(number, 1))

    thread = threading.Thread(target=read)
    thread.start()
    assert held.wait(60)
    reader.dispose()
    assert not reader.is_closed
    os.fstat(fd)
    assert answer == []
    os.write(writer.fileno(), b"x")
    thread.join(60)
    assert answer == [b"x"]
    assert reader.is_closed
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)
    writer.close()


def test_a_pending_number_is_not_given_to_another_file() -> None:
    """Case 110: while the read is under way another open gets another number."""
    reader, writer = SafePipeHandle.pair()
    fd = reader.handle
    held = threading.Event()

    def read() -> None:
        with reader.hold() as number:
            held.set()
            os.read(number, 1)

    thread = threading.Thread(target=read)
    thread.start()
    assert held.wait(60)
    reader.dispose()
    others = [SafeFileHandle.open("/dev/null", os.O_RDONLY) for _ in range(20)]
    assert fd not in [other.handle for other in others]
    writer.close()
    thread.join(60)
    for other in others:
        other.close()
    again = SafeFileHandle.open("/dev/null", os.O_RDONLY)
    assert again.handle <= fd
    again.close()


def test_dispose_in_a_signal_handler(run: Callable[..., Run]) -> None:
    """Case 111: wherever the signal falls, no deadlock and a consistent state."""
    result = run(
        """
        import signal
        from safehandle_debug import HandleClosedError, SafeHandle

        class Counted(SafeHandle):
            released = 0
            def __init__(self):
                super().__init__(-1)
                self.set_handle(5)
            @property
            def is_invalid(self):
                return False
            def release_handle(self):
                Counted.released += 1
                return True

        current = Counted()
        signals = 0

        def dispose(*_):
            global signals
            signals += 1
            current.dispose()

        signal.signal(signal.SIGALRM, dispose)
        signal.setitimer(signal.ITIMER_REAL, 0.0002, 0.0002)
        rounds = 0
        while signals < 2000:
            try:
                while True:
                    current.dangerous_add_ref()
                    current.dangerous_release()
            except HandleClosedError:
                assert current.is_closed
                current = Counted()
                rounds += 1
        signal.setitimer(signal.ITIMER_REAL, 0)
        current.dispose()
        assert Counted.released == rounds + 1, (Counted.released, rounds)
        print("ok")
        """,
        level="off",
    ).ok()
    assert result.lines == ["ok"]


@pytest.mark.skipif(not NO_GIL, reason="needs a free-threaded build of CPython")
@pytest.mark.parametrize(
    "scenario", [users_against_one_dispose, racing_disposes, last_release_against_add_ref]
)
def test_the_same_without_gil(scenario: Callable[[int], None]) -> None:
    """Case 112: cases 106 to 108 with threads that really run at once."""
    scenario(300)


def test_fork_while_another_thread_holds_references(run: Callable[..., Run]) -> None:
    """Case 113: the child disposes without deadlock; the count is as it was."""
    result = run(
        """
        import os, signal, threading
        from safehandle_debug import SafeFileHandle

        handle = SafeFileHandle.open("/dev/null", os.O_RDONLY)
        stop = threading.Event()
        held = threading.Event()

        def use():
            while not stop.is_set():
                with handle.hold():
                    held.set()

        users = [threading.Thread(target=use) for _ in range(3)]
        for user in users:
            user.start()
        held.wait()
        codes = []
        for _ in range(30):
            pid = os.fork()
            if pid == 0:
                signal.alarm(30)
                handle.dangerous_add_ref()
                handle.dangerous_release()
                handle.dispose()
                other = SafeFileHandle.open("/dev/null", os.O_RDONLY)
                other.close()
                os._exit(0 if other.is_closed else 1)
            codes.append(os.waitpid(pid, 0)[1])
        stop.set()
        for user in users:
            user.join()
        assert codes == [0] * 30, codes
        assert not handle.is_closed
        os.fstat(handle.handle)
        handle.close()
        assert handle.is_closed
        print("ok")
        """
    ).ok()
    assert result.lines == ["ok"]


def test_the_count_is_conserved_over_threads(released: list[int]) -> None:
    """Case 106: what four threads add and release cancels out."""
    handle = Probe(released)

    def use() -> None:
        for _ in range(2000):
            with handle.hold():
                pass

    together([use] * 4)
    assert refs(handle) == 1
    assert released == []


def together(targets: list[Callable[[], None]]) -> None:
    """Runs each target on a thread of its own and waits for all."""
    threads = [threading.Thread(target=target) for target in targets]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def test_signals_reach_the_handler() -> None:
    """Case 111: a handler that disposes of the handle whose block is interrupted."""
    released: list[int] = []
    handle = Probe(released)
    previous = signal.signal(signal.SIGUSR1, lambda *_: handle.dispose())
    try:
        with handle.hold():
            signal.raise_signal(signal.SIGUSR1)
            assert not handle.is_closed
            assert released == []
    finally:
        signal.signal(signal.SIGUSR1, previous)
    assert handle.is_closed
    assert released == [5]
