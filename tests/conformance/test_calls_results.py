"""Handles that come out of native calls: cases 129 to 150."""

from __future__ import annotations

import ctypes
import errno
import gc
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from support_handles import Probe, State, refs, state
from support_native import CALLBACK, Callback, entered, native_library, saw

from safehandle_debug import (
    HandleClosedError,
    HandleNotSupportedError,
    NullHandleError,
    SafeFileHandle,
    SafeHandle,
    SafeHandleMinusOneIsInvalid,
    SafePipeHandle,
    _native,
)
from safehandle_debug.marshal import (
    ByRef,
    In,
    Out,
    Ref,
    Structure,
    c_int,
    c_int32,
    c_ssize_t,
    c_uint,
    last_errno,
    library_import,
)

NATIVE = native_library()


class Made(SafeHandleMinusOneIsInvalid):
    """A handle that native calls can make; its hook fills `log`."""

    log: list[int] = []  # noqa: RUF012

    def release_handle(self) -> bool:
        type(self).log.append(self.handle)
        return True


class NeedsArgument(SafeHandleMinusOneIsInvalid):
    """A handle whose constructor wants to know something."""

    def __init__(self, value: int) -> None:
        super().__init__()
        self.set_handle(value)

    def release_handle(self) -> bool:
        return True


class Broken(SafeHandleMinusOneIsInvalid):
    """A handle whose constructor fails."""

    error: type[BaseException] = LookupError

    def __init__(self) -> None:
        super().__init__()
        raise type(self).error

    def release_handle(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def log() -> Iterator[list[int]]:
    """What handles of type Made released."""
    Made.log.clear()
    yield Made.log
    gc.collect()


@library_import(NATIVE, entry_point="make")
def make(value: c_ssize_t, callback: Callback | None) -> Made: ...


@library_import(NATIVE)
def put(slot: Out[Made], value: c_ssize_t, callback: Callback | None) -> None: ...


@library_import(NATIVE, entry_point="put")
def change(slot: Ref[Made], value: c_ssize_t, callback: Callback | None) -> None: ...


def test_a_result_is_a_new_handle(log: list[int]) -> None:
    """Case 129: open, one reference, of the declared type."""
    handle = make(5, None)
    assert type(handle) is Made
    assert handle.handle == 5
    assert state(handle) == State(1, disposed=False, closed=False)
    handle.close()
    assert log == [5]


def test_an_invalid_result_is_a_handle_too() -> None:
    """Case 130: never None; errno can be read, the hook does not run."""

    @library_import(NATIVE, entry_point="fail")
    def fail(error: c_int) -> SafeFileHandle: ...

    handle = fail(errno.EMFILE)
    assert isinstance(handle, SafeFileHandle)
    assert handle.is_invalid
    assert last_errno() == errno.EMFILE
    before = _native.live_count()
    handle.close()
    assert _native.live_count() == before
    made = make(-1, None)
    assert made.is_invalid
    made.close()
    assert Made.log == []


def test_minus_one_of_an_int_keeps_its_sign() -> None:
    """Case 131: -1, not 4294967295."""

    @library_import(NATIVE)
    def echo_int(value: c_int) -> SafeFileHandle: ...

    assert echo_int(-1).handle == -1
    assert echo_int(-1).is_invalid


def test_zero_is_a_handle_where_minus_one_is_invalid() -> None:
    """Case 132: 0 is owned and released."""
    handle = make(0, None)
    assert not handle.is_invalid
    handle.close()
    assert Made.log == [0]


@pytest.mark.parametrize(
    ("kind", "error"),
    [(SafeHandle, TypeError), (NeedsArgument, TypeError), (Broken, LookupError)],
)
def test_no_object_no_call(kind: type[SafeHandle], error: type[Exception]) -> None:
    """Case 133: abstract type, constructor with arguments, constructor that raises."""

    def returned(value: c_ssize_t, callback: Callback | None) -> kind: ...  # type: ignore[valid-type]

    native = library_import(NATIVE, entry_point="make")(_with_return(returned, kind))  # type: ignore[arg-type,var-annotated]
    before = entered()
    with pytest.raises(error):
        native(5, None)
    assert entered() == before


def _with_return(function: object, kind: type) -> object:
    function.__annotations__["return"] = kind
    return function


def test_no_memory_no_call(monkeypatch: pytest.MonkeyPatch) -> None:
    """Case 134: MemoryError of the object comes before the call."""
    monkeypatch.setattr(Broken, "error", MemoryError)

    @library_import(NATIVE, entry_point="make")
    def native(value: c_ssize_t, callback: Callback | None) -> Broken: ...

    before = entered()
    with pytest.raises(MemoryError):
        native(5, None)
    assert entered() == before


class _Stop(Exception):
    """Sent into a thread at any moment."""


@library_import(NATIVE)
def make_null_fd() -> SafeFileHandle: ...


@library_import(None, check_errno=True)
def pipe2(ends: Out[tuple[SafePipeHandle, SafePipeHandle]], flags: c_int) -> c_int: ...


def _descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def _open_and_close() -> None:
    with make_null_fd():
        pass
    make_null_fd()
    ends: Out[tuple[SafePipeHandle, SafePipeHandle]] = Out()
    pipe2(ends, os.O_CLOEXEC)


@pytest.mark.usefixtures("fast_switching")
def test_asynchronous_exceptions_lose_nothing() -> None:
    """Case 135: 400 exceptions into a thread that opens; no descriptor is lost."""
    before = _descriptors()
    send = ctypes.pythonapi.PyThreadState_SetAsyncExc
    send.argtypes = [ctypes.c_ulong, ctypes.py_object]
    progress = [0, 0]  # rounds begun, exceptions seen
    ended = threading.Event()

    def work() -> None:
        while not ended.is_set():
            try:
                while not ended.is_set():
                    progress[0] += 1
                    _open_and_close()
            except _Stop:
                progress[1] += 1

    def guarded() -> None:
        while not ended.is_set():
            try:
                work()
            except _Stop:
                progress[1] += 1

    thread = threading.Thread(target=guarded)
    thread.start()
    for _ in range(400):
        begun = progress[0]
        send(thread.ident, _Stop)
        # The next exception once the thread is at work again.
        while progress[0] < begun + 2 and thread.is_alive():
            threading.Event().wait(0.0001)
    ended.set()
    thread.join()
    gc.collect()
    assert progress[1] > 100
    assert _descriptors() == before


def test_interrupts_lose_nothing() -> None:
    """Case 135: the same with 400 signals whose handler raises."""
    before = _descriptors()
    seen = 0

    def stop(*_: object) -> None:
        raise _Stop

    old = signal.signal(signal.SIGALRM, stop)
    try:
        while seen < 400:
            try:
                signal.setitimer(signal.ITIMER_REAL, 0.0002)
                while True:
                    _open_and_close()
            except _Stop:
                seen += 1
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, old)
    gc.collect()
    assert _descriptors() == before


def test_out(log: list[int]) -> None:
    """Case 136: native code finds the invalid value; a new handle comes out."""
    cell: Out[Made] = Out()
    put(cell, 7, None)
    assert saw() == -1
    assert cell.value.handle == 7
    assert refs(cell.value) == 1
    del cell
    assert log == [7]


def test_out_of_which_nothing_is_written(log: list[int]) -> None:
    """Case 137: an invalid handle; no hook when it goes."""

    @library_import(NATIVE)
    def put_nothing(slot: Out[Made], callback: Callback | None) -> None: ...

    cell: Out[Made] = Out()
    put_nothing(cell, None)
    assert cell.value.is_invalid
    assert not cell.value.is_closed
    del cell
    assert log == []


def test_out_over_another_handle(log: list[int]) -> None:
    """Case 138: what the variable held before is left alone."""
    old = make(3, None)
    cell: Out[Made] = Out()
    cell.value = old
    put(cell, 7, None)
    assert cell.value is not old
    assert state(old) == State(1, disposed=False, closed=False)
    assert log == []


class Request(Structure):
    number: c_int32
    handle: Made


@library_import(NATIVE)
def struct_and_out(
    request: ByRef[Request], replaced: c_ssize_t, slot: Out[Made], made: c_ssize_t
) -> None: ...


def test_an_error_after_the_call_does_not_lose_what_came_out(log: list[int]) -> None:
    """Case 139: another argument's conversion fails; the handle was captured."""
    request = Request(1, make(5, None))
    cell: Out[Made] = Out()
    with pytest.raises(HandleNotSupportedError):
        struct_and_out(request, 6, cell, 9)
    assert cell.value.handle == 9
    assert refs(request.handle) == 1
    del cell
    assert log == [9]


def test_a_call_that_was_refused_leaves_no_object(log: list[int]) -> None:
    """Case 140: the objects made in advance are disposed of, nothing is written."""

    @library_import(NATIVE, entry_point="put")
    def put_from(slot: Out[Made], value: c_ssize_t, callback: Callback) -> Made: ...

    made: list[Made] = []
    constructor = Made.__init__

    def remember(self: Made) -> None:
        constructor(self)
        made.append(self)

    cell: Out[Made] = Out()
    before = entered(), _native.live_count()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Made, "__init__", remember)
        with pytest.raises(OverflowError):
            put_from(cell, 1 << 70, None)
    assert (entered(), _native.live_count()) == before
    assert [handle.is_closed for handle in made] == [True]
    assert not hasattr(cell, "value")
    assert log == []


def test_ref_unchanged() -> None:
    """Case 141: the same object stays; two references during the call."""
    handle = make(5, None)
    variable = Ref(handle)
    inside: list[int] = []
    change(variable, 5, CALLBACK(lambda: inside.append(refs(handle))))
    assert saw() == 5
    assert variable.value is handle
    assert inside == [2]
    assert refs(handle) == 1


def test_ref_changed(log: list[int]) -> None:
    """Case 142: a new object; the old one is open and not disposed."""
    handle = make(5, None)
    variable = Ref(handle)
    change(variable, 8, None)
    assert variable.value is not handle
    assert variable.value.handle == 8
    assert state(handle) == State(1, disposed=False, closed=False)
    variable.value.close()
    assert log == [8]


def test_ref_changed_to_the_invalid_value(log: list[int]) -> None:
    """Case 143: a new, invalid handle; the old one is open."""
    handle = make(5, None)
    variable = Ref(handle)
    change(variable, -1, None)
    assert variable.value is not handle
    assert variable.value.is_invalid
    assert not handle.is_closed
    del variable
    assert log == []


@library_import(NATIVE, entry_point="put")
def inside_only(slot: In[Made], value: c_ssize_t, callback: Callback | None) -> None: ...


def test_in_by_reference_ignores_writes(log: list[int]) -> None:
    """Case 144: what native code writes to an In is no handle."""
    handle = make(5, None)
    inside: list[int] = []
    inside_only(handle, 9, CALLBACK(lambda: inside.append(refs(handle))))
    assert saw() == 5
    assert inside == [2]
    assert handle.handle == 5
    assert refs(handle) == 1
    assert log == []


def test_ref_replaced_during_the_call(log: list[int]) -> None:
    """Case 145: the reference of the original is dropped, the other is untouched."""
    handle, other = make(5, None), make(6, None)
    variable = Ref(handle)

    def replace() -> None:
        variable.value = other

    change(variable, 5, CALLBACK(replace))
    assert refs(handle) == 1
    assert state(other) == State(1, disposed=False, closed=False)
    assert variable.value is other
    assert log == []


def test_ref_of_none() -> None:
    """Case 146: NullHandleError, for the variable and for what is in it."""
    before = entered()
    with pytest.raises(NullHandleError):
        change(Ref(None), 5, None)  # type: ignore[arg-type]
    with pytest.raises(NullHandleError):
        change(None, 5, None)  # type: ignore[arg-type]
    with pytest.raises(NullHandleError):
        put(None, 5, None)  # type: ignore[arg-type]
    with pytest.raises(NullHandleError):
        inside_only(None, 5, None)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="must be a Ref"):
        change(make(5, None), 5, None)  # type: ignore[arg-type]
    assert entered() == before + 1  # make's own


def test_ref_of_a_closed_handle() -> None:
    """Case 147: HandleClosedError."""
    handle = make(5, None)
    handle.close()
    before = entered()
    with pytest.raises(HandleClosedError):
        change(Ref(handle), 5, None)
    with pytest.raises(HandleClosedError):
        inside_only(handle, 5, None)
    assert entered() == before


def test_ref_and_out_of_an_abstract_type() -> None:
    """Case 148: refused before the call; In works, with a concrete object."""

    @library_import(NATIVE, entry_point="put")
    def ref(slot: Ref[SafeHandle], value: c_ssize_t, callback: Callback | None) -> None: ...

    @library_import(NATIVE, entry_point="put")
    def out(slot: Out[SafeHandle], value: c_ssize_t, callback: Callback | None) -> None: ...

    @library_import(NATIVE, entry_point="put")
    def inside(slot: In[SafeHandle], value: c_ssize_t, callback: Callback | None) -> None: ...

    handle = make(5, None)
    before = entered()
    with pytest.raises(TypeError, match="abstract"):
        ref(Ref(handle), 6, None)
    with pytest.raises(TypeError, match="abstract"):
        out(Out(), 6, None)
    assert entered() == before
    assert refs(handle) == 1
    inside(handle, 6, None)
    assert saw() == 5


def test_in_needs_no_new_object() -> None:
    """Case 149: a type whose constructor wants arguments can be passed by In."""

    @library_import(NATIVE, entry_point="put")
    def inside(slot: In[NeedsArgument], value: c_ssize_t, callback: Callback | None) -> None: ...

    inside(NeedsArgument(5), 6, None)
    assert saw() == 5


@library_import(NATIVE)
def put_two(
    ends: Out[tuple[SafePipeHandle, SafePipeHandle]], a: c_int, b: c_int, answer: c_int
) -> c_int: ...


def test_two_handles_in_an_array() -> None:
    """Case 150: success fills both, failure disposes of both."""
    ends: Out[tuple[SafePipeHandle, SafePipeHandle]] = Out()
    assert pipe2(ends, os.O_CLOEXEC) == 0
    reader, writer = ends.value
    with reader, writer:
        os.write(writer.fileno(), b"through")
        assert os.read(reader.fileno(), 20) == b"through"
    assert put_two(ends, 1, 2, -1) == -1
    assert saw() == saw(1) == -1
    assert [(end.is_invalid, end.is_closed) for end in ends.value] == [(True, True)] * 2


def test_failure_of_a_pair_is_an_error_where_asked() -> None:
    """Case 150: with check_errno, OSError, and both are disposed of."""
    ends: Out[tuple[SafePipeHandle, SafePipeHandle]] = Out()
    with pytest.raises(OSError, match="Invalid argument"):
        pipe2(ends, 1 << 30)
    assert all(end.is_closed for end in ends.value)


def test_types_of_the_second_object_fail_before_the_call() -> None:
    """Case 150: both objects are made before native code runs."""

    class Once(SafePipeHandle):
        made = 0

        def __init__(self) -> None:
            super().__init__()
            type(self).made += 1
            if type(self).made == 2:
                raise MemoryError

    @library_import(NATIVE, entry_point="put_two")
    def put_once(ends: Out[tuple[Once, Once]], a: c_int, b: c_int, answer: c_int) -> c_int: ...

    before = entered()
    with pytest.raises(MemoryError):
        put_once(Out(), 1, 2, 0)
    assert entered() == before


def test_a_file_made_by_native_open(tmp_path: Path) -> None:
    """Case 129: a real descriptor, owned from the moment it exists."""

    @library_import(None, entry_point="open", check_errno=True)
    def open_native(path: str, flags: c_int, mode: c_uint = 0o600) -> SafeFileHandle: ...

    with open_native(str(tmp_path / "new"), os.O_CREAT | os.O_WRONLY) as file:
        assert os.fstat(file.fileno()).st_size == 0
    with pytest.raises(FileNotFoundError):
        open_native(str(tmp_path / "missing"), os.O_RDONLY)


def test_probe_cannot_be_made() -> None:
    """Case 133: a constructor that needs to be told something, also for Out and Ref."""

    @library_import(NATIVE, entry_point="put")
    def out(slot: Out[Probe], value: c_ssize_t, callback: Callback | None) -> None: ...

    before = entered()
    with pytest.raises(TypeError, match="released"):
        out(Out(), 5, None)
    assert entered() == before
