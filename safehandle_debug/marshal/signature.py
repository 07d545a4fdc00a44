"""From annotations to what the core needs of a signature.

The core takes each parameter as a tuple (name, pass, code, type, optional,
size, fields).  Whatever cannot be passed safely is refused here, where the
function is declared, and not when it is called.
"""

from __future__ import annotations

import collections.abc
import inspect
import sys
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, TypeAlias, Union, get_args, get_origin

from safehandle_debug._native import (
    CriticalHandle,
    Out,
    Ref,
    SafeHandle,
    SafeMemoryMappedViewHandle,
    native_code,
)
from safehandle_debug.errors import HandleNotSupportedError
from safehandle_debug.marshal.types import CType, Passing

__all__ = [
    "CODE_SIZES",
    "Field",
    "Parameter",
    "Signature",
    "handle_type",
    "read_number",
    "read_signature",
]

Field: TypeAlias = tuple[str, int, str, "type | None"]
"""(name, offset in bytes, code, handle type or None for a number)."""

Parameter: TypeAlias = tuple[str, str, str, "type | None", bool, int, tuple[Field, ...]]

_SEQUENCES = (list, tuple, set, frozenset, dict, collections.abc.Sequence)

# What ctypes calls its types, and what the core does; longs are 64 bits.
_CTYPES_CODES = {code: code for code in "?bBhHiIqQdfP"} | {"l": "q", "L": "Q"}


CODE_SIZES = {
    code: size
    for codes, size in (("?bB", 1), ("hH", 2), ("iIf", 4), ("qQdP", 8))
    for code in codes
}


@dataclass(frozen=True, slots=True)
class Signature:
    """A whole signature, as the core takes it."""

    parameters: tuple[Parameter, ...]
    result: Parameter
    defaults: tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class _Annotation:
    """An annotation, unwrapped."""

    base: Any
    marks: tuple[Any, ...]
    optional: bool


def handle_type(base: object) -> type[SafeHandle | CriticalHandle] | None:
    """The annotation itself where it is a handle type, else None."""
    if isinstance(base, type) and issubclass(base, SafeHandle | CriticalHandle):
        return base
    return None


def _made(where: str, base: object) -> type[SafeHandle | CriticalHandle] | None:
    """The handle type of something that native code makes."""
    handle = handle_type(base)
    if handle is not None and issubclass(handle, SafeMemoryMappedViewHandle):
        raise HandleNotSupportedError(
            f"{where}: the length of a view cannot come out of native code, and it could not "
            "be unmapped; use SafeMemoryMappedViewHandle.map()"
        )
    return handle


def _unwrap(annotation: Any) -> _Annotation:
    """Takes Annotated[] and `| None` off, in any order."""
    marks: list[Any] = []
    optional = False
    while True:
        origin = get_origin(annotation)
        if origin is Annotated:
            marks.extend(annotation.__metadata__)
            annotation = annotation.__origin__
            if any(isinstance(mark, CType) for mark in marks):
                break  # the `int | None` of c_void_p is the number's own
        elif origin in (Union, types.UnionType):
            args = get_args(annotation)
            rest = [arg for arg in args if arg is not type(None)]
            if len(rest) != 1 or len(rest) == len(args):
                break
            optional, annotation = True, rest[0]
        else:
            break
    return _Annotation(annotation, tuple(marks), optional)


def _ctypes_class(base: object, name: str) -> bool:
    # A class of ctypes can only be here if ctypes was loaded.
    ctypes = sys.modules.get("ctypes")
    return (
        ctypes is not None and isinstance(base, type) and issubclass(base, getattr(ctypes, name))
    )


def read_number(annotation: Any) -> str | None:
    """The code of an annotation that stands for a number, else None."""
    found = _unwrap(annotation)
    for mark in found.marks:
        if isinstance(mark, CType):
            return mark.code
        if isinstance(mark, type) and _ctypes_class(mark, "_SimpleCData"):
            return _CTYPES_CODES.get(getattr(mark, "_type_", ""))
    if found.base is bool:
        return "?"
    if found.base is float:
        return "d"
    if _ctypes_class(found.base, "_SimpleCData"):
        return _CTYPES_CODES.get(getattr(found.base, "_type_", ""))
    return None


def _handle_code(found: _Annotation, handle: type) -> str:
    for mark in found.marks:
        if isinstance(mark, CType):
            return mark.code
    return native_code(handle)


def _holds_handles(annotation: Any) -> bool:
    if handle_type(annotation) is not None:
        return True
    if isinstance(annotation, list):  # the parameters of a Callable
        return any(map(_holds_handles, annotation))
    return any(_holds_handles(arg) for arg in get_args(annotation))


def _refuse(where: str, annotation: Any) -> HandleNotSupportedError | TypeError:
    """The error for an annotation that cannot be passed, in one sentence."""
    base = _unwrap(annotation).base
    origin = get_origin(base) or base
    if origin is collections.abc.Callable or _ctypes_class(base, "_CFuncPtr"):
        if _holds_handles(base) or _ctypes_class(base, "_CFuncPtr"):
            return HandleNotSupportedError(
                f"{where}: a callback cannot take or return handles: declare it with c_int "
                "or c_void_p, and use SafeHandle types outside of it"
            )
        return TypeError(f"{where}: declare the callback with ctypes.CFUNCTYPE")
    if isinstance(origin, type) and issubclass(origin, _SEQUENCES):
        return HandleNotSupportedError(
            f"{where}: arrays cannot be passed; for two handles in an int[2] use "
            "Out[tuple[T, T]], for memory WritableBuffer"
        )
    if base is int:
        return TypeError(f"{where}: `int` does not say how wide: use c_int, c_long, c_size_t ...")
    name = getattr(base, "__name__", None) or repr(base)
    return TypeError(f"{where}: {name} cannot be passed to native code")


def _parameter(
    name: str,
    how: str,
    code: str = "P",
    kind: type | None = None,
    *,
    optional: bool = False,
    size: int = 0,
    fields: tuple[Field, ...] = (),
) -> Parameter:
    return (name, how, code, kind, optional, size, fields)


def _read_cell(name: str, where: str, base: Any) -> Parameter:
    """Out[...] and Ref[...]."""
    word = "out" if get_origin(base) is Out else "ref"
    args = get_args(base)
    inner = _unwrap(args[0])
    pair = get_args(inner.base)
    if get_origin(inner.base) is tuple and word == "out" and len(pair) == 2 and pair[0] is pair[1]:
        found = _unwrap(pair[0])
        handle = _made(where, found.base)
        if handle is not None:
            return _parameter(name, "handle-pair", _handle_code(found, handle), handle)
    handle = _made(where, inner.base)
    if handle is not None and not inner.optional:
        return _parameter(name, f"handle-{word}", _handle_code(inner, handle), handle)
    if handle is not None:
        raise HandleNotSupportedError(f"{where}: a handle is never None; an invalid one says no")
    if _is_structure(inner.base):
        raise HandleNotSupportedError(
            f"{where}: a structure cannot come out of native code, since its handles would have "
            "no owner: pass one with ByRef"
        )
    code = read_number(args[0])
    if code is not None:
        return _parameter(name, f"value-{word}", code)
    raise _refuse(where, args[0])


def _is_structure(base: object) -> bool:
    return isinstance(base, type) and hasattr(base, "__native_fields__")


def _read_structure(name: str, where: str, found: _Annotation) -> Parameter:
    how = "struct"
    if Passing.BY_REF in found.marks:
        how = "struct-ref"
    elif Passing.IN in found.marks:
        how = "struct-in"
    elif found.optional:
        raise TypeError(f"{where}: a structure by value cannot be None; use ByRef or In")
    base = found.base
    return _parameter(
        name,
        how,
        kind=base,
        optional=found.optional,
        size=base.__native_size__,
        fields=base.__native_fields__,
    )


def _read_parameter(name: str, where: str, annotation: Any) -> Parameter:
    found = _unwrap(annotation)
    base = found.base
    if get_origin(base) in (Out, Ref):
        return _read_cell(name, where, base)
    for mark in found.marks:  # type checkers want a name for what CFUNCTYPE() made
        base = mark if _ctypes_class(mark, "_CFuncPtr") else base
    handle = handle_type(base)
    if handle is not None:
        if found.optional:
            raise HandleNotSupportedError(
                f"{where}: a handle is never None; pass an invalid one where native code wants it"
            )
        how = "handle-in" if Passing.IN in found.marks else "handle"
        return _parameter(name, how, _handle_code(found, handle), handle)
    if _is_structure(base):
        return _read_structure(name, where, found)
    if Passing.BUFFER in found.marks:
        return _parameter(name, "buffer", optional=found.optional)
    if Passing.CHARS in found.marks or base is bytes or _ctypes_chars(base):
        optional = found.optional or base is not bytes
        return _parameter(name, "bytes", optional=optional)
    if base is str:
        return _parameter(name, "text", optional=found.optional)
    if _ctypes_class(base, "_CFuncPtr"):
        if any(map(handle_type, [*(base._argtypes_ or ()), base._restype_])):
            raise _refuse(where, base)
        return _parameter(name, "callback", kind=base, optional=found.optional)
    code = read_number(annotation)
    if code is not None and found.optional and code != "P":
        raise TypeError(
            f"{where}: a number is never None; c_void_p is an address that may be NULL"
        )
    if code is not None:
        return _parameter(name, "value", code)
    raise _refuse(where, annotation)


def _ctypes_chars(base: object) -> bool:
    return _ctypes_class(base, "_SimpleCData") and getattr(base, "_type_", "") == "z"


def _read_result(where: str, annotation: Any) -> Parameter:
    if annotation in (None, type(None)):
        return _parameter("return", "void", "q")
    found = _unwrap(annotation)
    handle = _made(where, found.base)
    if handle is not None:
        if found.optional:
            raise HandleNotSupportedError(
                f"{where}: a native function returns a handle always; ask is_invalid"
            )
        return _parameter("return", "handle", _handle_code(found, handle), handle)
    if Passing.CHARS in found.marks or found.base is bytes or _ctypes_chars(found.base):
        return _parameter("return", "bytes", "P")
    code = read_number(annotation)
    if code is not None:
        return _parameter("return", "value", code)
    raise _refuse(where, annotation)


def read_signature(
    function: Callable[..., object], names: Mapping[str, Any] | None = None
) -> Signature:
    """Reads the annotations of a function whose body says nothing.

    Args:
        function: the declaration.
        names: local names that its annotations may use.

    Raises:
        TypeError: an annotation is missing or cannot be passed.
        HandleNotSupportedError: a handle in a place where none can be kept safe.
    """
    title = f"{function.__name__}()"
    hints = typing.get_type_hints(function, localns=dict(names or {}), include_extras=True)
    parameters = []
    defaults = []
    for name, parameter in inspect.signature(function).parameters.items():
        where = f"{title}: {name}"
        if parameter.kind is not inspect.Parameter.POSITIONAL_OR_KEYWORD:
            raise TypeError(
                f"{where}: a native function has plain parameters only; declare a variadic one "
                "once for each way to call it"
            )
        if name not in hints:
            raise TypeError(f"{where} has no annotation")
        parameters.append(_read_parameter(name, where, hints[name]))
        if parameter.default is not inspect.Parameter.empty:
            defaults.append(parameter.default)
    if "return" not in hints:
        raise TypeError(f"{title} says nothing of its result: annotate it, with None for void")
    result = _read_result(f"{title}: the result", hints["return"])
    return Signature(tuple(parameters), result, tuple(defaults))
