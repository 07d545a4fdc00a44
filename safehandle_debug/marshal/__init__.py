"""Native calls that cannot lose a handle.

A native function is declared by a Python signature and called like any other:

    @library_import("libc.so.6", check_errno=True)
    def open(path: str, flags: c_int, mode: c_uint = 0o666) -> SafeFileHandle: ...

    @library_import("libc.so.6", check_errno=True)
    def ftruncate(file: SafeFileHandle, length: c_off_t) -> c_int: ...

While the function runs it holds a reference of each handle that it was given,
so none is closed or recycled meanwhile; the objects for the handles that come
back exist before the call and own them before any bytecode runs again, so that
neither an interrupt nor an exception loses one.

Parameters:

    SafeFileHandle          its number, held during the call
    In[SafeFileHandle]      a pointer to a copy of the number
    Ref[SafeFileHandle]     a pointer; another number makes a new handle
    Out[SafeFileHandle]     a pointer; what is written makes a new handle
    Out[tuple[T, T]]        two of them, as pipe2(2) wants
    Point, ByRef[Point], In[Point]      a Structure by value, or a pointer to it
    c_int ... c_void_p, Out[c_int], Ref[c_int], bytes, str, WritableBuffer
    Annotated[Any, ctypes.CFUNCTYPE(...)]       a callback; without handles

A call holds its handles for its own length only: what goes on afterwards (aio,
io_uring, a callback that is kept) needs `with handle.hold()` around it.

In C a handle is an int where it is a descriptor or a key of the kernel, else
an intptr_t; a handle class says otherwise by `native_type = "int"`.

Plain ctypes works as well, with what ctypes can promise.  A handle type in
`argtypes` holds the handle during the call; what it refuses ctypes raises as
ctypes.ArgumentError, with our error's text.  As `restype` it is safe for the
handle types of this package whose value is an int; others (Python subclasses,
pointers) need a native function from here.  ctypes cannot do `Out` and `Ref`.

General layout:

- `types`      the C types of signatures, and how arguments are passed
- `signature`  reads a signature into what the core needs
- `structure`  structures with handles in them
- `library`    the decorators for functions of shared libraries
- `cffi`       the same for libraries declared to cffi
- `argument`   handles in ctypes' own argtypes; loaded when first used

The call itself is in the C core (`_core/marshal/call.h`).  It does not go through
ctypes or libffi: ctypes turns a result into an int, which can fail, before
anybody owns it, and libffi's headers are not everywhere that a C compiler is.
"""

from __future__ import annotations

from pathlib import Path

from safehandle_debug._native import NativeFunction, Out, Ref, last_errno
from safehandle_debug.marshal.cffi import cffi_import
from safehandle_debug.marshal.library import address_import, extern, library_import
from safehandle_debug.marshal.structure import Structure
from safehandle_debug.marshal.types import (
    ByRef,
    In,
    WritableBuffer,
    c_bool,
    c_byte,
    c_char_p,
    c_double,
    c_float,
    c_int,
    c_int16,
    c_int32,
    c_int64,
    c_long,
    c_off_t,
    c_short,
    c_size_t,
    c_ssize_t,
    c_ubyte,
    c_uint,
    c_uint16,
    c_uint32,
    c_uint64,
    c_ulong,
    c_ushort,
    c_void_p,
)

__all__ = [
    "ByRef",
    "In",
    "NativeFunction",
    "Out",
    "Ref",
    "Structure",
    "WritableBuffer",
    "address_import",
    "c_bool",
    "c_byte",
    "c_char_p",
    "c_double",
    "c_float",
    "c_int",
    "c_int16",
    "c_int32",
    "c_int64",
    "c_long",
    "c_off_t",
    "c_short",
    "c_size_t",
    "c_ssize_t",
    "c_ubyte",
    "c_uint",
    "c_uint16",
    "c_uint32",
    "c_uint64",
    "c_ulong",
    "c_ushort",
    "c_void_p",
    "cffi_import",
    "extern",
    "get_include",
    "last_errno",
    "library_import",
]


def get_include() -> str:
    """Directory of `safehandle_debug.h`, for extensions that use handles from C."""
    return str(Path(__file__).parent.parent / "include")
