"""Handles in ctypes' own argtypes and restype."""

from __future__ import annotations

import ctypes
import gc
import os
import subprocess
import sys
from typing import Any

import pytest
from support_handles import CriticalProbe, Probe, refs
from support_native import CALLBACK, entered, native_library, saw

from safehandle_debug import (
    CriticalHandle,
    HandleClosedError,
    NullHandleError,
    SafeFileHandle,
    SafeHandle,
    SafePipeHandle,
)

LIBRARY = ctypes.CDLL(native_library(), use_errno=True)


def function(name: str, argtypes: list[Any], restype: Any = ctypes.c_ssize_t) -> Any:
    """A function of the library with its own types."""
    made: Any = LIBRARY[name]
    made.argtypes = argtypes
    made.restype = restype
    return made


@pytest.fixture
def released() -> list[int]:
    """What probes released."""
    return []


def test_a_handle_is_held_during_the_call(released: list[int]) -> None:
    handle = Probe(released)
    inside: list[int] = []
    during = function("during", [Probe, CALLBACK])
    assert during(handle, CALLBACK(lambda: inside.append(refs(handle)))) == 5
    assert inside == [2]
    assert refs(handle) == 1


def test_a_handle_disposed_inside_is_released_after(released: list[int]) -> None:
    handle = Probe(released)
    inside: list[list[int]] = []

    def dispose() -> None:
        handle.dispose()
        inside.append(list(released))

    function("during", [SafeHandle, CALLBACK])(handle, CALLBACK(dispose))
    assert inside == [[]]
    assert released == [5]


def test_a_bad_later_argument_drops_the_reference(released: list[int]) -> None:
    handle = Probe(released)
    two = function("two_and_small", [Probe, Probe, ctypes.c_byte], ctypes.c_int)
    before = entered()
    for bad in (None, 5, "x", SafeFileHandle()):
        with pytest.raises(ctypes.ArgumentError):
            two(handle, bad, 1)
    with pytest.raises(ctypes.ArgumentError):
        two(handle, handle, object())
    assert refs(handle) == 1
    assert entered() == before


def test_what_is_refused(released: list[int]) -> None:
    """from_param itself raises our errors; ctypes wraps them in ArgumentError."""
    closed = Probe(released)
    closed.close()
    with pytest.raises(NullHandleError):
        Probe.from_param(None)  # type: ignore[arg-type]
    with pytest.raises(HandleClosedError):
        Probe.from_param(closed)
    for wrong in (5, SafeFileHandle(), "x"):
        with pytest.raises(TypeError):
            Probe.from_param(wrong)  # type: ignore[arg-type]
    echo = function("echo", [Probe])
    with pytest.raises(ctypes.ArgumentError, match="NullHandleError"):
        echo(None)
    with pytest.raises(ctypes.ArgumentError, match="HandleClosedError"):
        echo(closed)
    with pytest.raises(ctypes.ArgumentError, match="not int"):
        echo(5)


def test_a_handle_without_argtypes_is_refused(released: list[int]) -> None:
    plain = ctypes.CDLL(native_library()).echo
    with pytest.raises(ctypes.ArgumentError):
        plain(Probe(released))


def test_a_subclass_goes_where_its_base_is_declared() -> None:
    class Special(SafeFileHandle):
        pass

    take = function("echo_int", [SafeFileHandle], ctypes.c_int)
    assert take(Special(7, owns_handle=False)) == 7
    with pytest.raises(ctypes.ArgumentError):
        take(SafePipeHandle(7, owns_handle=False))


def test_wide_values_arrive_whole(released: list[int]) -> None:
    echo = function("echo", [SafeHandle])
    assert echo(Probe(released, 1 << 40)) == 1 << 40
    assert echo(Probe(released, None)) == -1


def test_a_value_that_is_no_int_is_not_cut() -> None:
    """2**32 + 3 would be descriptor 3, which is somebody else's."""
    wide = SafeFileHandle((1 << 32) + 3, owns_handle=False)
    take = function("echo_int", [SafeFileHandle], ctypes.c_int)
    with pytest.raises(ctypes.ArgumentError, match="OverflowError"):
        take(wide)
    assert refs(wide) == 1
    assert take(SafeFileHandle((1 << 32) - 1, owns_handle=False)) == -1


def test_handles_without_reference_count(released: list[int]) -> None:
    echo = function("echo", [CriticalHandle])
    handle = CriticalProbe(released)
    assert echo(handle) == 5
    handle.close()
    with pytest.raises(ctypes.ArgumentError, match="HandleClosedError"):
        echo(handle)


def test_an_argument_that_is_never_passed_drops_its_reference(released: list[int]) -> None:
    handle = Probe(released)
    argument = Probe.from_param(handle)
    assert refs(handle) == 2
    handle.close()
    assert released == []
    del argument
    gc.collect()
    assert released == [5]


def test_restype() -> None:
    """A native handle type owns an int result at once, and keeps the sign of -1."""
    make = function("make_null_fd", [], SafeFileHandle)
    with make() as file:
        assert os.fstat(file.fileno())
    failed = function("fail", [ctypes.c_int], SafeFileHandle)(4)
    assert failed.handle == -1
    assert failed.is_invalid
    assert ctypes.get_errno() == 4
    assert saw() == 4


def test_ctypes_is_imported_when_it_is_used() -> None:
    program = """
import sys
import safehandle_debug
assert "ctypes" not in sys.modules
assert "safehandle_debug.marshal" not in sys.modules
safehandle_debug.SafeFileHandle.from_param(safehandle_debug.SafeFileHandle())
assert "ctypes" in sys.modules
"""
    done = subprocess.run(
        [sys.executable, "-P", "-c", program], capture_output=True, text=True, check=False
    )
    assert done.stderr == ""
    assert done.returncode == 0


def test_the_c_path_needs_no_ctypes() -> None:
    program = """
import sys
from safehandle_debug import SafeFileHandle
from safehandle_debug.marshal import c_int, library_import

@library_import(None)
def open(path: str, flags: c_int) -> SafeFileHandle: ...

assert not open("/dev/null", 0).is_invalid
assert "ctypes" not in sys.modules
assert "cffi" not in sys.modules
"""
    done = subprocess.run(
        [sys.executable, "-P", "-c", program], capture_output=True, text=True, check=False
    )
    assert done.stderr == ""
    assert done.returncode == 0
