"""Walks forward from the roots to the owners of some handles.

Forward, because a handle's owner may be an object that the collector does not
track, so that nobody can be asked who refers to it; and because a walk costs
1 µs an object and can end at any of them.  A chain is a shortest one: the walk
goes breadth first.
"""

from __future__ import annotations

import functools
import gc
import sys
import time
import types
from collections.abc import Callable, Collection, Iterable
from contextvars import Context
from typing import Any, Final, NamedTuple

from safehandle_debug import _native
from safehandle_debug.findings.holders.cycles import why_alive
from safehandle_debug.findings.holders.links import chain, own_dict
from safehandle_debug.findings.holders.model import Chain, Holders
from safehandle_debug.findings.holders.numbers import CHILD, LEAST, RAW, standing
from safehandle_debug.findings.holders.roots import (
    Root,
    is_foreign_code,
    is_foreign_module,
    roots,
)

__all__ = ["MOST_OBJECTS", "SECONDS", "Target", "holders_of", "search"]

SECONDS: Final = 0.3  # of this thread's own time: a busy machine decides nothing
MOST_OBJECTS: Final = 500_000
MOST_CHAINS: Final = 3  # of one handle
_A_LOOK: Final = 256  # objects between two looks at the clock


Key = tuple[str, int]  # class name, value


class Target(NamedTuple):
    """A handle whose owner is looked for: no two open ones share all three."""

    serial: int
    owner: str  # class name
    value: int


# What the ledger calls the owners of child processes.
_CHILDREN: Final = frozenset({CHILD, "Popen", "Process"})
_HANDLES: Final = (_native.SafeHandle, _native.CriticalHandle)


def _of_the_core(name: str) -> dict[type, Any]:
    """A descriptor of the core's: a subclass may define the name anew."""
    return {
        base: next(vars(cls)[name] for cls in base.__mro__ if name in vars(cls))
        for base in _HANDLES
    }


_VALUE: Final = _of_the_core("handle")
_CLOSED: Final = _of_the_core("is_closed")
_LEAVES: Final = frozenset(
    id(kind)
    for kind in (
        type(None),
        bool,
        int,
        float,
        complex,
        str,
        bytes,
        bytearray,
        range,
        types.CodeType,
        types.GetSetDescriptorType,
        types.MemberDescriptorType,
        types.MethodDescriptorType,
        types.WrapperDescriptorType,
    )
)
_namespace_of: Final[Any] = vars(types.ModuleType)["__dict__"].__get__
_module_of: Final = type.__dict__["__module__"].__get__
_name_of: Final = type.__dict__["__name__"].__get__


def holders_of(handle: object, *, seconds: float = SECONDS, most: int = MOST_OBJECTS) -> Holders:
    """What holds one handle object of this process, besides who asks.

    Args:
        handle: a SafeHandle, or another owner that recordings name.
        seconds: the most CPU time to search.
        most: the most objects to look at.
    """
    reader = _reader_of(type(handle))
    value = None if reader is None else reader(handle)
    if value is None:
        return Holders(0, beyond="it is closed, or no owner of a handle")
    target = Target(0, _name_of(type(handle)), value)
    return search([target], seconds=seconds, most=most)[0]


def search(
    targets: Iterable[Target],
    *,
    seconds: float = SECONDS,
    most: int = MOST_OBJECTS,
    extra: Iterable[Root] = (),
) -> dict[int, Holders]:
    """What holds each of the targets, by serial.

    Args:
        targets: handles of this process that are open.
        seconds: the most CPU time to search.
        most: the most objects to look at.
        extra: roots to look at before all others.
    """
    wanted = {
        (CHILD if target.owner in _CHILDREN else target.owner, target.value): target.serial
        for target in targets
    }
    walk = _Walk(wanted, time.thread_time() + seconds, most)
    cut = walk.run([*extra, *roots()])
    reason = {None: None, "time": f"after {seconds:g} s", "size": f"after {most:,} objects"}[cut]
    found = {
        serial: Holders(serial, tuple(walk.chains_of(key)), cut=_if_few(walk, key, reason))
        for key, serial in wanted.items()
    }
    lost = {key: serial for key, serial in wanted.items() if not found[serial].chains}
    bare = {key: lost.pop(key) for key in list(lost) if _is_number(*key)}
    for (_, value), serial in bare.items():
        places = walk.places_of(value)
        if places or cut is None:
            found[serial] = Holders(serial, cut=reason, beyond=standing(value, places))
    if lost and cut is None:
        found |= why_alive(lost, walk.seen, walk.key_of, walk.deadline)
    return found


def _is_number(owner: str, value: int) -> bool:
    """True for what may be known by its bare number."""
    return owner in (RAW, CHILD) and value >= LEAST


def _if_few(walk: _Walk, key: Key, reason: str | None) -> str | None:
    return None if walk.hits.get(key) else reason


class _Walk:
    """One search: what was seen, and from where."""

    def __init__(self, wanted: Collection[Key], deadline: float, most: int) -> None:
        self.deadline = deadline
        self.seen: dict[int, object] = {}  # alive, so that an id names one object
        self.hits: dict[Key, list[tuple[object, int | None, str]]] = {}
        self._wanted = frozenset(wanted)
        self._missing = set(wanted)
        # Numbers that nothing owns, and where they stand: all of them, so that
        # the walk is not over when it has met one.
        self._numbers: dict[int, list[tuple[int, int | None, str]]] = {
            value: [] for name, value in wanted if _is_number(name, value)
        }
        self._library: set[int] = set()  # roots that are no part of the program
        self._most = most
        self._parents: dict[int, int] = {}
        self._names: dict[int, str] = {}  # of objects that are roots
        self._kinds: dict[int, _Kind] = {}
        # Roots of their own, with their variables.
        self._modules = {id(module) for module in list(sys.modules.values())}
        self._modules |= {
            id(vars(module))
            for module in list(sys.modules.values())
            if type(module) is types.ModuleType
        }

    def run(self, starts: list[Root]) -> str | None:
        """Walks until all are found or nothing is left; why it was cut, or None."""
        layer: list[object] = []
        for text, thing, is_programs in starts:
            if type(thing) is int and thing in self._numbers and is_programs:
                self._numbers[thing].append((thing, None, text))
            elif not is_programs and id(thing) not in self.seen:
                self._library.add(id(thing))
            self._meet(thing, None, text, layer)
        del starts
        while layer and self._missing:
            follow: list[object] = []
            for number, thing in enumerate(layer):
                if not number % _A_LOOK:
                    if time.thread_time() > self.deadline:
                        return "time"
                    if len(self.seen) > self._most:
                        return "size"
                parent = id(thing)
                for child in self._children(thing):
                    self._meet(child, parent, "", follow)
            layer = follow
        return None

    def chains_of(self, key: Key) -> list[Chain]:
        """The shortest chains to one target, each text once."""
        found: dict[str, Chain] = {}
        for handle, parent, text in self.hits.get(key, ()):
            each = chain(*self._path(handle, parent, text))
            found.setdefault(each.text, each)
        return list(found.values())

    def places_of(self, value: int) -> list[tuple[str, list[object]]]:
        """Where a number stands in the program, as (root, objects from there to it)."""
        found = []
        for number in self._numbers[value]:
            root, path = self._path(*number)
            if id(path[0]) not in self._library:
                found.append((root, path))
        return found

    def _path(self, thing: object, parent: int | None, text: str) -> tuple[str, list[object]]:
        path = [thing]
        while parent is not None:
            path.append(self.seen[parent])
            text = self._names.get(parent, "")
            parent = self._parents.get(parent)
        return text, path[::-1]

    def key_of(self, thing: object) -> Key | None:
        """(class name, value) of an object that owns a handle; None of others."""
        read = self._kind(type(thing)).read
        value = None if read is None else read(thing)
        if value is None:
            return None
        key = (CHILD if read is _child else _name_of(type(thing)), value)
        if read is _connection and key not in self._wanted:
            return (RAW, value)  # what the watch calls it, which has not seen whose it is
        return key

    def _kind(self, kind: type) -> _Kind:
        # By id: a metaclass may say how its classes are hashed.
        known = self._kinds.get(id(kind))
        if known is None:
            known = self._kinds[id(kind)] = _Kind(kind, _reader_of(kind), _is_foreign_type(kind))
        return known

    def _meet(self, thing: object, parent: int | None, text: str, follow: list[object]) -> None:
        kind = type(thing)
        number = id(thing)
        if id(kind) in _LEAVES or number in self._modules:
            if kind is int and parent is not None and thing in self._numbers:
                self._numbers[thing].append((thing, parent, ""))
            return
        known = self._kind(kind)
        if known.read is not None:
            self._hit(thing, parent, text)
        if number in self.seen:
            return
        self.seen[number] = thing
        if parent is None:
            self._names[number] = text
        else:
            self._parents[number] = parent
        if not known.foreign and not _is_foreign_thing(thing, kind):
            follow.append(thing)

    def _hit(self, thing: object, parent: int | None, text: str) -> None:
        key = self.key_of(thing)
        if key is None or key not in self._wanted:
            return
        self._missing.discard(key)
        known = self.hits.setdefault(key, [])
        # One chain for each object that holds it; of contexts, which are
        # copied, one for all.
        again = (parent, text) in [hit[1:] for hit in known]
        copied = bool(known) and parent is not None and type(self.seen[parent]) is Context
        if len(known) < MOST_CHAINS and not again and not copied:
            known.append((thing, parent, text))

    def _children(self, thing: Any) -> list[Any]:
        kind: Any = type(thing)
        if kind is types.FunctionType:
            skip = id(thing.__builtins__)
            return [child for child in gc.get_referents(thing) if id(child) != skip]
        if kind is Context:
            return list(thing.values())
        if issubclass(kind, types.ModuleType):
            return [_namespace_of(thing)]  # see cycles.py
        return gc.get_referents(thing)


class _Kind(NamedTuple):
    """What is known of a class."""

    kind: type  # alive, so that its id names it
    read: Callable[[Any], int | None] | None  # the value that an object of it owns
    foreign: bool


def _is_foreign_thing(thing: Any, kind: type) -> bool:
    """True for a frame or a class that is ours or the test runner's."""
    if kind is types.FrameType:
        return is_foreign_code(thing.f_code.co_filename)
    return issubclass(kind, type) and _is_foreign_type(thing)


def _is_foreign_type(kind: type) -> bool:
    module = _module_of(kind)
    return (
        type(module) is str
        and is_foreign_module(module)
        # What is built upon handles is the program's as much as a handle is.
        and not module.startswith("safehandle_debug.handles")
        and not issubclass(kind, _HANDLES)
    )


# --- which object owns what ---


def _reader_of(kind: type) -> Callable[[Any], int | None] | None:
    """What reads the value that an object of a class owns; None when such own none."""
    for base in _HANDLES:
        if issubclass(kind, base):
            return functools.partial(_value, _VALUE[base], _CLOSED[base])
    for module, name in (("_io", "FileIO"), ("_socket", "socket"), ("select", "epoll")):
        owner = getattr(sys.modules.get(module), name, None)
        if isinstance(owner, type) and issubclass(kind, owner):
            return functools.partial(_descriptor, owner.fileno)  # type: ignore[attr-defined]
    owner = getattr(sys.modules.get("multiprocessing.connection"), "Connection", None)
    if isinstance(owner, type) and issubclass(kind, owner):
        return _connection
    for module in ("subprocess", "multiprocessing.popen_fork"):
        owner = getattr(sys.modules.get(module), "Popen", None)
        if isinstance(owner, type) and issubclass(kind, owner):
            return _child
    return None


def _value(value: Any, closed: Any, owner: object) -> int | None:
    # Its number may be another's by now.
    return None if closed.__get__(owner) else int(value.__get__(owner))


def _connection(owner: Any) -> int | None:
    number = (own_dict(owner) or {}).get("_handle")
    return number if type(number) is int else None


def _child(owner: Any) -> int | None:
    names = own_dict(owner) or {}
    pid = names.get("pid")
    return pid if type(pid) is int and names.get("returncode") is None else None


def _descriptor(fileno: Callable[[Any], int], owner: object) -> int | None:
    try:
        return fileno(owner)
    except ValueError:
        return None  # closed
