"""Keeps the sessions root small: old sessions go, by count and by size.

A session is live, and stays, while any process that it records is alive, while
the process that made it is (it may be about to record), or when it is younger
than a minute.  Only recordings are deleted: a folder in which somebody has put
something else loses its recordings and stays.
"""

from __future__ import annotations

import os
import time

from safehandle_debug.session import (
    folder_fault,
    parse_recording_name,
    parse_session_name,
    start_ticks,
)

KEPT_SESSIONS = 20
KEPT_BYTES = 2 * 2**30  # allocated on disk

_YOUNG_S = 60


def prune(
    root: str, *, sessions: int = KEPT_SESSIONS, size: int = KEPT_BYTES, young_s: float = _YOUNG_S
) -> list[str]:
    """Deletes the oldest dead sessions beyond `sessions` folders or `size` bytes.

    Never raises: what cannot be deleted stays.  Returns the paths it deleted.
    """
    try:
        names = sorted(name for name in os.listdir(root) if parse_session_name(name) is not None)
    except OSError:
        return []
    sizes = {name: _allocated(os.path.join(root, name)) for name in names}
    total, count = sum(sizes.values()), len(names)
    deleted = []
    for name in names:
        if count <= sessions and total <= size:
            break
        path = os.path.join(root, name)
        if folder_fault(path) is not None or _is_live(path, name, young_s):
            continue
        if _delete(path):
            deleted.append(path)
            count -= 1
            total -= sizes[name]
    return deleted


def _is_live(path: str, name: str, young_s: float) -> bool:
    try:
        if time.time() - os.stat(path).st_mtime < young_s:
            return True
        processes = {parse_recording_name(entry) for entry in os.listdir(path)} - {None}
    except OSError:
        return False
    recorded = {process[0] for process in processes if process is not None}
    creator = parse_session_name(name)
    if creator not in recorded and creator is not None and start_ticks(creator) is not None:
        return True
    return any(process and start_ticks(process[0]) == process[1] for process in processes)


def _allocated(path: str) -> int:
    """Bytes on disk of the files in a folder; recordings are sparse."""
    total = 0
    try:
        with os.scandir(path) as entries:
            for entry in entries:
                total += entry.stat(follow_symlinks=False).st_blocks * 512
    except OSError:
        return total  # another process is pruning it too
    return total


def _delete(path: str) -> bool:
    """Deletes a session's recordings, then its folder if nothing else is in it."""
    try:
        for entry in os.listdir(path):
            if parse_recording_name(entry) is not None:
                os.unlink(os.path.join(path, entry))
        os.rmdir(path)
    except OSError:
        return False
    return True
