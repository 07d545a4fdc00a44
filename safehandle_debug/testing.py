"""Handles in tests without pytest: the verdicts of `pytest --handles`.

    from safehandle_debug.testing import HandlesTestCase, check_handles

    with check_handles():
        ...                      # must close each handle that it opens

    class TestStore(HandlesTestCase, unittest.TestCase):
        ...                      # so must each test

A leak, a reference that was never given back, a handle that was released
twice, owned twice or could not be released: each raises HandleLeakError, a
failure.  A block or test that fails by itself is not judged.

What the verdicts rest on is here too, and the pytest plugin uses it: what is
open (`still_open`, `collect`, `settle`), who can reach it (`reachable`), and
what this process's own recording tells of it (`Reader`).  Nothing is recorded
before the first check, unless SAFEHANDLE_DEBUG says so.
"""

from __future__ import annotations

import _thread
import contextlib
import gc
import json
import os
import sys
import threading
import time
import types
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from safehandle_debug import _native
from safehandle_debug.errors import RecordingError
from safehandle_debug.findings import (
    Finding,
    find,
    findings_of,
    render_finding,
)
from safehandle_debug.ledger import Event, Frame, History, Ledger
from safehandle_debug.recording import open_recording
from safehandle_debug.recording.format import Ending, EventKind

if TYPE_CHECKING:
    import unittest

    _Base = unittest.TestCase
else:
    _Base = object

__all__ = [
    "MOST_WHOLE",
    "HandleLeakError",
    "HandlesTestCase",
    "Misuse",
    "Reader",
    "Site",
    "SiteError",
    "check_handles",
    "collect",
    "reachable",
    "settle",
    "still_open",
]

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
    hold end with it.
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
                check.judge(vars(self).values(), self._wider())

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

    def _wider(self) -> Iterator[_Wider]:
        """What is for more tests than this one."""
        cls = type(self)
        own = [base for base in cls.__mro__ if not base.__module__.startswith("unittest.")][:-1]
        if any("setUpClass" in vars(base) for base in own):
            roots = [value for base in own for value in vars(base).values()]
            yield _Wider(f"{cls.__module__}.{cls.__qualname__}", roots, cls.addClassCleanup)
        module = sys.modules.get(cls.__module__)
        if hasattr(module, "setUpModule"):
            import unittest

            roots = list(vars(module).values())
            yield _Wider(cls.__module__, roots, unittest.addModuleCleanup)


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

    def judge(self, own: Iterable[object] = (), wider: Iterable[_Wider] = ()) -> None:
        """Raises HandleLeakError if anything is wrong.

        Args:
            own: what ends with the test, and the handles that it holds.
            wider: take over the handles that they hold.
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
    from safehandle_debug.activate.session import (
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


# --- sites that may leave handles open ---


class SiteError(ValueError):
    """The text of a site cannot be understood; says what is accepted."""


@dataclass(frozen=True, slots=True)
class Site:
    """Names the handles that some code opened, or those of one class."""

    path: str  # glob, matched from the end of the path; "" when by type
    function: str  # glob, of the function's name or its qualified name
    owner: str | None = None  # class name

    @classmethod
    def parse(cls, text: str) -> Site | None:
        """Reads a site; None when there is nothing but a comment.

        Raises:
            SiteError: it has neither form.
        """
        text = text.partition("#")[0].strip()
        if not text:
            return None
        path, colon, function = text.rpartition(":")
        if not colon or not path or not function:
            raise SiteError(
                f"'{text}' is not a site: use path-glob:function-glob"
                " (app/store.py:open_index) or type:NAME (type:SafeFileHandle)"
            )
        if path == "type":
            return cls("", "", function)
        return cls(path.removeprefix("./"), function)

    def covers(self, history: History) -> bool:
        """True when the handle was opened through this site."""
        if self.owner is not None:
            return history.owner == self.owner
        return any(self._is_at(frame) for frame in history.opened)

    def _is_at(self, frame: Frame) -> bool:
        file = frame.file.replace(os.sep, "/")
        if not fnmatchcase(file, self.path) and not fnmatchcase(file, f"*/{self.path}"):
            return False
        name = frame.function
        return fnmatchcase(name, self.function) or fnmatchcase(
            name.rpartition(".")[2], self.function
        )


# --- is it really left open, or only not collected yet? ---

_FIRST_PAUSE_S = 0.0005


def still_open(serials: Collection[int]) -> set[int]:
    """Those of `serials` that are open now."""
    if not serials:
        return set()
    return set(serials).intersection(_native.open_since(min(serials) - 1))


def collect(
    serials: Collection[int], *, before_full: Callable[[set[int]], set[int]] | None = None
) -> set[int]:
    """Those still open after collecting garbage, generation by generation.

    Args:
        serials: handles that may be garbage.
        before_full: takes the handles that two young collections have left,
            returns those for which a full collection is worth its cost.
    """
    left = still_open(serials)
    for generation in (0, 1, 2):
        if left and generation == 2 and before_full is not None:
            left = before_full(left)
        if not left:
            break
        gc.collect(generation)
        left = still_open(left)
    return left


def settle(serials: Collection[int], longest_s: float) -> set[int]:
    """Those still open after other threads have had `longest_s` to close them."""
    left = still_open(serials)
    pause = _FIRST_PAUSE_S
    # The pauses are added up: tests may have stopped the clock.
    remaining = longest_s
    while left and remaining > 0 and _thread._count() > 0:
        pause = min(pause, remaining)
        time.sleep(pause)
        remaining -= pause
        pause *= 2
        left = still_open(left)
    return left


# --- what can be reached from some objects ---
#
# A walk forward costs 1 µs an object, whatever else is on the heap; a search
# backward, from the handle to its holders, would cost with the size of the
# heap.  The walk never runs code of the objects that it meets, and does not
# enter what leads from anything to everything: modules, classes, globals of
# functions, and the objects of what runs the tests.

MOST_OBJECTS: Final = 500_000

_HANDLES: Final = (_native.SafeHandle, _native.CriticalHandle)
# The core's own descriptors: a subclass may define the name anew.
_VALUE: Final[dict[type, Any]] = {
    base: next(vars(cls)["handle"] for cls in base.__mro__ if "handle" in vars(cls))
    for base in _HANDLES
}
_LEAVES: Final = frozenset(
    {
        type(None),
        bool,
        int,
        float,
        complex,
        str,
        bytes,
        bytearray,
        range,
        types.BuiltinFunctionType,
        types.CodeType,
        types.ModuleType,
    }
)
_STOPS: Final = ("unittest.", "_pytest.", "pluggy.", "pytest_safehandle.", "xdist.", "execnet.")
# A metaclass may define these names anew: the walk must not run its code.
_module_of: Final = type.__dict__["__module__"].__get__


def reachable(
    roots: Iterable[object],
    suspects: Collection[History],
    *,
    most: int = MOST_OBJECTS,
    otherwise: bool = True,
) -> set[int]:
    """The serials of those suspects that can be reached from `roots`.

    A walk that has met `most` objects without an end stops; the suspects that
    it has not met then count as reached, or `otherwise` as not reached.
    """
    wanted: dict[tuple[str, int], list[int]] = {}
    for history in suspects:
        wanted.setdefault((history.owner, history.value), []).append(history.serial)
    found: set[int] = set()
    seen: dict[int, object] = {}  # keeps them alive, so that an id names one object
    layer: list[object] = list(roots)
    while layer and wanted:
        follow: list[object] = []
        for thing in layer:
            kind = type(thing)
            if kind in _LEAVES or id(thing) in seen:
                continue
            seen[id(thing)] = thing
            if issubclass(kind, _HANDLES):
                found.update(wanted.pop(_key(thing), ()))
            if not issubclass(kind, type) and not str(_module_of(kind)).startswith(_STOPS):
                follow.append(thing)
        if len(seen) > most:
            return {history.serial for history in suspects} if otherwise else found
        layer = _referents(follow)
    return found


def _key(handle: object) -> tuple[str, int]:
    """What a suspect is known by: no two open handles of a class share a value."""
    base = next(base for base in _HANDLES if issubclass(type(handle), base))
    return type(handle).__name__, _VALUE[base].__get__(handle)


def _referents(things: list[object]) -> list[object]:
    functions: list[Any] = [thing for thing in things if type(thing) is types.FunctionType]
    others = [thing for thing in things if type(thing) is not types.FunctionType]
    referents = gc.get_referents(*others)
    for function in functions:
        module = (id(function.__globals__), id(function.__builtins__))
        referents.extend(r for r in gc.get_referents(function) if id(r) not in module)
    return referents


# --- what the recording tells ---

MOST_WHOLE: Final = 100

_PROBLEMS: Final = frozenset(
    {
        EventKind.DISPOSE,  # by a finalizer, with references out
        EventKind.DOUBLE_OWNER,
        EventKind.DOUBLE_RELEASE,
        EventKind.RELEASE_FAILED,
        EventKind.SET_VALUE,
    }
)
# Which event proves a finding.
_PROOF: Final = {
    "double-owner": "double-owner",
    "double-release": "double-release",
    "leak": "set-value",
    "release-failed": "release-failed",
    "unbalanced": "dispose",
}


@dataclass(frozen=True, slots=True)
class Misuse:
    """A finding that one event proves, and that event."""

    finding: Finding
    act: Event


class Reader:
    """Reads the recording of the process that it is called in.

    A forked child that goes on running tests thereby reads its own.

    Args:
        folder: absolute path that shown paths are relative to.
        since_ns: misuse before this time, in ns since 1970, is not told.
    """

    def __init__(self, folder: str, since_ns: int) -> None:
        self._folder = folder
        self._since_ns = since_ns
        self._ledger: Ledger | None = None
        self._read_to = 0  # seq: misuses up to here have been told

    def close(self) -> None:
        """Closes the recording; the next question opens it again."""
        if self._ledger is not None:
            self._ledger.close()
            self._ledger = None

    def ledger(self) -> Ledger | None:
        """What was recorded up to now; None when recording has stopped.

        Raises:
            RecordingError: the recording cannot be read.
        """
        path = _native.recording_path()
        if path is None:
            return None
        ledger = self._ledger
        if ledger is None or ledger.recording.path != Path(path):
            self.close()
            ledger = self._ledger = Ledger(open_recording(path))
        ledger.refresh()
        return ledger

    def histories(self, serials: Collection[int]) -> list[History]:
        """The recorded histories of some handles, oldest first.

        Beyond the first MOST_WHOLE only of those that are open, without events.
        """
        ledger = self.ledger() if serials else None
        if ledger is None:
            return []
        ordered = sorted(serials)
        found = [ledger.history(serial) for serial in ordered[:MOST_WHOLE]]
        rest = set(ordered[MOST_WHOLE:])
        if rest:
            found += [history for history in ledger.open() if history.serial in rest]
        return [history for history in found if history is not None]

    def opened_since(self, mark: int, kind: str | None = None) -> list[History]:
        """The handles opened after serial `mark`, oldest first; with `kind`
        those of one kind.  Borrowed ones were not opened."""
        ledger = self.ledger()
        if ledger is None:
            return []
        found = [
            history
            for history in ledger.histories()
            if history.serial > mark
            and not history.borrowed
            and not history.inherited
            and kind in (None, history.kind)
        ]
        if len(found) <= MOST_WHOLE:
            return self.histories([history.serial for history in found])
        return sorted(found, key=lambda history: history.serial)

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
        ledger = self.ledger()
        if ledger is None or ledger.counts.abandoned == 0:
            return []
        return [finding for finding in find(ledger) if finding.kind == "abandoned"]

    def skip_misuses(self) -> None:
        """Does not tell what went wrong up to now."""
        self._read_to = self.newest_seq()

    def new_misuses(self) -> list[Misuse]:
        """What went wrong since the last call, in order."""
        ledger = self.ledger()
        if ledger is None:
            return []
        since = newest = self._read_to
        serials: set[int] = set()
        for raw in ledger.recording.events(after=since):
            newest = max(newest, raw.seq)
            if raw.kind in _PROBLEMS:
                serials.add(raw.serial)
        found: list[Misuse] = []
        for history in self.histories(serials):
            for finding in findings_of(history, over=False, cwd=self._folder):
                proof = _proof(finding)
                if proof is not None and proof.seq > since and proof.at_ns >= self._since_ns:
                    found.append(Misuse(self._with_victim(finding, proof), proof))
        self._read_to = newest
        return sorted(found, key=lambda misuse: misuse.act.seq)

    def _with_victim(self, finding: Finding, proof: Event) -> Finding:
        if finding.kind != "double-owner" or finding.victim is not None:
            return finding
        other = next(iter(self.histories([proof.value])), None)
        return replace(finding, victim=other)


def _proof(finding: Finding) -> Event | None:
    """The wrong act; None when the finding is not of an act."""
    kind = _PROOF.get(finding.kind)
    acts = [event for event in finding.events if event.kind == kind]
    if not acts:
        return None
    # Once the count is broken, the next release too many is its consequence.
    return acts[0] if finding.kind == "double-release" else acts[-1]
