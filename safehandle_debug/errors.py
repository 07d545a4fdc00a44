"""The errors of safehandle_debug.

    SafeHandleError
    |-- HandleClosedError        also a ValueError
    |-- NullHandleError          also a TypeError
    |-- HandleNotSupportedError  also a NotImplementedError
    |-- HandleOverflowError      also an OverflowError
    |-- HandleStateError         also a RuntimeError
    `-- RecordingError           also an OSError

Each is also the built-in error that a program would have got from a file
object or an integer in its place, so that existing `except` clauses work.
"""

from __future__ import annotations

__all__ = [
    "HandleClosedError",
    "HandleNotSupportedError",
    "HandleOverflowError",
    "HandleStateError",
    "NullHandleError",
    "RecordingError",
    "SafeHandleError",
]


class SafeHandleError(Exception):
    """Base of all errors raised by this package."""


class HandleClosedError(SafeHandleError, ValueError):
    """The handle is closed: its resource has been given back."""


class NullHandleError(SafeHandleError, TypeError):
    """A handle was needed and None was given."""


class HandleNotSupportedError(SafeHandleError, NotImplementedError):
    """The operation is not possible with this handle or on this platform."""


class HandleOverflowError(SafeHandleError, OverflowError):
    """The handle has 2**30 - 1 references: another one is refused."""


class HandleStateError(SafeHandleError, RuntimeError):
    """The handle is not in a state that allows the operation."""


class RecordingError(SafeHandleError, OSError):
    """A recording cannot be written or read; the text says why."""
