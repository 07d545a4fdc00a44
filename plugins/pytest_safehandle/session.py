"""The hooks of a session that checks handles.

    HandlesSession    where tests run: marks each test's beginning, judges at
                      its end, fails the phase in which a handle was misused
    summary.Summary   where the terminal is: collects what reports carry

Under pytest-xdist the first lives in the workers and the second in the
controller; otherwise both are here.  What passes between them are attributes
of reports, plain data.

A failure of the check itself must not become a failure of the tests: it is one
warning, and the check stops.

As long as nothing is suspicious, all that runs is here: a few numbers of the
core are compared.  `verdict`, and with it the ledger, is loaded when there is
something to judge.
"""

from __future__ import annotations

import os
import sys
import time
import warnings
from _thread import _count as thread_count
from collections.abc import Callable, Generator, Iterator
from typing import TYPE_CHECKING, Any, Final, TypeVar

import pytest

from pytest_safehandle import HandleCheckWarning
from pytest_safehandle.attribution import Scopes, thread_names
from pytest_safehandle.hooks import HookFailed
from pytest_safehandle.recorder import Recorder, join_session, leave_session, prepare_path
from pytest_safehandle.run import Run
from pytest_safehandle.settings import Settings, read_settings
from pytest_safehandle.summary import SUMMARY, ControllerSummary, Summary
from safehandle_debug import _native
from safehandle_debug._native import newest_serial, open_since, problem_count, set_test
from safehandle_debug.session import SESSION_VARIABLE, SessionError

if TYPE_CHECKING:
    from pytest_safehandle.markers import Marker
    from pytest_safehandle.verdict import Judge, Verdict

__all__ = ["HandlesSession", "running", "start", "start_early"]

T = TypeVar("T")

_RECORDER = pytest.StashKey[Recorder]()
_SESSION = pytest.StashKey["HandlesSession"]()
_NO_THREADS: Final[frozenset[str]] = frozenset()
# The test that runs now: pytester runs a session in the test of another.
_current: list[str | None] = [None]


def start_early(config: pytest.Config) -> None:
    """Starts recording before conftest files are loaded.

    Raises:
        pytest.UsageError: a setting cannot be understood or recorded with.
    """
    options = config.known_args_namespace
    if not _is_controller(config, options):
        recorder = Recorder.start(read_settings(config, options))
        config.stash[_RECORDER] = recorder
        # Whatever may go wrong before the first test: others run in this process.
        config.add_cleanup(recorder.stop)


def start(config: pytest.Config) -> None:
    """Registers the hooks.

    Raises:
        pytest.UsageError: a setting cannot be understood or recorded with.
    """
    settings = read_settings(config, config.option)
    is_controller = _is_controller(config, config.option)
    summary = ControllerSummary(config, settings) if is_controller else Summary(config, settings)
    config.stash[SUMMARY] = summary
    config.pluginmanager.register(summary, "handles-summary")
    if is_controller:
        recorder = config.stash.get(_RECORDER, None)
        if recorder is not None:
            recorder.stop()
        _share_session(config, settings)
        return
    recorder = config.stash.get(_RECORDER, None)
    if recorder is None:
        recorder = Recorder.start(settings)
        config.add_cleanup(recorder.stop)
    summary.level = _native.level()
    session = HandlesSession(config, settings, recorder)
    config.stash[_SESSION] = session
    config.pluginmanager.register(session, "handles-session")
    config.add_cleanup(session.close)


def running(config: pytest.Config) -> HandlesSession | None:
    """The session's check; None when it is off."""
    return config.stash.get(_SESSION, None)


def _is_controller(config: pytest.Config, options: object) -> bool:
    """True in the process of pytest-xdist that runs no tests itself."""
    if hasattr(config, "workerinput") or "PYTEST_XDIST_WORKER" in os.environ:
        return False
    return bool(
        getattr(options, "numprocesses", None)
        or getattr(options, "tx", None)
        or getattr(options, "dist", "no") != "no"
    )


def _share_session(config: pytest.Config, settings: Settings) -> None:
    """Has the workers record into one session folder."""
    if settings.recording is not None:
        prepare_path(settings.recording)
        return
    previous = os.environ.get(SESSION_VARIABLE)
    try:
        session = join_session()
    except SessionError as error:
        raise pytest.UsageError(f"--handles cannot record: {error}") from None
    config.add_cleanup(lambda: leave_session(session, previous))


class HandlesSession:
    """Judges the tests of one process."""

    def __init__(self, config: pytest.Config, settings: Settings, recorder: Recorder) -> None:
        self.settings = settings
        self.recorder = recorder
        self._config = config
        self._scopes = Scopes()
        self._markers: dict[str, Marker] = {}  # by nodeid, of tests that have one
        # Also tests are judged that leave nothing open.
        self._is_strict = settings.abandoned != "ignore" or settings.baseline is not None
        # The test that runs now, or ran last; with a Run as soon as one is needed.
        self._item: pytest.Item | None = None
        self._run: Run | None = None
        self._mark = 0  # newest serial when it began
        self._threads = _NO_THREADS  # names of those that ran before it
        self._is_running = False  # not yet judged, and what events are marked with
        self._outside = _current[0]  # what they are marked with between its tests
        self._in_phase = False  # between the beginning and the end of a phase's hook
        self._judge: Judge | None = None
        self._began_ns = time.time_ns()
        self._first = newest_serial()
        self._configured = self._first
        self._problems = problem_count()
        self._sees_reports = False
        self._broken = False
        self._troubles: list[str] = []

    @property
    def run(self) -> Run | None:
        """The test that runs now."""
        return None if self._item is None else self._made_run()

    @property
    def first(self) -> int:
        """The newest serial when the session began."""
        return self._first

    def counts(self) -> dict[str, int]:
        """How many findings of each kind were told so far."""
        return {} if self._judge is None else dict(self._judge.counts)

    @property
    def judge(self) -> Judge:
        """Who judges; made when first needed."""
        if self._judge is None:
            from pytest_safehandle.verdict import Judge

            self._see_reports()
            folder = str(self._config.invocation_params.dir)
            verbosity = self._config.get_verbosity("handles")
            self._judge = Judge(self.settings, self._scopes, folder, verbosity, self._began_ns)
        return self._judge

    def close(self) -> None:
        """Ends the recording."""
        if self._judge is not None:
            self._judge.reader.close()
        self.recorder.stop()

    def _guard(self, check: Callable[[], T], otherwise: T, *, again: bool = False) -> T:
        """Runs a part of the check; its failure is a warning and ends the check.

        With `again` it is tried again later, so that a failure may be one of
        the moment: a test may have replaced what the check needs.
        """
        if self._broken:
            return otherwise
        try:
            return check()
        except HookFailed as failure:
            raise failure.reason from None
        except Exception as error:
            if not again:
                self._give_up(error)
            return otherwise

    def _give_up(self, error: Exception) -> None:
        self._broken = True
        text = f"handles are not checked any more: {type(error).__name__}: {error}"
        try:
            warnings.warn(HandleCheckWarning(text), stacklevel=2)
        except HandleCheckWarning:
            # Filters say error; the tests are still not to blame.
            self._troubles.append(text)

    # Collection.

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection(self) -> None:
        # What plugins open for the whole session is theirs.
        self._configured = newest_serial()

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        for item in _marked(items):
            from pytest_safehandle.markers import read_marker

            self._markers[item.nodeid] = read_marker(item)
            self._is_strict = True

    # The life of a test.

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_fixture_setup(
        self, fixturedef: pytest.FixtureDef[Any], request: pytest.FixtureRequest
    ) -> Generator[None, object, object]:
        scopes = self._scopes
        scope = scopes.begin(fixturedef, request)
        before = newest_serial()
        threads = thread_names()
        try:
            result = yield
        except BaseException:
            scopes.discard(scope)
            raise
        scope.threads = thread_names() - threads
        scopes.end(scope, before, newest_serial())
        return result

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> Generator[None, object, object]:
        self._begin(item)
        try:
            result = yield
        except BaseException as error:
            self._failed(error)
            raise
        self._in_phase = False
        if problem_count() != self._problems:
            self._fail_misuse(again=True)
        return result

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Generator[None, object, object]:
        if self._item is not item:
            self._begin(item)
        self._in_phase = True
        repeat = self._repeats(item) if self._markers else 0
        try:
            result = yield
            if repeat:
                _repeat(self._made_run(), repeat)
        except BaseException as error:
            self._failed(error)
            raise
        self._in_phase = False
        if item.__dict__.get("_excinfo"):
            # A unittest's: pytest raises it only when it makes the report.
            self._see_reports()
        if problem_count() != self._problems:
            self._fail_misuse(again=True)
        return result

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_teardown(self, item: pytest.Item) -> Generator[None, object, object]:
        if self._item is not item:
            self._begin(item)
        self._in_phase = True
        try:
            result = yield
            self._in_phase = False
            if problem_count() != self._problems:
                self._fail_misuse(again=False)
            mark = self._mark
            if (
                (newest_serial() != mark and open_since(mark))
                or self._is_strict
                or (self._scopes.wider and self._scopes.ended())
            ):
                self._judge_test()
            return result
        except BaseException as error:
            self._failed(error)
            raise
        finally:
            self._end()

    def pytest_exception_interact(self, node: object) -> None:
        # Comes also for a subtest, which fails without an exception in the test.
        if self._item is node:
            self._made_run().failed = True

    def _begin(self, item: pytest.Item) -> None:
        if self._is_running:
            self._end()
        self._is_running = self._in_phase = True
        self._item = item
        self._run = None
        self._mark = newest_serial()
        # Threads are counted by Python for itself, of whatever kind they are.
        self._threads = thread_names() if thread_count() else _NO_THREADS
        _current[0] = name = item.nodeid
        set_test(name)
        if self._is_strict and self.settings.abandoned != "ignore":
            self._made_run().seq = self._guard(lambda: self.judge.reader.newest_seq(), 0)

    def _end(self) -> None:
        self._is_running = False
        if self._scopes.own:
            self._scopes.end_test()
        _current[0] = self._outside
        set_test(self._outside)

    def _made_run(self) -> Run:
        """What is known of the test, for those of which something is to be known."""
        if self._run is None:
            assert self._item is not None
            self._run = Run(self._item, self._mark, self._threads)
        return self._run

    def _repeats(self, item: pytest.Item) -> int:
        """How often the body is to run, 0: as always."""
        marker = self._markers.get(item.nodeid)
        if marker is None or not marker.repeat:
            return 0
        self._made_run().iterations = (newest_serial(),)
        return marker.repeat

    def _failed(self, error: BaseException) -> None:
        self._in_phase = False
        self._see_reports()
        run = self._made_run()
        run.is_complete = False
        unittest = sys.modules.get("unittest")
        skips = (pytest.skip.Exception, *((unittest.SkipTest,) if unittest else ()))
        run.failed |= not isinstance(error, skips)

    def _see_reports(self) -> None:
        """From now on looks at the reports of tests: most sessions never need it."""
        if not self._sees_reports:
            self._sees_reports = True
            self._config.pluginmanager.register(_Reports(self), "handles-reports")

    def see_report(self, item: pytest.Item, report: pytest.TestReport) -> None:
        """Completes a report of a phase."""
        if self._item is not item:
            return
        run = self._made_run()
        if not report.passed:
            run.failed |= report.failed or hasattr(report, "wasxfail")
            run.is_complete = False
        # Within a phase's hook it is a subtest's report.
        if self._in_phase:
            return
        if report.failed:
            self._guard(lambda: self._add_sections(run, report), None)
        if run.found:
            self._attach(run, report)

    # The verdicts.

    def _judge_test(self) -> None:
        run = self._made_run()
        self._act(run, self._guard(lambda: self._verdict(run), None))

    def _act(self, run: Run, verdict: Verdict | None) -> None:
        if verdict is None:
            return
        for warning in verdict.warnings:
            run.item.warn(warning)
        if verdict.error is not None:
            pytest.fail(verdict.error, pytrace=False)

    def _verdict(self, run: Run) -> Verdict | None:
        """What to do at the end of a test; None: nothing."""
        scopes = self._scopes
        marker = self._markers.get(run.item.nodeid)
        ended = scopes.ended()
        own, wider = scopes.suspects(run.mark)
        try:
            if self.settings.baseline is not None:
                self.judge.count(run, ended)
            if not own and not wider and marker is None and self.settings.abandoned == "ignore":
                return None
            from pytest_safehandle.markers import NO_MARKER

            return self.judge.leaks(run, marker or NO_MARKER, own, wider)
        finally:
            for scope in ended:
                scopes.discard(scope)

    def _fail_misuse(self, *, again: bool) -> None:
        run = self._made_run()
        text = self._guard(lambda: self._misuses(run), None, again=again)
        if text is not None:
            pytest.fail(text, pytrace=False)

    def _misuses(self, run: Run) -> str | None:
        """What went wrong since the last question; None: nothing."""
        count = problem_count()
        if count == self._problems:
            return None
        marker = self._markers.get(run.item.nodeid)
        text = self.judge.misuses(run, marker.allow if marker else ())
        self._problems = count
        return text

    def _add_sections(self, run: Run, report: pytest.TestReport) -> None:
        misused = self._misuses(run)
        if misused is not None:
            report.sections.append(("Handles misused", misused))
        if run.judged or run.sectioned:
            return
        if not open_since(run.mark):
            return
        text = self.judge.still_open(run, torn_down=report.when == "teardown")
        if text is not None:
            run.sectioned = True
            report.sections.append(("Handles still open", text))

    def _attach(self, run: Run, report: pytest.TestReport) -> None:
        """Gives the report what the summary needs, as plain data."""
        leaked = sum(one["kind"] == "leak" for one in run.found)
        if leaked:
            report.user_properties.append(("handles_leaked", leaked))
        found, run.found = list(run.found), ()
        vars(report)["handles"] = {"found": found}
        if not hasattr(self._config, "workeroutput"):
            self._config.stash[SUMMARY].found(found)

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        self._item = self._run = None
        told: dict[str, Any] = self._guard(self._finish, {})
        told["notes"] = [*told.get("notes", ()), *self._troubles]
        output = getattr(self._config, "workeroutput", None)
        if output is not None:
            output["handles"] = told
        else:
            self._config.stash[SUMMARY].add(told)
            if session.testsfailed and session.exitstatus == pytest.ExitCode.OK:
                session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def _finish(self) -> dict[str, Any]:
        counted = self.settings.abandoned != "ignore" or (
            self._config.get_verbosity("handles") > 0 and newest_serial() != self._first
        )
        told: dict[str, Any] = {}
        settings = self.settings
        wanted = counted or settings.json is not None or settings.baseline is not None
        if self._judge is not None or wanted or open_since(self._configured):
            late = [] if self._judge is None else self.judge.late()
            told = {**self.judge.finish(self._configured), "late": late}
        lost = self.recorder.fault()
        if lost is not None:
            told["notes"] = [*told.get("notes", ()), lost]
        return told


def _marked(items: list[pytest.Item]) -> Iterator[pytest.Item]:
    """Those that have a handles marker, of their own or of a class or module."""
    parent: object | None = None
    inherited = False
    for item in items:
        if item.parent is not parent:
            parent = item.parent
            inherited = item.parent is not None and (
                item.parent.get_closest_marker("handles") is not None
            )
        own = item.own_markers
        if inherited or (own and any(mark.name == "handles" for mark in own)):
            yield item


def _repeat(run: Run, times: int) -> None:
    """Runs the body until it has run so many times; the first time is over."""
    item = run.item
    run.iterations = (*run.iterations, newest_serial())
    for number in range(2, times + 1):
        if vars(item).get("_excinfo"):
            return  # of a unittest that failed
        try:
            item.runtest()
        except BaseException as error:
            error.add_note(f"when the body ran for the {number}. of {times} times")
            raise
        run.iterations = (*run.iterations, newest_serial())


class _Reports:
    """Shows the reports of tests to the session."""

    def __init__(self, session: HandlesSession) -> None:
        self._session = session

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        report = yield
        self._session.see_report(item, report)
        return report
