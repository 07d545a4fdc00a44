"""Two owners for one descriptor.

Wrong: `as_stream` hands the number of a handle that is still in charge of it
to another handle, in place of `duplicate()` or `detach()`.  Whoever is closed
second closes a number that may belong to somebody else by then.

Look for: one `double-owner`, with the stack that made the second owner and
the stack that opened the first.
"""

from __future__ import annotations

import os

from safehandle_debug import SafeFileHandle


def as_stream(handle: SafeFileHandle) -> SafeFileHandle:
    """Meant to be a second view; it is a second owner."""
    return SafeFileHandle(handle.fileno())


def main() -> None:
    first = SafeFileHandle.memfd("shared")
    second = as_stream(first)
    os.write(second.fileno(), b"both can write\n")
    print(os.fstat(first.fileno()).st_size, "bytes written")
    second.close()
    first.set_handle_as_invalid()


if __name__ == "__main__":
    main()
