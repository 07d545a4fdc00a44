"""What a worker of pytest-xdist held when it died: its recording tells."""

from __future__ import annotations

import os
import time
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Final

from pytest_safehandle.report import Writer
from pytest_safehandle.runner import tests_own
from pytest_safehandle.settings import Settings
from safehandle_debug.errors import RecordingError
from safehandle_debug.findings import findings_of
from safehandle_debug.ledger import Ledger
from safehandle_debug.recording import open_recording
from safehandle_debug.session import SESSION_VARIABLE

__all__ = ["held_by"]

MOST_HELD: Final = 20


def held_by(
    worker: str, settings: Settings, folder: str, told: Collection[tuple[str, int]]
) -> list[str]:
    """A line for each handle that a test of the dead worker had open, in order.

    Args:
        worker: its name, "gw0".
        settings: the session's.
        folder: absolute path that shown paths are relative to.
        told: (test, serial) of the leaks that it has reported.
    """
    writer = Writer(folder, 0, time.time_ns)
    judged = tests_own(settings)
    for path in _candidates(worker, settings):
        try:
            with Ledger(open_recording(path)) as ledger:
                ledger.refresh()
                meta = ledger.recording.meta
                parent = ledger.recording.header.parent_pid
                if meta.get("worker") != worker or parent != os.getpid():
                    continue
                held = [
                    history
                    for history in ledger.open()
                    if history.test is not None
                    and judged(history)
                    and (history.test, history.serial) not in told
                    and any(f.kind == "leak" for f in findings_of(history, over=True, cwd=folder))
                ]
        except (RecordingError, OSError):
            continue
        lines = [f"worker {worker} died with {writer.listed(h)}, in {h.test}" for h in held]
        if len(lines) > MOST_HELD:
            more = f"... and {len(lines) - MOST_HELD} more of worker {worker}"
            lines = [*lines[:MOST_HELD], more]
        return lines
    return []


def _candidates(worker: str, settings: Settings) -> Iterator[Path]:
    """Recordings that may be the worker's, the newest first."""
    if settings.recording is None:
        found = Path(os.environ.get(SESSION_VARIABLE, os.devnull)).glob("*.shd")
    else:
        template = Path(os.path.abspath(settings.recording))
        named = template.name.replace("{worker}", worker).replace("{pid}", "*")
        if "{worker}" not in template.name and "{pid}" not in template.name:
            named = f"{template.stem}-{worker}{template.suffix}"
        parent = str(template.parent).replace("{worker}", worker)
        found = Path(parent).glob(named)
    yield from sorted(found, key=lambda path: path.stat().st_mtime, reverse=True)
