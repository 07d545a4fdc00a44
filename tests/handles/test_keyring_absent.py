"""A kernel that was built without keys, as a filter of system calls shows it."""

from __future__ import annotations

import platform
from collections.abc import Callable

import pytest
from support_programs import Run

# Numbers of add_key and keyctl.
CALLS = {"x86_64": (248, 250), "aarch64": (217, 219)}

# A classic BPF program: the two calls answer ENOSYS, all others are made.
PROGRAM = """
import ctypes, errno, struct, sys
from safehandle_debug import HandleNotSupportedError, SafeKeyringHandle

LOAD, EQUAL, RETURN = 0x20, 0x15, 0x06
ALLOW, ERROR = 0x7fff0000, 0x00050000
calls = [int(number) for number in sys.argv[1:]]
steps = [(LOAD, 0, 0, 0)]
for number in calls:
    steps += [(EQUAL, 0, 1, number), (RETURN, 0, 0, ERROR | errno.ENOSYS)]
steps += [(RETURN, 0, 0, ALLOW)]
code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *step) for step in steps))
filter_ = struct.pack("HxxxxxxP", len(steps), ctypes.addressof(code))
libc = ctypes.CDLL(None, use_errno=True)
libc.prctl.argtypes = [ctypes.c_int, *[ctypes.c_ulong] * 4]
given = ctypes.create_string_buffer(filter_)
known = SafeKeyringHandle(123456789, owns_handle=False)
assert libc.prctl(38, 1, 0, 0, 0) == 0
if libc.prctl(22, 2, ctypes.addressof(given), 0, 0):
    sys.exit(f"no filter: errno {ctypes.get_errno()}")

def told(call, *arguments):
    try:
        call(*arguments)
    except HandleNotSupportedError as error:
        return str(error)

added = told(SafeKeyringHandle.add, "user", "safehandle absent", b"x")
assert added == told(known.read) == told(known.revoke) == told(known.unlink, -3), added
print(added)
SafeKeyringHandle(123456789).close()  # closing is silent; the recording has the failure
"""


def test_a_kernel_without_keys(run: Callable[..., Run]) -> None:
    if platform.machine() not in CALLS:
        pytest.skip("the numbers of its system calls are not known here")
    result = run(PROGRAM, *map(str, CALLS[platform.machine()]))
    if result.err.startswith("no filter"):
        pytest.skip(result.err.strip())
    assert result.ok().lines == [
        "this kernel has no keyrings: it was built without CONFIG_KEYS",
    ]
    borrowed, adopted = result.first().owned_by("SafeKeyringHandle")
    assert borrowed.borrowed, "a key that could not be added is no handle"
    assert [event.detail for event in adopted.events if event.kind == "release-failed"]
