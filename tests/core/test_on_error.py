"""What on_error= makes of an event that is a finding by itself."""

from __future__ import annotations

import signal
from collections.abc import Callable

import pytest
from support_programs import Run

TOO_OFTEN = """
import os, sys, warnings
from safehandle_debug import SafeFileHandle

def too_often(handle):
    handle.dangerous_release()

handle = SafeFileHandle.open("/dev/null", os.O_RDONLY)
fd = handle.handle
"""


def test_record_says_nothing(run: Callable[..., Run]) -> None:
    result = run(TOO_OFTEN + "too_often(handle)\n", level="full,fds=off,on_error=record").ok()
    assert result.err == ""


def test_warn(run: Callable[..., Run]) -> None:
    result = run(
        TOO_OFTEN + "too_often(handle)\nprint('on')\n", level="full,fds=off,on_error=warn"
    ).ok()
    assert result.lines == ["on"]
    assert "RuntimeWarning" in result.err
    assert "SafeFileHandle" in result.err


def test_raise(run: Callable[..., Run]) -> None:
    """The wrong call raises; the resource was given back all the same."""
    result = run(
        TOO_OFTEN
        + """
try:
    too_often(handle)
except RuntimeError as error:
    print(type(error).__name__)
assert handle.is_closed
assert not os.path.exists(f"/proc/self/fd/{fd}")
""",
        level="full,fds=off,on_error=raise",
    ).ok()
    assert result.lines == ["HandleStateError"]


def test_abort(run: Callable[..., Run]) -> None:
    """The process stops where it went wrong, and its recording tells why."""
    result = run(TOO_OFTEN + "too_often(handle)\n", level="full,fds=off,on_error=abort")
    assert result.code == -signal.SIGABRT
    assert "too_often" in result.err


@pytest.mark.parametrize("mode", ["warn", "raise"])
def test_finalizers_never_raise(run: Callable[..., Run], mode: str) -> None:
    """Where there is no caller there is no error, in any mode."""
    result = run(
        """
        import gc, os, sys
        from safehandle_debug import SafeFileHandle

        for collect in (False, True):
            handle = SafeFileHandle.open("/dev/null", os.O_RDONLY)
            os.close(handle.handle)
            cycle = [handle]
            if collect:
                cycle.append(cycle)
            del handle, cycle
            gc.collect()
        print("on")
        """,
        level=f"full,fds=off,on_error={mode}",
    ).ok()
    assert result.lines == ["on"]
    events = [event for history in result.first().handles for event in history.events]
    assert [event.kind for event in events].count("release-failed") == 2


@pytest.mark.parametrize("mode", ["warn", "raise", "abort"])
def test_correct_programs_are_left_alone(run: Callable[..., Run], mode: str) -> None:
    result = run(
        """
        from holding import both

        for handle in both(5):
            with handle:
                with handle.hold():
                    pass
        kept = both(6)
        """,
        level=f"full,fds=off,on_error={mode}",
    ).ok()
    assert result.err == ""
    assert sorted(result.released) == [5, 6]
