"""Invalid values, ownership, set_handle_as_invalid: cases 49 to 66."""

from __future__ import annotations

import gc
import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from support_handles import Probe, State, state
from support_programs import Run, recorded

from safehandle_debug import HandleClosedError, SafeFileHandle, _native


class Watched(Probe):
    """Counts how often its invalid test runs and what the test could see."""

    def __init__(self, released: list[int], owns_handle: bool = True) -> None:
        self.asked: list[bool] = []
        self.invalid = False
        self.error: Exception | None = None
        super().__init__(released, 5, owns_handle)
        self.asked.clear()

    @property
    def is_invalid(self) -> bool:
        self.asked.append(self.is_closed)
        if self.error is not None:
            raise self.error
        return self.invalid


def test_an_invalid_handle_closes_without_release(released: list[int]) -> None:
    """Case 49: closed, the hook not run."""
    handle = Probe(released, None)
    handle.dispose()
    assert handle.is_closed
    assert released == []


@pytest.mark.parametrize("last", ["dispose", "dangerous_release"])
def test_a_handle_that_became_invalid_is_not_released(released: list[int], last: str) -> None:
    """Case 50: what counts is the answer at the last release."""
    handle = Watched(released)
    handle.dangerous_add_ref()
    if last == "dangerous_release":
        handle.dispose()
    else:
        handle.dangerous_release()
    handle.invalid = True
    getattr(handle, last)()
    assert handle.is_closed
    assert released == []


def test_the_invalid_test_waits_for_the_last_release(released: list[int]) -> None:
    """Case 51: other releases do not ask."""
    handle = Watched(released)
    handle.dangerous_add_ref()
    handle.dangerous_add_ref()
    handle.dangerous_release()
    handle.dispose()
    assert handle.asked == []
    handle.dangerous_release()
    assert handle.asked != []
    assert released == [5]


def test_a_borrowed_handle_is_never_asked(released: list[int]) -> None:
    """Case 52: without ownership the answer does not matter."""
    handle = Watched(released, owns_handle=False)
    handle.dangerous_add_ref()
    handle.dispose()
    handle.dangerous_release()
    assert handle.is_closed
    assert handle.asked == []
    assert released == []


def test_the_invalid_test_sees_an_open_handle(released: list[int]) -> None:
    """Case 53: it is asked before the handle is closed."""
    by_dispose, by_release = Watched(released), Watched(released)
    by_dispose.dispose()
    by_release.dangerous_add_ref()
    by_release.dispose()
    by_release.dangerous_release()
    assert set(by_dispose.asked) == set(by_release.asked) == {False}


@pytest.mark.parametrize("act", ["dispose", "close"])
def test_a_failing_invalid_test_leaves_the_handle_open(released: list[int], act: str) -> None:
    """Case 54: the error reaches the caller, nothing changed."""
    handle = Watched(released)
    before = state(handle)
    handle.error = LookupError("no answer")
    with pytest.raises(LookupError, match="no answer"):
        getattr(handle, act)()
    assert state(handle) == before == State(1, disposed=False, closed=False)
    assert released == []
    handle.error = None


def test_a_repaired_invalid_test_lets_it_close(released: list[int]) -> None:
    """Case 55: the second try releases once."""
    handle = Watched(released)
    handle.error = LookupError("no answer")
    with pytest.raises(LookupError):
        handle.dispose()
    handle.error = None
    handle.dispose()
    assert handle.is_closed
    assert released == [5]


def test_a_failing_invalid_test_in_a_finalizer(
    released: list[int], unraisable: list[BaseException | None], no_automatic_gc: None
) -> None:
    """Case 56: reported, and the release is attempted all the same."""
    error = LookupError("no answer")
    handle = Watched(released)
    handle.error = error
    del handle
    assert error in unraisable
    assert released == [5]
    cycle: list[object] = [Watched(released)]
    cycle[0].error = error  # type: ignore[attr-defined]
    cycle.append(cycle)
    unraisable.clear()
    del cycle
    gc.collect()
    assert error in unraisable
    assert released == [5, 5]


def test_a_borrowed_handle_is_never_released(released: list[int]) -> None:
    """Case 57: closed by dispose and by the last release; dropped without trace."""
    disposed = Probe(released, 5, owns_handle=False)
    disposed.dispose()
    assert disposed.is_closed
    last = Probe(released, 5, owns_handle=False)
    last.dangerous_add_ref()
    last.dispose()
    last.dangerous_release()
    assert last.is_closed
    Probe(released, 5, owns_handle=False)
    cycle: list[object] = [Probe(released, 5, owns_handle=False)]
    cycle.append(cycle)
    del disposed, last, cycle
    gc.collect()
    assert released == []


def test_a_borrowed_handle_never_leaks(released: list[int], tmp_path: Path) -> None:
    """Case 58: recorded as borrowed and not counted as open."""
    mark = _native.newest_serial()
    with recorded(tmp_path) as told:
        handle = Probe(released, 5, owns_handle=False)
        assert _native.open_since(mark) == []
        del handle
    assert all(history.borrowed for history in told[0].handles)
    assert _native.open_since(mark) == []


def test_a_borrowed_handle_used_after_its_owner_closed(tmp_path: Path) -> None:
    """Case 59: the recording shows the use after the owner's close."""
    with recorded(tmp_path) as told:
        owner = SafeFileHandle.open("/dev/null", os.O_RDONLY)
        borrowed = SafeFileHandle(owner.handle, owns_handle=False)
        owner.close()
        with borrowed.hold():
            pass
    (owned,) = [history for history in told[0].handles if not history.borrowed]
    (lent,) = [history for history in told[0].handles if history.borrowed]
    assert (lent.space, lent.value) == (owned.space, owned.value)
    closed = next(event for event in owned.events if event.kind == "close")
    used = next(event for event in lent.events if event.kind == "add-ref")
    assert closed.seq < used.seq
    assert used.stack[0].function == "test_a_borrowed_handle_used_after_its_owner_closed"


def test_set_as_invalid_closes_without_release(released: list[int]) -> None:
    """Case 60: closed, value and validity unchanged, not released."""
    handle = Probe(released)
    handle.set_handle_as_invalid()
    assert handle.is_closed
    assert handle.handle == 5
    assert not handle.is_invalid
    assert released == []


def test_what_was_set_as_invalid_is_never_released(run: Callable[..., Run]) -> None:
    """Case 61: disposed and dropped the descriptor stays, and it is told why."""
    result = run(
        """
        import gc, os
        from safehandle_debug import SafeFileHandle

        handle = SafeFileHandle.open("/dev/null", os.O_RDONLY)
        fd = handle.handle
        handle.set_handle_as_invalid()
        handle.dispose()
        del handle
        gc.collect()
        os.fstat(fd)
        print(fd)
        """
    ).ok()
    (history,) = result.first().handles
    assert [str(history.value)] == result.lines
    (event,) = [event for event in history.events if event.kind == "invalidate"]
    assert event.stack[0].file.endswith("program.py")


def test_an_invalidated_handle_cannot_be_referenced(released: list[int]) -> None:
    """Case 62: HandleClosedError for add_ref and hold."""
    handle = Probe(released)
    handle.dangerous_add_ref()
    handle.set_handle_as_invalid()
    with pytest.raises(HandleClosedError):
        handle.dangerous_add_ref()
    with pytest.raises(HandleClosedError):
        handle.hold()
    assert state(handle).refs == 2


def test_references_of_an_invalidated_handle_can_be_released(released: list[int]) -> None:
    """Case 63: twice without error, then HandleClosedError; never released."""
    handle = Probe(released)
    handle.dangerous_add_ref()
    handle.set_handle_as_invalid()
    handle.dangerous_release()
    handle.dangerous_release()
    with pytest.raises(HandleClosedError):
        handle.dangerous_release()
    assert released == []


def test_an_invalidated_and_disposed_handle_has_no_reference(released: list[int]) -> None:
    """Case 64: HandleClosedError for the next release."""
    handle = Probe(released)
    handle.set_handle_as_invalid()
    handle.dispose()
    with pytest.raises(HandleClosedError):
        handle.dangerous_release()
    assert released == []


def test_a_closed_handle_can_be_set_as_invalid(released: list[int]) -> None:
    """Case 65: silent, any number of times."""
    handle = Probe(released)
    handle.dispose()
    before = state(handle)
    handle.set_handle_as_invalid()
    handle.set_handle_as_invalid()
    assert state(handle) == before
    assert released == [5]


@pytest.mark.parametrize("round_", range(10))
def test_invalidating_while_the_last_reference_goes(round_: int, fast_switching: None) -> None:
    """Case 66: released once or not at all, never twice."""
    outcomes = set()
    for _ in range(100):
        released: list[int] = []
        handle = Probe(released)
        handle.dangerous_add_ref()
        handle.dispose()
        line = threading.Barrier(2)

        def invalidate(handle: Probe = handle, line: threading.Barrier = line) -> None:
            line.wait()
            handle.set_handle_as_invalid()

        thread = threading.Thread(target=invalidate)
        thread.start()
        line.wait()
        handle.dangerous_release()
        thread.join()
        assert handle.is_closed
        assert len(released) <= 1
        outcomes.add(len(released))
    assert outcomes <= {0, 1}
