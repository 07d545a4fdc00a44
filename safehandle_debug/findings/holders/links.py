"""What the steps of a chain are called, found again on the way back.

The search knows only that one object refers to another.  How, is asked for the
few objects of a chain, without running any code of theirs: attributes are
looked up in the dict itself and in slots, keys are compared by identity.
"""

from __future__ import annotations

import collections
import contextvars
import functools
import io
import types
from collections.abc import Iterable, Sequence
from typing import Any, Final

from safehandle_debug.findings.holders.model import Chain, Link
from safehandle_debug.findings.holders.roots import frame_variables

__all__ = ["chain", "own_dict", "type_name"]

_LONGEST: Final = 40  # characters of a key
# By id: a metaclass may say how its classes are hashed.
_SUSPENDED: Final = {
    id(types.GeneratorType): "gi_frame",
    id(types.CoroutineType): "cr_frame",
    id(types.AsyncGeneratorType): "ag_frame",
}
_FIELDS: Final = {
    id(types.MethodType): ("__self__", "__func__"),
    id(types.BuiltinMethodType): ("__self__",),
    id(functools.partial): ("func", "args", "keywords"),
    id(types.FrameType): ("f_back", "f_trace"),
    id(types.TracebackType): ("tb_frame", "tb_next"),
    id(property): ("fget", "fset", "fdel"),
    id(staticmethod): ("__func__",),
    id(classmethod): ("__func__",),
    id(types.FunctionType): ("__defaults__", "__kwdefaults__", "__annotations__"),
}
_ERROR_FIELDS: Final = ("args", "__traceback__", "__context__", "__cause__")
_mro_of: Final = type.__dict__["__mro__"].__get__
_attributes_of: Final = type.__dict__["__dict__"].__get__
_name_of: Final = type.__dict__["__qualname__"].__get__


def chain(root: str, path: Sequence[object]) -> Chain:
    """The chain along `path`, whose first object is what the root names."""
    links = [Link(root, type_name(path[0]))]
    for number in range(1, len(path)):
        before = path[number - 2] if number > 1 else None
        text = _step(before, path[number - 1], path[number])
        links.append(Link(text, type_name(path[number])))
    return Chain(tuple(links))


def type_name(thing: object) -> str:
    """The qualified name of its class."""
    return str(_name_of(type(thing)))


def _step(before: object, holder: object, held: object) -> str:
    kind = type(holder)
    if issubclass(kind, dict):
        return _in_dict(before, holder, held)  # type: ignore[arg-type]
    if kind is list or kind is tuple or kind is collections.deque:
        return _in_sequence(before, holder, held)  # type: ignore[arg-type]
    if kind is set or kind is frozenset:
        return ", a member"
    if kind is types.CellType:
        return ""
    if kind is contextvars.Context:
        names = (variable.name for variable, value in holder.items() if value is held)  # type: ignore[attr-defined]
        return f", contextvar {next(names, '?')!r}"
    if kind is functools._lru_cache_wrapper:
        return ", its cache"
    if id(kind) in _SUSPENDED or kind is types.FrameType:
        local = _in_frame(holder, held)
        if local:
            return local
    if issubclass(kind, type):
        return "" if issubclass(type(held), dict) else ".__class__"
    if kind is types.FunctionType and held is holder.__closure__:  # type: ignore[attr-defined]
        return ""
    return _in_fields(holder, held) or _in_object(holder, held)


def _in_dict(before: object, holder: dict[Any, Any], held: object) -> str:
    for key, value in list(holder.items()):
        if value is held:
            break
        if key is held:
            return ", a key"
    else:
        return "[?]"
    if type(key) is str and before is not None and _is_namespace(before, holder):
        return f".{key}"
    return f"[{_shown(key)}]"


def _is_namespace(before: object, names: dict[Any, Any]) -> bool:
    """True when the dict is the attributes of an object, not a dict it has."""
    if issubclass(type(before), type):
        return True
    return own_dict(before) is names


def _in_sequence(before: object, holder: Sequence[object], held: object) -> str:
    number = next((n for n, value in enumerate(list(holder)) if value is held), None)
    if number is None:
        return "[?]"
    if type(before) is types.FunctionType and before.__closure__ is holder:
        return f", closure {before.__code__.co_freevars[number]}"
    return f"[{number}]"


def _in_frame(holder: object, held: object) -> str:
    frame = getattr(holder, _SUSPENDED.get(id(type(holder)), ""), holder)
    if type(frame) is not types.FrameType:
        return ""
    for name, value in frame_variables(frame).items():
        if value is held:
            return f", local {name} of {frame.f_code.co_qualname}"
    return ""


def _in_fields(holder: object, held: object) -> str:
    fields: Iterable[str] = _FIELDS.get(id(type(holder)), ())
    if issubclass(type(holder), BaseException):
        fields = _ERROR_FIELDS
    for field in fields:
        if _builtin(holder, field) is held:
            return f".{field}"
    return ""


def _builtin(holder: object, field: str) -> object:
    """A field that a type of the interpreter defines."""
    for base in _mro_of(type(holder)):
        descriptor = _attributes_of(base).get(field)
        kind: Any = type(descriptor)
        if kind is types.GetSetDescriptorType or kind is types.MemberDescriptorType:
            try:
                return descriptor.__get__(holder)
            except AttributeError:
                return None
    return None


def _in_object(holder: object, held: object) -> str:
    own = own_dict(holder)
    if held is own:
        return ""
    for key, value in list(own.items()) if own is not None else ():
        if value is held:
            return f".{key}" if type(key) is str else f".{_shown(key)}"
    for base in _mro_of(type(holder)):
        for name, descriptor in list(_attributes_of(base).items()):
            if type(descriptor) is types.MemberDescriptorType and name[:2] != "__":
                try:
                    if descriptor.__get__(holder) is held:
                        return f".{name}"
                except AttributeError:
                    continue
    if held is type(holder):
        return ".__class__"
    if issubclass(type(holder), io.TextIOWrapper) and type(held) is io.FileIO:
        return ".buffer.raw"  # it keeps a short cut
    # What a coroutine is to its task: the next step says more.
    return "" if id(type(held)) in _SUSPENDED else f", its {type_name(held)}"


def own_dict(holder: object) -> dict[Any, Any] | None:
    """The attributes that an object has in a dict; None: it has none, or code of
    the program would say which."""
    for base in _mro_of(type(holder)):
        descriptor = _attributes_of(base).get("__dict__")
        if type(descriptor) is types.GetSetDescriptorType:
            found = descriptor.__get__(holder)
            return found if type(found) is dict else None
        if descriptor is not None:
            return None  # code of the program
    return None


def _shown(key: object) -> str:
    """A key as it is written; of a class of the program only its class."""
    if type(key) is tuple and len(key) <= 4:
        text = ", ".join(map(_shown, key))
        return f"({text},)" if len(key) == 1 else f"({text})"
    if key is None or any(type(key) is each for each in (int, float, bool, complex)):
        return repr(key)
    if type(key) is str or type(key) is bytes:
        text = repr(key)
        return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 4]}...{text[-1]}"
    return f"<{type_name(key)}>"
