"""The walk from fixtures' values to open handles."""

from __future__ import annotations

import functools
import types
from collections import OrderedDict, deque

import pytest

from safehandle_debug import SafeFileHandle
from safehandle_debug.ledger import History
from safehandle_debug.testing import reachable


def history_of(handle: SafeFileHandle, serial: int = 1) -> History:
    return History(
        pid=1,
        serial=serial,
        kind="file",
        owner=type(handle).__name__,
        space="fd",
        value=handle.dangerous_get_handle(),
        detail=None,
        opened_at_ns=0,
        opened=(),
        thread="MainThread",
        task=None,
        test=None,
    )


@pytest.fixture
def handle():
    with SafeFileHandle.open("/dev/null") as handle:
        yield handle


class Plain:
    def __init__(self, held):
        self.held = held

    def method(self):
        return self.held


class Slotted:
    __slots__ = ("held",)

    def __init__(self, held):
        self.held = held


def closure(held):
    return lambda: held


def generator(held):
    yield held


def started(held):
    iterator = generator(held)
    next(iterator)
    return iterator


@pytest.mark.parametrize(
    "wrap",
    [
        lambda handle: handle,
        lambda handle: [{"a": (handle,)}],
        lambda handle: OrderedDict(a=deque([handle])),
        Plain,
        Slotted,
        lambda handle: Plain(handle).method,
        closure,
        started,
        functools.partial(functools.partial, print),
        lambda handle: types.SimpleNamespace(deep=[Plain(closure(handle))]),
        lambda handle: {handle.dangerous_get_handle(): handle},
    ],
)
def test_reaches(wrap, handle):
    """Containers, instances, closures, running generators."""
    root = wrap(handle)
    assert reachable([root], [history_of(handle)]) == {1}


KEPT = []


def uses_a_global():
    return KEPT


class Keeper:
    kept = KEPT


@pytest.mark.parametrize("root", [uses_a_global, Keeper(), types, [Keeper]])
def test_does_not_enter_what_leads_everywhere(root, handle, request):
    """Globals of functions, modules and classes are nobody's own."""
    KEPT.append(handle)
    request.addfinalizer(KEPT.clear)
    assert reachable([root], [history_of(handle)]) == set()


def test_finds_only_what_is_asked_for(handle):
    """By class and value; several at once."""
    with SafeFileHandle.open("/dev/null") as other:
        suspects = [history_of(handle, 1), history_of(other, 2)]
        assert reachable([[handle]], suspects) == {1}
        assert reachable([[handle], {"b": other}], suspects) == {1, 2}
        assert reachable([[]], suspects) == set()


def test_runs_no_code_of_what_it_meets(handle):
    """Neither attributes nor comparisons nor hashes of strange objects."""

    class Forbidding(type):
        def __getattribute__(cls, name):
            raise AssertionError(name)

        def __instancecheck__(cls, instance):
            raise AssertionError(instance)

    class Strange(metaclass=Forbidding):
        def __getattribute__(self, name):
            raise AssertionError(name)

        def __eq__(self, other):
            raise AssertionError(other)

        def __hash__(self):
            raise AssertionError

        def __len__(self):
            raise AssertionError

    strange = object.__new__(Strange)
    object.__setattr__(strange, "held", handle)
    assert reachable([strange], [history_of(handle)]) == {1}


class Renamed(SafeFileHandle):
    @property
    def handle(self):
        raise AssertionError("a subclass's own")

    @property
    def is_closed(self):
        raise AssertionError("a subclass's own")


def test_subclass_may_define_the_names_anew():
    """The value is read by the core's own descriptor."""
    with Renamed.open("/dev/null") as handle:
        assert reachable([[handle]], [history_of(handle)]) == {1}


def test_walk_that_is_too_long_accuses_nobody(handle):
    """Without an end in sight all count as reached, unless asked otherwise."""
    chain: list[object] = [handle]
    for _ in range(1000):
        chain = [chain]
    suspects = [history_of(handle)]
    assert reachable([chain], suspects, most=100) == {1}
    assert reachable([chain], suspects, most=100, otherwise=False) == set()
    assert reachable([chain], suspects) == {1}
