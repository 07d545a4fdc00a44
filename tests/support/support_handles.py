"""Handle types whose release hook leaves a trace, and a look at the state word."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from dataclasses import dataclass

from safehandle_debug import CriticalHandle, SafeHandle, _native

__all__ = ["CriticalProbe", "Probe", "State", "refs", "set_refs", "state"]

CLOSED, DISPOSED, ONE_REF = 1, 2, 4


class Probe(SafeHandle):
    """A handle of value 5 that appends its value to `released` when released.

    `answer` is what the hook returns; `during`, when set, runs inside it."""

    def __init__(
        self, released: list[int], value: int | None = 5, owns_handle: bool = True
    ) -> None:
        super().__init__(-1, owns_handle)
        self.released = released
        self.answer: bool | None = True
        self.during: Callable[[Probe], object] | None = None
        if value is not None:
            self.set_handle(value)

    @property
    def is_invalid(self) -> bool:
        return self.handle == -1

    def release_handle(self) -> bool | None:
        self.released.append(self.handle)
        if self.during is not None:
            self.during(self)
        return self.answer


class CriticalProbe(CriticalHandle):
    """The same without reference count."""

    def __init__(self, released: list[int], value: int | None = 5) -> None:
        super().__init__(-1)
        self.released = released
        if value is not None:
            self.set_handle(value)

    @property
    def is_invalid(self) -> bool:
        return self.handle == -1

    def release_handle(self) -> bool | None:
        self.released.append(self.handle)
        return True


@dataclass(frozen=True, slots=True)
class State:
    """The state word, taken apart."""

    refs: int
    disposed: bool
    closed: bool


def state(handle: SafeHandle) -> State:
    """Reads the state word of a handle."""
    word = _word(handle).value
    return State(word >> 2, bool(word & DISPOSED), bool(word & CLOSED))


def refs(handle: SafeHandle) -> int:
    """Outstanding references, the initial one included."""
    return state(handle).refs


def set_refs(handle: SafeHandle, count: int) -> None:
    """Sets the count of references without the events that lead there: counting
    to 2**30 by adding takes a minute."""
    word = _word(handle)
    word.value = count << 2 | word.value & (CLOSED | DISPOSED)


def _word(handle: SafeHandle) -> ctypes.c_uint32:
    return ctypes.c_uint32.from_address(id(handle) + _native.STATE_OFFSET)
