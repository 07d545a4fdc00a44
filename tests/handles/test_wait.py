"""Wait handles, events and semaphores, waits for several, and asyncio."""

from __future__ import annotations

import errno
import multiprocessing
import os
import pickle
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support_handles import refs
from support_programs import recorded, run_program
from support_waiting import answer, open_fds, until

from safehandle_debug import (
    AutoResetEvent,
    HandleClosedError,
    ManualResetEvent,
    NullHandleError,
    SafeFileHandle,
    SafeHandle,
    SafePipeHandle,
    SafeProcessHandle,
    SafeWaitHandle,
    Semaphore,
    WaitHandle,
    _native,
    wait_all,
    wait_any,
)


@pytest.fixture(autouse=True)
def _nothing_is_left() -> Iterator[None]:
    """Every test closes what it opens."""
    live = _native.live_count()
    yield
    assert _native.live_count() == live


# --- SafeWaitHandle ---


def test_event() -> None:
    with SafeWaitHandle.event() as event:
        assert not os.get_inheritable(event.fileno())
        assert not event.wait(0)
        assert event.take() == 0
        event.set()
        event.set(4)
        assert event.wait()
        assert event.wait(0)
        assert event.take() == 5
        assert not event.wait(0)


def test_event_with_an_initial_count() -> None:
    with SafeWaitHandle.event(3) as event:
        assert event.wait(take=True)
        assert not event.wait(0)


def test_semaphore_mode_takes_one() -> None:
    with SafeWaitHandle.event(2, semaphore=True) as event:
        assert [event.take(), event.take(), event.take()] == [1, 1, 0]


@pytest.mark.parametrize("initial", [-1, 2**32, 2**70])
def test_event_refuses_counts(initial: int) -> None:
    with pytest.raises((ValueError, OverflowError)):
        SafeWaitHandle.event(initial)


@pytest.mark.parametrize("count", [0, -1])
def test_set_refuses_counts(count: int) -> None:
    with SafeWaitHandle.event() as event, pytest.raises(ValueError, match="at least 1"):
        event.set(count)


def test_a_full_count_is_an_error_and_no_hang() -> None:
    with SafeWaitHandle.event(1) as event:
        event.set(2**63 - 1)
        with pytest.raises(OverflowError):
            event.set(2**63 - 1)
        assert event.take() == 2**63


def test_timer() -> None:
    with SafeWaitHandle.timer(0.01) as timer:
        assert timer.wait()
        assert timer.take() == 1
        assert not timer.wait(0)
        timer.arm(0)
        assert timer.wait(take=True)


def test_timer_ticks() -> None:
    with SafeWaitHandle.timer(0.001, 0.001) as timer:
        seen = 0
        while seen < 5:
            assert timer.wait(60)
            seen += timer.take()
        timer.arm(None)
        timer.take()
        assert not timer.wait(0)


@pytest.mark.parametrize("seconds", [-1, float("nan"), float("inf"), 1e300])
def test_timer_refuses_times(seconds: float) -> None:
    fds = open_fds()
    with pytest.raises(ValueError, match="seconds"):
        SafeWaitHandle.timer(seconds)
    with pytest.raises(ValueError, match="interval"):
        SafeWaitHandle.timer(1, seconds)
    assert open_fds() == fds


def test_a_timer_is_not_set_and_an_event_not_armed() -> None:
    with SafeWaitHandle.timer(100) as timer, pytest.raises(OSError, match="Invalid") as caught:
        timer.set()
    assert caught.value.errno == errno.EINVAL
    with SafeWaitHandle.event() as event, pytest.raises(OSError, match="Invalid"):
        event.arm(1)


@pytest.mark.parametrize("timeout", [-1, -0.001, float("nan")])
def test_timeouts_are_not_negative(timeout: float) -> None:
    with SafeWaitHandle.event() as event, pytest.raises(ValueError, match="timeout"):
        event.wait(timeout)


@pytest.mark.parametrize("timeout", ["1", [], object()])
def test_timeouts_are_numbers(timeout: object) -> None:
    with SafeWaitHandle.event() as event, pytest.raises(TypeError):
        event.wait(timeout)  # type: ignore[arg-type]


@pytest.mark.parametrize("timeout", [None, float("inf"), 1e30])
def test_timeouts_beyond_all_bounds_are_for_ever(timeout: float | None) -> None:
    with SafeWaitHandle.event(1) as event:
        assert event.wait(timeout)


def test_duplicates_share_the_event() -> None:
    with SafeWaitHandle.event() as event:
        twin = event.duplicate()
        assert twin.handle != event.handle
        assert not os.get_inheritable(twin.fileno())
        twin.set()
        twin.close()
        assert event.take() == 1


@pytest.mark.parametrize(
    "use",
    [
        lambda event: event.wait(0),
        lambda event: event.take(),
        lambda event: event.set(),
        lambda event: event.arm(1),
        lambda event: event.duplicate(),
        lambda event: event.fileno(),
    ],
)
def test_a_closed_handle_is_not_waited_for(use: Callable[[SafeWaitHandle], object]) -> None:
    event = SafeWaitHandle.event()
    event.close()
    live = _native.live_count()
    with pytest.raises(HandleClosedError):
        use(event)
    assert _native.live_count() == live


def test_an_invalid_handle_is_an_error_and_no_hang() -> None:
    event = SafeWaitHandle()
    with pytest.raises(OSError, match="Bad file descriptor"):
        event.wait()
    assert refs(event) == 1


def test_a_descriptor_closed_behind_the_handle_is_an_error_and_no_hang() -> None:
    event = SafeWaitHandle.event()
    os.close(event.handle)
    with pytest.raises(OSError, match="Bad file descriptor"):
        event.wait()
    event.set_handle_as_invalid()


def test_waiting_lets_other_threads_run() -> None:
    with SafeWaitHandle.event() as event:
        setter = threading.Thread(target=event.set)
        setter.start()
        assert event.wait(60)
        setter.join(60)


def test_a_signal_interrupts_a_wait(tmp_path: Path) -> None:
    """A handler that returns does not end the wait; one that raises does."""
    result = run_program(
        """
        import signal
        from safehandle_debug import SafeWaitHandle, _native

        ticks = []
        event = SafeWaitHandle.event()

        def note(*_):
            ticks.append(1)
            if len(ticks) == 5:
                event.set()

        signal.signal(signal.SIGALRM, note)
        signal.setitimer(signal.ITIMER_REAL, 0.01, 0.01)
        assert event.wait()
        assert len(ticks) >= 5
        signal.setitimer(signal.ITIMER_REAL, 0)
        event.take()

        class Stop(Exception):
            pass

        def stop(*_):
            raise Stop

        signal.signal(signal.SIGALRM, stop)
        signal.setitimer(signal.ITIMER_REAL, 0.02)
        try:
            event.wait()
        except Stop:
            print("stopped")
        event.close()
        assert event.is_closed and _native.live_count() == 0
        """,
        tmp_path,
    ).ok()
    assert result.lines == ["stopped"]


def test_recorded_as_what_it_is(tmp_path: Path) -> None:
    with recorded(tmp_path) as told:
        SafeWaitHandle.event().close()
        SafeWaitHandle.event(semaphore=True).close()
        SafeWaitHandle.timer(1).close()
    assert [(h.kind, h.detail, h.ending) for h in told[0].handles] == [
        ("wait", "event", "closed"),
        ("wait", "semaphore", "closed"),
        ("wait", "timer", "closed"),
    ]


# --- events and semaphores ---


def test_a_manual_event_lets_all_pass() -> None:
    with ManualResetEvent() as event:
        assert not event.is_set()
        assert not event.wait(0)
        event.set()
        event.set()
        assert event.is_set()
        assert event.wait(0)
        assert event.wait()
        event.reset()
        event.reset()
        assert not event.wait(0)


def test_an_automatic_event_lets_one_pass() -> None:
    with AutoResetEvent(True) as event:
        event.set()
        event.set()
        assert event.wait()
        assert not event.wait(0)
        event.set()
        event.reset()
        assert not event.wait(0)


def test_a_semaphore_counts() -> None:
    with Semaphore(1) as semaphore:
        semaphore.release(2)
        assert [semaphore.wait(0) for _ in range(4)] == [True, True, True, False]


def test_an_automatic_event_between_many_threads() -> None:
    """Each set lets exactly one of the waits pass."""
    with AutoResetEvent() as event, Semaphore() as passed:

        def wait() -> None:
            if event.wait(60):
                passed.release()

        threads = [threading.Thread(target=wait) for _ in range(8)]
        for thread in threads:
            thread.start()
        for _ in threads:
            assert not passed.wait(0)
            event.set()
            assert passed.wait(60)
        for thread in threads:
            thread.join(60)


def test_a_wait_handle_takes_any_descriptor_handle() -> None:
    reader, writer = SafePipeHandle.pair()
    with reader, writer:
        handle = WaitHandle(reader)
        assert not handle.wait(0)
        os.write(writer.fileno(), b"x")
        assert handle.wait()
        assert handle.fileno() == reader.fileno()


def test_a_timer_is_waited_for() -> None:
    with WaitHandle(SafeWaitHandle.timer(0.01)) as timer:
        assert timer.wait(60)


def test_the_with_block_closes(tmp_path: Path) -> None:
    with recorded(tmp_path) as told, ManualResetEvent() as event:
        pass
    assert event.is_closed
    (history,) = told[0].handles
    assert history.ending == "exited"


@pytest.mark.parametrize("kind", [ManualResetEvent, AutoResetEvent, Semaphore])
def test_adopting_a_number(kind: type[ManualResetEvent]) -> None:
    """A number from another program becomes an event that shares the count."""
    with SafeWaitHandle.event(semaphore=kind is Semaphore) as event:
        number = os.dup(event.fileno())
        with kind(handle=SafeWaitHandle(number)) as adopted:
            event.set()
            assert adopted.wait(60)
        assert event.take() == (1 if kind is ManualResetEvent else 0)


@pytest.mark.parametrize("wrong", [3, "3", object(), threading.Event()])
def test_what_is_no_handle_is_refused(wrong: object) -> None:
    with pytest.raises(TypeError):
        WaitHandle(wrong)  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        wait_any([wrong], 0)  # type: ignore[list-item]


def test_none_is_refused() -> None:
    with pytest.raises(NullHandleError):
        WaitHandle(None)  # type: ignore[arg-type]
    with ManualResetEvent() as event:
        with pytest.raises(NullHandleError):
            event.safe_wait_handle = None  # type: ignore[assignment]
        with pytest.raises(NullHandleError):
            wait_all([event, None], 0)  # type: ignore[list-item]
        assert refs(event.safe_wait_handle) == 1


def test_what_is_no_descriptor_is_refused() -> None:
    class Number(SafeHandle):
        @property
        def is_invalid(self) -> bool:
            return False

        def release_handle(self) -> bool:
            return True

    number = Number(-1)
    with pytest.raises(TypeError, match="no descriptor"):
        wait_any([number], 0)
    assert refs(number) == 1


def test_waiting_for_a_file_is_no_wait(tmp_path: Path) -> None:
    """An ordinary file is always ready, as poll(2) has it."""
    with SafeFileHandle.open(tmp_path / "file", os.O_RDWR | os.O_CREAT) as file:
        assert WaitHandle(file).wait(0)


# --- several ---


def test_any_is_the_first_that_is_signalled() -> None:
    with ManualResetEvent() as one, AutoResetEvent() as two, Semaphore() as three:
        assert wait_any([one, two, three], 0) is None
        three.release()
        two.set()
        assert wait_any([one, two, three]) == 1
        assert wait_any([one, two, three]) == 2
        assert wait_any([one, two, three], 0) is None
        one.set()
        assert wait_any(iter([one, two])) == 0
        assert wait_any(iter([one, two])) == 0


def test_any_takes_from_one_only() -> None:
    with AutoResetEvent(True) as one, AutoResetEvent(True) as two:
        assert wait_any([one, two]) == 0
        assert two.wait(0)


def test_any_of_events_and_processes() -> None:
    with SafeProcessHandle.spawn(["sleep", "60"]) as process, ManualResetEvent() as stop:
        assert wait_any([process, stop], 0) is None
        stop.set()
        assert wait_any([process, stop]) == 1
        process.send_signal(signal.SIGTERM)
        assert wait_any([process]) == 0
        assert process.wait() == -signal.SIGTERM


def test_all_takes_from_all_at_once() -> None:
    with AutoResetEvent() as one, Semaphore(2) as two, ManualResetEvent(True) as three:
        assert not wait_all([one, two, three], 0.01)
        one.set()
        assert wait_all([one, two, three])
        assert not one.wait(0)
        assert two.wait(0)
        assert not two.wait(0)
        assert three.wait(0)


@pytest.mark.parametrize("missing", [0, 1, 2])
def test_all_takes_nothing_until_it_has_all(missing: int) -> None:
    """While one is missing, the others stay signalled: during the wait and after it."""
    events = [AutoResetEvent(number != missing) for number in range(3)]
    done: list[bool] = []
    waiting = threading.Thread(target=lambda: done.append(wait_all(events, 60)))
    waiting.start()
    until(lambda: refs(events[missing].safe_wait_handle) == 2)
    for number, event in enumerate(events):
        assert event.safe_wait_handle.handle >= 0
        handle = event.safe_wait_handle
        assert isinstance(handle, SafeWaitHandle)
        assert handle.wait(0) == (number != missing)
    assert done == []
    events[missing].set()
    waiting.join(60)
    assert done == [True]
    assert [event.wait(0) for event in events] == [False] * 3
    for event in events:
        event.close()


def test_all_gives_back_what_somebody_else_was_faster_for() -> None:
    """Two that need the same pair, and one that takes single ones: every signal is
    used once, none is lost."""
    rounds = 200
    with Semaphore() as one, Semaphore() as two, Semaphore() as pairs:

        def take_pairs(first: Semaphore, second: Semaphore) -> None:
            while wait_all([first, second, go], 60) and not stop.is_set():
                pairs.release()

        with ManualResetEvent(True) as go, ManualResetEvent() as stop:
            threads = [
                threading.Thread(target=take_pairs, args=(one, two)),
                threading.Thread(target=take_pairs, args=(two, one)),
            ]
            for thread in threads:
                thread.start()
            for _ in range(rounds):
                one.release()
                two.release()
            for _ in range(rounds):
                assert pairs.wait(60)
            assert not one.wait(0)
            assert not two.wait(0)
            assert not pairs.wait(0)
            stop.set()
            one.release(2)
            two.release(2)
            for thread in threads:
                thread.join(60)


def test_all_over_two_handles_of_one_event_ends() -> None:
    """What can never be had twice at once is waited for until the deadline, and kept."""
    with AutoResetEvent(True) as event:
        handle = event.safe_wait_handle
        assert isinstance(handle, SafeWaitHandle)
        with AutoResetEvent(handle=handle.duplicate()) as twin:
            assert not wait_all([event, twin], 0.05)
        assert event.wait(0)


def test_a_timer_that_was_taken_in_vain_is_given_back() -> None:
    class Ticks(WaitHandle):
        _takes = True

    with Ticks(SafeWaitHandle.timer(0)) as timer, AutoResetEvent(True) as event:
        handle = event.safe_wait_handle
        assert isinstance(handle, SafeWaitHandle)
        with AutoResetEvent(handle=handle.duplicate()) as twin:
            assert timer.safe_wait_handle.handle >= 0
            assert not wait_all([timer, event, twin], 0.05)
        assert WaitHandle(timer.safe_wait_handle).wait(0)


@pytest.mark.parametrize("wait", [wait_any, wait_all])
def test_several_must_be_some(wait: Callable[..., object]) -> None:
    with pytest.raises(ValueError, match="at least one"):
        wait([])


def test_all_refuses_the_same_twice() -> None:
    with ManualResetEvent(True) as event:
        with pytest.raises(ValueError, match="twice"):
            wait_all([event, event])
        assert refs(event.safe_wait_handle) == 1
        assert wait_any([event, event]) == 0


def test_many() -> None:
    events = [AutoResetEvent() for _ in range(200)]
    events[177].set()
    assert wait_any(events) == 177
    for event in events:
        event.set()
    assert wait_all(events)
    for event in events:
        event.close()


def test_an_interrupt_takes_nothing(tmp_path: Path) -> None:
    """wait_all interrupted again and again: the one signal that is there stays."""
    result = run_program(
        """
        import signal
        from safehandle_debug import AutoResetEvent, wait_all

        class Stop(Exception):
            pass

        def stop(*_):
            raise Stop

        signal.signal(signal.SIGALRM, stop)
        one, two = AutoResetEvent(True), AutoResetEvent()
        for _ in range(50):
            try:
                signal.setitimer(signal.ITIMER_REAL, 0.001, 0.5)  # again, if it came too soon
                wait_all([one, two])
            except Stop:
                signal.setitimer(signal.ITIMER_REAL, 0)
        assert one.wait(0) and not two.wait(0)
        print("kept")
        """,
        tmp_path,
        level=None,
    ).ok()
    assert result.lines == ["kept"]


# --- processes ---


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_between_processes(method: str) -> None:
    """As arguments of a multiprocessing process, however that is started."""
    context = multiprocessing.get_context(method)
    with ManualResetEvent() as question, AutoResetEvent() as reply, Semaphore() as count:
        process = context.Process(target=answer, args=(question, reply, count))
        process.start()
        assert not reply.wait(0)
        question.set()
        assert wait_all([reply, count], 60)
        process.join(60)
        assert process.exitcode == 0
        assert [count.wait(0) for _ in range(3)] == [True, True, False]
        process.close()


def test_between_programs() -> None:
    """By number: inherited by a program that adopts it."""
    program = (
        "import sys; from safehandle_debug import ManualResetEvent, SafeWaitHandle;"
        "ManualResetEvent(handle=SafeWaitHandle(int(sys.argv[1]))).set()"
    )
    with ManualResetEvent() as event:
        with SafeProcessHandle.spawn(
            [sys.executable, "-c", program, str(event.fileno())], pass_fds=[event]
        ) as process:
            assert process.wait(60) == 0
        assert event.wait(0)


def test_not_pickled_otherwise() -> None:
    with ManualResetEvent() as event, pytest.raises(TypeError, match="when that is started"):
        pickle.dumps(event)
