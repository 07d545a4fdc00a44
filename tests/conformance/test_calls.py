"""Native calls by value: cases 114 to 128, and 217 for CriticalHandle."""

from __future__ import annotations

import ctypes
import errno
import gc
import os
import signal
import threading
from pathlib import Path

import pytest
from support_handles import CriticalProbe, Probe, refs
from support_native import CALLBACK, Callback, entered, native_library, saw

from safehandle_debug import (
    CriticalHandleMinusOneIsInvalid,
    HandleClosedError,
    NullHandleError,
    SafeFileHandle,
    SafePipeHandle,
)
from safehandle_debug.marshal import (
    In,
    Out,
    Ref,
    c_byte,
    c_int,
    c_ssize_t,
    last_errno,
    library_import,
)

NATIVE = native_library()


@library_import(NATIVE)
def echo(value: Probe) -> c_ssize_t: ...


@library_import(NATIVE)
def during(value: Probe, callback: Callback | None) -> c_ssize_t: ...


@library_import(NATIVE)
def during_two(a: Probe, b: Probe, callback: Callback) -> c_ssize_t: ...


@library_import(NATIVE)
def two_and_small(a: Probe, b: Probe, c: c_byte) -> c_int: ...


@library_import(NATIVE, entry_point="echo_int")
def take_file(file: SafeFileHandle) -> c_int: ...


@library_import(NATIVE)
def fail_with(value: Probe, error: c_int, callback: Callback) -> c_int: ...


def test_the_handle_is_held_during_the_call(released: list[int]) -> None:
    """Case 114: two references inside, one after; native code gets the value."""
    handle = Probe(released)
    inside: list[int] = []
    assert during(handle, CALLBACK(lambda: inside.append(refs(handle)))) == 5
    assert inside == [2]
    assert refs(handle) == 1
    assert saw() == 5


def test_a_handle_that_nobody_else_has_lives_through_the_call(released: list[int]) -> None:
    """Case 115: a collection inside the call does not release the argument."""
    inside: list[list[int]] = []

    def collect() -> None:
        gc.collect()
        inside.append(list(released))

    during(Probe(released), CALLBACK(collect))
    assert inside == [[]]
    assert released == [5]


def test_none_is_refused() -> None:
    """Case 116: NullHandleError, native code is not entered."""
    before = entered()
    with pytest.raises(NullHandleError, match="value must be a Probe, not None"):
        echo(None)  # type: ignore[arg-type]
    assert entered() == before


def test_a_closed_handle_is_refused(released: list[int]) -> None:
    """Case 117: HandleClosedError, native code is not entered."""
    handle = Probe(released)
    handle.close()
    before = entered()
    with pytest.raises(HandleClosedError):
        echo(handle)
    assert entered() == before


def test_an_invalid_open_handle_is_passed(released: list[int]) -> None:
    """Case 118: native code gets the invalid value."""
    assert echo(Probe(released, None)) == -1
    assert saw() == -1


def test_a_handle_disposed_inside_is_released_after(released: list[int]) -> None:
    """Case 119: the hook runs after native code returned, before the caller goes on."""
    handle = Probe(released)
    inside: list[tuple[bool, list[int]]] = []

    def dispose() -> None:
        handle.dispose()
        inside.append((handle.is_closed, list(released)))

    assert during(handle, CALLBACK(dispose)) == 5
    assert inside == [(False, [])]
    assert released == [5]
    assert handle.is_closed


def test_one_handle_twice(released: list[int]) -> None:
    """Case 120: three references inside, one after."""
    handle = Probe(released)
    inside: list[int] = []
    assert during_two(handle, handle, CALLBACK(lambda: inside.append(refs(handle)))) == 10
    assert inside == [3]
    assert refs(handle) == 1


def _closed(released: list[int]) -> Probe:
    handle = Probe(released)
    handle.close()
    return handle


def test_a_bad_later_argument_drops_the_references_of_earlier_ones(released: list[int]) -> None:
    """Case 121: good then None, closed, wrong type, int too large."""
    good = Probe(released)
    before = entered()
    with pytest.raises(NullHandleError):
        two_and_small(good, None, 1)  # type: ignore[arg-type]
    with pytest.raises(HandleClosedError):
        two_and_small(good, _closed(released), 1)
    with pytest.raises(TypeError):
        two_and_small(good, SafeFileHandle(), 1)  # type: ignore[arg-type]
    with pytest.raises(OverflowError, match="signed 8 bits"):
        two_and_small(good, good, 1000)
    assert refs(good) == 1
    assert entered() == before
    assert two_and_small(good, good, -100) == -100


def test_an_exception_in_a_callback_drops_the_references(
    released: list[int], unraisable: list[BaseException | None]
) -> None:
    """Case 122: the callback raises, the handle is back at one reference."""
    handle = Probe(released)

    def raise_it() -> None:
        raise LookupError("callback")

    assert during(handle, CALLBACK(raise_it)) == 5
    assert [type(error) for error in unraisable] == [LookupError]
    assert refs(handle) == 1


def test_an_error_after_the_call_drops_the_references(released: list[int]) -> None:
    """Case 122: what is raised of the result, here for errno."""

    @library_import(NATIVE, entry_point="fail_with", check_errno=True)
    def checked(value: Probe, error: c_int, callback: Callback) -> c_int: ...

    handle = Probe(released)
    with pytest.raises(FileNotFoundError):
        checked(handle, errno.ENOENT, CALLBACK(lambda: None))
    assert refs(handle) == 1


def test_an_interrupt_during_the_call_loses_nothing(released: list[int]) -> None:
    """Case 123: a pending KeyboardInterrupt; references dropped, the result owned."""

    class Made(SafeFileHandle):
        pass

    @library_import(NATIVE, entry_point="make")
    def make(value: Probe, callback: Callback) -> Made: ...

    handle = Probe(released, os.open(os.devnull, os.O_RDONLY))
    number = handle.handle
    sent: list[int] = []

    def interrupt() -> None:
        sent.append(1)
        signal.raise_signal(signal.SIGINT)

    # The callback is Python code, so the interrupt comes up there, and ctypes
    # reports it; the one set after the callback's last bytecode is for the caller.
    made: list[Made] = []
    old = signal.signal(signal.SIGINT, lambda *_: sent.append(2))
    try:
        made.append(make(handle, CALLBACK(interrupt)))
    finally:
        signal.signal(signal.SIGINT, old)
    assert sent == [1, 2]
    assert refs(handle) == 1
    assert made[0].handle == number
    made[0].close()
    assert released == []
    handle.close()


@pytest.mark.usefixtures("fast_switching")
def test_the_value_is_read_after_the_reference_was_taken() -> None:
    """Case 124: racing with dispose, native code sees an open descriptor or is
    not entered."""

    @library_import(None, entry_point="fcntl")
    def get_flags(file: SafeFileHandle, command: c_int) -> c_int: ...

    refused = 0
    for _ in range(200):
        handle = SafeFileHandle.open(os.devnull, os.O_RDONLY)
        ready = threading.Barrier(2)

        def close(handle: SafeFileHandle = handle, ready: threading.Barrier = ready) -> None:
            ready.wait()
            handle.close()

        closer = threading.Thread(target=close)
        closer.start()
        ready.wait()
        while True:
            try:
                assert get_flags(handle, 1) != -1
            except HandleClosedError:
                refused += 1
                break
        closer.join()
    assert refused == 200


def test_another_type_of_handle_is_refused() -> None:
    """Case 125: a pipe where a file is declared; native code is not entered."""
    reader, writer = SafePipeHandle.pair()
    before = entered()
    with reader, writer, pytest.raises(TypeError, match="must be a SafeFileHandle"):
        take_file(reader)  # type: ignore[arg-type]
    assert entered() == before


def test_an_int_is_refused() -> None:
    """Case 126: a plain number where a handle is declared."""
    before = entered()
    with pytest.raises(TypeError, match="must be a SafeFileHandle, not int"):
        take_file(3)  # type: ignore[arg-type]
    assert entered() == before


def test_variadic_functions_get_ints(tmp_path: Path) -> None:
    """Case 127: open's mode and fcntl's argument arrive as C ints."""

    @library_import(None)
    def open(path: str, flags: c_int, mode: c_int) -> SafeFileHandle: ...

    @library_import(None)
    def fcntl(file: SafeFileHandle, command: c_int, value: c_int) -> c_int: ...

    path = tmp_path / "made"
    with open(str(path), os.O_CREAT | os.O_RDWR, 0o640) as file:
        assert path.stat().st_mode & 0o777 == 0o640 & ~_umask()
        assert fcntl(file, 2, 1) == 0  # F_SETFD, FD_CLOEXEC
        assert fcntl(file, 1, 0) == 1
        assert fcntl(file, 0x7FFF, -1) == -1
        assert last_errno() == errno.EINVAL


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def test_a_hold_outlives_the_call(released: list[int]) -> None:
    """Case 128: a call protects for its own length; hold() for longer."""
    handle = Probe(released)
    with handle.hold():
        assert echo(handle) == 5
        handle.close()
        assert not handle.is_closed  # somebody may still use the number
    assert released == [5]


class Critical(CriticalHandleMinusOneIsInvalid):
    """A handle without reference count that can be made without arguments."""

    log: list[int]

    def release_handle(self) -> bool:
        type(self).log.append(self.handle)
        return True


def test_handles_without_reference_count() -> None:
    """Case 217: in, out, ref, ref that changes, and return."""

    class Counted(Critical):
        log: list[int] = []  # noqa: RUF012

    @library_import(NATIVE, entry_point="echo")
    def by_value(value: Counted) -> c_ssize_t: ...

    @library_import(NATIVE, entry_point="echo")
    def returned(value: c_ssize_t) -> Counted: ...

    @library_import(NATIVE, entry_point="put")
    def out(slot: Out[Counted], value: c_ssize_t, callback: Callback | None) -> None: ...

    @library_import(NATIVE, entry_point="put")
    def ref(slot: Ref[Counted], value: c_ssize_t, callback: Callback | None) -> None: ...

    @library_import(NATIVE, entry_point="put")
    def inside(slot: In[Counted], value: c_ssize_t, callback: Callback | None) -> None: ...

    first = returned(11)
    assert by_value(first) == 11
    inside(first, 99, None)
    assert first.handle == 11
    cell: Out[Counted] = Out()
    out(cell, 12, None)
    assert saw() == -1
    assert cell.value.handle == 12
    variable = Ref(first)
    ref(variable, 11, None)
    assert variable.value is first
    ref(variable, 13, None)
    assert variable.value is not first
    first.close()
    with pytest.raises(HandleClosedError):
        by_value(first)
    with pytest.raises(NullHandleError):
        by_value(None)  # type: ignore[arg-type]
    del first, cell, variable
    gc.collect()
    assert sorted(Counted.log) == [11, 12, 13]


def test_a_handle_without_reference_count_is_closed_at_once() -> None:
    """Case 217: nothing holds a CriticalHandle open during a call."""
    log: list[int] = []
    handle = CriticalProbe(log)
    inside: list[list[int]] = []

    @library_import(NATIVE, entry_point="during")
    def call(value: CriticalProbe, callback: Callback) -> c_ssize_t: ...

    def close() -> None:
        handle.close()
        inside.append(list(log))

    call(handle, CALLBACK(close))
    assert inside == [[5]]


def test_a_call_keeps_the_arguments_of_ctypes_callbacks_alive() -> None:
    """Case 115: a callback object that nobody else has lives through the call too."""

    @library_import(NATIVE, entry_point="during")
    def call(value: c_ssize_t, callback: Callback) -> c_ssize_t: ...

    seen: list[int] = []
    assert call(1, CALLBACK(lambda: seen.append(gc.collect()))) == 1
    assert len(seen) == 1
    assert ctypes.sizeof(CALLBACK) == 8
