"""Which fixture a handle belongs to, by the serials given during set-ups."""

from __future__ import annotations

import sys
import threading
from types import SimpleNamespace

import pytest
from pytest_safehandle.attribution import Scope, Scopes, other_threads, thread_names

from safehandle_debug import SafeFileHandle, _native


def fixture(name: str, scope: str = "module") -> SimpleNamespace:
    """As much of a FixtureDef as attribution asks of one, in use."""
    return SimpleNamespace(argname=name, scope=scope, cached_result=(None, None, None))


REQUEST = SimpleNamespace(cls=None, module=sys.modules[__name__])


@pytest.fixture
def scopes() -> Scopes:
    return Scopes()


def set_up(scopes: Scopes, definition: SimpleNamespace, low: int, high: int) -> Scope:
    scope = scopes.begin(definition, REQUEST)
    scopes.end(scope, low, high)
    return scope


def test_handle_is_the_innermost_fixtures(scopes):
    """A fixture that requests others while it is set up keeps what lies between."""
    outer = scopes.begin(fixture("outer"), REQUEST)
    first = set_up(scopes, fixture("first"), 2, 4)
    second = set_up(scopes, fixture("second", "function"), 5, 6)
    scopes.end(outer, 1, 8)
    owners = {serial: scopes.find(serial) for serial in range(1, 10)}
    assert owners == {
        1: None,
        2: outer,
        3: first,
        4: first,
        5: outer,
        6: second,
        7: outer,
        8: outer,
        9: None,
    }


def test_fixture_that_opens_nothing_owns_nothing(scopes):
    """Equal serials are an empty range."""
    scope = set_up(scopes, fixture("idle"), 3, 3)
    assert scope.opened == []
    assert scopes.find(3) is None


def test_each_life_of_a_fixture_is_its_own(scopes):
    """Set up again with another parameter, the earlier life is over."""
    definition = fixture("handle")
    earlier = set_up(scopes, definition, 0, 1)
    assert not earlier.is_over
    later = set_up(scopes, definition, 1, 2)
    assert (earlier.is_over, later.is_over) == (True, False)
    assert (scopes.find(1), scopes.find(2)) == (earlier, later)
    assert scopes.ended() == [earlier]
    assert scopes.in_use() == [later]


def test_fixture_is_over_when_its_value_is_gone(scopes):
    """As pytest says it; widest first among those in use."""
    module, session = fixture("a", "module"), fixture("b", "session")
    scope = set_up(scopes, module, 0, 1)
    wide = set_up(scopes, session, 1, 2)
    assert scopes.in_use() == [wide, scope]
    module.cached_result = None
    assert scopes.ended() == [scope]
    scopes.discard(scope)
    assert scopes.ended() == []


def test_suspects_are_the_tests_and_those_of_ended_fixtures(scopes):
    """Open handles of fixtures in use are nobody's concern yet."""
    handles = [SafeFileHandle.open("/dev/null") for _ in range(4)]
    mark = _native.newest_serial() - 4
    over = set_up(scopes, fixture("over"), mark, mark + 1)
    set_up(scopes, fixture("used"), mark + 1, mark + 2)
    set_up(scopes, fixture("own", "function"), mark + 2, mark + 3)
    over.fixture.cached_result = None
    assert scopes.suspects(mark + 2) == ({mark + 3, mark + 4}, {mark + 1})
    for handle in handles:
        handle.close()
    assert scopes.suspects(mark + 2) == (set(), set())


def test_xunit_fixtures_keep_class_or_module(scopes):
    """What a test stores on its class is reached from setup_class."""
    cls = type("TestX", (), {"pool": [1]})
    request = SimpleNamespace(cls=cls, module=sys.modules[__name__])
    scope = scopes.begin(fixture("_xunit_setup_class_fixture_TestX", "class"), request)
    assert scope.name == "setup_class"
    assert cls.pool in list(scope.roots())
    module = scopes.begin(fixture("_xunit_setup_module_fixture_x", "module"), request)
    assert module.name == "setup_module"
    assert REQUEST in list(module.roots())
    plain = scopes.begin(fixture("db", "class"), request)
    assert list(plain.roots()) == [None]


def test_names_of_threads():
    """Those of other threads, and only while there are any."""
    done = threading.Event()
    thread = threading.Thread(target=done.wait, args=(30,), name="waits")
    thread.start()
    try:
        assert other_threads()
        assert "waits" in thread_names()
        assert threading.current_thread().name not in thread_names()
    finally:
        done.set()
        thread.join()
    assert "waits" not in thread_names()
