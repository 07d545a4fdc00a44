"""Finds recordings: the session folders of this user, and targets in words."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


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
        raise NotImplementedError


def root() -> Path:
    """The folder that holds the sessions; it need not exist."""
    raise NotImplementedError


def sessions(folder: Path | None = None) -> list[Session]:
    """This user's sessions in `folder` (default: root()), newest first.

    Folders of other users, symbolic links and whatever is not named as a
    session are left out.
    """
    raise NotImplementedError


def resolve(target: str | None) -> list[Path]:
    """The recordings that `target` names: a pid, a recording, a session
    folder (or its name); None: the newest session.  At least one.

    Raises RecordingError with a sentence that says what to do."""
    raise NotImplementedError
