"""What ctypes gets for a handle in its argtypes.

Objects of ctypes that own a reference of the handle.  ctypes keeps them for the
length of the call; when it drops them, the reference goes with them.
"""

from __future__ import annotations

import ctypes

__all__ = ["IntArgument", "WordArgument", "make_int", "make_word"]


class IntArgument(ctypes.c_int):
    """A descriptor, or another handle that native code takes as an int."""

    held: object


class WordArgument(ctypes.c_void_p):
    """A handle of the width of a pointer."""

    held: object


def make_int(held: object, value: int) -> IntArgument:
    """An int with its reference; a value that is no int is cut, as C would."""
    argument = IntArgument(value)
    argument.held = held
    return argument


def make_word(held: object, value: int) -> WordArgument:
    """An intptr_t with its reference."""
    argument = WordArgument(value)
    argument.held = held
    return argument
