"""hold() when somebody else breaks the rules: events, never errors in the way."""

from __future__ import annotations

import gc
from pathlib import Path

import pytest
from support_handles import Probe, State, refs, state
from support_programs import recorded

from safehandle_debug import HandleStateError, SafeFileHandle, _native


@pytest.fixture
def released() -> list[int]:
    return []


def steal(handle: Probe) -> None:
    """Releases every reference, also those of others."""
    while not handle.is_closed:
        handle.dangerous_release()


def test_leaving_a_hold_whose_reference_was_released(released: list[int]) -> None:
    """The block ends as if nothing had happened: the event is the thief's alone."""
    handle = Probe(released)
    before = _native.problem_count()
    with handle.hold():
        steal(handle)
        assert released == [5]
        assert _native.problem_count() == before + 1
    assert _native.problem_count() == before + 1
    assert state(handle).refs == 0
    assert released == [5]


def test_the_error_of_the_block_is_not_masked(released: list[int]) -> None:
    handle = Probe(released)
    with pytest.raises(LookupError, match="body"), handle.hold():  # noqa: PT012
        steal(handle)
        raise LookupError("body")


def test_dropping_a_hold_whose_reference_was_released(released: list[int]) -> None:
    """Nothing reaches sys.unraisablehook, which pytest would turn into a failure."""
    handle = Probe(released)
    hold = handle.hold()
    steal(handle)
    before = _native.problem_count()
    del hold
    gc.collect()
    assert _native.problem_count() == before
    assert released == [5]


def test_a_hold_cannot_be_entered_after_its_end(released: list[int]) -> None:
    handle = Probe(released)
    hold = handle.hold()
    with hold:
        pass
    with pytest.raises(HandleStateError):
        hold.__enter__()
    assert refs(handle) == 1


def test_a_hold_entered_twice_counts_once(released: list[int]) -> None:
    handle = Probe(released)
    hold = handle.hold()
    with hold as one, hold as other:
        assert one == other == 5
        assert refs(handle) == 2
    assert state(handle) == State(1, disposed=False, closed=False)


def test_the_last_hold_closes_with_the_ending_that_was_asked_for(tmp_path: Path) -> None:
    """Dispose while held: the close is told where the hold ends, as the program's."""
    with recorded(tmp_path) as told:
        closed = Probe([], 1)
        with closed.hold():
            closed.close()
        exited = Probe([], 2)
        with exited.hold(), exited:
            pass
    one, other = told[0].handles
    assert (one.ending, other.ending) == ("closed", "exited")
    for history in (one, other):
        kinds = [event.kind for event in history.events]
        assert kinds == ["acquire", "add-ref", "dispose", "release", "close"]
        assert [event.refs for event in history.events] == [1, 2, 1, 0, 0]


def test_a_hold_of_a_native_handle_outlives_it() -> None:
    """The handle object is gone from the program, the descriptor is not."""
    hold = SafeFileHandle.memfd("held").hold()
    fd = hold.__enter__()
    gc.collect()
    assert Path(f"/proc/self/fd/{fd}").is_symlink()
    hold.__exit__(None, None, None)
    del hold
    assert not Path(f"/proc/self/fd/{fd}").is_symlink()


def test_holds_cannot_be_made_by_hand() -> None:
    hold = Probe([]).hold()
    with pytest.raises(TypeError):
        type(hold)()
    with pytest.raises(TypeError):
        type("Subclass", (type(hold),), {})
