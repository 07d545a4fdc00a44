"""errno, ctypes' errno and the current exception are the same before and after."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from support_handles import Probe
from support_programs import recorded

from safehandle_debug import SafeFileHandle, SafeHandle, _native

LIBC = ctypes.CDLL(None)
LIBC.__errno_location.restype = ctypes.POINTER(ctypes.c_int)
LIBC_SWAPPING = ctypes.CDLL(None, use_errno=True)


def good_native() -> SafeHandle:
    """A handle whose close succeeds."""
    return SafeFileHandle.open("/dev/null", os.O_RDONLY)


def bad_native() -> SafeHandle:
    """A handle whose close fails with EBADF: its number was closed behind it."""
    handle = SafeFileHandle.open("/dev/null", os.O_RDONLY)
    os.close(handle.handle)
    return handle


def good_hook() -> SafeHandle:
    """A Python hook that changes both errnos and succeeds."""
    handle = Probe([])
    handle.during = _disturb
    return handle


def bad_hook() -> SafeHandle:
    """A Python hook that changes both errnos and raises."""

    def during(probe: Probe) -> None:
        _disturb(probe)
        raise LookupError("hook failed")

    handle = Probe([])
    handle.during = during
    return handle


def _disturb(_: Probe) -> None:
    LIBC_SWAPPING.close(-1)
    LIBC.__errno_location()[0] = 42


def by_close(box: list[SafeHandle]) -> None:
    with contextlib.suppress(LookupError):
        box[0].close()


def by_with(box: list[SafeHandle]) -> None:
    with contextlib.suppress(LookupError), box[0]:
        pass


def by_last_release(box: list[SafeHandle]) -> None:
    box[0].dangerous_add_ref()
    box[0].close()
    with contextlib.suppress(LookupError):
        box[0].dangerous_release()


def by_drop(box: list[SafeHandle]) -> None:
    box.clear()


def by_collection(box: list[SafeHandle]) -> None:
    cycle: list[object] = [box.pop()]
    cycle.append(cycle)
    del cycle
    gc.collect()


MAKERS = pytest.mark.parametrize("make", [good_native, bad_native, good_hook, bad_hook])
WAYS = pytest.mark.parametrize(
    "give_back", [by_close, by_with, by_last_release, by_drop, by_collection]
)
Make = Callable[[], SafeHandle]
GiveBack = Callable[[list[SafeHandle]], None]


@pytest.fixture(autouse=True)
def unraisable(monkeypatch: pytest.MonkeyPatch) -> list[BaseException | None]:
    caught: list[BaseException | None] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda args: caught.append(args.exc_value))
    return caught


@WAYS
@MAKERS
@pytest.mark.parametrize("recording", [False, True], ids=["off", "full"])
def test_both_errnos(make: Make, give_back: GiveBack, recording: bool, tmp_path: Path) -> None:
    errno = LIBC.__errno_location()

    def check() -> None:
        box = [make()]
        gc.collect()
        ctypes.set_errno(7)
        errno[0] = 33
        give_back(box)
        c_errno, swapped = errno[0], ctypes.get_errno()
        assert (c_errno, swapped) == (33, 7)

    if recording:
        with recorded(tmp_path):
            check()
    else:
        check()


@WAYS
@MAKERS
def test_the_current_exception(make: Make, give_back: GiveBack) -> None:
    """What an except clause handles is still the same, and unchanged."""
    current = ValueError("current")
    context = current.__context__
    try:
        raise current
    except ValueError:
        traceback = current.__traceback__
        give_back([make()])
        assert sys.exc_info()[1] is current
        assert current.__traceback__ is traceback
    assert current.__context__ is context


@MAKERS
def test_an_exception_in_flight(make: Make) -> None:
    """A handle that dies while an error unwinds its frame does not disturb it."""
    current = ValueError("in flight")

    def fail() -> None:
        handle = make()
        cycle: list[object] = [make()]
        cycle.append(cycle)
        assert handle is not None
        raise current

    with pytest.raises(ValueError, match="in flight") as caught:
        fail()
    assert caught.value is current
    del caught
    current.__traceback__ = None
    gc.collect()
    assert current.__context__ is None
    assert str(current) == "in flight"


@MAKERS
def test_an_error_of_a_call_that_drops_its_argument(make: Make) -> None:
    """The error of a C function is set while its argument dies."""
    with pytest.raises(TypeError, match="unhashable"):
        {}[[make()]]  # type: ignore[index]
    with pytest.raises(ValueError, match="invalid literal"):
        int("x" * len([make()]))


def test_what_the_failures_were(tmp_path: Path, unraisable: list[BaseException | None]) -> None:
    """None of it went unsaid: failed releases are events, hook errors reported."""
    before = _native.problem_count()
    with recorded(tmp_path) as told:
        for make in (good_native, bad_native, good_hook, bad_hook):
            make()
    assert _native.problem_count() == before + 2
    assert [type(error) for error in unraisable] == [LookupError]
    failed = [
        (history.owner, event.value)
        for history in told[0].handles
        for event in history.events
        if event.kind == "release-failed"
    ]
    assert sorted(failed) == [("Probe", 0), ("SafeFileHandle", 9)]


@WAYS
def test_errors_survive_an_empty_method_cache(
    give_back: GiveBack, unraisable: list[BaseException | None]
) -> None:
    """Looking something up on a type with an error set would lose the error, but
    only where the cache of methods has nothing: so empty it."""

    def during(_: Probe) -> None:
        getattr(sys, "_clear_internal_caches", sys._clear_type_cache)()
        raise LookupError("hook failed")

    raised: list[BaseException] = []
    for _ in range(20):
        handle = Probe([])
        handle.during = during
        box: list[SafeHandle] = [handle]
        del handle
        if give_back in (by_drop, by_collection):
            give_back(box)
            continue
        with pytest.raises(LookupError, match="hook failed") as caught:  # noqa: PT012
            if give_back is by_close:
                box[0].close()
            elif give_back is by_with:
                box[0].__exit__(None, None, None)
            else:
                box[0].dangerous_release()
        raised.append(caught.value)
    assert len(raised) + len(unraisable) == 20
    assert {type(error) for error in [*raised, *unraisable]} == {LookupError}
