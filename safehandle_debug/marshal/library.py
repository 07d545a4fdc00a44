"""Functions of shared libraries, declared by a Python signature."""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable, Mapping
from typing import Any, NoReturn, ParamSpec, TypeVar

from safehandle_debug._native import NativeFunction, native_address
from safehandle_debug.marshal.signature import Signature, read_signature

__all__ = ["address_import", "caller_names", "declare", "extern", "library_import"]

P = ParamSpec("P")
R = TypeVar("R")


def extern() -> NoReturn:
    """A body for declarations where a type checker refuses an empty one."""
    raise NotImplementedError("a declaration of a native function is never called")


def declare(
    function: Callable[P, R], address: int, signature: Signature, *, check_errno: bool
) -> NativeFunction[P, R]:
    """Makes the native function at `address` that `function` declares."""
    native: NativeFunction[P, R] = NativeFunction(
        function.__name__,
        address,
        signature.parameters,
        signature.result,
        signature.defaults,
        check_errno,
    )
    functools.update_wrapper(native, function)
    return native


def caller_names() -> Mapping[str, Any]:
    """Local names where a decorator of this package is used: annotations may be
    classes of a function."""
    return sys._getframe(2).f_locals


def library_import(
    library: str | os.PathLike[str] | None,
    *,
    entry_point: str | None = None,
    check_errno: bool = False,
) -> Callable[[Callable[P, R]], NativeFunction[P, R]]:
    """Declares a function of a shared library.

    The decorated function's body is never run.  A type checker that refuses an
    empty body (mypy: error code `empty-body`) accepts `extern()` in its place.

    Args:
        library: name or path as for dlopen(3); None: whatever the process has
            loaded, the C library among it.
        entry_point: the symbol, where it is not the function's name.
        check_errno: raise OSError when the result says that the call failed: -1,
            NULL, or an invalid handle.

    Raises:
        OSError: there is no such library.
        AttributeError: the library has no such symbol.
        TypeError, HandleNotSupportedError: the signature cannot be called.
    """
    names = caller_names()

    def decorate(function: Callable[P, R]) -> NativeFunction[P, R]:
        signature = read_signature(function, names)
        address = native_address(library, entry_point or function.__name__)
        return declare(function, address, signature, check_errno=check_errno)

    return decorate


def address_import(
    address: int, *, check_errno: bool = False
) -> Callable[[Callable[P, R]], NativeFunction[P, R]]:
    """Declares the function at an address, as library_import() does.

    Args:
        address: of native code; of a ctypes function it is
            `ctypes.cast(function, ctypes.c_void_p).value`.
        check_errno: as for library_import().

    Raises:
        ValueError: the address is 0.
        TypeError, HandleNotSupportedError: the signature cannot be called.
    """
    names = caller_names()

    def decorate(function: Callable[P, R]) -> NativeFunction[P, R]:
        signature = read_signature(function, names)
        return declare(function, address, signature, check_errno=check_errno)

    return decorate
