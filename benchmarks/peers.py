"""What others do for the same purpose, in their plainest form."""

from __future__ import annotations

import sys
import threading
import weakref
from types import CodeType, FrameType
from typing import Self


class PythonHandle:
    """A handle with the same promises about its count, written in Python with a lock."""

    __slots__ = ("_closed", "_count", "_lock", "_value")

    def __init__(self, value: int) -> None:
        self._lock = threading.Lock()
        self._value = value
        self._count = 1
        self._closed = False

    def add_ref(self) -> None:
        with self._lock:
            if self._count == 0:
                raise ValueError("closed")
            self._count += 1

    def release(self) -> None:
        with self._lock:
            if self._count == 0:
                raise ValueError("closed")
            self._count -= 1

    def close(self) -> None:
        with self._lock:
            if not self._closed:
                self._closed = True
                self._count -= 1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()


class Plain:
    """Something to finalize."""

    __slots__ = ("__weakref__",)


def finalized() -> Plain:
    """An object with a finalizer."""
    thing = Plain()
    weakref.finalize(thing, int)
    return thing


def frames() -> tuple[tuple[CodeType, int], ...]:
    """The caller's stack as (code, instruction), innermost first."""
    stack = []
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        stack.append((frame.f_code, frame.f_lasti))
        frame = frame.f_back
    return tuple(stack)
