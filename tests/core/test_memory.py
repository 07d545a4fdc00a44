"""Every allocation that can fail fails once: no descriptor and no handle is lost,
no reference stays, nothing crashes."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from support_programs import Run

pytest.importorskip("_testcapi")

FAILING = """
import gc, os, sys
from _testcapi import remove_mem_hooks, set_nomemory
from safehandle_debug import (
    HandleClosedError, SafeFileHandle, SafeHandle, SafePipeHandle, _native,
)

class Subclass(SafeFileHandle):
    pass

class Hooked(SafeHandle):
    released = 0
    def __init__(self):
        super().__init__(-1)
        self.set_handle(5)
    @property
    def is_invalid(self):
        return self.handle == -1
    def release_handle(self):
        Hooked.released += 1
        return True

shared = SafeFileHandle.memfd("shared")
closed = SafeFileHandle()
closed.close()
name = b"/dev/null"

def opened():
    SafeFileHandle.open(name, 0)

def opened_with():
    with SafeFileHandle.open(name, 0):
        pass

def memfd():
    SafeFileHandle.memfd("name")

def duplicated():
    shared.duplicate()

def paired():
    SafePipeHandle.pair()

def subclassed():
    Subclass.open(name, 0)
    Subclass.memfd("name")

def hooked():
    Hooked()

def held():
    with shared.hold() as fd:
        pass

def held_and_dropped():
    shared.hold()

def refused():
    try:
        closed.hold()
    except HandleClosedError:
        pass

def adopted():
    SafeFileHandle(shared.handle, False).close()

def detached():
    handle = SafeFileHandle(0, False)
    handle.detach()

def described():
    repr(shared)

body = globals()[sys.argv[1]]

def attempt(number):
    # The one allocation `number` fails, those before and after succeed.
    try:
        set_nomemory(number, number + 1)
        body()
    except MemoryError:
        return True
    finally:
        remove_mem_hooks()
    return False

for _ in range(3):
    body()
gc.collect()
fds = len(os.listdir("/proc/self/fd"))
live = _native.live_count()
failed = 0
for number in range(400):
    failed += attempt(number)
    gc.collect()
    assert len(os.listdir("/proc/self/fd")) == fds, number
    assert _native.live_count() == live, number
body()
import ctypes
word = ctypes.c_uint32.from_address(id(shared) + _native.STATE_OFFSET).value
assert word >> 2 == 1, word
print("whole", failed)
"""

BODIES = [
    "opened",
    "opened_with",
    "memfd",
    "duplicated",
    "paired",
    "subclassed",
    "hooked",
    "held",
    "held_and_dropped",
    "refused",
    "adopted",
    "detached",
    "described",
]


@pytest.mark.parametrize("level", ["off", "full"])
@pytest.mark.parametrize("body", BODIES)
def test_any_allocation_may_fail(run: Callable[..., Run], body: str, level: str) -> None:
    result = run(FAILING, body, level=level).ok()
    whole, failed = result.lines[0].split()
    assert whole == "whole"
    assert int(failed) > 0
