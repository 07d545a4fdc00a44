"""Every call to the system that acquiring, using and releasing makes, failing in turn.

What the caller gets is an error or nothing; no descriptor stays, none is closed
twice, no reference is out, and the next use of the same type works.
"""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from support_faults import PROGRAM, SCENARIOS, preloaded
from support_programs import Run

SANITIZED = "SAFEHANDLE_SANITIZED" in os.environ

# Functions by the names that the linker knows, and the errors that each gives.
LOOP = """
FUNCTIONS = json.loads(sys.argv[3])
told = {}
for name, number in FUNCTIONS:
    encoded = name.encode()
    _, calls = attempt(lambda: arm(encoded, 0, 0), disarm, None, name)
    for nth in range(1, calls + 1):
        outcome, _ = attempt(lambda: arm(encoded, nth, number), disarm, None,
                             (name, errno.errorcode[number], nth))
        told[f"{name} {errno.errorcode[number]} {nth}"] = outcome
        assert attempt(lambda: arm(b"", 0, 0), disarm, None, "without a fault")[0] == ""
assert not [text for text in unraisable if "MemoryError" not in text], unraisable
shared.close()
print(json.dumps(told))
"""

ACQUIRING = [
    "accept4",
    "clone",
    "epoll_create1",
    "eventfd",
    "inotify_init1",
    "memfd_create",
    "openat64",
    "pipe2",
    "shm_open",
    "socket",
    "socketpair",
    "timerfd_create",
]
USING = [
    "epoll_ctl",
    "fcntl64",
    "flock",
    "fstat64",
    "fstatat64",
    "ftruncate64",
    "inotify_add_watch",
    "lstat64",
    "mmap64",
    "open64",
    "poll",
    "ppoll",
    "readlink",
    "shm_unlink",
    "syscall",
    "timerfd_settime",
    "unlink",
    "waitid",
]
SAME = ["fcntl", "fstat", "ftruncate", "mmap", "open", "openat"]  # on other machines
# What opens nothing by the functions above: libcrypto's objects are memory.
WITHOUT_ACQUIRING = {"fifo", "key", "process_opened", "held", "python_hook"} | {
    *("provider", "provider_key", "crypto_key", "signature", "secret")
}
RELEASING = ["close", "munmap", "madvise"]
FAULTS = [
    *((name, errno.EMFILE) for name in ACQUIRING),
    *((name, errno.EIO) for name in [*USING, *SAME, "read", "write"]),
    *((name, number) for name in RELEASING for number in (errno.EIO, errno.EINTR)),
    # A sanitizer has an allocator of its own; there, test_memory.py makes Python's fail.
    *((name, errno.ENOMEM) for name in ("malloc", "calloc", "realloc") if not SANITIZED),
]


@pytest.mark.parametrize("level", ["off", "full,fds=off"])
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_each_call_fails_in_turn(
    run: Callable[..., Run], failing: Path, scenario: str, level: str
) -> None:
    result = run(
        PROGRAM + LOOP,
        scenario,
        str(failing),
        json.dumps(FAULTS),
        level=level,
        env=preloaded(failing),
    ).ok()
    told: dict[str, str] = json.loads(result.out)
    acquired = {name: outcome for name, outcome in told.items() if name.split()[0] in ACQUIRING}
    if scenario not in WITHOUT_ACQUIRING:
        # The fault was there, and the caller was told.
        assert acquired
    assert "" not in acquired.values(), told
    closed = {name: outcome for name, outcome in told.items() if name.startswith("close ")}
    assert set(closed.values()) <= {""}, "closing tells the recording, not the caller"
