"""A writer that counts its users, and forgets one that gave up early.

Wrong: `append` takes a reference for the time of the write, but returns early
for an empty line without giving it back.  When the journal is closed, its
handle stays open: somebody still seems to use it.

Look for: one `unbalanced`, which names the add-ref in `append` that was never
released, and not the ones that were.
"""

from __future__ import annotations

import os

from safehandle_debug import SafeFileHandle

LINES = [b"start\n", b"work\n", b"", b"stop\n"]


class Journal:
    """Lines in a file that many threads may append to."""

    def __init__(self) -> None:
        self.handle = SafeFileHandle.memfd("journal")

    def append(self, line: bytes) -> None:
        self.handle.dangerous_add_ref()
        if not line:
            return
        try:
            os.write(self.handle.dangerous_get_handle(), line)
        finally:
            self.handle.dangerous_release()

    def close(self) -> None:
        self.handle.close()


def main() -> None:
    journal = Journal()
    for line in LINES:
        journal.append(line)
    journal.close()
    print("closed" if journal.handle.is_closed else "asked to close, still in use")


if __name__ == "__main__":
    main()
