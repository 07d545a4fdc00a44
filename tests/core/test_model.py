"""Any sequence of operations leaves a handle where a small model says."""

from __future__ import annotations

import gc
import random
import threading
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    precondition,
    rule,
)
from support_handles import Probe, State, state

from safehandle_debug import HandleClosedError, _native


class HandleMachine(RuleBasedStateMachine):
    """One handle after the other against (refs, disposed, closed) and a count of
    releases.  `refs` counts the initial reference until dispose gives it back."""

    holds: Bundle[Any] = Bundle("holds")

    def __init__(self) -> None:
        super().__init__()
        self.gc_was_enabled = gc.isenabled()
        gc.disable()
        self.handle: Probe | None = None
        self.boxes: list[list[Any]] = []  # of holds; empty once they have ended

    @initialize(value=st.sampled_from([5, -1]), owns=st.booleans())
    def construct(self, value: int, owns: bool) -> None:
        self.released: list[int] = []
        self.handle = Probe(self.released, value, owns)
        self.value = value
        self.owns = owns
        self.refs, self.disposed, self.closed = 1, False, False
        self.expected: list[int] = []

    def _one_less(self) -> None:
        """A reference goes; the last of an open handle closes it."""
        self.refs -= 1
        if self.refs == 0 and not self.closed:
            self.closed = True
            if self.owns and self.value != -1:
                self.expected.append(self.value)

    @rule()
    def add_ref(self) -> None:
        assert self.handle is not None
        if self.closed:
            with pytest.raises(HandleClosedError):
                self.handle.dangerous_add_ref()
        else:
            self.handle.dangerous_add_ref()
            self.refs += 1

    @rule()
    def release(self) -> None:
        assert self.handle is not None
        if self.refs == 0:
            with pytest.raises(HandleClosedError):
                self.handle.dangerous_release()
        else:
            self.handle.dangerous_release()
            self._one_less()

    @rule(name=st.sampled_from(["dispose", "close"]))
    def dispose(self, name: str) -> None:
        assert self.handle is not None
        getattr(self.handle, name)()
        if not self.disposed and self.refs > 0:
            self._one_less()
        self.disposed = True

    @rule()
    def with_block(self) -> None:
        assert self.handle is not None
        if self.closed:
            return
        with self.handle as entered:
            assert entered is self.handle
        if not self.disposed and self.refs > 0:
            self._one_less()
        self.disposed = True

    @rule()
    def set_as_invalid(self) -> None:
        assert self.handle is not None
        self.handle.set_handle_as_invalid()
        self.closed = True

    @rule(value=st.sampled_from([-1, 6, 7]))
    def set_value(self, value: int) -> None:
        assert self.handle is not None
        self.handle.set_handle(value)
        self.value = value

    @rule(target=holds)
    def hold(self) -> Any:
        assert self.handle is not None
        if self.closed:
            with pytest.raises(HandleClosedError):
                self.handle.hold()
            return None
        hold = self.handle.hold()
        self.refs += 1
        box = [hold, self.value]
        self.boxes.append(box)
        return box

    @rule(box=consumes(holds), enter=st.booleans())
    def leave_hold(self, box: list[Any] | None, enter: bool) -> None:
        if box is None:
            return
        # A value set while it was held may or may not be seen by its block.
        hold, held_value = box
        box.clear()
        if enter:
            assert hold.__enter__() in {held_value, self.value}
            hold.__exit__(None, None, None)
            assert state(self._handle).refs == max(self.refs - 1, 0)
        del hold
        if self.refs > 0:
            self._one_less()

    @precondition(lambda self: self.refs == 1 and not self.closed and not self.disposed)
    @rule()
    def detach(self) -> None:
        assert self.handle is not None
        assert self.handle.detach() == self.value
        self.closed = True
        # Like a handle set as invalid: what was its initial reference is spent.
        after = state(self.handle)
        assert after.closed
        self.refs, self.disposed = after.refs, after.disposed

    @property
    def _handle(self) -> Probe:
        assert self.handle is not None
        return self.handle

    @invariant()
    def agree(self) -> None:
        if self.handle is None:
            return
        assert self.released == self.expected
        assert state(self.handle).refs == self.refs
        assert state(self.handle).closed == self.closed == self.handle.is_closed
        assert self.handle.handle == self.value

    def teardown(self) -> None:
        """The end: whatever the state, dropping it raises nothing and releases
        only what is left to release."""
        if self.handle is not None:
            for box in self.boxes:  # a hold keeps the handle's object, too
                if box:
                    box.clear()
                    if self.refs > 0:
                        self._one_less()
            if not self.closed and self.refs == 1 and not self.disposed:
                self._one_less()
            self.handle = None
            gc.collect()
            if self.closed:
                assert self.released == self.expected
        if self.gc_was_enabled:
            gc.enable()


TestHandleMachine = HandleMachine.TestCase
TestHandleMachine.settings = settings(max_examples=100, stateful_step_count=30, deadline=None)


@pytest.mark.parametrize("seed", range(20))
def test_random_operations_on_four_threads(seed: int, fast_switching: None) -> None:
    """Balanced operations at random on four threads, one of which disposes: the
    hook runs once, never while a reference is out, and the count comes out even."""
    released: list[int] = []
    out: list[None] = []
    wrong: list[str] = []
    handle = Probe(released)
    handle.during = lambda _: wrong.append(f"{len(out)} references out") if out else None
    before = _native.problem_count()
    line = threading.Barrier(4)

    def pair() -> None:
        handle.dangerous_add_ref()
        out.append(None)
        if handle.is_closed:
            wrong.append("closed while referenced")
        out.pop()
        handle.dangerous_release()

    def hold() -> None:
        with handle.hold() as value:
            out.append(None)
            if value != 5 or released:
                wrong.append("released while held")
            out.pop()

    def dropped_hold() -> None:
        handle.hold()

    def nest() -> None:
        with handle.hold():
            out.append(None)
            pair()
            hold()
            out.pop()

    def work(dice: random.Random, disposes: bool) -> None:
        operations: list[Callable[[], None]] = [pair, hold, dropped_hold, nest]
        last = dice.randrange(100, 400)
        line.wait()
        for step in range(400):
            try:
                dice.choice(operations)()
            except HandleClosedError:
                if not handle.is_closed:
                    wrong.append("refused while open")
            if disposes and step == last:
                handle.dispose()

    threads = [
        threading.Thread(target=work, args=(random.Random(f"{seed} {number}"), number == 0))
        for number in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert released == [5]
    assert state(handle) == State(0, disposed=True, closed=True)
    assert _native.problem_count() == before


@pytest.mark.parametrize("seed", range(5))
def test_random_handles_on_four_threads(seed: int, fast_switching: None) -> None:
    """Handles made, shared, disposed and dropped at random: each is released once."""
    released: list[int] = []
    shared: list[Probe] = []
    live = _native.live_count()
    line = threading.Barrier(4)

    def work(number: int) -> None:
        dice = random.Random(f"{seed} {number}")
        line.wait()
        for step in range(300):
            handle = Probe(released, number * 1000 + step)
            if dice.random() < 0.5:
                shared.append(handle)
            if dice.random() < 0.3:
                cycle: list[object] = [handle]
                cycle.append(cycle)
                del cycle
            if dice.random() < 0.5 and shared:
                try:
                    other = shared[dice.randrange(len(shared))]
                    with other.hold():
                        other.dispose()
                except (HandleClosedError, IndexError):
                    pass
            if dice.random() < 0.1:
                shared.clear()
            del handle
        shared.clear()

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    shared.clear()
    gc.collect()
    assert sorted(released) == [n * 1000 + step for n in range(4) for step in range(300)]
    assert _native.live_count() == live
