"""Finds recordings: the session folders of this user, and targets in words."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from safehandle_debug.errors import RecordingError
from safehandle_debug.recording.names import Name, parse
from safehandle_debug.session import parse_session_name, sessions_root

HOW_TO_RECORD = "Run: SAFEHANDLE_DEBUG=full python app.py"


@dataclass(frozen=True, slots=True)
class Session:
    """The folder with the recordings of one process tree."""

    path: Path

    @property
    def name(self) -> str:
        """`YYYYmmddTHHMMSS.ffffff-PID`, UTC."""
        return self.path.name

    def recordings(self) -> list[Path]:
        """Its recordings, oldest first; [] when there is none."""
        return [path for _, path in sorted(_recordings(self.path))]


def root() -> Path:
    """The folder that holds the sessions, where they are written; it need not exist."""
    return Path(sessions_root())


def sessions(folder: Path | None = None) -> list[Session]:
    """This user's sessions in `folder` (default: root()), newest first.

    Folders of other users, symbolic links and whatever is not named as a
    session are left out.
    """
    folder = root() if folder is None else folder
    if not _is_own_folder(folder):
        return []
    try:
        names = os.listdir(folder)
    except OSError:
        return []
    found = [folder / name for name in names if parse_session_name(name) is not None]
    return [Session(path) for path in sorted(found, reverse=True) if _is_own_folder(path)]


def resolve(target: str | None) -> list[Path]:
    """The recordings that `target` names: a pid, a recording, a session
    folder (or its name), a folder of sessions; of several the newest that has
    one, as for None.  At least one.

    Raises RecordingError with a sentence that says what to do."""
    if target is None:
        return _newest(root())
    path = Path(target)
    if target.isdecimal() and not os.path.lexists(path):
        return _of_pid(int(target))
    if parse_session_name(target) is not None and not os.path.lexists(path):
        path = root() / target
    if path.is_dir() and not path.is_symlink():
        return Session(path).recordings() or _newest(path)
    if os.path.lexists(path):
        return [path]
    raise RecordingError(
        f"there is no recording {target!r}: name a pid, a recording or a session folder"
    )


def _newest(folder: Path) -> list[Path]:
    for session in sessions(folder):
        if found := session.recordings():
            return found
    raise RecordingError(refusal(folder) or f"there is no recording in {folder}. {HOW_TO_RECORD}")


def refusal(folder: Path) -> str | None:
    """Why a folder may not be read, in a sentence; None when it may, or is not there."""
    try:
        if os.access(folder, os.R_OK | os.X_OK):
            return None
        owner = folder.owner()
    except FileNotFoundError:
        return None
    except (OSError, KeyError):
        owner = "somebody else"
    return f"{folder} may not be read: it belongs to {owner}. Become that user, or root"


def _of_pid(pid: int) -> list[Path]:
    """The newest process of that number; its parts, oldest first."""
    for session in sessions():
        found = [(name, path) for name, path in _recordings(session.path) if name.pid == pid]
        if found:
            newest = max(name.start_ticks for name, _ in found)
            return [path for name, path in sorted(found) if name.start_ticks == newest]
    raise RecordingError(f"there is no recording of process {pid}. {HOW_TO_RECORD}")


def _recordings(folder: Path) -> list[tuple[Name, Path]]:
    """A session's recordings, in any order."""
    try:
        names = os.listdir(folder)
    except OSError:
        return []
    found = ((parse(name), folder / name) for name in names)
    return [
        (name, path) for name, path in found if name is not None and _is_own(path, stat.S_ISREG)
    ]


def _is_own_folder(path: Path) -> bool:
    return _is_own(path, stat.S_ISDIR)


def _is_own(path: Path, is_kind: Callable[[int], bool]) -> bool:
    """True for what this user alone can have written, and for no link."""
    try:
        status = path.lstat()
    except OSError:
        return False
    others_write = status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    return is_kind(status.st_mode) and status.st_uid == os.geteuid() and not others_write
