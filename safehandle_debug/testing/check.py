"""The verdict on a block or a unittest test."""

from __future__ import annotations

import _thread
import contextlib
import json
import os
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final

from safehandle_debug import _native
from safehandle_debug.errors import RecordingError
from safehandle_debug.findings import Finding, findings_of, render_finding
from safehandle_debug.ledger import History
from safehandle_debug.testing.reach import reachable
from safehandle_debug.testing.reader import Reader
from safehandle_debug.testing.settling import collect, in_use, settle
from safehandle_debug.testing.site import Site

if TYPE_CHECKING:
    import unittest

    _Base = unittest.TestCase
else:
    _Base = object

SETTLE_S: Final = 0.1  # longest wait for other threads


class HandleLeakError(AssertionError):
    """Handles are open, or were released wrongly."""


@contextlib.contextmanager
def check_handles(
    *, allow: str | Iterable[str] = (), settle_s: float = SETTLE_S
) -> Iterator[None]:
    """A block that must close every handle that it opens, and release each once.

    Args:
        allow: sites whose handles may stay open, path-glob:function-glob of a
            frame that opened it, or type:NAME.
        settle_s: longest time that other threads have to close theirs.

    Raises:
        HandleLeakError: a handle is open at its end, or was misused in it.
        RecordingError: handles cannot be recorded.
        ValueError: a site cannot be understood.
    """
    check = _Check(allow, settle_s)
    try:
        yield
        check.judge()
    finally:
        check.close()


class HandlesTestCase(_Base):
    """Put before unittest.TestCase among the bases: each test is checked.

    What setUpClass and setUpModule open is no test's.  What a test leaves with
    a class that has a setUpClass, or with a module that has a setUpModule, is
    judged when that has been torn down.  Handles that the test's own attributes
    hold end with it.  What a thread has opened that goes on working is judged
    at the end of the class.
    """

    handles_allow: str | Sequence[str] = ()  # as check_handles() takes it
    handles_settle_s: float = SETTLE_S

    def run(self, result: unittest.TestResult | None = None) -> unittest.TestResult | None:
        """Runs the test and judges it when its clean-up is over."""
        if result is None:
            result = self.defaultTestResult()
            result.startTestRun()
            try:
                return self._run_checked(result)
            finally:
                result.stopTestRun()
        return self._run_checked(result)

    def _run_checked(self, result: unittest.TestResult) -> unittest.TestResult | None:
        check = _Check(self.handles_allow, self.handles_settle_s)
        state = _Outcomes(result, self)

        def judge() -> None:
            if not state.has_failed():
                check.judge(vars(self).values(), self._wider(), self._class())

        is_async = "unittest.async_case" in sys.modules and isinstance(
            self, sys.modules["unittest.async_case"].IsolatedAsyncioTestCase
        )
        try:
            if not is_async:
                # Cleanups run last in, first out: this one after all others.
                self.addCleanup(judge)
                return super().run(result)
            # Pending tasks hold handles until the test's loop is closed.
            done = super().run(result)
            try:
                judge()
            except HandleLeakError as error:
                raised: Any = (HandleLeakError, error, error.__traceback__)
                result.addFailure(self, raised)
            return done
        finally:
            check.close()

    def _class(self) -> _Wider:
        cls = type(self)
        roots = [value for base in _own_bases(cls) for value in vars(base).values()]
        return _Wider(f"{cls.__module__}.{cls.__qualname__}", roots, cls.addClassCleanup)

    def _wider(self) -> Iterator[_Wider]:
        """What is for more tests than this one."""
        cls = type(self)
        if any("setUpClass" in vars(base) for base in _own_bases(cls)):
            yield self._class()
        module = sys.modules.get(cls.__module__)
        if hasattr(module, "setUpModule"):
            import unittest

            roots = list(vars(module).values())
            yield _Wider(cls.__module__, roots, unittest.addModuleCleanup)


def _own_bases(cls: type) -> list[type]:
    return [base for base in cls.__mro__ if not base.__module__.startswith("unittest.")][:-1]


class _Wider:
    """A class or module whose set-up is for all its tests."""

    def __init__(
        self, name: str, roots: list[object], at_end: Callable[[Callable[[], None]], object]
    ) -> None:
        self.name = name
        self.roots = roots  # what it keeps alive
        self.at_end = at_end  # has something called when it was torn down


# Handles that a class or module has taken over, by its name.
_taken_over: dict[str, set[int]] = {}


class _Outcomes:
    """Whether a test has failed, read off the result that it reports to."""

    def __init__(self, result: object, test: object) -> None:
        self._result = result
        self._test = test
        self._before = self._count()

    def _count(self) -> int:
        # The last is where pytest's own result of a unittest keeps failures.
        kept = (getattr(self._result, name, None) for name in ("failures", "errors", "_excinfo"))
        return sum(len(each) for each in kept if each)

    def has_failed(self) -> bool:
        # A failure that is expected is told after the cleanups only.
        outcome = getattr(self._test, "_outcome", None)
        expected = getattr(outcome, "expectedFailure", None)
        return self._count() != self._before or expected is not None


class _Check:
    """What happened to handles since it was made."""

    def __init__(self, allow: str | Iterable[str], settle_s: float) -> None:
        texts = (allow,) if isinstance(allow, str) else tuple(allow)
        parsed = [Site.parse(text) for text in texts]
        self._allowed = [site for site in parsed if site is not None]
        self._settle_s = settle_s
        _record()
        try:
            self._folder = os.getcwd()
        except OSError:
            self._folder = ""  # it was deleted
        self._reader = Reader(self._folder, 0)
        if _native.problem_count():
            self._reader.skip_misuses()
        self._threads = _other_threads()
        self._mark = _native.newest_serial()
        self._problems = _native.problem_count()

    def close(self) -> None:
        self._reader.close()

    def judge(
        self,
        own: Iterable[object] = (),
        wider: Iterable[_Wider] = (),
        last: _Wider | None = None,
    ) -> None:
        """Raises HandleLeakError if anything is wrong.

        Args:
            own: what ends with the test, and the handles that it holds.
            wider: take over the handles that they hold.
            last: takes over what other threads are not done with.
        """
        found = self._misuses()
        left = self._left_open(set(_native.open_since(self._mark)))
        if left:
            held = reachable(own, left, otherwise=False)
            left = [history for history in left if history.serial not in held]
        for each in wider:
            if not left:
                break
            held = reachable(each.roots, left)
            left = [history for history in left if history.serial not in held]
            self._give(each, held)
        if left and last is not None:
            later = in_use(left)
            left = [history for history in left if history.serial not in later]
            self._give(last, later)
        found += self._findings(left)
        if found:
            raise HandleLeakError(_said(found))

    def _give(self, wider: _Wider, serials: set[int]) -> None:
        if not serials:
            return
        if wider.name not in _taken_over:
            _taken_over[wider.name] = set()
            wider.at_end(lambda: self._judge_taken_over(wider.name))
        _taken_over[wider.name] |= serials

    def _judge_taken_over(self, name: str) -> None:
        try:
            found = self._findings(self._left_open(_taken_over.pop(name)))
        finally:
            self.close()
        if found:
            raise HandleLeakError(_said(found))

    def _misuses(self) -> list[Finding]:
        if _native.problem_count() == self._problems:
            return []
        return [misuse.finding for misuse in self._reader.new_misuses()]

    def _left_open(self, serials: set[int]) -> list[History]:
        """Those that are really open, and not allowed to be."""
        if not serials:
            return []
        left = settle(collect(serials), self._settle_s)
        return [
            history
            for history in self._reader.histories(left)
            if history.thread not in self._threads
            and not any(site.covers(history) for site in self._allowed)
        ]

    def _findings(self, histories: Iterable[History]) -> list[Finding]:
        return [
            finding
            for history in histories
            for finding in findings_of(history, over=True, cwd=self._folder)
            if finding.kind in _OPEN
        ]


def _other_threads() -> frozenset[str]:
    """Names of threads that work for more than what is checked."""
    if not _thread._count():
        return frozenset()
    here = threading.get_ident()
    return frozenset(each.name for each in threading.enumerate() if each.ident != here)


_OPEN: Final = ("leak", "unbalanced")
_MOST_TOLD: Final = 20


def _said(found: Sequence[Finding]) -> str:
    """How many and what in the first line; then each, the first one whole."""
    more = f" and {len(found) - 1} more" if len(found) > 1 else ""
    _, _, report = render_finding(found[0]).partition("\n")  # the first line is said already
    lines = [f"{found[0].kind}: {found[0].message}{more}", "", report]
    others = [f"{finding.kind}: {finding.message}" for finding in found[1:_MOST_TOLD]]
    if len(found) > _MOST_TOLD:
        others.append(f"... and {len(found) - _MOST_TOLD} more")
    return "\n".join([*lines, *([""] if others else []), *others])


def _record() -> None:
    """Starts recording, unless something has: to the process's end, as each
    beginning is a folder of its own.

    Raises RecordingError when nothing can be recorded."""
    if _native.recording_path() is not None:
        return
    from safehandle_debug.activate.prune import prune
    from safehandle_debug.session import (
        SessionError,
        create_session,
        new_recording_path,
        start_ticks,
    )

    try:
        session = create_session()
        prune(os.path.dirname(session))
        path = new_recording_path(session, os.getpid(), start_ticks(os.getpid()) or 0)
        _native.start_recording(path, meta=_meta(session))
    except (SessionError, OSError, ValueError, RuntimeError) as error:
        raise RecordingError(f"handles cannot be checked: {error}") from None


def _meta(session: str) -> str:
    try:
        cwd = os.getcwd()
    except OSError:
        cwd = ""  # it was deleted
    fields = {
        "argv": sys.orig_argv,
        "executable": sys.executable or "",
        "cwd": cwd,
        "python": ".".join(str(part) for part in sys.version_info[:3]),
        "session": session,
        "suppressions": None,
    }
    return json.dumps(fields)
