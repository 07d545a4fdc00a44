"""What the descriptor watch has to say at once, in the program that it watches.

The core calls these from the main thread, as soon as that is at a point
where Python code may run.
"""

from __future__ import annotations

import resource  # now, while there is a descriptor to load it with
import warnings
from typing import NamedTuple

from safehandle_debug import _native
from safehandle_debug.activate import stderr

# Room for the reader, its modules and one recording, where the program has none.
_SPARE = 32
_SLICE_S = 0.05  # of the main thread's CPU time, for an answer
_STACK_LEVEL = 2  # the line that the main thread is at

on_error = "record"  # what SAFEHANDLE_DEBUG said
_told = False
_warned: dict[str | tuple[str, type[Warning], int], int] = {}


class Place(NamedTuple):
    """Where something was done."""

    file: str
    line: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


def place(stack: int) -> Place | None:
    """The line of the program that a recorded stack comes from."""
    path = _native.recording_path()
    if path is None:
        return None
    from safehandle_debug.ledger import site_of
    from safehandle_debug.recording import open_recording

    with open_recording(path) as recording:
        frame = site_of(recording.stack(stack))
    return None if frame is None else Place(frame.file, frame.line)


def say(text: str, at: Place | None) -> None:
    """Warns of a wrong act, or raises, as on_error= asks."""
    if on_error == "raise":
        from safehandle_debug.errors import HandleStateError

        raise HandleStateError(text)
    if on_error == "warn" and at is not None:
        # Another thread may have done it, and be elsewhere by now.
        warnings.warn_explicit(text, RuntimeWarning, at.file, at.line, registry=_warned)
    elif on_error == "warn":
        warnings.warn(text, RuntimeWarning, _STACK_LEVEL)


def exhausted() -> None:
    """Says once on stderr that descriptors ran out, and who holds most of them."""
    global _told
    path = _native.recording_path()
    if _told or path is None:
        return
    _told = True
    try:
        text = _report(path)
    except Exception as error:
        # Whatever is missing here is missing because descriptors are.
        limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        text = (
            f"EMFILE: descriptors exhausted, the limit is {limit}: 'safehandle report' names who"
            f" has them; here none was left to read the recording with ({error})"
        )
    for line in text.splitlines():
        stderr.say(line)


def asked(number: int) -> None:
    """Answers a reader's question who holds the handles that are open.

    In the program's own time, and in little of it; other threads go on."""
    from safehandle_debug.findings.holders.told import write_holders

    try:
        write_holders(seconds=_SLICE_S, answer=number)
    except Exception as error:
        stderr.say(f"who holds what cannot be told: {error}")


def _report(path: str) -> str:
    """Read from this process's own recording, with a few descriptors more than
    the limit for as long as that takes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    room = soft + _SPARE
    try:
        higher = hard if hard == resource.RLIM_INFINITY else max(room, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (room, higher))
    except (OSError, ValueError):  # only root may raise the hard limit
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    try:
        from safehandle_debug.findings import render_exhaustion
        from safehandle_debug.ledger import Ledger
        from safehandle_debug.recording import open_recording

        with Ledger(open_recording(path)) as ledger:
            ledger.refresh()
            return render_exhaustion(ledger)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
