"""Handles that nobody closed: cases 84 to 105."""

from __future__ import annotations

import gc
import os
import random
import sys
import threading
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support_handles import Probe, State, state
from support_programs import Run, recorded

from safehandle_debug import (
    CriticalFinalizer,
    HandleClosedError,
    SafeFileHandle,
    SafeHandle,
    SafePipeHandle,
    _native,
)

pytestmark = pytest.mark.usefixtures("no_automatic_gc")


class Node:
    """Something that can hold anything and be in a cycle."""

    def __init__(self, **held: object) -> None:
        self.__dict__.update(held)

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(name)


def in_cycle(**held: object) -> None:
    """Makes garbage that only the cyclic collector finds."""
    node = Node(**held)
    node.__dict__["cycle"] = node


def test_the_last_reference_releases(released: list[int]) -> None:
    """Case 84: dropped, released once."""
    handle = Probe(released)
    assert released == []
    del handle
    assert released == [5]


def test_a_cycle_is_released_when_collected(released: list[int]) -> None:
    """Case 85: not before, and once."""
    in_cycle(handle=Probe(released))
    assert released == []
    gc.collect()
    gc.collect()
    assert released == [5]


def test_a_disposed_handle_is_not_released_again(released: list[int]) -> None:
    """Case 86: dropped and in a cycle."""
    handle = Probe(released)
    handle.dispose()
    in_cycle(handle=handle)
    del handle
    gc.collect()
    assert released == [5]


def test_leaked_references_keep_the_resource(run: Callable[..., Run]) -> None:
    """Case 87: not released when dropped; the stacks of the references are told."""
    result = run(
        """
        import gc, os
        from safehandle_debug import SafeFileHandle

        def forgets_to_release(handle):
            handle.dangerous_add_ref()

        handle = SafeFileHandle.open("/dev/null", os.O_RDONLY)
        fd = handle.handle
        forgets_to_release(handle)
        forgets_to_release(handle)
        del handle
        gc.collect()
        os.fstat(fd)
        print(fd)
        """
    ).ok()
    assert result.err == ""
    (history,) = result.first().handles
    assert result.lines == [str(history.value)]
    forgotten = [event for event in history.events if event.kind == "add-ref"]
    assert [event.stack[0].function for event in forgotten] == ["forgets_to_release"] * 2
    (asked,) = [event for event in history.events if event.kind == "dispose"]
    assert asked.refs == 2
    assert history.ending == "swept"


def test_leaked_references_released_after_resurrection(released: list[int]) -> None:
    """Case 88: the last release of a resurrected handle releases, once."""
    saved: list[Probe] = []

    class Saving(Node):
        def __del__(self) -> None:
            saved.append(self.handle)

    handle = Probe(released)
    handle.dangerous_add_ref()
    handle.dangerous_add_ref()
    node = Saving(handle=handle)
    node.__dict__["cycle"] = node
    handle.__dict__["node"] = node
    del handle, node
    gc.collect()
    (handle,) = saved
    assert released == []
    assert state(handle) == State(2, disposed=True, closed=False)
    handle.dangerous_release()
    assert released == []
    handle.dangerous_release()
    assert released == [5]
    saved.clear()
    del handle
    gc.collect()
    assert released == [5]


def test_a_resurrected_handle_is_finalized_all_the_same(released: list[int]) -> None:
    """Case 89: whoever saves it finds it closed."""
    saved: list[Probe] = []

    class Saving(Node):
        def __del__(self) -> None:
            saved.append(self.handle)

    node = Saving(handle=Probe(released))
    node.__dict__["cycle"] = node
    del node
    gc.collect()
    (handle,) = saved
    assert released == [5]
    assert handle.is_closed
    with pytest.raises(HandleClosedError):
        handle.dangerous_add_ref()
    handle.dispose()
    assert released == [5]


@pytest.mark.parametrize("kind", ["dropped", "collected"])
def test_a_wrapper_can_still_write_in_its_finalizer(kind: str, tmp_path: Path) -> None:
    """Case 90: what the wrapper buffered arrives, then the file is closed."""
    path = tmp_path / "written"
    fds: list[int] = []

    class Wrapper(Node):
        def __del__(self) -> None:
            with self.handle.hold() as fd:
                fds.append(fd)
                os.write(fd, b"flushed")

    wrapper = Wrapper(handle=SafeFileHandle.open(path, os.O_WRONLY | os.O_CREAT))
    if kind == "collected":
        wrapper.__dict__["cycle"] = wrapper
    del wrapper
    gc.collect()
    assert path.read_bytes() == b"flushed"
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fds[0])


def test_ordinary_finalizers_come_before_critical_ones() -> None:
    """Case 91: 1,000 of each in random order, all ordinary ones first."""
    log: list[str] = []
    _make_mixed(log, 1000, random.Random(91))
    gc.collect()
    assert log == ["ordinary"] * 1000 + ["critical"] * 1000


def test_order_holds_for_classes_that_die_in_the_same_pass(
    unraisable: list[BaseException | None],
) -> None:
    """Case 92: the classes are garbage too; no hook misses an attribute."""
    log: list[str] = []
    dice = random.Random(92)

    def make() -> Node:
        if dice.random() < 0.5:

            class Ordinary(Node):
                def __del__(self) -> None:
                    log.append("ordinary")

            return Ordinary()

        class Critical(Probe):
            def release_handle(self) -> bool:
                self.word.append("critical")
                return super().release_handle() is True

        critical = Critical([])
        critical.word = log  # type: ignore[attr-defined]
        return Node(critical=critical)

    made = [make() for _ in range(200)]
    for one, other in zip(made, [*made[1:], made[0]], strict=True):
        one.__dict__["other"] = other
    criticals = sum("critical" in node.__dict__ for node in made)
    del made, one, other
    gc.collect()
    assert log == ["ordinary"] * (200 - criticals) + ["critical"] * criticals
    assert unraisable == []


def test_a_finalizer_without_super_is_backed_up() -> None:
    """Case 93: __del__ finds the handle open, the native release follows."""
    seen: list[bool] = []

    class Careless(SafeFileHandle):
        def __del__(self) -> None:
            os.fstat(self.handle)
            seen.append(self.is_closed)

    handle = Careless.open("/dev/null", os.O_RDONLY)
    fd = handle.handle
    del handle
    assert seen == [False]
    _assert_closed(fd)
    handle = Careless.open("/dev/null", os.O_RDONLY)
    fd = handle.handle
    in_cycle(handle=handle)
    del handle
    gc.collect()
    assert seen == [False, False]
    _assert_closed(fd)


def test_any_class_can_be_critical() -> None:
    """Case 94: a CriticalFinalizer that is no handle runs in the critical phase."""
    log: list[str] = []

    class Critical(CriticalFinalizer):
        def finalize(self) -> None:
            log.append("critical")

    class Ordinary(Node):
        def __del__(self) -> None:
            log.append("ordinary")

    for _ in range(50):
        in_cycle(critical=Critical())
        in_cycle(ordinary=Ordinary())
    gc.collect()
    assert log == ["ordinary"] * 50 + ["critical"] * 50
    Critical()
    assert log[100:] == ["critical"]


def test_a_critical_finalizer_that_raises_stops_no_other(
    unraisable: list[BaseException | None],
) -> None:
    """Case 95: the others run; the error is reported."""
    log: list[int] = []

    class Critical(CriticalFinalizer):
        number = 0

        def finalize(self) -> None:
            log.append(self.number)
            if self.number % 2:
                raise LookupError(str(self.number))

    for number in range(20):
        critical = Critical()
        critical.number = number
        in_cycle(critical=critical)
    del critical
    gc.collect()
    assert sorted(log) == list(range(20))
    assert sorted(int(str(error)) for error in unraisable) == list(range(1, 20, 2))


def test_an_ordinary_finalizer_that_raises_stops_no_critical_one(
    released: list[int], unraisable: list[BaseException | None]
) -> None:
    """Case 96: handles are released all the same."""

    class Failing(Node):
        def __del__(self) -> None:
            raise LookupError("ordinary")

    for number in range(10):
        in_cycle(failing=Failing(), handle=Probe(released, number))
    gc.collect()
    assert sorted(released) == list(range(10))
    assert [str(error) for error in unraisable] == ["ordinary"] * 10


def test_an_ordinary_finalizer_that_disposes(released: list[int]) -> None:
    """Case 97: released once."""

    class Disposing(Node):
        def __del__(self) -> None:
            self.handle.dispose()

    Disposing(handle=Probe(released, 6))
    in_cycle(wrapper=Disposing(handle=Probe(released, 7)))
    gc.collect()
    assert released == [6, 7]


def test_an_ordinary_finalizer_that_collects() -> None:
    """Case 98: a collection asked for in a collection changes no order."""
    log: list[str] = []

    class Collecting(Node):
        def __del__(self) -> None:
            log.append("ordinary")
            gc.collect()

    for _ in range(20):
        in_cycle(ordinary=Collecting(), critical=_Logging(log))
    gc.collect()
    assert log == ["ordinary"] * 20 + ["critical"] * 20


def test_a_hook_that_collects(released: list[int]) -> None:
    """Case 98: a hook may ask for a collection, in one or outside."""
    for number in range(20):
        handle = Probe(released, number)
        handle.during = lambda _: gc.collect()
        in_cycle(handle=handle)
    del handle
    gc.collect()
    assert sorted(released) == list(range(20))


def test_the_hook_runs_on_the_collecting_thread(released: list[int], tmp_path: Path) -> None:
    """Case 99: dropped on one thread, released on the one that collects."""
    ran_on: list[int] = []

    def drop() -> None:
        handle = Probe(released)
        handle.during = lambda _: ran_on.append(threading.get_ident())
        in_cycle(handle=handle)

    with recorded(tmp_path) as told:
        dropping = threading.Thread(target=drop, name="dropping")
        dropping.start()
        dropping.join()
        assert released == []
        collecting = threading.Thread(target=gc.collect, name="collecting")
        collecting.start()
        collecting.join()
    assert released == [5]
    assert ran_on == [collecting.ident]
    (history,) = told[0].owned_by("Probe")
    assert history.thread == "dropping"
    assert history.ending == "collected"
    assert history.events[-1].thread == "collecting"


class Child(Probe):
    """Holds a reference of its parent until it is released."""

    def __init__(self, released: list[int], value: int, parent: Probe) -> None:
        super().__init__(released, value)
        parent.dangerous_add_ref()
        self.parent = parent

    def release_handle(self) -> bool | None:
        answer = super().release_handle()
        self.parent.dangerous_release()
        return answer


@pytest.mark.parametrize("kind", ["dropped", "collected"])
@pytest.mark.parametrize("first", ["parent", "child"])
def test_a_child_is_released_before_its_parent(released: list[int], kind: str, first: str) -> None:
    """Case 100: dropped together, in a cycle or not."""
    parent = Probe(released, 1)
    child = Child(released, 2, parent)
    pair = [parent, child] if first == "parent" else [child, parent]
    if kind == "collected":
        in_cycle(pair=pair)
    del parent, child
    pair.clear() if kind == "dropped" else None
    del pair
    gc.collect()
    assert released == [2, 1]


def test_a_parent_disposed_first_waits_for_its_child(released: list[int]) -> None:
    """Case 101: closed only when the child is."""
    parent = Probe(released, 1)
    child = Child(released, 2, parent)
    parent.dispose()
    assert not parent.is_closed
    assert released == []
    child.dispose()
    assert parent.is_closed
    assert released == [2, 1]


@pytest.mark.parametrize("kind", ["dropped", "collected"])
def test_weak_references_die_with_the_handle(released: list[int], kind: str) -> None:
    """Case 102: the callback runs, the handle is released, the reference is dead."""
    called: list[object] = []
    handle = Probe(released)
    reference = weakref.ref(handle, called.append)
    native = SafeFileHandle.open("/dev/null", os.O_RDONLY)
    fd = native.handle
    native_reference = weakref.ref(native, called.append)
    if kind == "collected":
        in_cycle(handle=handle, native=native)
    del handle, native
    gc.collect()
    assert sorted(called, key=id) == sorted([reference, native_reference], key=id)
    assert reference() is None
    assert native_reference() is None
    assert released == [5]
    _assert_closed(fd)


def test_many_dropped_handles_leave_nothing(released: list[int]) -> None:
    """Case 103: 200,000 in one collection, all released, memory back."""
    live = _native.live_count()

    class Quiet(SafeHandle):
        def __init__(self) -> None:
            super().__init__(-1)
            self.set_handle(5)

        @property
        def is_invalid(self) -> bool:
            return False

        def release_handle(self) -> bool:
            released[0] += 1
            return True

    def round_() -> None:
        released[:] = [0]
        many = [Quiet() for _ in range(200_000)]
        assert _native.live_count() == live + 200_000
        in_cycle(many=many)
        del many
        gc.collect()
        assert released == [200_000]
        assert _native.live_count() == live

    round_()
    before = sys.getallocatedblocks()
    round_()
    assert sys.getallocatedblocks() < before + 1000


def test_a_finalizer_called_by_hand(released: list[int]) -> None:
    """Case 104: no second release, after dispose or after itself."""
    handle: Any = Probe(released)
    handle.dispose()
    handle.__del__()
    del handle
    assert released == [5]
    handle = Probe(released, 6)
    handle.__del__()
    handle.__del__()
    handle.dispose()
    del handle
    gc.collect()
    assert released == [5, 6]


def test_a_handle_of_a_suspended_generator(released: list[int]) -> None:
    """Case 105: open while the generator waits, released when it goes."""
    mark = _native.newest_serial()

    def holding() -> Any:
        handle = Probe(released)
        yield handle.handle

    generator = holding()
    assert next(generator) == 5
    assert len(_native.open_since(mark)) == 1
    assert released == []
    del generator
    assert released == [5]
    assert _native.open_since(mark) == []


def test_a_handle_of_a_traceback(released: list[int]) -> None:
    """Case 105: open while the error is kept, released when it goes."""
    mark = _native.newest_serial()

    def failing() -> None:
        handle = Probe(released)
        raise LookupError(handle.handle)

    kept: list[BaseException] = []
    try:
        failing()
    except LookupError as error:
        kept.append(error)
    assert len(_native.open_since(mark)) == 1
    assert released == []
    kept.clear()
    assert released == [5]
    assert _native.open_since(mark) == []


def test_both_ends_of_a_pipe_in_a_cycle() -> None:
    """Case 85: native handles close when their cycle is collected."""
    reader, writer = SafePipeHandle.pair()
    fds = [reader.handle, writer.handle]
    in_cycle(reader=reader, writer=writer)
    del reader, writer
    os.fstat(fds[0])
    gc.collect()
    for fd in fds:
        _assert_closed(fd)


class _Logging(Probe):
    """Says "critical" when it is released."""

    def __init__(self, log: list[str]) -> None:
        super().__init__([])
        self.log = log

    def release_handle(self) -> bool | None:
        self.log.append("critical")
        return True


def _make_mixed(log: list[str], each: int, dice: random.Random) -> None:
    class Ordinary(Node):
        def __del__(self) -> None:
            log.append("ordinary")

    kinds = ["ordinary", "critical"] * each
    dice.shuffle(kinds)
    for kind in kinds:
        in_cycle(held=Ordinary() if kind == "ordinary" else _Logging(log))


def _assert_closed(fd: int) -> None:
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)
