"""Structures, arrays and callbacks in native calls: cases 151 to 165."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence

import pytest
from support_handles import Probe, State, refs, state
from support_native import CALLBACK, Callback, entered, native_library, saw

from safehandle_debug import (
    HandleClosedError,
    HandleNotSupportedError,
    HandleStateError,
    NullHandleError,
    SafeFileHandle,
)
from safehandle_debug.marshal import (
    ByRef,
    In,
    Out,
    Ref,
    Structure,
    c_double,
    c_float,
    c_int,
    c_int32,
    c_ssize_t,
    library_import,
)

NATIVE = native_library()


class Request(Structure):
    number: c_int32
    handle: Probe


class Two(Structure):
    first: Probe
    second: Probe
    number: c_int32 = 0


@library_import(NATIVE)
def struct_value(request: Request, callback: Callback | None) -> c_ssize_t: ...


@library_import(NATIVE)
def struct_two(
    before: c_ssize_t, two: Two, after: c_ssize_t, callback: Callback | None
) -> c_ssize_t: ...


@library_import(NATIVE)
def struct_reference(
    request: ByRef[Request] | None, number: c_int, handle: c_ssize_t, callback: Callback | None
) -> c_ssize_t: ...


@library_import(NATIVE, entry_point="struct_reference")
def struct_inside(
    request: In[Request], number: c_int, handle: c_ssize_t, callback: Callback | None
) -> c_ssize_t: ...


def test_a_handle_in_a_structure_is_held(released: list[int]) -> None:
    """Case 151: disposed by a callback, it is released after the call."""
    handle = Probe(released)
    inside: list[tuple[int, list[int]]] = []

    def dispose() -> None:
        handle.dispose()
        inside.append((refs(handle), list(released)))

    assert struct_value(Request(30, handle), CALLBACK(dispose)) == 35
    assert (saw(), saw(1)) == (5, 30)
    assert inside == [(1, [])]
    assert released == [5]


def test_structure_by_reference_unchanged(released: list[int]) -> None:
    """Case 152: the same object in the field, one reference; numbers come back."""
    handle = Probe(released)
    request = Request(30, handle)
    inside: list[int] = []
    assert struct_reference(request, 31, 5, CALLBACK(lambda: inside.append(refs(handle)))) == 0
    assert inside == [2]
    assert request.handle is handle
    assert request.number == 31
    assert refs(handle) == 1


def test_native_code_cannot_replace_a_handle(released: list[int]) -> None:
    """Case 153: HandleNotSupportedError; the field and the references stay."""
    handle = Probe(released)
    request = Request(30, handle)
    with pytest.raises(HandleNotSupportedError, match=r"request\.handle"):
        struct_reference(request, 31, 6, None)
    assert request.handle is handle
    assert request.number == 30
    assert state(handle) == State(1, disposed=False, closed=False)


def test_writes_to_a_copy_are_ignored(released: list[int]) -> None:
    """Case 153: by In, native code has a copy."""
    request = Request(30, Probe(released))
    assert struct_inside(request, 31, 6, None) == 0
    assert request.number == 30


@pytest.mark.parametrize("cell", [Out, Ref])
def test_no_structure_comes_out(cell: type) -> None:
    """Case 154: refused where it is declared."""

    def native(request: object) -> None: ...

    native.__annotations__["request"] = cell[Request]  # type: ignore[index]
    with pytest.raises(HandleNotSupportedError, match="cannot come out"):
        library_import(NATIVE, entry_point="struct_reference")(native)


def test_none_in_a_field() -> None:
    """Case 155: NullHandleError, by value and by reference."""
    request = Request(30, None)  # type: ignore[arg-type]
    before = entered()
    with pytest.raises(NullHandleError, match=r"request\.handle must be a Probe, not None"):
        struct_value(request, None)
    with pytest.raises(NullHandleError):
        struct_reference(request, 0, 0, None)
    with pytest.raises(NullHandleError):
        struct_inside(request, 0, 0, None)
    with pytest.raises(NullHandleError):
        struct_value(None, None)  # type: ignore[arg-type]
    assert entered() == before


def test_a_closed_handle_in_a_field(released: list[int]) -> None:
    """Case 156: HandleClosedError."""
    handle = Probe(released)
    handle.close()
    before = entered()
    for call in (
        lambda: struct_value(Request(1, handle), None),
        lambda: struct_reference(Request(1, handle), 0, 0, None),
    ):
        with pytest.raises(HandleClosedError):
            call()  # type: ignore[no-untyped-call]
    assert entered() == before


def test_the_second_handle_is_bad(released: list[int]) -> None:
    """Case 157: the reference of the first is dropped."""
    good, closed = Probe(released), Probe(released)
    closed.close()
    before = entered()
    with pytest.raises(HandleClosedError):
        struct_two(1, Two(good, closed), 2, None)
    with pytest.raises(NullHandleError):
        struct_two(1, Two(good, None), 2, None)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"two\.second must be a Probe, not int"):
        struct_two(1, Two(good, 5), 2, None)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"two\.number"):
        struct_two(1, Two(good, good, "many"), 2, None)  # type: ignore[arg-type]
    assert refs(good) == 1
    assert entered() == before
    assert struct_two(1, Two(good, Probe(released, 6), 7), 2, None) == 1050672


def test_a_field_replaced_during_the_call(released: list[int]) -> None:
    """Case 158: the handle that was there at the start is the one let go."""
    handle, other = Probe(released), Probe(released, 6)
    request = Request(30, handle)

    def replace() -> None:
        request.handle = other

    assert struct_reference(request, 30, 5, CALLBACK(replace)) == 0
    assert refs(handle) == refs(other) == 1
    assert request.handle is other


def test_a_failing_release_does_not_stop_the_others(released: list[int]) -> None:
    """Case 159: both are closed inside, both hooks raise; both ran, both are told,
    and the result is not lost."""
    first, second = Probe(released), Probe(released, 6)

    def fail(handle: Probe) -> None:
        raise LookupError(handle.handle)

    first.during = second.during = fail

    def dispose() -> None:
        first.dispose()
        second.dispose()

    with pytest.raises(LookupError) as caught:
        struct_two(0, Two(first, second), 0, CALLBACK(dispose))
    assert sorted(released) == [5, 6]
    context = caught.value.__context__
    assert isinstance(context, LookupError)
    assert {caught.value.args, context.args} == {(5,), (6,)}
    assert caught.value.call_result == 50600  # type: ignore[attr-defined]


def test_a_failing_release_does_not_hide_the_calls_own_error(released: list[int]) -> None:
    """Case 159: the call's error is raised, the hook's is in its context."""
    handle = Probe(released)
    request = Request(30, handle)

    def fail(_: Probe) -> None:
        raise LookupError("hook")

    handle.during = fail
    with pytest.raises(HandleNotSupportedError) as caught:
        struct_reference(request, 31, 6, CALLBACK(handle.dispose))
    assert isinstance(caught.value.__context__, LookupError)
    assert released == [5]


def test_a_pointer_to_a_structure(released: list[int]) -> None:
    """Case 160: the object is the pointer's target, and its handle is held."""
    handle = Probe(released)
    request = Request(1, handle)
    inside: list[int] = []
    struct_reference(request, 2, 5, CALLBACK(lambda: inside.append(refs(handle))))
    assert (inside, request.number, request.handle) == ([2], 2, handle)


def test_a_null_pointer_to_a_structure() -> None:
    """Case 161: None is NULL where the declaration says so."""
    assert struct_reference(None, 0, 0, None) == -1
    assert saw() == 0


@pytest.mark.parametrize(
    "annotation",
    [
        list[SafeFileHandle],
        tuple[SafeFileHandle, ...],
        tuple[SafeFileHandle, SafeFileHandle],
        Sequence[SafeFileHandle],
        Out[list[SafeFileHandle]],
        In[list[SafeFileHandle]],
    ],
)
def test_arrays_of_handles(annotation: object) -> None:
    """Case 162: refused where they are declared."""

    def native(handles: object) -> None: ...

    native.__annotations__["handles"] = annotation
    with pytest.raises(HandleNotSupportedError, match="arrays cannot be passed"):
        library_import(NATIVE, entry_point="echo")(native)


def test_arrays_of_handles_in_ctypes() -> None:
    """Case 162: ctypes knows no arrays of them either."""
    with pytest.raises(TypeError):
        SafeFileHandle * 3  # type: ignore[operator]


def test_nested_structures() -> None:
    """Case 163: refused where the class is defined."""
    with pytest.raises(HandleNotSupportedError, match=r"Outer\.inner"):

        class Outer(Structure):
            inner: Request

    with pytest.raises(HandleNotSupportedError, match=r"Several\.handles"):

        class Several(Structure):
            handles: list[Probe]

    with pytest.raises(HandleNotSupportedError, match=r"Calling\.back"):

        class Calling(Structure):
            back: Callable[[], None]

    with pytest.raises(TypeError):

        class Union(ctypes.Union):
            _fields_ = [("handle", SafeFileHandle)]  # type: ignore[list-item]

    with pytest.raises(TypeError):

        class Raw(ctypes.Structure):
            _fields_ = [("handle", SafeFileHandle)]


def test_a_structure_has_no_memory_outside_a_call(released: list[int]) -> None:
    """Case 164: nothing to copy a number from."""
    request = Request(1, Probe(released))
    with pytest.raises(HandleStateError, match="only during a call"):
        bytes(request)
    with pytest.raises(TypeError):
        memoryview(request)  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        ctypes.addressof(request)  # type: ignore[arg-type]


def test_callbacks_with_handles() -> None:
    """Case 165: refused where the native function is declared."""

    def taking(callback: Callable[[SafeFileHandle], None]) -> None: ...

    def returning(callback: Callable[[], SafeFileHandle]) -> None: ...

    def of_ctypes(callback: object) -> None: ...

    of_ctypes.__annotations__["callback"] = ctypes.CFUNCTYPE(None, SafeFileHandle)  # type: ignore[arg-type]
    for declaration in (taking, returning, of_ctypes):
        with pytest.raises(HandleNotSupportedError, match="callback cannot take or return"):
            library_import(NATIVE, entry_point="echo")(declaration)


class Mixed(Structure):
    weight: c_double
    file: SafeFileHandle
    part: c_float


class Point(Structure):
    x: c_float
    y: c_float
    z: c_double


def test_structures_of_numbers_arrive_whole() -> None:
    """Case 151: integers and floating point numbers in one structure by value."""

    @library_import(NATIVE)
    def struct_mixed(value: Mixed) -> c_double: ...

    @library_import(NATIVE)
    def struct_point(a: c_double, point: Point, b: c_float) -> c_double: ...

    file = SafeFileHandle(1, owns_handle=False)
    assert struct_mixed(Mixed(0.25, file, 0.5)) == 1.75
    assert struct_point(1.0, Point(2.0, 3.0, 4.0), 5.0) == 1234.5


def test_a_structure_that_finds_no_registers_left(released: list[int]) -> None:
    """Case 151: by value after five other arguments it goes to the stack."""

    @library_import(NATIVE)
    def late_struct(
        a: c_ssize_t,
        b: c_ssize_t,
        c: c_ssize_t,
        d: c_ssize_t,
        e: c_ssize_t,
        request: Request,
        f: c_ssize_t,
    ) -> c_ssize_t: ...

    assert late_struct(1, 2, 3, 4, 5, Request(7, Probe(released)), 6) == 5791
