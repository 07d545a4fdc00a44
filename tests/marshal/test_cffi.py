"""Libraries that are declared to cffi, in ABI and in API mode."""

from __future__ import annotations

import importlib.util
import os
from types import SimpleNamespace
from typing import Any

import pytest
from support_handles import Probe, refs
from support_native import CALLBACK, SOURCE, Callback, native_library, python_include

from safehandle_debug import (
    HandleClosedError,
    HandleNotSupportedError,
    NullHandleError,
    SafeFileHandle,
    SafePipeHandle,
)
from safehandle_debug.marshal import (
    ByRef,
    Out,
    Structure,
    c_double,
    c_int,
    c_int32,
    c_long,
    c_ssize_t,
    cffi_import,
)

cffi = pytest.importorskip("cffi", reason="cffi is not installed")

DECLARED = """
typedef void (*callback)(void);
struct request { int32_t number; intptr_t handle; };
intptr_t during(intptr_t value, callback cb);
int echo_int(int value);
int make_null_fd(void);
int fail(int error);
int put_two(int *slots, int a, int b, int answer);
intptr_t struct_value(struct request r, callback cb);
intptr_t struct_reference(struct request *r, int number, intptr_t handle, callback cb);
double nine_doubles(double, double, double, double, double, double, double, double, double, float);
"""


@pytest.fixture(scope="module", params=["ABI", "API"])
def native(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """(ffi, lib) of the test library in one of cffi's modes."""
    ffi = cffi.FFI()
    ffi.cdef(DECLARED)
    if request.param == "ABI":
        return SimpleNamespace(ffi=ffi, lib=ffi.dlopen(native_library()))
    python_include()
    folder = tmp_path_factory.mktemp("cffi")
    ffi.set_source("_safehandle_test", SOURCE)
    path = ffi.compile(tmpdir=str(folder))
    spec = importlib.util.spec_from_file_location("_safehandle_test", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_by_value(native: Any) -> None:
    @cffi_import(native.ffi, native.lib)
    def during(value: Probe, callback: Callback) -> c_ssize_t: ...

    released: list[int] = []
    handle = Probe(released)
    inside: list[int] = []

    def dispose() -> None:
        inside.append(refs(handle))
        handle.dispose()

    assert during(handle, CALLBACK(dispose)) == 5
    assert inside == [2]
    assert released == [5]
    with pytest.raises(HandleClosedError):
        during(handle, CALLBACK(dispose))
    with pytest.raises(NullHandleError):
        during(None, CALLBACK(dispose))  # type: ignore[arg-type]


def test_results(native: Any) -> None:
    @cffi_import(native.ffi, native.lib, entry_point="make_null_fd")
    def null() -> SafeFileHandle: ...

    @cffi_import(native.ffi, native.lib, check_errno=True)
    def fail(error: c_int) -> SafeFileHandle: ...

    with null() as file:
        assert os.fstat(file.fileno())
    with pytest.raises(FileNotFoundError):
        fail(2)


def test_pairs(native: Any) -> None:
    @cffi_import(native.ffi, native.lib)
    def put_two(
        ends: Out[tuple[SafePipeHandle, SafePipeHandle]], a: c_int, b: c_int, answer: c_int
    ) -> c_int: ...

    ends: Out[tuple[SafePipeHandle, SafePipeHandle]] = Out()
    numbers = os.pipe()
    assert put_two(ends, *numbers, 0) == 0
    assert tuple(end.fileno() for end in ends.value) == numbers
    for end in ends.value:
        end.close()


class Request(Structure):
    number: c_int32
    handle: Probe


def test_structures(native: Any) -> None:
    @cffi_import(native.ffi, native.lib)
    def struct_value(request: Request, callback: Callback | None) -> c_ssize_t: ...

    @cffi_import(native.ffi, native.lib)
    def struct_reference(
        request: ByRef[Request] | None, number: c_int, handle: c_ssize_t, callback: Callback | None
    ) -> c_ssize_t: ...

    handle = Probe([])
    request = Request(30, handle)
    assert struct_value(request, None) == 35
    assert struct_reference(request, 31, 5, None) == 0
    assert request.number == 31
    with pytest.raises(HandleNotSupportedError):
        struct_reference(request, 32, 6, None)
    assert refs(handle) == 1


def test_signatures_are_held_against_the_declaration(native: Any) -> None:
    def wide(value: c_long) -> c_int: ...

    def floating(value: c_int) -> c_double: ...

    def pointer(value: Out[SafeFileHandle]) -> c_int: ...

    def several(value: c_int, more: c_int) -> c_int: ...

    for function, text in (
        (wide, "value does not fit cffi's declaration, int"),
        (floating, "the result does not fit"),
        (pointer, "value does not fit"),
        (several, "declares 1 parameters, the signature has 2"),
    ):
        with pytest.raises(TypeError, match=text):
            cffi_import(native.ffi, native.lib, entry_point="echo_int")(function)

    def missing(value: c_int) -> c_int: ...

    with pytest.raises(AttributeError):
        cffi_import(native.ffi, native.lib)(missing)


def test_a_handle_is_not_for_cffi_itself(native: Any) -> None:
    """cffi's own calls take no handles; hold() gives them a number."""
    file = SafeFileHandle(7, owns_handle=False)
    with pytest.raises(TypeError):
        native.lib.echo_int(file)
    with file.hold() as number:
        assert native.lib.echo_int(number) == 7
