"""on_error= for descriptors: said at the thread's next call, at latest at the end."""

from __future__ import annotations

import pathlib
import re
import signal

import pytest
from support_programs import Run, run_program

import safehandle_debug

WRONG = """
import os, threading

def wrong(close=os.close):
    fd = os.open("/dev/null", os.O_RDONLY)
    os.close(fd)
    try:
        close(fd)
    except OSError:
        pass
    return fd
"""

NEXT_CALL = "os.close(os.open('/dev/null', os.O_RDONLY))\nsum(len(str(n)) for n in range(10))\n"


def run(source: str, on_error: str, folder: pathlib.Path) -> Run:
    return run_program(
        WRONG + source,
        folder,
        level=f"full,fds=on,on_error={on_error}",
        env={"PYTHONPATH": str(pathlib.Path(safehandle_debug.__file__).parents[1])},
    )


def test_warns_at_the_next_call(tmp_path: pathlib.Path) -> None:
    result = run("fd = wrong()\n" + NEXT_CALL + "print(fd)", "warn", tmp_path).ok()
    (fd,) = result.lines
    assert result.err.count(f"RuntimeWarning: close of fd {fd}: it was closed before") == 1


def test_warns_in_a_child(tmp_path: pathlib.Path) -> None:
    source = f"""
if os.fork() == 0:
    fd = wrong()
    {NEXT_CALL.replace(chr(10), chr(10) + "    ")}
    os._exit(0)
os.wait()
print("parent")
"""
    result = run(source, "warn", tmp_path).ok()
    assert result.lines == ["parent"]
    assert result.err.count("it was closed before") == 1


def test_warns_at_the_end(tmp_path: pathlib.Path) -> None:
    result = run("print(wrong())", "warn", tmp_path).ok()
    (fd,) = result.lines
    assert f"RuntimeWarning: close of fd {fd}: it was closed before" in result.err


def test_raises_in_the_main_thread(tmp_path: pathlib.Path) -> None:
    source = f"""
from safehandle_debug import HandleStateError
fd = wrong()
try:
    {NEXT_CALL.replace(chr(10), chr(10) + "    ")}
except HandleStateError as error:
    print(str(error) == f"close of fd {{fd}}: it was closed before")
"""
    assert run(source, "raise", tmp_path).ok().lines == ["True"]


THREAD = """
import ctypes
from safehandle_debug import HandleStateError

held = ctypes.PyDLL(None).close  # keeps the GIL
close = os.close

def work():
    try:
        fd = wrong(close)
        close(os.open("/dev/null", os.O_RDONLY))
        sum(len(str(n)) for n in range(10))
    except HandleStateError as error:
        print(str(error) == f"close of fd {fd}: it was closed before")

thread = threading.Thread(target=work)
thread.start()
thread.join()
"""


@pytest.mark.parametrize("close", ["os.close", "held"])
def test_raises_while_the_main_thread_waits(close: str, tmp_path: pathlib.Path) -> None:
    source = THREAD.replace("close = os.close", f"close = {close}")
    assert run(source, "raise", tmp_path).ok().lines == ["True"]


def test_raises_in_a_thread_that_calls_nothing_more(tmp_path: pathlib.Path) -> None:
    """A checkpoint says what was held back, and where it belongs."""
    source = """
from safehandle_debug import HandleStateError, _native

acted, told = threading.Event(), threading.Event()

def work():
    try:
        fd = wrong()
        acted.set()
        for _ in iter(told.is_set, True):
            pass
    except HandleStateError as error:
        print(str(error) == f"close of fd {fd}: it was closed before")
    finally:
        told.set()

thread = threading.Thread(target=work)
thread.start()
acted.wait()
_native.watch_reconcile()
thread.join()
"""
    assert run(source, "raise", tmp_path).ok().lines == ["True"]


def test_warns_of_the_line_that_did_it(tmp_path: pathlib.Path) -> None:
    result = run(THREAD, "warn", tmp_path).ok()
    line = WRONG[: WRONG.index("    except")].count("\n")
    assert re.search(rf"program.py:{line}: RuntimeWarning: close of fd", result.err)


def test_raises_in_the_thread_that_did_it(tmp_path: pathlib.Path) -> None:
    source = """
from safehandle_debug import HandleStateError

told = threading.Event()

def work():
    fd = wrong()
    try:
        os.close(os.open("/dev/null", os.O_RDONLY))
        # CPython 3.13 has no `except` for what comes to `while not told.is_set()`.
        for _ in iter(told.is_set, True):
            pass
    except HandleStateError as error:
        print(str(error) == f"close of fd {fd}: it was closed before", type(error).__name__)
    finally:
        told.set()

thread = threading.Thread(target=work)
thread.start()
while thread.is_alive():
    thread.join(0.01)
"""
    assert run(source, "raise", tmp_path).ok().lines == ["True HandleStateError"]


def test_aborts_at_once(tmp_path: pathlib.Path) -> None:
    result = run("wrong()\nprint('ran on')", "abort", tmp_path)
    assert result.code == -signal.SIGABRT
    assert result.lines == []
    assert "it was closed before; aborted as on_error=abort asks" in result.err


@pytest.mark.parametrize("on_error", ["warn", "raise", "abort"])
def test_closing_what_an_owner_holds(on_error: str, tmp_path: pathlib.Path) -> None:
    source = """
f = open("/dev/null")
try:
    os.close(f.fileno())
except OSError as error:
    print(error.errno)
"""
    result = run(source, on_error, tmp_path)
    if on_error == "abort":
        assert result.code == -signal.SIGABRT
    else:
        assert "its owner still holds it" in result.err
        # Refused: the owner keeps what it has.
        assert result.lines == (["9"] if on_error == "raise" else [])


LOOP = """
for fd in range(3, 64):
    try:
        os.close(fd)
    except OSError:
        pass
"""


@pytest.mark.parametrize("on_error", ["warn", "raise"])
def test_a_loop_over_all_numbers_is_no_error(on_error: str, tmp_path: pathlib.Path) -> None:
    result = run(LOOP + NEXT_CALL + "print('done')", on_error, tmp_path).ok()
    assert result.lines == ["done"]
    assert result.err == ""
