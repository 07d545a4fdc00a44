"""Whose handle is it: the test's, or a wider fixture's that is still in use?

A handle belongs to the innermost fixture during whose set-up it was opened,
else to the test.  Two things move it to a wider scope: a value of a fixture
that is still in use holds it (a pool filled while a test ran), or a thread
opened it that was there before the test began.  It is then judged when that
fixture ends.

Serials only grow, so that "during" is a pair of numbers and nothing is
recorded for fixtures that open no handle.
"""

from __future__ import annotations

import _thread
import threading
from collections.abc import Collection, Iterable, Iterator
from typing import Any, Final

import pytest

from safehandle_debug import _native

__all__ = ["Scope", "Scopes", "drop_finished_funcargs", "other_threads", "thread_names"]

_XUNIT: Final = {
    "_xunit_setup_module_fixture_": "setup_module",
    "_xunit_setup_function_fixture_": "setup_function",
    "_xunit_setup_class_fixture_": "setup_class",
    "_xunit_setup_method_fixture_": "setup_method",
    "_unittest_setUpModule_fixture_": "setUpModule",
    "_unittest_setUpClass_fixture_": "setUpClass",
    "_unittest_setup_method_fixture_": "setup_method",
}


class Scope:
    """One life of one fixture, from its set-up to its end."""

    __slots__ = ("adopted", "fixture", "opened", "owner", "replaced", "threads")

    def __init__(self, fixture: pytest.FixtureDef[Any], owner: object | None) -> None:
        self.fixture = fixture
        self.owner = owner  # class or module of a wider xunit fixture
        self.opened: list[tuple[int, int]] = []  # serials above the first, up to the second
        self.adopted: set[int] = set()  # serials that others opened
        self.threads: frozenset[str] = frozenset()  # names of those that it started
        self.replaced = False  # set up again since, with another parameter

    @property
    def name(self) -> str:
        """The fixture's name; of an xunit fixture, the function's."""
        name = self.fixture.argname
        for prefix, function in _XUNIT.items():
            if name.startswith(prefix):
                return function
        return name

    @property
    def scope(self) -> str:
        """ "function", "class", "module", "package" or "session"."""
        return str(self.fixture.scope)

    @property
    def is_wider(self) -> bool:
        """True when it outlives a test."""
        return self.scope != "function"

    @property
    def lowest(self) -> int:
        """All serials that it owns are above this.

        Raises:
            ValueError: it owns none.
        """
        return min([*(low for low, _ in self.opened), *(s - 1 for s in self.adopted)])

    @property
    def is_over(self) -> bool:
        """True when the fixture was torn down."""
        return self.replaced or self.fixture.cached_result is None

    def owns(self, serial: int) -> bool:
        """True when the handle is judged at this fixture's end."""
        return serial in self.adopted or any(low < serial <= high for low, high in self.opened)

    def roots(self) -> Iterator[object]:
        """What the fixture keeps alive."""
        cached = self.fixture.cached_result
        if cached is not None:
            yield cached[0]
        # The frames of generator fixtures, and values that only a finalizer knows.
        yield from getattr(self.fixture, "_finalizers", ())
        if isinstance(self.owner, type):
            for base in self.owner.__mro__[:-1]:
                yield from vars(base).values()
        elif self.owner is not None:
            yield from vars(self.owner).values()


class Scopes:
    """The fixtures of a session that are in use, and what they opened."""

    def __init__(self) -> None:
        self.wider: list[Scope] = []  # class to session, in order of set-up
        self.own: list[Scope] = []  # of the running test, function-scoped
        self._nested: list[Scope] = []  # being set up now, outermost first

    def begin(self, fixture: pytest.FixtureDef[Any], request: pytest.FixtureRequest) -> Scope:
        """A fixture is about to be set up."""
        scope = Scope(fixture, _xunit_owner(fixture, request))
        if fixture.scope != "function":
            for earlier in self.wider:
                earlier.replaced |= earlier.fixture is fixture
            self.wider.append(scope)
        else:
            self.own.append(scope)
        self._nested.append(scope)
        return scope

    def end(self, scope: Scope, low: int, high: int) -> None:
        """It was set up; serials above `low` up to `high` were given meanwhile."""
        self._nested.remove(scope)
        if high == low:
            return
        scope.opened.append((low, high))
        for inner in (*self.wider, *self.own):
            if inner is not scope:
                scope.opened = list(_without(scope.opened, inner.opened))

    def discard(self, scope: Scope) -> None:
        """Its set-up failed, or it has been judged."""
        for scopes in (self.wider, self.own, self._nested):
            if scope in scopes:
                scopes.remove(scope)

    def end_test(self) -> None:
        """Forgets the fixtures of the test that has been judged."""
        self.own.clear()

    def ended(self) -> list[Scope]:
        """The wider fixtures that are over and not yet judged."""
        return [scope for scope in self.wider if scope.is_over]

    def suspects(self, mark: int) -> tuple[set[int], set[int]]:
        """The open handles of the test and its own fixtures, which were opened
        after `mark`, and of wider fixtures that are over."""
        own: set[int] = set()
        wider: set[int] = set()
        lows = [scope.lowest for scope in self.ended() if scope.opened or scope.adopted]
        for serial in _native.open_since(min([mark, *lows])):
            scope = self.find(serial)
            if scope is not None and scope.is_wider:
                if scope.is_over:
                    wider.add(serial)
            elif serial > mark:
                own.add(serial)
        return own, wider

    def in_use(self) -> list[Scope]:
        """The wider fixtures that are not over, widest first."""
        order = ("session", "package", "module", "class")
        active = [scope for scope in self.wider if not scope.is_over]
        return sorted(active, key=lambda scope: order.index(scope.scope))

    def find(self, serial: int) -> Scope | None:
        """The fixture that a handle belongs to; None: the test."""
        for scope in (*self.own, *self.wider):
            if scope.owns(serial):
                return scope
        return None


def _without(
    ranges: Iterable[tuple[int, int]], holes: Collection[tuple[int, int]]
) -> Iterator[tuple[int, int]]:
    for low, high in ranges:
        at = low
        for hole_low, hole_high in sorted(holes):
            if hole_high <= at or hole_low >= high:
                continue
            if hole_low > at:
                yield at, hole_low
            at = max(at, hole_high)
        if at < high:
            yield at, high


def _xunit_owner(fixture: pytest.FixtureDef[Any], request: pytest.FixtureRequest) -> object | None:
    if fixture.scope == "function" or not fixture.argname.startswith(tuple(_XUNIT)):
        return None
    owner: object | None = getattr(request, "cls", None)
    if fixture.scope == "class" and owner is not None:
        return owner
    return getattr(request, "module", None)


def drop_finished_funcargs(item: pytest.Item) -> None:
    """Takes the values of finished fixtures out of `item.funcargs`.

    pytest does so itself, but only after the last teardown hook.
    """
    funcargs: dict[str, object] | None = getattr(item, "funcargs", None)
    if not funcargs:
        return
    definitions = getattr(getattr(item, "_request", None), "_fixture_defs", None) or {}
    known = getattr(getattr(item, "_fixtureinfo", None), "name2fixturedefs", None) or {}
    for name in list(funcargs):
        fixture = definitions.get(name) or (known.get(name) or [None])[-1]
        if fixture is not None and fixture.cached_result is None:
            del funcargs[name]


def other_threads() -> bool:
    """True when another thread runs, started by whatever means."""
    return _thread._count() > 0


def thread_names() -> frozenset[str]:
    """The names of the threads that run now, without the calling one's."""
    if not other_threads():
        return frozenset()
    here = threading.get_ident()
    return frozenset(thread.name for thread in threading.enumerate() if thread.ident != here)
