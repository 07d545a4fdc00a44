"""dispose() and close(): cases 35 to 48."""

from __future__ import annotations

import gc
import os
import threading
import weakref
from collections.abc import Callable
from pathlib import Path

import pytest
from support_handles import Probe, State, state
from support_programs import recorded

from safehandle_debug import HandleClosedError, SafeFileHandle, SafeHandle, _native

Close = Callable[[SafeHandle], object]
WAYS = pytest.mark.parametrize(
    "close",
    [
        lambda handle: handle.dispose(),
        lambda handle: handle.close(),
        lambda handle: handle.__exit__(None, None, None),
    ],
    ids=["dispose", "close", "exit"],
)


def test_dispose_closes_and_releases(released: list[int]) -> None:
    """Case 35: closed, released once, the value still readable."""
    handle = Probe(released)
    handle.dispose()
    assert handle.is_closed
    assert released == [5]
    assert handle.handle == 5


def test_close_is_dispose(released: list[int]) -> None:
    """Case 36: the same by the other name."""
    one, other = Probe(released, 5), Probe(released, 6)
    one.close()
    other.dispose()
    assert state(one) == state(other) == State(0, disposed=True, closed=True)
    assert released == [5, 6]


@WAYS
def test_closing_again_is_silent(released: list[int], close: Close) -> None:
    """Case 37: any number of times, released once, no finding."""
    handle = Probe(released)
    handle.dispose()
    before = _native.problem_count()
    for _ in range(5):
        close(handle)
    assert released == [5]
    assert _native.problem_count() == before


@WAYS
def test_dispose_waits_for_references(released: list[int], close: Close) -> None:
    """Case 38: with a reference out it is not closed yet."""
    handle = Probe(released)
    handle.dangerous_add_ref()
    close(handle)
    assert not handle.is_closed
    assert released == []
    assert state(handle) == State(1, disposed=True, closed=False)
    handle.dangerous_release()
    assert released == [5]


def test_a_pending_handle_can_still_be_referenced(released: list[int]) -> None:
    """Case 39: add_ref succeeds until it is closed."""
    handle = Probe(released)
    handle.dangerous_add_ref()
    handle.dispose()
    handle.dangerous_add_ref()
    assert state(handle) == State(2, disposed=True, closed=False)
    with handle.hold() as value:
        assert value == 5
    handle.dangerous_release()
    assert released == []
    handle.dangerous_release()
    assert released == [5]


def test_a_pending_handle_can_still_be_used() -> None:
    """Case 40: the descriptor of a pending handle answers."""
    handle = SafeFileHandle.open("/dev/zero", os.O_RDONLY)
    handle.dangerous_add_ref()
    handle.dispose()
    with handle.hold() as fd:
        assert os.read(fd, 3) == b"\0\0\0"
    assert os.read(handle.fileno(), 2) == b"\0\0"
    fd = handle.handle
    handle.dangerous_release()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)
    with pytest.raises(HandleClosedError):
        handle.fileno()


def test_disposing_a_pending_handle_changes_nothing(released: list[int]) -> None:
    """Case 41: the count belongs to those who hold it."""
    handle = Probe(released)
    handle.dangerous_add_ref()
    handle.dangerous_add_ref()
    handle.dispose()
    before = state(handle)
    for _ in range(3):
        handle.dispose()
    assert state(handle) == before == State(2, disposed=True, closed=False)
    handle.dangerous_release()
    handle.dangerous_release()
    assert released == [5]


def test_the_last_release_runs_the_hook_on_its_thread(released: list[int]) -> None:
    """Case 42: closed and released by the releasing thread."""
    handle = Probe(released)
    ran_on: list[int] = []
    handle.during = lambda _: ran_on.append(threading.get_ident())
    handle.dangerous_add_ref()
    handle.dispose()
    thread = threading.Thread(target=handle.dangerous_release)
    thread.start()
    thread.join()
    assert handle.is_closed
    assert released == [5]
    assert ran_on == [thread.ident]


class Overriding(Probe):
    """Notes how dispose was called, then does what its base does."""

    def __init__(self, released: list[int], calls: list[bool]) -> None:
        super().__init__(released)
        self.calls = calls

    def dispose(self, disposing: bool = True) -> None:
        self.calls.append(disposing)
        super().dispose(disposing)


def test_an_overridden_dispose_is_called_each_time(released: list[int]) -> None:
    """Case 43: close, dispose and the with block all go through it with True."""
    calls: list[bool] = []
    handle = Overriding(released, calls)
    handle.close()
    handle.close()
    handle.dispose()
    with handle:
        pass
    assert calls == [True] * 4
    assert released == [5]


def test_a_finalizer_calls_dispose_with_false(released: list[int], no_automatic_gc: None) -> None:
    """Case 44: dropped and collected handles go through it with False."""
    calls: list[bool] = []
    Overriding(released, calls)
    assert calls == [False]
    cycle: list[object] = [Overriding(released, calls)]
    cycle.append(cycle)
    del cycle
    gc.collect()
    assert calls == [False, False]
    assert released == [5, 5]


def test_an_override_that_forgets_its_base_is_backed_up(
    released: list[int], tmp_path: Path
) -> None:
    """Case 45: disposed without effect, released by the last resort and told."""

    class Forgetful(Probe):
        def dispose(self, disposing: bool = True) -> None:
            pass

    with recorded(tmp_path) as told:
        handle = Forgetful(released)
        handle.close()
        assert not handle.is_closed
        assert released == []
        del handle
    assert released == [5]
    (history,) = told[0].owned_by("Forgetful")
    assert history.ending == "dropped"


def test_the_with_block_closes(released: list[int], tmp_path: Path) -> None:
    """Case 46: once, at a normal end and at an error, which goes on."""
    with recorded(tmp_path) as told:
        handle = Probe(released)
        with handle as entered:
            assert entered is handle
            assert released == []
        assert released == [5]
        with pytest.raises(LookupError, match="body"), Probe(released, 6):
            raise LookupError("body")
        assert released == [5, 6]
    assert [history.ending for history in told[0].owned_by("Probe")] == ["exited", "exited"]


def test_a_handle_closed_inside_its_with_block(released: list[int]) -> None:
    """Case 47: leaving is silent."""
    before = _native.problem_count()
    with Probe(released) as handle:
        handle.close()
    assert released == [5]
    assert _native.problem_count() == before


def test_dispose_does_not_end_the_object(released: list[int]) -> None:
    """Case 48: a weak reference dies with the object, not with the resource."""
    called: list[object] = []
    handle = Probe(released)
    reference = weakref.ref(handle, called.append)
    handle.dispose()
    assert called == []
    assert reference() is handle
    del handle
    assert called == [reference]
    assert reference() is None
    assert released == [5]
