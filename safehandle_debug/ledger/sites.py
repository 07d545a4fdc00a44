"""Which frame of a stack is the program's own, and which are wrappers."""

from __future__ import annotations

from safehandle_debug.recording import Frame


def is_ours(file: str) -> bool:
    """True for a file of this package or its views."""
    raise NotImplementedError


def is_standard(file: str) -> bool:
    """True for a file of the standard library, frozen modules included."""
    raise NotImplementedError


def is_library(file: str) -> bool:
    """True for what the program's author did not write: ours, the standard
    library's, and installed packages."""
    raise NotImplementedError


def site_of(stack: tuple[Frame, ...]) -> Frame | None:
    """The site of a stack (innermost frame first): the innermost frame that
    is neither ours nor the standard library's, else the innermost; None when
    the stack is empty."""
    raise NotImplementedError
