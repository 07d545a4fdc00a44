"""Ctrl-C while a file is being opened, hundreds of times.

A timer raises KeyboardInterrupt at a random moment of a loop that opens and
closes a file.  The class that stores what `os.open` returned loses the
descriptor whenever the signal falls between the two; `SafeFileHandle.open` is
one call that returns the owner itself, and loses none.

Look for: no error.  The interrupted `SafeFileHandle.open` made handles that
nobody received: their finalizer closed them (`abandoned`, a warning).
"""

from __future__ import annotations

import contextlib
import os
import pathlib
import random
import signal
from collections.abc import Callable, Iterator

from safehandle_debug import SafeFileHandle

INTERRUPTS = 300
LONGEST = 0.0002  # seconds until the signal


class PlainFile:
    """A descriptor and its owner, made in two steps."""

    def __init__(self, path: str) -> None:
        self.fd = os.open(path, os.O_RDONLY)

    def __enter__(self) -> PlainFile:
        return self

    def __exit__(self, *exc_info: object) -> None:
        os.close(self.fd)


def open_plain() -> None:
    with PlainFile(os.devnull):
        pass


def open_safe() -> None:
    with SafeFileHandle.open(os.devnull, os.O_RDONLY):
        pass


def interrupt(*_: object) -> None:
    raise KeyboardInterrupt


@contextlib.contextmanager
def interrupting() -> Iterator[None]:
    """Ctrl-C means KeyboardInterrupt from the timer as well."""
    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGALRM, before)


def descriptors() -> set[int]:
    """The numbers that are open; the one that the listing itself had is not any more."""
    folder = pathlib.Path("/proc/self/fd")
    return {int(number) for number in os.listdir(folder) if (folder / number).exists()}


def storm(body: Callable[[], None]) -> int:
    """Interrupts `body` at random moments; returns how many descriptors it lost."""
    numbers = random.Random(1)
    before = descriptors()
    with interrupting():
        for _ in range(INTERRUPTS):
            try:
                signal.setitimer(signal.ITIMER_REAL, 0.00002 + numbers.random() * LONGEST)
                while True:
                    body()
            except KeyboardInterrupt:
                continue
    lost = descriptors() - before
    for number in lost:
        os.close(number)
    return len(lost)


def main() -> None:
    print(f"interrupted {INTERRUPTS} times each")
    print(f"PlainFile(path)       lost {storm(open_plain)} descriptors")
    print(f"SafeFileHandle.open() lost {storm(open_safe)} descriptors")


if __name__ == "__main__":
    main()
