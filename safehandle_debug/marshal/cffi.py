"""Functions of libraries that are declared to cffi, in ABI and in API mode.

cffi itself cannot hold a handle during a call, nor give a result an owner.  So
the call is ours, and cffi's declaration is what it is checked against.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

from safehandle_debug._native import NativeFunction
from safehandle_debug.marshal.library import caller_names, declare
from safehandle_debug.marshal.signature import CODE_SIZES, Parameter, Signature, read_signature

__all__ = ["cffi_import"]

P = ParamSpec("P")
R = TypeVar("R")

_BY_POINTER = frozenset(
    {
        "buffer",
        "bytes",
        "callback",
        "handle-in",
        "handle-out",
        "handle-pair",
        "handle-ref",
        "struct-in",
        "struct-ref",
        "text",
        "value-out",
        "value-ref",
    }
)


def _function(ffi: Any, library: Any, name: str) -> Any:
    """The function as a pointer: API mode has it as a built-in function."""
    function = getattr(library, name)
    if isinstance(function, ffi.CData):
        return function
    return ffi.addressof(library, name)


def _shape(ffi: Any, ctype: Any) -> tuple[int, str]:
    """(size in bytes, "pointer", "struct", "float" or "number") of a type of cffi."""
    if ctype.kind in ("pointer", "array", "function"):
        return 8, "pointer"
    if ctype.kind in ("struct", "union"):
        return ffi.sizeof(ctype), "struct"
    if ctype.kind == "void":
        return 0, "number"
    is_float = ctype.cname in ("float", "double")
    return ffi.sizeof(ctype), "float" if is_float else "number"


def _matches(ffi: Any, parameter: Parameter, ctype: Any) -> bool:
    _, how, code, _, _, size, _ = parameter
    declared, shape = _shape(ffi, ctype)
    if how in _BY_POINTER:
        return shape == "pointer"
    if how == "struct":
        return shape == "struct" and declared == size
    if how == "void":
        return declared == 0
    if shape == "pointer":
        return code in "PqQ"
    return declared == CODE_SIZES[code] and (shape == "float") == (code in "df")


def _check(ffi: Any, title: str, signature: Signature, declared: Any) -> None:
    fixed = len(declared.args)
    given = len(signature.parameters)
    if given < fixed or (given > fixed and not declared.ellipsis):
        raise TypeError(f"{title}: cffi declares {fixed} parameters, the signature has {given}")
    for parameter, ctype in zip(signature.parameters, declared.args, strict=False):
        if not _matches(ffi, parameter, ctype):
            raise TypeError(
                f"{title}: {parameter[0]} does not fit cffi's declaration, {ctype.cname}"
            )
    if not _matches(ffi, signature.result, declared.result):
        raise TypeError(
            f"{title}: the result does not fit cffi's declaration, {declared.result.cname}"
        )


def cffi_import(
    ffi: Any, library: Any, *, entry_point: str | None = None, check_errno: bool = False
) -> Callable[[Callable[P, R]], NativeFunction[P, R]]:
    """Declares a function of a library of cffi; otherwise as library_import().

    Args:
        ffi: the FFI object with the declarations.
        library: what ffi.dlopen() returned (ABI mode), or the `lib` of a compiled
            module (API mode).
        entry_point: the function's name in the library, where it differs.
        check_errno: raise OSError when the call fails.

    Raises:
        AttributeError: the library has no such function.
        TypeError: the signature is not what cffi was told.
        HandleNotSupportedError: a handle in a place where none can be kept safe.
    """
    names = caller_names()

    def decorate(function: Callable[P, R]) -> NativeFunction[P, R]:
        signature = read_signature(function, names)
        pointer = _function(ffi, library, entry_point or function.__name__)
        _check(ffi, f"{function.__name__}()", signature, ffi.typeof(pointer))
        address = int(ffi.cast("intptr_t", pointer))
        native = declare(function, address, signature, check_errno=check_errno)
        # The address is good for as long as the library is loaded.
        native.__dict__["__library__"] = library
        return native

    return decorate
