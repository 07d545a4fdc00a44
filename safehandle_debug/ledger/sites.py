"""Which frame of a stack is the program's own, and which are wrappers.

Judged by file name alone: the recording may come from another interpreter,
another environment or another machine, whose folders cannot be asked.
"""

from __future__ import annotations

import functools
import os
import re

from safehandle_debug.recording import Frame

_OUR_PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep
_OUR_NAMES = r"(?:safehandle_debug|safehandle_tui|pytest_safehandle)"
_INSTALLED = re.compile(r"[/\\](?:site|dist)-packages[/\\]")
_OURS_INSTALLED = re.compile(rf"[/\\](?:site|dist)-packages[/\\]{_OUR_NAMES}[/\\]")
_OURS_IN_CHECKOUT = re.compile(
    r"[/\\](?:tui[/\\]safehandle_tui|plugins[/\\]pytest_safehandle)[/\\]"
)
_STANDARD = re.compile(r"(?:^|[/\\])lib(?:64)?[/\\]python3\.\d+t?[/\\]|[/\\]python3\d+\.zip[/\\]")


@functools.cache
def is_ours(file: str) -> bool:
    """True for a file of this package or its views."""
    return bool(
        file.startswith(_OUR_PACKAGE)
        or _OURS_INSTALLED.search(file)
        or _OURS_IN_CHECKOUT.search(file)
    )


@functools.cache
def is_standard(file: str) -> bool:
    """True for a file of the standard library, frozen modules included."""
    if file.startswith("<frozen "):
        return True
    match = _STANDARD.search(file)
    return bool(match) and not _INSTALLED.search(file)


@functools.cache
def is_library(file: str) -> bool:
    """True for what the program's author did not write: ours, the standard
    library's, and installed packages."""
    return is_ours(file) or is_standard(file) or bool(_INSTALLED.search(file))


def site_of(stack: tuple[Frame, ...]) -> Frame | None:
    """The site of a stack (innermost frame first): the innermost frame that
    is neither ours nor the standard library's, else the innermost; None when
    the stack is empty."""
    for frame in stack:
        if not is_ours(frame.file) and not is_standard(frame.file):
            return frame
    return stack[0] if stack else None


def place(frame: Frame | None, cwd: str) -> str:
    """`file:line function`, below the working directory `cwd` relative to it."""
    if frame is None:
        return "?"
    inside = cwd and frame.file.startswith(cwd.rstrip("/") + "/")
    file = frame.file[len(cwd.rstrip("/")) + 1 :] if inside else frame.file
    return f"{file}:{frame.line} {frame.function}"
