"""This process's recording: started, asked and read.

The core is asked what is open and how often something went wrong; all that is
said about a handle is read back from the recording by the ledger, as a viewer
in another process would.
"""

from __future__ import annotations

import json
import os
import platform
import sys
from collections.abc import Collection
from pathlib import Path

import pytest

from pytest_safehandle.settings import Settings
from safehandle_debug import _native
from safehandle_debug.activate.prune import prune
from safehandle_debug.activate.session import (
    SESSION_VARIABLE,
    SessionError,
    create_session,
    is_session,
    new_recording_path,
    start_ticks,
)
from safehandle_debug.findings import Finding, find, findings_of
from safehandle_debug.ledger import Event, History, Ledger
from safehandle_debug.recording import open_recording
from safehandle_debug.recording.format import Ending, EventKind

PROBLEMS = frozenset(
    {
        EventKind.DISPOSE,  # by a finalizer, with references out
        EventKind.DOUBLE_OWNER,
        EventKind.DOUBLE_RELEASE,
        EventKind.RELEASE_FAILED,
        EventKind.SET_VALUE,
    }
)


class Recorder:
    """The recording of this process: the one that was running, or our own.

    `serials` and the like are of this process; a forked child that goes on
    running tests asks its own recording.
    """

    def __init__(self, *, started: bool, session: str | None, previous: str | None) -> None:
        self._started = started  # by us, hence stopped by us
        self._session = session  # folder that we put into the environment
        self._previous = previous  # what the environment had before
        self._ledger: Ledger | None = None
        self._read_to = 0  # seq: problems up to here have been told
        self._problems = _native.problem_count()
        self._first = _native.newest_serial()

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
            return cls(started=False, session=None, previous=None)
        if running:
            _native.stop_recording()
        previous = os.environ.get(SESSION_VARIABLE)
        try:
            if settings.recording is not None:
                session = None
                path = prepare_path(settings.recording)
            else:
                session = join_session()
                path = new_recording_path(session, os.getpid(), start_ticks(os.getpid()) or 0)
            _native.start_recording(
                path,
                level=settings.level,
                meta=_meta(session or os.path.dirname(path)),
                children=session is not None,
            )
        except (SessionError, OSError, ValueError, RuntimeError) as error:
            raise pytest.UsageError(f"--handles cannot record: {error}") from None
        return cls(started=True, session=session, previous=previous)

    def stop(self) -> None:
        """Ends the recording, if it is ours."""
        if self._ledger is not None:
            self._ledger.close()
            self._ledger = None
        if not self._started:
            return
        self._started = False
        _native.stop_recording()
        leave_session(self._session, self._previous)

    @property
    def path(self) -> str | None:
        """The file that is recorded into; None when recording has stopped."""
        return _native.recording_path()

    def ledger(self) -> Ledger | None:
        """What was recorded up to now; None when recording has stopped.

        Raises:
            RecordingError: the recording cannot be read.
        """
        path = self.path
        if path is None:
            return None
        ledger = self._ledger
        if ledger is None or ledger.recording.path != Path(path):
            ledger = self._ledger = Ledger(open_recording(path))
            self._read_to = 0
        ledger.refresh()
        return ledger

    def histories(self, serials: Collection[int]) -> list[History]:
        """The recorded histories of some handles, oldest first."""
        ledger = self.ledger()
        if ledger is None:
            return []
        found = (ledger.history(serial) for serial in sorted(serials))
        return [history for history in found if history is not None]

    def events_since(self, seq: int) -> list[Event]:
        """The events after `seq`, oldest first."""
        ledger = self.ledger()
        if ledger is None:
            return []
        serials = {raw.serial for raw in ledger.recording.events(after=seq)}
        events = (event for h in self.histories(serials) for event in h.events if event.seq > seq)
        return sorted(events, key=lambda event: event.seq)

    def newest_seq(self) -> int:
        """The seq of the newest event; 0 when there is none."""
        ledger = self.ledger()
        return 0 if ledger is None else ledger.recording.header.next_seq - 1

    def finalized_since(self, seq: int) -> list[History]:
        """The handles that finalizers closed after `seq`, oldest first."""
        ledger = self.ledger()
        if ledger is None:
            return []
        endings = (Ending.DROPPED, Ending.COLLECTED)
        raws = ledger.recording.events(after=seq)
        serials = {r.serial for r in raws if r.kind == EventKind.CLOSE and r.ending in endings}
        return self.histories(serials)

    def abandoned(self) -> list[Finding]:
        """The handles that finalizers closed so far, alike ones grouped."""
        if _native.newest_serial() == self._first:
            return []
        ledger = self.ledger()
        if ledger is None or ledger.counts.abandoned == 0:
            return []
        return [finding for finding in find(ledger) if finding.kind == "abandoned"]

    def new_problems(self) -> list[Finding]:
        """Findings that events since the last call prove, in order."""
        count = _native.problem_count()
        if count == self._problems:
            return []
        ledger = self.ledger()
        self._problems = count
        if ledger is None:
            return []
        since = self._read_to
        serials: dict[int, None] = {}
        for raw in ledger.recording.events(after=since):
            self._read_to = max(self._read_to, raw.seq)
            if raw.kind in PROBLEMS:
                serials[raw.serial] = None
        found = [
            finding
            for history in self.histories(serials)
            for finding in findings_of(history, over=False, cwd=os.getcwd())
            if finding.kind != "abandoned" and any(event.seq > since for event in finding.events)
        ]
        return sorted(found, key=lambda finding: finding.events[-1].seq)


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
    return json.dumps(
        {
            "argv": sys.orig_argv,
            "executable": sys.executable or "",
            "cwd": os.getcwd(),
            "python": platform.python_version(),
            "session": session,
            "suppressions": None,
        }
    )
