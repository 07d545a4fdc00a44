"""Calls in which every allocation fails in turn, and under constant collection."""

from __future__ import annotations

import contextlib
import gc
import os
import sys
from collections.abc import Callable, Iterator

import pytest
from support_handles import refs
from support_native import CALLBACK, Callback, native_library

from safehandle_debug import (
    HandleNotSupportedError,
    SafeFileHandle,
    SafeHandleMinusOneIsInvalid,
    SafePipeHandle,
    _native,
)
from safehandle_debug.marshal import (
    ByRef,
    Out,
    Ref,
    Structure,
    c_int,
    c_int32,
    c_ssize_t,
    library_import,
)

NATIVE = native_library()
MOST_ALLOCATIONS = 60


class File(SafeFileHandle):
    """A Python subclass: making one runs its constructor."""


class Made(SafeHandleMinusOneIsInvalid):
    """A handle whose hook is Python."""

    def release_handle(self) -> bool:
        return True


class Request(Structure):
    number: c_int32
    handle: Made


@library_import(NATIVE, entry_point="make_null_fd", check_errno=True)
def null() -> SafeFileHandle: ...


@library_import(NATIVE, entry_point="make_null_fd", check_errno=True)
def null_file() -> File: ...


@library_import(None, check_errno=True)
def pipe2(ends: Out[tuple[SafePipeHandle, SafePipeHandle]], flags: c_int) -> c_int: ...


@library_import(NATIVE, entry_point="put")
def change(slot: Ref[Made], value: c_ssize_t, callback: Callback | None) -> None: ...


@library_import(NATIVE)
def struct_reference(
    request: ByRef[Request], number: c_int, handle: c_ssize_t, callback: Callback | None
) -> c_ssize_t: ...


def _made(value: int) -> Made:
    handle = Made()
    handle.set_handle(value)
    return handle


@pytest.fixture
def no_memory() -> Iterator[Callable[[int], None]]:
    """no_memory(n): the nth allocation from now fails, all others succeed."""
    testing = pytest.importorskip("_testcapi", reason="CPython's own test module is missing")

    def fail_at(number: int) -> None:
        testing.set_nomemory(number, number + 1)

    yield fail_at
    testing.remove_mem_hooks()


def _descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


HELD = _made(7)
REQUEST = Request(1, HELD)


@pytest.mark.parametrize(
    "call",
    [
        lambda: null(),
        lambda: null_file(),
        lambda: pipe2(Out(), os.O_CLOEXEC),
        lambda: change(Ref(HELD), 8, None),
        lambda: change(Ref(HELD), 7, None),
        lambda: struct_reference(REQUEST, 1 << 20, 7, None),
        lambda: struct_reference(REQUEST, 5, 9, None),
    ],
    ids=["result", "subclass", "pair", "changed", "unchanged", "structure", "refused"],
)
def test_every_allocation_fails_once(
    call: Callable[[], object],
    no_memory: Callable[[int], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """MemoryError or the call's own outcome, and nothing is lost.

    A hook that gets no memory for itself is told to sys.unraisablehook."""
    unraisable: list[type[BaseException] | None] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda args: unraisable.append(args.exc_type))
    testing = pytest.importorskip("_testcapi")
    call_or_error(call)  # whatever is made once is made now
    gc.collect()
    before = _descriptors(), _native.live_count()
    failed = 0
    for number in range(MOST_ALLOCATIONS):
        error = None
        no_memory(number)
        try:
            call()
        except BaseException as caught:
            error = type(caught)
        testing.remove_mem_hooks()
        failed += error is MemoryError
        assert refs(HELD) == 1
    gc.collect()
    assert (_descriptors(), _native.live_count()) == before
    assert 0 < failed < MOST_ALLOCATIONS
    assert set(unraisable) <= {MemoryError}


def call_or_error(call: Callable[[], object]) -> None:
    """Calls it once, for its side effects."""
    with contextlib.suppress(HandleNotSupportedError):
        call()


def test_collections_at_every_allocation() -> None:
    """With the collector at work as often as it can be, handles stay held."""
    old = gc.get_threshold()
    inside: list[int] = []
    before = _descriptors()
    callback = CALLBACK(lambda: inside.append(refs(HELD)))
    gc.set_threshold(1, 1, 1)
    try:
        for number in range(50):
            variable = Ref(HELD)
            change(variable, number, callback)
            struct_reference(REQUEST, number, 7, callback)
            cell: Out[tuple[SafePipeHandle, SafePipeHandle]] = Out()
            pipe2(cell, os.O_CLOEXEC)
            cycle: list[object] = [null_file(), cell]
            cycle.append(cycle)
            del cell, cycle
    finally:
        gc.set_threshold(*old)
    gc.collect()
    assert set(inside) == {2}
    assert refs(HELD) == 1
    assert _descriptors() == before
