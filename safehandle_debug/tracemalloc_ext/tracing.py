"""Starting, stopping and looking, as with tracemalloc.

Tracing is recording.  A program that is recorded already, by SAFEHANDLE_DEBUG
or a test run, is looked at through that recording, and stop() leaves it on;
else a recording in a temporary folder is begun, and removed by stop().
"""

from __future__ import annotations

import os
import shutil
import tempfile
import tracemalloc
from typing import Final

from safehandle_debug import _native
from safehandle_debug.ledger import Ledger
from safehandle_debug.ledger.snapshot import Held, held_at
from safehandle_debug.recording import open_recording
from safehandle_debug.tracemalloc_ext.snapshot import Snapshot, traces_of

__all__ = [
    "clear_traces",
    "get_object_traceback",
    "get_traceback_limit",
    "get_traced_memory",
    "get_tracemalloc_memory",
    "is_tracing",
    "reset_peak",
    "start",
    "stop",
    "take_snapshot",
]

_MOST_FRAMES: Final = 1000


class _State:
    """What this process asked for."""

    folder: str | None = None  # of a recording of our own
    limit = 0  # frames of a trace; 0: not started
    mark = 0  # serials up to this one were cleared
    peak = 0


_state = _State()


def start(nframe: int = 1) -> None:
    """Starts tracing handles, with at most `nframe` frames each.

    Raises:
        ValueError: the number of frames is out of range.
        RecordingError: there is no room for a recording.
    """
    if not 1 <= nframe <= _MOST_FRAMES:
        raise ValueError(f"the number of frames must be in range [1; {_MOST_FRAMES}]")
    if _state.limit:
        return
    _state.mark = _native.newest_serial()
    _state.peak = 0
    if _native.recording_path() is None:
        folder = tempfile.mkdtemp(prefix="safehandle-")
        try:
            _native.start_recording(
                os.path.join(folder, "handles.shd"),
                frames=nframe,
                children=False,
                tracemalloc=tracemalloc.is_tracing(),
            )
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        _state.folder = folder
    _state.limit = nframe


def stop() -> None:
    """Stops tracing, and forgets all traces.  Stopping again does nothing."""
    _state.limit = 0
    if _state.folder is not None:
        _native.stop_recording()
        shutil.rmtree(_state.folder, ignore_errors=True)
        _state.folder = None


def is_tracing() -> bool:
    """True between start() and stop()."""
    return bool(_state.limit)


def take_snapshot() -> Snapshot:
    """The handles that were opened since start() and are open now.

    Raises:
        RuntimeError: handles are not traced.
    """
    if not is_tracing():
        raise RuntimeError("handles are not traced: call tracemalloc_ext.start() first")
    return Snapshot(traces_of(_open(), _state.limit), _state.limit)


def clear_traces() -> None:
    """Forgets the handles that are open now."""
    _state.mark = _native.newest_serial()
    _state.peak = 0


def get_traceback_limit() -> int:
    """The most frames of a trace; 1 when nothing is traced."""
    return _state.limit or 1


def get_traced_memory() -> tuple[int, int]:
    """(handles open now, the most that these functions have seen)."""
    if not is_tracing():
        return 0, 0
    now = sum(trace[1] for trace in traces_of(_open(), 1))
    _state.peak = max(_state.peak, now)
    return now, _state.peak


def reset_peak() -> None:
    """Sets the peak to what is open now."""
    _state.peak = 0
    get_traced_memory()


def get_tracemalloc_memory() -> int:
    """Bytes on disk and in the page cache that the recording takes."""
    path = _native.recording_path()
    return 0 if path is None or not is_tracing() else os.stat(path).st_blocks * 512


def get_object_traceback(obj: object) -> tracemalloc.Traceback | None:
    """Where the handle that an object owns was opened; None when not traced."""
    if not is_tracing() or not isinstance(obj, _native.SafeHandle | _native.CriticalHandle):
        return None
    if obj.is_closed:
        return None
    history = obj.provenance()
    if history.serial <= _state.mark:
        return None
    frames = tuple((frame.file, frame.line) for frame in history.opened[: _state.limit])
    return tracemalloc.Traceback(frames) if frames else None


def _open() -> list[Held]:
    path = _native.recording_path()
    if path is None:
        return []
    with Ledger(open_recording(path)) as ledger:
        found, _ = held_at(ledger)
    return [held for held in found if held.serial > _state.mark]
