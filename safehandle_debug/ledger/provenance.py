"""A handle's history, asked for by the process that owns it."""

from __future__ import annotations

from safehandle_debug.ledger.ledger import Ledger
from safehandle_debug.ledger.model import History
from safehandle_debug.recording import open_recording


def provenance(serial: int) -> History | None:
    """What this process's own recording tells of handle #serial.

    None when it has not recorded or knows nothing of the handle.  Raises
    RecordingError when the recording has been removed or damaged."""
    from safehandle_debug import _native

    path = _native.recording_path()
    if path is None:
        return None
    with Ledger(open_recording(path)) as ledger:
        return ledger.history(serial)
