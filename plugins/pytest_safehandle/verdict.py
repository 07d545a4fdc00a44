"""The verdict on a test: which handles it leaked, misused or left to finalizers.

The core says what is open and how often something went wrong; only when that
is suspicious is the recording read, garbage collected, other threads waited
for.  A handle whose history is not known is not judged.
"""

from __future__ import annotations

import os
import time
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import pytest

from pytest_safehandle import HandleLeakWarning, HandleMisuseWarning
from pytest_safehandle.attribution import Scope, Scopes, drop_finished_funcargs
from pytest_safehandle.reach import reachable
from pytest_safehandle.recorder import Recorder
from pytest_safehandle.report import Leak, Writer
from pytest_safehandle.settings import NO_MARKER, Marker, Settings
from pytest_safehandle.sites import Site
from pytest_safehandle.suspicion import collect, settle, still_open
from safehandle_debug import _native
from safehandle_debug.findings import Finding, findings_of
from safehandle_debug.ledger import History
from safehandle_debug.recording.format import Flag

__all__ = ["NOTHING_WRONG", "HookFailed", "Judge", "Run", "Verdict"]

_OPEN: Final = ("leak", "unbalanced")
_HOLDER_OBJECTS: Final = 20_000
_HOLDER_S: Final = 0.2


class HookFailed(Exception):
    """A hook of somebody else raised; not our failure."""

    def __init__(self, reason: Exception) -> None:
        super().__init__(str(reason))
        self.reason = reason


@dataclass(slots=True, eq=False)
class Run:
    """One run of one test, from set-up to teardown."""

    item: pytest.Item
    mark: int  # newest serial when it began
    threads: frozenset[str]  # names of those that ran before it
    seq: int = 0  # newest event when it began; only kept to find abandoned ones
    in_phase: bool = False  # between the beginning and the end of a phase's hook
    failed: bool = False
    judged: bool = False  # its leaks are in the teardown's message
    sectioned: bool = False  # its open handles are in a section
    allow: Sequence[Site] = ()  # sites allowed by the fixture
    found: list[dict[str, Any]] = field(default_factory=list)  # since the last report


@dataclass(frozen=True, slots=True)
class Verdict:
    """What to do at the end of a test: warn, fail, both or neither."""

    error: str | None = None
    warnings: tuple[pytest.PytestWarning, ...] = ()


NOTHING_WRONG: Final = Verdict()


class Judge:
    """Knows the fixtures in use and the marks of tests; finds who is to blame."""

    def __init__(self, settings: Settings, recorder: Recorder, writer: Writer) -> None:
        self.settings = settings
        self.recorder = recorder
        self.writer = writer
        self.scopes = Scopes()
        self.markers: dict[str, Marker] = {}  # by nodeid, of those that have one
        self.notes: list[str] = []  # for the end of the session
        self._background: set[int] = set()  # opened by threads of nobody known
        self._unjudged: set[int] = set()  # of fixtures that ended in a failed test

    # Misuse.

    def misuses(self, run: Run) -> str | None:
        """What went wrong in the phase that just ended; None: nothing."""
        blamed: list[Finding] = []
        for finding in self.recorder.new_problems():
            if self._is_late(run, finding):
                line = self.writer.misuse_line(finding)
                self.notes.append(f"{line}, finalized after {finding.handle.test}")
            else:
                blamed.append(finding)
        if not blamed:
            return None
        for finding in blamed:
            self._note(run, finding, self.writer.misuse_line(finding))
        return self.writer.misuses(blamed)

    def _is_late(self, run: Run, finding: Finding) -> bool:
        """True when a finalizer ran now by chance: an earlier test's handle."""
        if finding.handle.serial > run.mark or self.scopes.find(finding.handle.serial):
            return False
        return bool(finding.events[-1].flags & Flag.FINALIZER)

    # Leaks.

    def leaks(self, run: Run) -> Verdict:
        """Judges a test that has been torn down, and fixtures that ended with it."""
        ended = self.scopes.ended()
        marker = self._marker(run)
        idle = _native.newest_serial() == run.mark and marker.expect is None
        if idle and not ended:
            return NOTHING_WRONG
        own, wider = self._suspects(run, ended)
        try:
            if run.failed:
                self._unjudged |= wider
                return NOTHING_WRONG
            on_leak = marker.on_leak or self.settings.on_leak
            if on_leak == "off":
                own = set()
            return self._judge(run, marker, on_leak, own, wider)
        finally:
            for scope in ended:
                self.scopes.discard(scope)

    def _suspects(self, run: Run, ended: Collection[Scope]) -> tuple[set[int], set[int]]:
        """Open handles of the test and its own fixtures; of wider ones that ended."""
        own: set[int] = set()
        wider: set[int] = set()
        low = min([run.mark, *(scope.lowest for scope in ended)])
        for serial in _native.open_since(low):
            scope = self.scopes.find(serial)
            if scope is not None and scope.is_wider:
                if scope.is_over:
                    wider.add(serial)
            elif serial > run.mark:
                own.add(serial)
        return own, wider

    def _judge(
        self, run: Run, marker: Marker, on_leak: str, own: set[int], wider: set[int]
    ) -> Verdict:
        left = own | wider
        if left:
            drop_finished_funcargs(run.item)
            left = collect(left, before_full=lambda left: self._not_elsewhere(run, left))
            left = settle(left, self.settings.settle_s)
        leaks = self._confirmed(run, left)
        of_test = [leak for leak in leaks if leak.handle.serial in own]
        of_fixtures = [leak for leak in leaks if leak.handle.serial not in own]
        errors: list[str] = []
        warned: list[pytest.PytestWarning] = []

        def tell(leaks: Sequence[Leak], on_leak: str) -> None:
            for leak in leaks:
                self._note(run, leak.finding, self.writer.short(leak.handle), leak.fixture)
            text = self.writer.leaks(leaks)
            if on_leak == "error":
                errors.append(text)
            else:
                warned.append(HandleLeakWarning(text))

        if marker.expect is not None:
            if len(of_test) != marker.expect:
                errors.append(self._unexpected(marker.expect, of_test))
        elif of_test:
            tell(of_test, on_leak)
        if of_fixtures:
            tell(of_fixtures, self.settings.on_leak)
        abandoned = self._abandoned(run)
        if abandoned:
            text = self.writer.abandoned(abandoned)
            if self.settings.abandoned == "error":
                errors.append(text)
            else:
                warned.append(HandleMisuseWarning(text))
        run.judged = bool(errors)
        return Verdict("\n\n".join(errors) or None, tuple(warned))

    def _not_elsewhere(self, run: Run, serials: set[int]) -> set[int]:
        """Those that are findings, and that no wider fixture has taken over."""
        histories = [h for h in self.recorder.histories(serials) if self._is_finding(run, h)]
        left: list[History] = []
        for history in histories:
            if not self._is_of_older_thread(run, history):
                left.append(history)
        for scope in self.scopes.in_use():
            if not left:
                break
            held = reachable(scope.roots(), left)
            scope.adopted |= held
            left = [history for history in left if history.serial not in held]
        return {history.serial for history in left}

    def _is_finding(self, run: Run, history: History) -> bool:
        allowed = (*self.settings.allow, *self._marker(run).allow, *run.allow)
        return _open_finding(history) is not None and not any(
            site.covers(history) for site in allowed
        )

    def _marker(self, run: Run) -> Marker:
        return self.markers.get(run.item.nodeid, NO_MARKER)

    def _is_of_older_thread(self, run: Run, history: History) -> bool:
        """True when a thread opened it that does not work for the test alone.

        It is then given to the fixture that started the thread, if one did."""
        for scope in self.scopes.in_use():
            if history.thread in scope.threads:
                scope.adopted.add(history.serial)
                return True
        if history.thread not in run.threads:
            return False
        self._background.add(history.serial)
        return True

    def _confirmed(self, run: Run, serials: set[int]) -> list[Leak]:
        leaks: list[Leak] = []
        for history in self.recorder.histories(serials):
            finding = _open_finding(history)
            if finding is None or self._is_expected(run, history):
                continue
            scope = self.scopes.find(history.serial)
            fixture = None if scope is None else f"'{scope.name}' ({scope.scope})"
            during = None if history.test == run.item.nodeid else history.test
            leaks.append(Leak(finding, fixture, during, _holder(run.item, history)))
        if leaks:
            records = [leak.handle for leak in leaks]
            _call(run.item.ihook.pytest_handles_leaked, item=run.item, records=records)
        return leaks

    def _is_expected(self, run: Run, history: History) -> bool:
        hook = run.item.ihook.pytest_handles_is_expected
        return bool(_call(hook, item=run.item, record=history))

    def _unexpected(self, expected: int, leaks: Sequence[Leak]) -> str:
        if not leaks:
            return (
                f"expected to leak {expected}, leaked none:"
                " remove expect from the test's handles marker"
            )
        return f"expected to leak {expected}, leaked {len(leaks)}\n\n{self.writer.leaks(leaks)}"

    # Handles that their finalizer closed.

    def begin(self, run: Run) -> None:
        """Notes where a test begins."""
        if self.settings.abandoned != "ignore":
            run.seq = self.recorder.newest_seq()

    def _abandoned(self, run: Run) -> list[History]:
        if self.settings.abandoned == "ignore":
            return []
        return [
            history
            for history in self.recorder.finalized_since(run.seq)
            if history.serial > run.mark
            and any(f.kind == "abandoned" for f in findings_of(history, over=True))
            and not any(site.covers(history) for site in self.settings.allow)
        ]

    # Tests that failed for their own reason.

    def still_open(self, run: Run, *, torn_down: bool) -> str | None:
        """The handles that a failed test holds, without a verdict; None: none.

        Before teardown those of fixtures are not meant.
        """
        serials: set[int] = set()
        for serial in _native.open_since(run.mark):
            scope = self.scopes.find(serial)
            if scope is None or (torn_down and (scope.is_over or not scope.is_wider)):
                serials.add(serial)
        histories = [h for h in self.recorder.histories(serials) if self._is_finding(run, h)]
        in_use = [*self.scopes.in_use(), *(() if torn_down else self.scopes.own())]
        held = reachable((root for scope in in_use for root in scope.roots()), histories)
        started = {name for scope in in_use for name in scope.threads}
        others = run.threads | started
        histories = [h for h in histories if h.serial not in held and h.thread not in others]
        return self.writer.still_open(histories) if histories else None

    # The end.

    def end(self, run: Run) -> None:
        """The test is over and reported."""
        self.scopes.end_test()

    def finish(self) -> dict[str, Any]:
        """Plain data for the summary: notes, and abandoned handles in groups."""
        notes = list(self.notes)
        left = still_open(self._unjudged)
        for history in self.recorder.histories(collect(left)):
            notes.append(f"not judged, as a test failed: {self.writer.listed(history)}")
        for history in self.recorder.histories(still_open(self._background)):
            where = f"opened by thread {history.thread}"
            notes.append(f"still open: {self.writer.listed(history)}, {where}")
        abandoned = [
            {
                "site": self.writer.site(finding.handle.opened),
                "count": finding.count,
                "test": finding.test or "",
            }
            for finding in self.recorder.abandoned()
        ]
        return {"notes": notes, "abandoned": abandoned}

    def _note(self, run: Run, finding: Finding, message: str, fixture: str | None = None) -> None:
        run.found.append(
            {
                "kind": finding.kind,
                "site": self.writer.site(finding.culprit or finding.handle.opened),
                "test": run.item.nodeid,
                "fixture": fixture,
                "message": message,
                "fingerprint": finding.fingerprint,
                "serial": finding.handle.serial,
            }
        )


def _open_finding(history: History) -> Finding | None:
    found = findings_of(history, over=True, cwd=os.getcwd())
    return next((finding for finding in found if finding.kind in _OPEN), None)


def _call(hook: Any, **arguments: object) -> Any:
    try:
        return hook(**arguments)
    except Exception as error:
        raise HookFailed(error) from error


def _holder(item: pytest.Item, history: History) -> str | None:
    """What holds a leaked handle: the test's instance or a name of its module."""
    instance = getattr(item, "instance", None)
    places: list[tuple[str, Iterable[object]]] = []
    if instance is not None and not isinstance(instance, type(item.config)):
        places.append((f"self of {type(instance).__name__}", [instance]))
    module = getattr(item, "module", None)
    if module is not None:
        name = module.__name__
        places += [(f"{name}.{key}", [value]) for key, value in list(vars(module).items())]
    deadline = time.monotonic() + _HOLDER_S
    for place, roots in places:
        if reachable(roots, [history], most=_HOLDER_OBJECTS, otherwise=False):
            return place
        if time.monotonic() > deadline:
            break
    return None
