"""What the descriptor watch leaves to the reader: names of owners, finalizers in Python.

The core names the owner that it can see, an object of C.  Owners written in
Python have no hook there; they are told by the frames that acquired or closed.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Final

from safehandle_debug.ledger.sites import is_standard
from safehandle_debug.recording import Frame, Recording, TypeInfo

# As `_core/watch` names its types.
OWNERS: Final = frozenset(
    {"raw", "FileIO", "socket", "mmap", "epoll", "scandir", "sqlite3", "FILE", "DIR", "child"}
)
SPACES: Final = frozenset({"fd", "pid"})
RAW: Final = "raw"
CHILD: Final = "child"

_KEPT: Final = 100_000  # answers

# (file of the standard library, function): owner of what it acquires raw.
_PYTHON_OWNERS: Final = {
    ("subprocess.py", "Popen._execute_child"): "Popen",
    ("popen_fork.py", "Popen._launch"): "Process",
    ("popen_spawn_posix.py", "Popen._launch"): "Process",
    ("connection.py", "Pipe"): "Connection",
}
# Callers that call `__del__` by name: they close on purpose.
_CLOSERS: Final = frozenset({"close", "aclose", "__exit__", "__aexit__", "stop", "shutdown"})


def is_watched(type: TypeInfo) -> bool:
    """True for handles of the watch, False for those of SafeHandles."""
    return type.name in OWNERS and type.space in SPACES


def owner_of(type: TypeInfo, opened: Sequence[Frame]) -> str:
    """The owner's name, also where only the acquire stack tells."""
    if type.name in (RAW, CHILD) and type.space in SPACES:
        for frame in opened:
            key = (frame.file.rpartition("/")[2], frame.function)
            if key in _PYTHON_OWNERS and is_standard(frame.file):
                return _PYTHON_OWNERS[key]
    return type.name


def is_finalizer(stack: Sequence[Frame], opened: Sequence[Frame]) -> bool:
    """True when a finalizer in Python closed what something else had opened.

    What a finalizer opens and closes itself is its own affair."""
    finalizer = _finalizer(stack)
    if finalizer is None:
        return False
    return all(
        (frame.file, frame.function) != (finalizer.file, finalizer.function) for frame in opened
    )


def after_finalizer(stack: Sequence[Frame]) -> Sequence[Frame]:
    """The frames that dropped the object whose finalizer is at work."""
    finalizer = _finalizer(stack)
    return stack if finalizer is None else stack[stack.index(finalizer) + 1 :]


def _finalizer(stack: Sequence[Frame]) -> Frame | None:
    for frame, caller in itertools.zip_longest(stack, stack[1:]):
        if frame.function.endswith("__del__"):
            if caller is not None and caller.function.rpartition(".")[2] in _CLOSERS:
                return None
            return frame
        if frame.function == "_cleanup" and frame.file.endswith("/subprocess.py"):
            return frame  # reaps children whose Popen was dropped
    return None


class Watch:
    """The questions above, by id; answers are kept."""

    def __init__(self, recording: Recording) -> None:
        self._recording = recording
        self._types: dict[int, bool] = {}
        self._may_finalize: dict[int, bool] = {}

    def is_watched(self, type: int) -> bool:
        known = self._types.get(type)
        if known is None:
            known = self._types[type] = is_watched(self._recording.type(type))
        return known

    def may_be_finalized(self, stack: int, type: int) -> bool:
        """Whether a close with that stack, of a handle of that type, may have
        been done by a finalizer in Python."""
        return self.is_watched(type) and self._may(stack)

    def is_finalized(self, stack: int, opened: int) -> bool:
        """Whether a close with that stack was done by a finalizer in Python."""
        return self._may(stack) and is_finalizer(
            self._recording.stack(stack), self._recording.stack(opened)
        )

    def _may(self, stack: int) -> bool:
        may = self._may_finalize.get(stack)
        if may is None:
            if len(self._may_finalize) >= _KEPT:
                self._may_finalize.clear()
            may = _finalizer(self._recording.stack(stack)) is not None
            self._may_finalize[stack] = may
        return may
