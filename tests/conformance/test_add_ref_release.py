"""Adding and releasing references: cases 17 to 34."""

from __future__ import annotations

import gc
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from support_handles import Probe, State, refs, set_refs, state
from support_programs import Run, recorded

from safehandle_debug import HandleClosedError, HandleOverflowError, _native

MOST_REFS = 2**30 - 1
TRIES = 10


def test_add_ref_counts_one_more(released: list[int]) -> None:
    """Case 17: one reference more, no error."""
    handle = Probe(released)
    assert handle.dangerous_add_ref() is None  # type: ignore[func-returns-value]
    assert refs(handle) == 2


def test_release_counts_one_less(released: list[int]) -> None:
    """Case 18: one reference less, still open."""
    handle = Probe(released)
    handle.dangerous_add_ref()
    handle.dangerous_release()
    assert state(handle) == State(1, disposed=False, closed=False)
    assert released == []


def test_two_added_two_released(released: list[int]) -> None:
    """Case 19: back at one reference, open."""
    handle = Probe(released)
    handle.dangerous_add_ref()
    handle.dangerous_add_ref()
    assert refs(handle) == 3
    handle.dangerous_release()
    handle.dangerous_release()
    assert state(handle) == State(1, disposed=False, closed=False)
    assert released == []


def test_added_and_released_again_and_again(released: list[int]) -> None:
    """Case 20: a balanced pair can be repeated."""
    handle = Probe(released)
    before = _native.problem_count()
    for _ in range(100):
        handle.dangerous_add_ref()
        handle.dangerous_release()
    assert state(handle) == State(1, disposed=False, closed=False)
    assert _native.problem_count() == before


def test_an_invalid_handle_can_be_referenced(released: list[int]) -> None:
    """Case 21: invalid is not closed."""
    handle = Probe(released, None)
    handle.dangerous_add_ref()
    assert refs(handle) == 2
    handle.dangerous_release()
    assert not handle.is_closed


def test_a_closed_handle_cannot_be_referenced(released: list[int]) -> None:
    """Case 22: HandleClosedError, the count unchanged."""
    handle = Probe(released)
    handle.dispose()
    before = state(handle)
    for _ in range(3):
        with pytest.raises(HandleClosedError):
            handle.dangerous_add_ref()
    assert state(handle) == before
    assert released == [5]


def test_a_refused_hold_has_nothing_to_drop(released: list[int]) -> None:
    """Case 23: hold() of a closed handle raises before there is a block to leave."""
    handle = Probe(released)
    handle.dispose()
    before = state(handle), _native.problem_count()
    entered = False
    with pytest.raises(HandleClosedError), handle.hold():
        entered = True
    assert not entered
    gc.collect()
    assert (state(handle), _native.problem_count()) == before


def test_releasing_the_initial_reference_closes(released: list[int]) -> None:
    """Case 24: closed, released once, and recorded as one release too many."""
    handle = Probe(released)
    before = _native.problem_count()
    handle.dangerous_release()
    assert handle.is_closed
    assert released == [5]
    assert _native.problem_count() == before + 1


def test_disposing_after_an_over_release_is_silent(released: list[int]) -> None:
    """Case 25: no error, no second release."""
    handle = Probe(released)
    handle.dangerous_release()
    handle.dispose()
    handle.close()
    assert released == [5]


def test_dropping_after_an_over_release_is_harmless(
    released: list[int], unraisable: list[BaseException | None], tmp_path: Path
) -> None:
    """Case 26: no crash; the recording has the stacks of both sides."""
    with recorded(tmp_path) as told:
        handle = _acquire(released)
        _release_too_often(handle)
        del handle
        gc.collect()
    assert released == [5]
    assert unraisable == []
    (history,) = told[0].owned_by("Probe")
    assert any(frame.function == "_acquire" for frame in history.opened)
    (event,) = [event for event in history.events if event.kind == "double-release"]
    assert event.stack[0].function == "_release_too_often"


def test_a_disposed_handle_cannot_be_released(released: list[int]) -> None:
    """Case 27: HandleClosedError."""
    handle = Probe(released)
    handle.dispose()
    with pytest.raises(HandleClosedError):
        handle.dangerous_release()
    assert released == [5]


def test_the_second_release_too_many_raises(released: list[int]) -> None:
    """Case 28: the first closes, the second raises."""
    handle = Probe(released)
    handle.dangerous_release()
    with pytest.raises(HandleClosedError):
        handle.dangerous_release()
    assert released == [5]


def test_the_last_release_of_a_disposed_handle_closes(released: list[int]) -> None:
    """Case 29: the first release closes, the next raises."""
    handle = Probe(released)
    handle.dangerous_add_ref()
    handle.dispose()
    assert released == []
    handle.dangerous_release()
    assert released == [5]
    assert handle.is_closed
    with pytest.raises(HandleClosedError):
        handle.dangerous_release()
    assert released == [5]


def test_the_count_never_wraps(released: list[int]) -> None:
    """Case 30: one reference beyond the most is refused, the state unchanged."""
    handle = Probe(released)
    set_refs(handle, MOST_REFS - 1)
    handle.dangerous_add_ref()
    full = state(handle)
    assert full.refs == MOST_REFS
    for _ in range(3):
        with pytest.raises(HandleOverflowError):
            handle.dangerous_add_ref()
        with pytest.raises(HandleOverflowError):
            handle.hold()
    assert state(handle) == full
    set_refs(handle, 1)


def test_nothing_is_released_while_references_are_out(released: list[int]) -> None:
    """Case 31: from the most references down, no release before the last."""
    handle = Probe(released)
    set_refs(handle, MOST_REFS)
    handle.dispose()
    for _ in range(10_000):
        handle.dangerous_release()
    assert refs(handle) == MOST_REFS - 1 - 10_000
    assert released == []
    assert not handle.is_closed
    set_refs(handle, 1)
    handle.dangerous_release()
    assert released == [5]


def test_hold_drops_its_reference_when_the_body_raises(released: list[int]) -> None:
    """Case 32: dropped exactly once, the body's error goes on."""
    handle = Probe(released)
    before = _native.problem_count()
    counts = []
    with pytest.raises(LookupError, match="body"), handle.hold() as value:  # noqa: PT012
        counts.append((value, refs(handle)))
        raise LookupError("body")
    assert counts == [(5, 2)]
    assert refs(handle) == 1
    assert _native.problem_count() == before


def test_hold_loses_nothing_at_any_interruption(released: list[int]) -> None:
    """Case 33: interrupted before each single instruction, the count is 1 after."""
    handle = Probe(released)
    before = _native.problem_count()
    length = max(_traced_hold(handle, None) for _ in range(TRIES))
    assert length > 10
    for instruction in range(length):
        # 3.13 now and then traces no instructions after one that raised.
        assert any(_traced_hold(handle, instruction) > instruction for _ in range(TRIES))
        assert refs(handle) == 1, f"interrupted before instruction {instruction}"
    assert refs(handle) == 1
    assert _native.problem_count() == before


def test_a_hold_left_twice_drops_one_reference(released: list[int]) -> None:
    """Case 34: the second exit is an event and drops nothing."""
    handle = Probe(released)
    before = _native.problem_count()
    hold = handle.hold()
    assert hold.__enter__() == 5
    hold.__exit__(None, None, None)
    assert refs(handle) == 1
    assert _native.problem_count() == before
    hold.__exit__(None, None, None)
    assert state(handle) == State(1, disposed=False, closed=False)
    assert _native.problem_count() == before + 1
    del hold
    assert state(handle) == State(1, disposed=False, closed=False)


def test_a_hold_can_be_left_by_another_thread(released: list[int]) -> None:
    """Case 34: whoever leaves it drops the reference, once."""
    handle = Probe(released)
    hold = handle.hold()
    hold.__enter__()
    thread = threading.Thread(target=hold.__exit__, args=(None, None, None))
    thread.start()
    thread.join()
    assert refs(handle) == 1


def test_a_hold_that_is_dropped_drops_its_reference(
    released: list[int], no_automatic_gc: None
) -> None:
    """Case 34: unentered or never left, its death drops the reference."""
    handle = Probe(released)
    handle.hold()
    assert refs(handle) == 1
    hold = handle.hold()
    hold.__enter__()
    del hold
    assert refs(handle) == 1
    cycle: list[Any] = [handle.hold()]
    cycle.append(cycle)
    del cycle
    assert refs(handle) == 2
    gc.collect()
    assert refs(handle) == 1
    assert released == []


def test_a_hold_keeps_its_handle_alive(released: list[int]) -> None:
    """Case 34: the last reference can be the hold's own."""
    hold = Probe(released).hold()
    gc.collect()
    assert released == []
    with hold as value:
        assert value == 5
        assert released == []
    del hold
    assert released == [5]


def test_a_hold_dropped_at_the_end_of_the_program(run: Callable[..., Run]) -> None:
    """Case 34: a hold that outlives everything else does no harm."""
    result = run(
        """
        import builtins
        from safehandle_debug import SafeFileHandle

        builtins.kept = SafeFileHandle.open("/dev/null", 0).hold()
        print(builtins.kept.__enter__() > 2)
        """
    ).ok()
    assert result.lines == ["True"]
    assert result.err == ""


def _acquire(released: list[int]) -> Probe:
    return Probe(released)


def _release_too_often(handle: Probe) -> None:
    handle.dangerous_release()


def _traced_hold(handle: Probe, interrupted: int | None) -> int:
    """Runs a with block, raising KeyboardInterrupt before the given one of its
    instructions; returns how many it came to."""
    seen = 0

    def block() -> None:
        with handle.hold() as value:
            repr(value)

    def trace(frame: FrameType, event: str, argument: object) -> Any:
        nonlocal seen
        if frame.f_code is not block.__code__:
            return None
        frame.f_trace_opcodes = True
        frame.f_trace_lines = False
        if event == "opcode":
            seen += 1
            if seen - 1 == interrupted:
                raise KeyboardInterrupt
        return trace

    previous = sys.gettrace()
    # 3.12 gives no opcode events unless a frame asks for them before it traces.
    sys._getframe().f_trace_opcodes = True
    sys.settrace(trace)
    try:
        block()
    except KeyboardInterrupt:
        assert interrupted is not None
    finally:
        sys.settrace(previous)
    return seen
