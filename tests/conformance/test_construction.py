"""Construction and properties: cases 1 to 16."""

from __future__ import annotations

import copy
import gc
import pickle
from pathlib import Path

import pytest
from support_handles import Probe, state
from support_programs import recorded

from safehandle_debug import (
    HandleStateError,
    SafeFileHandle,
    SafeHandle,
    SafeHandleMinusOneIsInvalid,
    SafeHandleZeroOrMinusOneIsInvalid,
)


def test_constructed_with_a_value_it_is_open(released: list[int]) -> None:
    """Case 1: open, valid, value 5, not released."""
    handle = Probe(released, 5)
    assert not handle.is_closed
    assert not handle.is_invalid
    assert handle.dangerous_get_handle() == handle.handle == 5
    assert state(handle).refs == 1
    assert released == []


def test_constructed_without_a_value_it_is_invalid(released: list[int]) -> None:
    """Case 2: open, invalid, value -1, not released."""
    handle = Probe(released, None)
    assert not handle.is_closed
    assert handle.is_invalid
    assert handle.dangerous_get_handle() == -1
    assert released == []


@pytest.mark.parametrize(
    "abstract",
    [
        lambda: SafeHandle(-1),
        lambda: SafeHandle(-1, False),
        SafeHandleZeroOrMinusOneIsInvalid,
        SafeHandleMinusOneIsInvalid,
    ],
)
def test_an_abstract_base_cannot_be_constructed(abstract: type[SafeHandle]) -> None:
    """Case 3: TypeError, and no object."""
    with pytest.raises(TypeError, match="abstract"):
        abstract()


def test_a_type_without_its_hook_or_test_cannot_be_constructed() -> None:
    """Case 4: TypeError naming what is missing."""

    def without_hook() -> object:
        class NoHook(SafeHandle):
            @property
            def is_invalid(self) -> bool:
                return False

        return NoHook(-1)

    def without_test() -> object:
        class NoTest(SafeHandle):
            def release_handle(self) -> bool:
                return True

        return NoTest(-1)

    with pytest.raises(TypeError, match="release_handle"):
        without_hook()
    with pytest.raises(TypeError, match="is_invalid"):
        without_test()


def test_properties_can_be_read_in_any_state(released: list[int]) -> None:
    """Case 5: value, closed and invalid never raise, also after close."""
    opened = Probe(released, 1)
    pending = Probe(released, 2)
    pending.dangerous_add_ref()
    pending.dispose()
    invalidated = Probe(released, 3)
    invalidated.set_handle_as_invalid()
    disposed = Probe(released, 4)
    disposed.dispose()
    over_released = Probe(released, 5)
    over_released.dangerous_release()
    seen = [
        (handle.handle, handle.dangerous_get_handle(), handle.is_closed, handle.is_invalid)
        for handle in (opened, pending, invalidated, disposed, over_released)
    ]
    assert seen == [
        (1, 1, False, False),
        (2, 2, False, False),
        (3, 3, True, False),
        (4, 4, True, False),
        (5, 5, True, False),
    ]
    pending.dangerous_release()


def test_the_ready_made_invalid_tests(released: list[int]) -> None:
    """Case 6: "0 or -1" and "-1" call exactly those values invalid."""

    class ZeroOrMinusOne(SafeHandleZeroOrMinusOneIsInvalid):
        def release_handle(self) -> bool:
            return True

    class MinusOne(SafeHandleMinusOneIsInvalid):
        def release_handle(self) -> bool:
            return True

    for kind, invalid in ((ZeroOrMinusOne, {0, -1}), (MinusOne, {-1})):
        for value in (0, -1, 1, -2):
            handle = kind()
            assert handle.is_invalid
            handle.set_handle(value)
            assert handle.is_invalid == (value in invalid), (kind, value)


def test_descriptor_zero_is_valid() -> None:
    """Case 7: a file handle of value 0 is valid although its base says otherwise."""
    handle = SafeFileHandle(0, owns_handle=False)
    assert not handle.is_invalid
    assert handle.fileno() == 0


@pytest.mark.parametrize("value", [-1, -2, 4294967295])
def test_a_widened_minus_one_is_invalid(value: int) -> None:
    """Case 8: a -1 that was read as unsigned is no descriptor."""
    assert SafeFileHandle(value, owns_handle=False).is_invalid


@pytest.mark.parametrize("value", [2**31, 2**40])
def test_a_value_beyond_int_is_invalid(value: int) -> None:
    """Case 9: descriptors are C ints."""
    assert SafeFileHandle(value, owns_handle=False).is_invalid
    assert not SafeFileHandle(2**31 - 1, owns_handle=False).is_invalid


def test_a_constructor_that_fails_after_the_base_releases(released: list[int]) -> None:
    """Case 10: the value set before the failure is released once."""

    class Failing(Probe):
        def __init__(self) -> None:
            super().__init__(released, 5)
            raise LookupError("constructor failed")

    with pytest.raises(LookupError):
        Failing()
    gc.collect()
    assert released == [5]


def test_a_constructor_that_fails_before_the_base_releases_nothing(
    released: list[int], unraisable: list[BaseException | None]
) -> None:
    """Case 11: an object that was only allocated dies silently."""

    class Failing(Probe):
        def __init__(self) -> None:
            raise LookupError("constructor failed")

    with pytest.raises(LookupError):
        Failing()
    Failing.__new__(Failing)
    SafeFileHandle.__new__(SafeFileHandle)
    gc.collect()
    assert released == []
    assert unraisable == []


@pytest.mark.parametrize(
    "act",
    [
        lambda handle: handle.dangerous_add_ref(),
        lambda handle: handle.dangerous_release(),
        lambda handle: handle.dispose(),
        lambda handle: handle.close(),
        lambda handle: handle.hold(),
        lambda handle: handle.detach(),
        lambda handle: handle.set_handle(7),
    ],
    ids=["add_ref", "release", "dispose", "close", "hold", "detach", "set_handle"],
)
@pytest.mark.parametrize("kind", [Probe, SafeFileHandle])
def test_an_object_that_was_never_constructed_says_so(kind: type[SafeHandle], act: object) -> None:
    """Case 12: a clear error, the state unchanged, never a crash."""
    handle = kind.__new__(kind)
    before = state(handle)
    with pytest.raises(HandleStateError, match=r"__init__|initiali[sz]ed|constructed"):
        act(handle)  # type: ignore[operator]
    assert state(handle) == before


def test_handles_are_equal_by_identity(released: list[int]) -> None:
    """Case 13: two handles of equal value are not equal."""
    one, other = Probe(released, 5), Probe(released, 5)
    assert one == one
    assert one != other
    assert len({one, other}) == 2
    assert hash(one) == hash(one)


@pytest.mark.parametrize(
    "duplicate",
    [copy.copy, copy.deepcopy, pickle.dumps, lambda handle: pickle.dumps(handle, 0)],
    ids=["copy", "deepcopy", "pickle", "pickle-0"],
)
def test_handles_cannot_be_copied(released: list[int], duplicate: object) -> None:
    """Case 14: a copy would release the same resource twice."""
    for handle in (Probe(released, 5), SafeFileHandle(1, owns_handle=False)):
        with pytest.raises(TypeError):
            duplicate(handle)  # type: ignore[operator]
    assert released == [5]


def test_values_overwritten_by_set_handle_are_told(released: list[int], tmp_path: Path) -> None:
    """Case 15: the last value is released, the lost ones are recorded."""
    with recorded(tmp_path) as told:
        handle = Probe(released, 5)
        handle.set_handle(7)
        handle.set_handle(9)
        handle.dispose()
    assert released == [9]
    # Another value is another handle: each has a history of its own.
    histories = told[0].owned_by("Probe")
    assert [history.value for history in histories] == [5, 7, 9]
    lost = [
        event for history in histories for event in history.events if event.kind == "set-value"
    ]
    assert [event.value for event in lost] == [5, 7]
    assert histories[2].ending == "closed"
    assert all(event.stack[0].function.endswith(_here()) for event in lost)


def test_a_closed_handle_takes_a_value_and_stays_closed(
    released: list[int], tmp_path: Path
) -> None:
    """Case 16: value 77, still closed, not released; the lost value is recorded."""
    with recorded(tmp_path) as told:
        handle = Probe(released, 5)
        handle.dispose()
        handle.set_handle(77)
        assert handle.handle == 77
        assert handle.is_closed
        handle.dispose()
        del handle
        gc.collect()
    assert released == [5]
    events = [event for history in told[0].handles for event in history.events]
    (lost,) = [event for event in events if event.kind == "set-value"]
    assert lost.value == 77
    assert lost.detail == "set after the handle was closed"


def _here() -> str:
    return "test_values_overwritten_by_set_handle_are_told"
