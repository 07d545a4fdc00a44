"""What the fixtures `handles` and `handles_session` give to a test."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Sequence

import pytest

from pytest_safehandle.recorder import Recorder
from pytest_safehandle.report import Leak, Writer
from pytest_safehandle.runner import tests_own
from pytest_safehandle.session import HandlesSession, running
from pytest_safehandle.settings import Settings, read_settings
from safehandle_debug import _native
from safehandle_debug.findings import Finding, findings_of
from safehandle_debug.ledger import Event, History
from safehandle_debug.testing import HandleLeakError, Reader, Site, SiteError, collect, settle

__all__ = ["Handles", "SessionHandles", "tracked", "tracked_session"]

_RECORDER = pytest.StashKey[Recorder]()


class Handles:
    """The handles that one test has opened so far, and what happened to them.

    Handles that were open before the fixture was set up are not seen.
    """

    def __init__(self, reader: Reader, writer: Writer, settle_s: float, folder: str) -> None:
        self._reader = reader
        self._writer = writer
        self._settle_s = settle_s
        self._folder = folder
        self._mark = _native.newest_serial()
        self._seq = reader.newest_seq()
        self._allowed: list[Site] = []

    @property
    def live(self) -> list[History]:
        """Those that are open now, oldest first."""
        return self._reader.histories(_native.open_since(self._mark))

    def opened(self, *, kind: str | None = None) -> list[History]:
        """Those that were opened so far, also when they are closed again, oldest first.

        Args:
            kind: only those of a kind: "file", "pipe", "socket", or what a
                class of your own names in `handle_kind`.
        """
        return self._reader.opened_since(self._mark, kind)

    @property
    def events(self) -> list[Event]:
        """All events since the fixture was set up, also of older handles, in order."""
        return self._reader.events_since(self._seq)

    @contextlib.contextmanager
    def check(self) -> Iterator[None]:
        """A block that must close every handle that it opens.

        Raises:
            HandleLeakError: some are open, or references are missing, at its end.
        """
        __tracebackhide__ = True
        mark = _native.newest_serial()
        yield
        self._raise_if_open(mark)

    def assert_balanced(self) -> None:
        """Fails unless every handle is closed and was released exactly once.

        Raises:
            HandleLeakError: some are open, or were released wrongly.
        """
        __tracebackhide__ = True
        self._raise_if_open(self._mark)
        serials = {event.serial for event in self.events}
        wrong = [
            finding
            for history in self._reader.histories(serials)
            for finding in self._findings(history)
            if finding.kind != "abandoned"
        ]
        if wrong:
            raise HandleLeakError(self._writer.misuses(wrong))

    def allow(self, site: str) -> None:
        """Lets handles of a site stay open: path-glob:function-glob or type:NAME.

        Raises:
            ValueError: the text names no site.
        """
        parsed = Site.parse(site)
        if parsed is None:
            raise SiteError("name a site: path-glob:function-glob or type:NAME")
        self._allowed.append(parsed)

    @property
    def allowed(self) -> Sequence[Site]:
        """The sites that allow() named."""
        return self._allowed

    def _raise_if_open(self, mark: int) -> None:
        __tracebackhide__ = True
        left = collect(set(_native.open_since(mark)))
        left = settle(left, self._settle_s)
        leaks = [
            Leak(finding)
            for history in self._reader.histories(left)
            for finding in self._findings(history)
            if finding.kind in ("leak", "unbalanced")
        ]
        if leaks:
            raise HandleLeakError(self._writer.leaks(leaks))

    def _findings(self, history: History) -> list[Finding]:
        if any(site.covers(history) for site in self._allowed):
            return []
        return findings_of(history, over=True, cwd=self._folder)


class SessionHandles:
    """The handles of a whole session, in this process.

    Under pytest-xdist each worker has its own; with `--handles` off it begins
    when the fixture is first asked for, and nothing is judged.
    """

    def __init__(self, reader: Reader, session: HandlesSession | None) -> None:
        self._reader = reader
        self._session = session
        self._mark = _native.newest_serial() if session is None else session.first

    @property
    def live(self) -> list[History]:
        """Those that are open now, oldest first."""
        return self._reader.histories(_native.open_since(self._mark))

    @property
    def opened(self) -> int:
        """How many handles there have been."""
        return self._reader.count_since(self._mark)

    @property
    def found(self) -> dict[str, int]:
        """How many findings of each kind were told so far: {"leak": 1}."""
        return {} if self._session is None else self._session.counts()


@contextlib.contextmanager
def tracked_session(config: pytest.Config) -> Iterator[SessionHandles]:
    """Tracks handles to the session's end, also when `--handles` is off."""
    session = running(config)
    if session is not None:
        yield SessionHandles(session.judge.reader, session)
        return
    settings = _record(config)
    reader = Reader(str(config.invocation_params.dir), time.time_ns(), tests_own(settings))
    try:
        yield SessionHandles(reader, None)
    finally:
        reader.close()


def _record(config: pytest.Config) -> Settings:
    """Starts recording, once: a recording for each test that asks would be a
    session folder for each."""
    settings = read_settings(config, config.option)
    if config.stash.get(_RECORDER, None) is None:
        config.stash[_RECORDER] = recorder = Recorder.start(settings)
        config.add_cleanup(recorder.stop)
    return settings


@contextlib.contextmanager
def tracked(request: pytest.FixtureRequest) -> Iterator[Handles]:
    """Tracks handles for one test, also when `--handles` is off."""
    config = request.config
    folder = str(config.invocation_params.dir)
    session = running(config)
    if session is not None:
        judge = session.judge
        handles = Handles(judge.reader, judge.writer, session.settings.settle_s, folder)
        if session.run is not None:
            session.run.allow = handles.allowed
        yield handles
        return
    settings = _record(config)
    reader = Reader(folder, time.time_ns(), tests_own(settings))
    writer = Writer(folder, config.get_verbosity("handles"), time.time_ns)
    try:
        yield Handles(reader, writer, settings.settle_s, folder)
    finally:
        reader.close()
