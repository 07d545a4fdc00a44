"""A handle's history, asked for by the process that owns it."""

from __future__ import annotations

from safehandle_debug.ledger.model import History


def provenance(serial: int) -> History | None:
    """What this process's own recording tells of handle #serial.

    None when it is not recording or knows nothing of the handle."""
    raise NotImplementedError
