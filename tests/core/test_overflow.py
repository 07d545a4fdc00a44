"""The count of references has 30 bits: the one that would not fit is refused."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from support_handles import Probe, refs, set_refs, state
from support_programs import recorded

from safehandle_debug import HandleOverflowError, _native

MOST_REFS = 2**30 - 1


def test_the_last_reference_that_fits(tmp_path: Path) -> None:
    released: list[int] = []
    with recorded(tmp_path) as told:
        handle = Probe(released)
        set_refs(handle, MOST_REFS - 1)
        hold = handle.hold()
        assert refs(handle) == MOST_REFS
        with pytest.raises(HandleOverflowError, match=r"1073741823|2\*\*30"):
            handle.dangerous_add_ref()
        with pytest.raises(OverflowError):
            handle.hold()
        assert refs(handle) == MOST_REFS
        assert not state(handle).closed
        assert not state(handle).disposed
        with hold:
            pass
        assert refs(handle) == MOST_REFS - 1
        set_refs(handle, 1)
        handle.close()
    assert released == [5]
    (history,) = told[0].handles
    assert [event.kind for event in history.events].count("overflow") == 2


def test_four_threads_at_the_edge(fast_switching: None) -> None:
    """However many try at once, the count never passes the most."""
    released: list[int] = []
    handle = Probe(released)
    set_refs(handle, MOST_REFS - 10)
    added: list[int] = []
    line = threading.Barrier(4)

    def add() -> None:
        line.wait()
        count = 0
        for _ in range(200):
            try:
                handle.dangerous_add_ref()
                count += 1
            except HandleOverflowError:
                pass
        added.append(count)

    threads = [threading.Thread(target=add) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(added) == 10
    assert refs(handle) == MOST_REFS
    set_refs(handle, 1)


def test_the_word_is_where_the_core_says() -> None:
    """What these tests write by hand is what the core counts with."""
    handle = Probe([])
    assert _native.STATE_OFFSET > 0
    for count in range(2, 50):
        handle.dangerous_add_ref()
        assert refs(handle) == count
    for count in range(48, 0, -1):
        handle.dangerous_release()
        assert refs(handle) == count
