"""A pool of workers, each with a scratch file that nobody closes.

Wrong: a worker opens its scratch file on first use and keeps it in
thread-local storage of a pool that is never shut down in time; what is kept
for a thread has no owner who could close it.

Look for: one `leak`, four times, opened in `scratch` by threads named
`indexer`.
"""

from __future__ import annotations

import os
import threading
from concurrent.futures import ThreadPoolExecutor

from safehandle_debug import SafeFileHandle

WORKERS = 4
LOCAL = threading.local()
SCRATCH_FILES: dict[int, SafeFileHandle] = {}


def scratch() -> SafeFileHandle:
    """The calling thread's own scratch file."""
    handle: SafeFileHandle | None = getattr(LOCAL, "handle", None)
    if handle is None:
        handle = LOCAL.handle = SafeFileHandle.memfd("scratch")
        SCRATCH_FILES[threading.get_ident()] = handle
    return handle


def index(text: str, everybody_is_here: threading.Barrier) -> int:
    everybody_is_here.wait(timeout=30)
    return os.write(scratch().fileno(), text.encode())


def main() -> None:
    barrier = threading.Barrier(WORKERS)
    with ThreadPoolExecutor(WORKERS, thread_name_prefix="indexer") as pool:
        sizes = list(pool.map(index, ["one", "two", "three", "four"] * 2, [barrier] * 8))
    print(sum(sizes), "bytes indexed by", len(SCRATCH_FILES), "threads")


if __name__ == "__main__":
    main()
