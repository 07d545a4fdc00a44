"""The hooks of a session that checks handles.

    HandlesSession    where tests run: marks each test's beginning, judges at
                      its end, fails the phase in which a handle was misused
    summary.Summary   where the terminal is: collects what reports carry

Under pytest-xdist the first lives in the workers and the second in the
controller; otherwise both are here.  What passes between them are attributes
of reports, plain data.

A failure of the check itself must not become a failure of the tests: it is one
warning, and the check stops.
"""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Callable, Generator
from typing import Any, TypeVar

import pytest

from pytest_safehandle import HandleCheckWarning
from pytest_safehandle.attribution import thread_names
from pytest_safehandle.recorder import Recorder, join_session, leave_session, prepare_path
from pytest_safehandle.report import Writer
from pytest_safehandle.settings import NO_MARKER, Settings, read_marker, read_settings
from pytest_safehandle.summary import SUMMARY, Summary
from pytest_safehandle.verdict import NOTHING_WRONG, HookFailed, Judge, Run
from safehandle_debug import _native
from safehandle_debug.activate.session import SESSION_VARIABLE, SessionError

__all__ = ["HandlesSession", "running", "start", "start_early"]

T = TypeVar("T")

_RECORDER = pytest.StashKey[Recorder]()
_SESSION = pytest.StashKey["HandlesSession"]()
# Names of the tests that run now, one in another: pytester runs pytest in a test.
_marked: list[str] = []


def start_early(config: pytest.Config) -> None:
    """Starts recording before conftest files are loaded.

    Raises:
        pytest.UsageError: a setting cannot be understood or recorded with.
    """
    options = config.known_args_namespace
    if not _is_controller(config, options):
        config.stash[_RECORDER] = Recorder.start(read_settings(config, options))


def start(config: pytest.Config) -> None:
    """Registers the hooks.

    Raises:
        pytest.UsageError: a setting cannot be understood or recorded with.
    """
    settings = read_settings(config, config.option)
    config.stash[SUMMARY] = summary = Summary(config, settings)
    config.pluginmanager.register(summary, "handles-summary")
    if _is_controller(config, config.option):
        recorder = config.stash.get(_RECORDER, None)
        if recorder is not None:
            recorder.stop()
        _share_session(config, settings)
        return
    recorder = config.stash.get(_RECORDER, None)
    if recorder is None:
        recorder = Recorder.start(settings)
    session = HandlesSession(config, settings, recorder)
    config.stash[_SESSION] = session
    config.pluginmanager.register(session, "handles-session")
    config.add_cleanup(recorder.stop)


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
        self.config = config
        self.settings = settings
        self.recorder = recorder
        folder = str(config.invocation_params.dir)
        self.writer = Writer(folder, config.get_verbosity("handles"), time.time_ns)
        self.judge = Judge(settings, recorder, self.writer)
        self._run: Run | None = None
        self._broken = False
        self._troubles: list[str] = []

    @property
    def run(self) -> Run | None:
        """The test that runs now."""
        return self._run

    def _guard(self, check: Callable[[], T], otherwise: T) -> T:
        """Runs a part of the check; its failure is a warning and ends the check."""
        if self._broken:
            return otherwise
        try:
            return check()
        except HookFailed as failure:
            raise failure.reason from None
        except Exception as error:
            self._broken = True
            text = f"handles are not checked any more: {type(error).__name__}: {error}"
            try:
                warnings.warn(HandleCheckWarning(text), stacklevel=2)
            except HandleCheckWarning:
                # Filters say error; the tests are still not to blame.
                self._troubles.append(text)
            return otherwise

    # Collection.

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        for item in items:
            marker = read_marker(item)
            if marker is not NO_MARKER:
                self.judge.markers[item.nodeid] = marker

    # The life of a test.

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_fixture_setup(
        self, fixturedef: pytest.FixtureDef[Any], request: pytest.FixtureRequest
    ) -> Generator[None, object, object]:
        scopes = self.judge.scopes
        scope = scopes.begin(fixturedef, request)
        before = _native.newest_serial()
        threads = thread_names()
        try:
            result = yield
        except BaseException:
            scopes.discard(scope)
            raise
        scope.threads |= thread_names() - threads
        scopes.end(scope, before, _native.newest_serial())
        return result

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> Generator[None, object, object]:
        run = self._begin(item)
        try:
            result = yield
        finally:
            run.in_phase = False
        self._fail_misuse(run)
        return result

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Generator[None, object, object]:
        run = self._run_of(item)
        run.in_phase = True
        try:
            result = yield
        finally:
            run.in_phase = False
        self._fail_misuse(run)
        return result

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_teardown(self, item: pytest.Item) -> Generator[None, object, object]:
        run = self._run_of(item)
        run.in_phase = True
        try:
            result = yield
        except BaseException:
            run.failed = True
            raise
        finally:
            run.in_phase = False
        self._fail_misuse(run)
        verdict = self._guard(lambda: self.judge.leaks(run), NOTHING_WRONG)
        for warning in verdict.warnings:
            item.warn(warning)
        if verdict.error is not None:
            pytest.fail(verdict.error, pytrace=False)
        return result

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        report = yield
        run = self._run
        if run is None or run.item is not item:
            return report
        expected_failure = report.skipped and hasattr(report, "wasxfail")
        run.failed |= report.failed or expected_failure
        # Within a phase's hook it is a subtest's report.
        if run.in_phase:
            return report
        if report.failed:
            self._guard(lambda: self._add_sections(run, report), None)
        if run.found:
            self._attach(run, report)
        if call.when == "teardown":
            self._end(run)
        return report

    def _run_of(self, item: pytest.Item) -> Run:
        run = self._run
        return run if run is not None and run.item is item else self._begin(item)

    def _begin(self, item: pytest.Item) -> Run:
        if self._run is not None:
            self._end(self._run)
        self._run = run = Run(item, _native.newest_serial(), thread_names(), in_phase=True)
        _marked.append(item.nodeid)
        _native.set_test(item.nodeid)
        self._guard(lambda: self.judge.begin(run), None)
        return run

    def _end(self, run: Run) -> None:
        self._run = None
        self.judge.end(run)
        _marked.pop()
        _native.set_test(_marked[-1] if _marked else None)

    def _fail_misuse(self, run: Run) -> None:
        text = self._guard(lambda: self.judge.misuses(run), None)
        if text is not None:
            pytest.fail(text, pytrace=False)

    def _add_sections(self, run: Run, report: pytest.TestReport) -> None:
        misused = self.judge.misuses(run)
        if misused is not None:
            report.sections.append(("Handles misused", misused))
        if run.judged or run.sectioned:
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
        vars(report)["handles"] = {"found": run.found}
        run.found = []

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self) -> None:
        told: dict[str, Any] = self._guard(self.judge.finish, {})
        told["notes"] = [*told.get("notes", ()), *self._troubles]
        output = getattr(self.config, "workeroutput", None)
        if output is not None:
            output["handles"] = told
        else:
            self.config.stash[SUMMARY].add(told)
