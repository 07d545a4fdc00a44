"""A connection pool whose user gives the same connection back twice.

Wrong: `finish` drops the reference that `borrow` took, and on the way out of
an error the `finally` drops it once more.  That second release takes away the
pool's own reference, and closes the pipe under it.

Look for: one `double-release`, with both stacks: the release that closed it,
and the one that found nothing left to release.
"""

from __future__ import annotations

import os

from safehandle_debug import HandleClosedError, SafePipeHandle


class Pool:
    """Lends one pipe to many users; the pool keeps a reference of its own."""

    def __init__(self) -> None:
        self.reader, self.writer = SafePipeHandle.pair()

    def borrow(self) -> SafePipeHandle:
        self.writer.dangerous_add_ref()
        return self.writer

    def give_back(self, writer: SafePipeHandle) -> None:
        writer.dangerous_release()

    def close(self) -> None:
        self.reader.close()
        self.writer.close()


def send(pool: Pool, message: bytes) -> None:
    writer = pool.borrow()
    try:
        os.write(writer.fileno(), message)
        finish(pool, writer)
    finally:
        pool.give_back(writer)


def finish(pool: Pool, writer: SafePipeHandle) -> None:
    pool.give_back(writer)


def main() -> None:
    pool = Pool()
    send(pool, b"hello\n")
    print("sent once")
    try:
        send(pool, b"world\n")
    except HandleClosedError as error:
        print("sending again failed:", error)
    try:
        pool.give_back(pool.writer)
    except HandleClosedError:
        print("there is nothing left to give back")
    pool.close()


if __name__ == "__main__":
    main()
