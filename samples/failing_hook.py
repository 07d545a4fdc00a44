"""A lock file whose release hook does not always succeed.

Wrong: `LockHandle.release_handle` fails when somebody removed the lock file,
and `CacheHandle.release_handle` raises because the attribute that it needs is
only set on one way through the constructor.

Look for: two `release-failed`, one that returned False and one that raised,
each with the stack of the release and the stack of the acquisition.
"""

from __future__ import annotations

import contextlib
import os
import pathlib
import tempfile

from safehandle_debug import SafeHandleMinusOneIsInvalid


class LockHandle(SafeHandleMinusOneIsInvalid):
    """A descriptor that stands for a lock file; closing it removes the file."""

    def __init__(self, path: pathlib.Path) -> None:
        super().__init__()
        self.path = path
        self.set_handle(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR))

    def release_handle(self) -> bool:
        os.close(self.handle)
        try:
            self.path.unlink()
        except FileNotFoundError:
            return False
        return True


class CacheHandle(SafeHandleMinusOneIsInvalid):
    """A descriptor on a cache file that is truncated when it is given back."""

    keep: int

    def __init__(self, path: pathlib.Path, keep: int | None = None) -> None:
        super().__init__()
        if keep is not None:
            self.keep = keep
        self.set_handle(os.open(path, os.O_CREAT | os.O_RDWR))

    def release_handle(self) -> bool:
        try:
            os.ftruncate(self.handle, self.keep)
        finally:
            os.close(self.handle)
        return True


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)

        LockHandle(folder / "good.lock").close()
        lock = LockHandle(folder / "lost.lock")
        lock.path.unlink()
        lock.close()
        print("the lock was gone before its handle")

        CacheHandle(folder / "good.cache", keep=10).close()
        cache = CacheHandle(folder / "bad.cache")
        with contextlib.suppress(AttributeError):
            cache.close()
        print("the cache was closed, not truncated")


if __name__ == "__main__":
    main()
