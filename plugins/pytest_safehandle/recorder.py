"""This process's recording: where it goes, when it starts and stops."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Final

import pytest

from pytest_safehandle.settings import Settings
from safehandle_debug import _native
from safehandle_debug.activate.prune import prune
from safehandle_debug.session import (
    SESSION_VARIABLE,
    SessionError,
    create_session,
    is_session,
    new_recording_path,
    start_ticks,
)

QUARANTINE: Final = 256  # closed numbers that nobody gets for a while


class Recorder:
    """The recording of this process: the one that was running, or our own."""

    def __init__(
        self, *, started: bool, watching: bool, session: str | None, previous: str | None
    ) -> None:
        self._started = started  # by us, hence stopped by us
        self._watching = watching  # started by us
        self._session = session  # folder that we put into the environment
        self._previous = previous  # what the environment had before

    @classmethod
    def start(cls, settings: Settings) -> Recorder:
        """Starts recording, unless SAFEHANDLE_DEBUG already has.

        Raises:
            pytest.UsageError: the recording cannot be written.
        """
        running = _native.recording_path() is not None
        wanted = settings.recording is not None or (
            settings.level_given and settings.level != _native.level()
        )
        if running and not wanted:
            watching = _watch(settings)
            return cls(started=False, watching=watching, session=None, previous=None)
        previous = os.environ.get(SESSION_VARIABLE)
        session: str | None = None
        try:
            if settings.recording is not None:
                path = prepare_path(settings.recording)
            else:
                session = join_session()
                path = new_recording_path(session, os.getpid(), start_ticks(os.getpid()) or 0)
            if running:
                _native.stop_recording()
            _native.start_recording(
                path,
                level=settings.level,
                meta=_meta(session or os.path.dirname(path)),
                children=session is not None,
            )
        except (SessionError, OSError, ValueError, RuntimeError) as error:
            leave_session(session, previous)
            raise pytest.UsageError(f"--handles cannot record: {error}") from None
        watching = _watch(settings)
        return cls(started=True, watching=watching, session=session, previous=previous)

    def stop(self) -> None:
        """Ends the watch and the recording, as far as they are ours."""
        if self._watching:
            self._watching = False
            _native.watch_stop()
        if not self._started:
            return
        self._started = False
        _native.stop_recording()
        leave_session(self._session, self._previous)

    def fault(self) -> str | None:
        """Why not all handles could be judged, in one sentence; None: all could."""
        error = _native.recording_error()
        if error is not None:
            return f"the recording is not complete: {error}"
        if _native.recording_path() is None:
            return "the recording was stopped by a test: later tests were not judged"
        return None


def _watch(settings: Settings) -> bool:
    """Watches descriptors, unless they are watched; whether it is ours to stop.

    Raises:
        pytest.UsageError: they cannot be watched here.
    """
    if not settings.fds or _native.watch_status()["on"]:
        return False
    try:
        _native.watch_start(QUARANTINE)
    except OSError as error:
        raise pytest.UsageError(
            f"--handles cannot watch descriptors: {error}; use --no-handles-fds"
        ) from None
    return True


def prepare_path(template: str) -> str:
    """The absolute path that `--handles-recording` stands for in this process.

    A recording that is already there is removed.  Workers of pytest-xdist get
    files of their own also when the template has no field.

    Raises:
        pytest.UsageError: the template has another field, or no recording can
            be written there.
    """
    worker = os.environ.get("PYTEST_XDIST_WORKER", "")
    try:
        name = template.format(worker=worker or "main", pid=os.getpid())
    except (KeyError, IndexError, ValueError, AttributeError):
        raise pytest.UsageError(
            f"--handles-recording={template}: use no fields but {{worker}} and {{pid}}"
        ) from None
    path = Path(os.path.abspath(name))
    if worker and "{worker}" not in template and "{pid}" not in template:
        path = path.with_name(f"{path.stem}-{worker}{path.suffix}")
    if not path.parent.is_dir():
        raise pytest.UsageError(f"--handles-recording: there is no folder {path.parent}")
    if not os.access(path.parent, os.W_OK):
        raise pytest.UsageError(f"--handles-recording: cannot write into {path.parent}")
    if path.is_file():
        _remove_recording(path)
    elif os.path.lexists(path):
        raise pytest.UsageError(f"--handles-recording: {path} is not a file: choose another path")
    return str(path)


def _remove_recording(path: Path) -> None:
    from safehandle_debug.recording.format import MAGIC

    with path.open("rb") as file:
        start = file.read(len(MAGIC))
    if start not in (MAGIC, b""):
        raise pytest.UsageError(
            f"--handles-recording: {path} exists and is no recording: choose another path"
        )
    path.unlink()


def join_session() -> str:
    """The session folder of this process tree, made and named in the environment.

    Raises:
        SessionError: no folder can be made.
    """
    session = os.environ.get(SESSION_VARIABLE, "")
    if not session or not is_session(session):
        session = create_session()
        prune(os.path.dirname(session))
    os.environ[SESSION_VARIABLE] = session
    return session


def leave_session(session: str | None, previous: str | None) -> None:
    """Undoes join_session(); `previous` is what the environment had before."""
    if session is None or os.environ.get(SESSION_VARIABLE) != session:
        return
    if previous is None:
        del os.environ[SESSION_VARIABLE]
    else:
        os.environ[SESSION_VARIABLE] = previous


def _meta(session: str) -> str:
    try:
        cwd = os.getcwd()
    except OSError:
        cwd = ""  # it was deleted
    return json.dumps(
        {
            "argv": sys.orig_argv,
            "executable": sys.executable or "",
            "cwd": cwd,
            "python": ".".join(str(part) for part in sys.version_info[:3]),
            "session": session,
            "suppressions": None,
            "worker": os.environ.get("PYTEST_XDIST_WORKER"),
        }
    )
