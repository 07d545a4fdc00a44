"""What can be reached from some objects.

A walk forward costs 1 µs an object, whatever else is on the heap; a search
backward, from the handle to its holders, would cost with the size of the
heap.  The walk never runs code of the objects that it meets, and does not
enter what leads from anything to everything: modules, classes, globals of
functions, and the objects of what runs the tests.
"""

from __future__ import annotations

import _socket
import gc
import io
import select
import types
from collections.abc import Collection, Iterable
from typing import Any, Final

from safehandle_debug import _native
from safehandle_debug.ledger import History

MOST_OBJECTS: Final = 500_000

_HANDLES: Final = (_native.SafeHandle, _native.CriticalHandle)
# The core's own descriptors: a subclass may define the name anew.
_VALUE: Final[dict[type, Any]] = {
    base: next(vars(cls)["handle"] for cls in base.__mro__ if "handle" in vars(cls))
    for base in _HANDLES
}
# Python's own owners of descriptors, and what tells their number.
_FILENO: Final[tuple[tuple[type, Any], ...]] = (
    (io.FileIO, io.FileIO.fileno),
    (_socket.socket, _socket.socket.fileno),
    (select.epoll, select.epoll.fileno),
)
# Those that do not tell it: any one may be the holder.
_SILENT: Final = {"mmap": "mmap", "ScandirIterator": "scandir", "Connection": "sqlite3"}
_LEAVES: Final = frozenset(
    {
        type(None),
        bool,
        int,
        float,
        complex,
        str,
        bytes,
        bytearray,
        range,
        types.BuiltinFunctionType,
        types.CodeType,
        types.ModuleType,
    }
)
_STOPS: Final = ("unittest.", "_pytest.", "pluggy.", "pytest_safehandle.", "xdist.", "execnet.")
# A metaclass may define these names anew: the walk must not run its code.
_module_of: Final = type.__dict__["__module__"].__get__


def reachable(
    roots: Iterable[object],
    suspects: Collection[History],
    *,
    most: int = MOST_OBJECTS,
    otherwise: bool = True,
) -> set[int]:
    """The serials of those suspects that can be reached from `roots`.

    A walk that has met `most` objects without an end stops; the suspects that
    it has not met then count as reached, or `otherwise` as not reached.
    """
    wanted: dict[tuple[str, int], list[int]] = {}
    numbers: dict[int, list[int]] = {}  # serials of watched descriptors and children
    for history in suspects:
        if history.watched:
            numbers.setdefault(history.value, []).append(history.serial)
            wanted.setdefault((history.owner, -1), []).append(history.serial)
        else:
            wanted.setdefault((history.owner, history.value), []).append(history.serial)
    found: set[int] = set()
    seen: dict[int, object] = {}  # keeps them alive, so that an id names one object
    layer: list[object] = list(roots)
    while layer and wanted:
        follow: list[object] = []
        for thing in layer:
            kind = type(thing)
            if numbers and kind is int:
                # Whoever has the bare number may still close it.
                found.update(numbers.get(thing, ()))  # type: ignore[call-overload]
            if kind in _LEAVES or id(thing) in seen:
                continue
            seen[id(thing)] = thing
            if issubclass(kind, _HANDLES):
                found.update(wanted.pop(_key(thing), ()))
            elif numbers:
                found.update(numbers.get(_number(thing), ()))
                if kind.__name__ in _SILENT:
                    found.update(wanted.get((_SILENT[kind.__name__], -1), ()))
            if not issubclass(kind, type) and not str(_module_of(kind)).startswith(_STOPS):
                follow.append(thing)
        if len(seen) > most:
            return {history.serial for history in suspects} if otherwise else found
        layer = _referents(follow)
    return found


def _key(handle: object) -> tuple[str, int]:
    """What a suspect is known by: no two open handles of a class share a value."""
    base = next(base for base in _HANDLES if issubclass(type(handle), base))
    return type(handle).__name__, _VALUE[base].__get__(handle)


def _number(thing: object) -> int:
    """The descriptor that one of Python's own objects holds; -1: none."""
    for kind, fileno in _FILENO:
        if isinstance(thing, kind):
            try:
                return int(fileno(thing))
            except ValueError:
                return -1  # closed
    return -1


def _referents(things: list[object]) -> list[object]:
    functions: list[Any] = [thing for thing in things if type(thing) is types.FunctionType]
    others = [thing for thing in things if type(thing) is not types.FunctionType]
    referents = gc.get_referents(*others)
    for function in functions:
        module = (id(function.__globals__), id(function.__builtins__))
        referents.extend(r for r in gc.get_referents(function) if id(r) not in module)
    return referents
