"""Numbers, texts and buffers on their way into native code and back."""

from __future__ import annotations

import array
import ctypes
import math
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support_handles import Probe, refs
from support_native import entered, native_library

from safehandle_debug import SafeFileHandle
from safehandle_debug.marshal import (
    In,
    Out,
    Ref,
    WritableBuffer,
    c_bool,
    c_byte,
    c_char_p,
    c_double,
    c_float,
    c_int,
    c_long,
    c_short,
    c_size_t,
    c_ssize_t,
    c_ubyte,
    c_uint,
    c_ulong,
    c_ushort,
    c_void_p,
    library_import,
)

NATIVE = native_library()

small = st.floats(width=32, allow_nan=False, min_value=-1000, max_value=1000)
wide = st.integers(-(1 << 40), 1 << 40)


@library_import(NATIVE)
def sum_of_many(
    a: c_int,
    b: c_double,
    c: c_long,
    d: c_float,
    e: c_short,
    f: c_double,
    g: c_long,
    h: c_long,
    i: c_long,
    j: c_long,
    k: c_int,
    l: c_double,  # noqa: E741
    m: c_float,
    n: c_double,
    o: c_float,
) -> c_double: ...


@library_import(NATIVE)
def nine_doubles(
    a: c_double,
    b: c_double,
    c: c_double,
    d: c_double,
    e: c_double,
    f: c_double,
    g: c_double,
    h: c_double,
    i: c_double,
    j: c_float,
) -> c_double: ...


NUMBER = st.integers(-(1 << 31), (1 << 31) - 1)


@given(
    st.tuples(
        NUMBER,
        small,
        wide,
        small,
        st.integers(-32768, 32767),
        small,
        wide,
        wide,
        wide,
        wide,
        NUMBER,
        small,
        small,
        small,
        small,
    )
)
def test_as_ctypes_does_it(values: tuple[Any, ...]) -> None:
    """More arguments than registers, mixed: the same sum as through libffi."""
    reference: Any = ctypes.CDLL(NATIVE).sum_of_many
    i, d, w, f, s = (
        ctypes.c_int,
        ctypes.c_double,
        ctypes.c_long,
        ctypes.c_float,
        ctypes.c_short,
    )
    reference.argtypes = [i, d, w, f, s, d, w, w, w, w, i, d, f, d, f]
    reference.restype = d
    assert sum_of_many(*values) == reference(*values)


def test_more_doubles_than_registers() -> None:
    assert nine_doubles(*(float(n) for n in range(10))) == sum(n * (n + 1) for n in range(10))


@pytest.mark.parametrize(
    ("name", "kind", "expected"),
    [
        ("narrow_unsigned", c_ubyte, 255),
        ("narrow_signed", c_byte, -1),
        ("narrow_signed", ctypes.c_byte, -1),
        ("wide_unsigned", c_ulong, (1 << 64) - 1),
        ("wide_unsigned", c_long, -1),
        ("wide_unsigned", c_uint, (1 << 32) - 1),
        ("wide_unsigned", c_ushort, (1 << 16) - 1),
        ("wide_unsigned", c_int, -1),
        ("wide_unsigned", c_void_p, (1 << 64) - 1),
        ("wide_unsigned", ctypes.c_ulong, (1 << 64) - 1),
    ],
)
def test_results_have_the_declared_width(name: str, kind: Any, expected: int) -> None:
    def native() -> None: ...

    native.__annotations__["return"] = kind
    assert library_import(NATIVE, entry_point=name)(native)() == expected


@pytest.mark.parametrize(
    ("kind", "least", "most"),
    [
        (c_byte, -128, 127),
        (c_ubyte, 0, 255),
        (c_short, -(1 << 15), (1 << 15) - 1),
        (c_ushort, 0, (1 << 16) - 1),
        (c_int, -(1 << 31), (1 << 31) - 1),
        (c_uint, 0, (1 << 32) - 1),
        (c_long, -(1 << 63), (1 << 63) - 1),
        (c_ulong, 0, (1 << 64) - 1),
        (c_size_t, 0, (1 << 64) - 1),
    ],
)
def test_numbers_that_do_not_fit_are_refused(kind: Any, least: int, most: int) -> None:
    def native(value: Any) -> None: ...

    native.__annotations__.update({"value": kind, "return": kind})
    echo: Any = library_import(NATIVE, entry_point="echo")(native)
    assert echo(least) == least
    assert echo(most) == most
    for bad in (least - 1, most + 1, 1 << 100, -(1 << 100)):
        with pytest.raises(OverflowError, match=r"native\(\): value"):
            echo(bad)
    for wrong in (None, "5", 5.0, object()):
        with pytest.raises(TypeError, match=r"native\(\): value"):
            echo(wrong)
    assert echo(True) == 1
    assert echo(ctypes.c_byte(3)) == 3


def test_a_handle_is_no_number(tmp_path: Path) -> None:
    @library_import(NATIVE)
    def echo(value: c_ssize_t) -> c_ssize_t: ...

    with pytest.raises(TypeError, match="an int is needed, not Probe"):
        echo(Probe([]))  # type: ignore[arg-type]


def test_a_handle_is_not_cut_to_an_int() -> None:
    """2**32 + 3 would be descriptor 3, which is somebody else's."""

    @library_import(NATIVE)
    def echo_int(value: SafeFileHandle) -> c_int: ...

    @library_import(NATIVE, entry_point="put_number")
    def inside(slot: In[SafeFileHandle], value: c_int) -> None: ...

    wide = SafeFileHandle((1 << 32) + 3, owns_handle=False)
    before = entered()
    for call in (lambda: echo_int(wide), lambda: inside(wide, 1)):
        with pytest.raises(OverflowError, match="holds 4294967299"):
            call()
    assert refs(wide) == 1
    assert entered() == before
    assert echo_int(SafeFileHandle((1 << 32) - 1, owns_handle=False)) == -1


def test_truth() -> None:
    @library_import(NATIVE)
    def truth(value: c_int) -> c_bool: ...

    assert truth(4) is True
    assert truth(0) is False


def test_addresses() -> None:
    @library_import(NATIVE)
    def address(value: c_void_p) -> c_void_p: ...

    assert address(None) is None
    assert address(0) is None
    assert address((1 << 64) - 8) == (1 << 64) - 8
    assert address(ctypes.c_void_p(16)) == 16  # type: ignore[arg-type]


def test_texts() -> None:
    @library_import(NATIVE)
    def text(which: c_int) -> c_char_p: ...

    @library_import(None)
    def strlen(value: bytes) -> c_size_t: ...

    @library_import(None, entry_point="strlen")
    def length(value: str) -> c_size_t: ...

    assert text(1) == b"some text"
    assert text(0) is None
    assert strlen(b"four") == 4
    assert length("zwölf") == 6
    with pytest.raises(TypeError, match="must be bytes, not str"):
        strlen("four")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="must be bytes, not None"):
        strlen(None)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="must be a str, not bytes"):
        length(b"four")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="null"):
        length("a\0b")


@pytest.mark.parametrize(
    "buffer",
    [
        bytearray(4),
        memoryview(bytearray(4)),
        array.array("b", bytes(4)),
        (ctypes.c_char * 4)(),
    ],
)
def test_native_code_writes_into_buffers(buffer: Any) -> None:
    @library_import(None)
    def memset(target: WritableBuffer, value: c_int, size: c_size_t) -> c_void_p: ...

    assert memset(buffer, 65, 4) is not None
    assert bytes(buffer) == b"AAAA"
    with pytest.raises(TypeError, match="writable buffer, not bytes"):
        memset(b"AAAA", 65, 4)


def test_a_buffer_is_free_again_after_the_call() -> None:
    @library_import(None)
    def memset(target: WritableBuffer, value: c_int, size: c_size_t) -> c_void_p: ...

    buffer = bytearray(4)
    memset(buffer, 0, 4)
    with pytest.raises(OverflowError):
        memset(buffer, 1 << 40, 4)
    buffer.extend(b"more")


def test_numbers_by_reference() -> None:
    @library_import(NATIVE, entry_point="put_number")
    def out(slot: Out[c_int], value: c_int) -> None: ...

    @library_import(NATIVE, entry_point="put_number")
    def ref(slot: Ref[c_int], value: c_int) -> None: ...

    cell: Out[int] = Out()
    out(cell, -3)
    assert cell.value == -3
    variable = Ref(7)
    ref(variable, 8)
    assert variable.value == 8
    with pytest.raises(TypeError):
        ref(Ref("x"), 8)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="must be an Out"):
        out(variable, 8)  # type: ignore[arg-type]


def test_floats() -> None:
    @library_import("libm.so.6")
    def fmaf(a: c_float, b: c_float, c: c_float) -> c_float: ...

    @library_import("libm.so.6")
    def hypot(a: float, b: float) -> float: ...

    assert fmaf(2.0, 3.0, 0.5) == 6.5
    assert hypot(3, 4) == 5.0
    assert math.isnan(hypot(math.nan, 1.0))
    with pytest.raises(TypeError, match=r"hypot\(\): a"):
        hypot("3", 4)  # type: ignore[arg-type]


def test_getpid() -> None:
    @library_import(None)
    def getpid() -> c_int: ...

    assert getpid() == os.getpid()
