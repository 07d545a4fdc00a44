"""The C types of signatures.

Each is an alias of the Python type that callers pass or get, so that editors
and type checkers see `int` where the core sees `unsigned long`.  The types of
ctypes with the same names are understood as well.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, TypeAlias, TypeVar

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer as _AnyWritable
else:
    _AnyWritable = object

__all__ = [
    "ByRef",
    "CType",
    "In",
    "Passing",
    "WritableBuffer",
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
]

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class CType:
    """Marks an alias with the core's code: one of `?bBhHiIqQdfP`."""

    code: str


class Passing(enum.Enum):
    """Marks an alias with how its argument is passed."""

    IN = "in"  # pointer to a copy; what native code writes there is ignored
    BY_REF = "by reference"  # pointer to a structure, read back afterwards
    BUFFER = "buffer"  # pointer to a caller's memory
    CHARS = "chars"  # char *, or NULL for None


c_bool: TypeAlias = Annotated[bool, CType("?")]
c_byte: TypeAlias = Annotated[int, CType("b")]
c_ubyte: TypeAlias = Annotated[int, CType("B")]
c_short: TypeAlias = Annotated[int, CType("h")]
c_ushort: TypeAlias = Annotated[int, CType("H")]
c_int: TypeAlias = Annotated[int, CType("i")]
c_uint: TypeAlias = Annotated[int, CType("I")]
c_long: TypeAlias = Annotated[int, CType("q")]
c_ulong: TypeAlias = Annotated[int, CType("Q")]
c_int16: TypeAlias = Annotated[int, CType("h")]
c_uint16: TypeAlias = Annotated[int, CType("H")]
c_int32: TypeAlias = Annotated[int, CType("i")]
c_uint32: TypeAlias = Annotated[int, CType("I")]
c_int64: TypeAlias = Annotated[int, CType("q")]
c_uint64: TypeAlias = Annotated[int, CType("Q")]
c_size_t: TypeAlias = Annotated[int, CType("Q")]
c_ssize_t: TypeAlias = Annotated[int, CType("q")]
c_off_t: TypeAlias = Annotated[int, CType("q")]
c_float: TypeAlias = Annotated[float, CType("f")]
c_double: TypeAlias = Annotated[float, CType("d")]
c_void_p: TypeAlias = Annotated[int | None, CType("P")]
c_char_p: TypeAlias = Annotated[bytes | None, Passing.CHARS]

WritableBuffer: TypeAlias = Annotated[_AnyWritable, Passing.BUFFER]
"""A bytearray, a memoryview, an array or a ctypes object that native code
fills; it cannot be resized during the call."""

In: TypeAlias = Annotated[T, Passing.IN]
"""`In[SafeFileHandle]`: a pointer to the handle's value; `In[Point]`: a pointer
to a copy of the structure.  Writes are ignored."""

ByRef: TypeAlias = Annotated[T, Passing.BY_REF]
"""`ByRef[Point]`: a pointer to a structure.  Numbers that native code changed
are stored into the object; handles it must leave alone."""
