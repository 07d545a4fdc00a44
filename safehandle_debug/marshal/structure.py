"""Structures with handles in them.

A structure is an ordinary object here; it has native memory only while a call
runs.  So there is no moment at which a number in some memory stands for a
handle that nobody holds, and nothing to copy such a number from.
"""

from __future__ import annotations

import sys
import typing
from typing import Any, ClassVar, dataclass_transform

from safehandle_debug._native import native_code
from safehandle_debug.errors import HandleNotSupportedError, HandleStateError
from safehandle_debug.marshal.signature import CODE_SIZES, Field, handle_type, read_number

__all__ = ["Structure"]


def _layout(name: str, hints: dict[str, Any]) -> tuple[tuple[Field, ...], int]:
    """Fields at their natural alignment, and the whole size in bytes."""
    fields: list[Field] = []
    offset, alignment = 0, 1
    for field, annotation in hints.items():
        where = f"{name}.{field}"
        handle = handle_type(annotation)
        code = native_code(handle) if handle is not None else read_number(annotation)
        if code is None:
            raise HandleNotSupportedError(
                f"{where}: a field is a number or a handle; nested structures, unions, arrays, "
                "texts and callbacks are not supported"
            )
        size = CODE_SIZES[code]
        offset = -(-offset // size) * size
        fields.append((field, offset, code, handle))
        offset += size
        alignment = max(alignment, size)
    return tuple(fields), -(-offset // alignment) * alignment


@dataclass_transform(eq_default=False)
class Structure:
    """Base of native structures; a subclass annotates its fields, in order.

        class Request(Structure):
            file: SafeFileHandle
            count: c_int = 1

    Pass it by value (`Request`), by reference (`ByRef[Request]`), or as a
    pointer to a copy (`In[Request]`).  Every handle in it is held during the
    call; None in its place raises NullHandleError, a closed one
    HandleClosedError.  A handle that native code replaced raises
    HandleNotSupportedError after the call, and the field stays as it was.
    """

    __native_fields__: ClassVar[tuple[Field, ...]]
    __native_size__: ClassVar[int]

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        names = sys._getframe(1).f_locals
        hints = {
            name: hint
            for name, hint in typing.get_type_hints(cls, None, names, include_extras=True).items()
            if typing.get_origin(hint) is not ClassVar and not name.startswith("__native_")
        }
        if not hints:
            raise TypeError(f"{cls.__name__} has no fields: annotate them")
        cls.__native_fields__, cls.__native_size__ = _layout(cls.__name__, hints)
        if cls.__native_size__ > 4096:
            raise TypeError(f"{cls.__name__} is larger than 4096 bytes")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        names = [field[0] for field in type(self).__native_fields__]
        title = type(self).__name__
        if len(args) > len(names):
            raise TypeError(f"{title} has {len(names)} fields, {len(args)} values given")
        values = dict(zip(names, args, strict=False))
        for name, value in kwargs.items():
            if name not in names or name in values:
                raise TypeError(f"{title}: field {name!r} is unknown or given twice")
            values[name] = value
        for name in names:
            if name not in values and not hasattr(type(self), name):
                raise TypeError(f"{title}: field {name!r} has no value")
        for name, value in values.items():
            setattr(self, name, value)

    def __repr__(self) -> str:
        values = (f"{name}={getattr(self, name)!r}" for name, *_ in self.__native_fields__)
        return f"{type(self).__name__}({', '.join(values)})"

    def __bytes__(self) -> bytes:
        raise HandleStateError(
            f"{type(self).__name__} has native memory only during a call: numbers of handles "
            "outside of one would name resources that nobody holds"
        )
