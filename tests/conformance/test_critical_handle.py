"""CriticalHandle, the handle without reference count: cases 213 to 216."""

from __future__ import annotations

import gc

from support_handles import CriticalProbe


def test_disposed_three_times(released: list[int]) -> None:
    """Case 213: released once."""
    handle = CriticalProbe(released)
    for _ in range(3):
        handle.dispose()
    handle.close()
    assert handle.is_closed
    del handle
    gc.collect()
    assert released == [5]


def test_dispose_inside_a_use_is_not_held_up(released: list[int]) -> None:
    """Case 214: there is nothing that could protect the use."""
    handle = CriticalProbe(released)

    def native_call(value: int) -> None:
        handle.dispose()
        assert released == [value]
        assert handle.is_closed

    native_call(handle.handle)
    assert released == [5]
    assert not hasattr(handle, "hold")
    assert not hasattr(handle, "dangerous_add_ref")


def test_set_as_invalid_and_disposed(released: list[int]) -> None:
    """Case 215: not released."""
    handle = CriticalProbe(released)
    handle.set_handle_as_invalid()
    assert handle.is_closed
    handle.dispose()
    del handle
    gc.collect()
    assert released == []


def test_invalid_and_finalized(released: list[int], no_automatic_gc: None) -> None:
    """Case 216: not released when dropped or collected; a valid one is."""
    CriticalProbe(released, None)
    cycle: list[object] = [CriticalProbe(released, None), CriticalProbe(released, 7)]
    cycle.append(cycle)
    del cycle
    gc.collect()
    assert released == [7]
    CriticalProbe(released, 8)
    assert released == [7, 8]
