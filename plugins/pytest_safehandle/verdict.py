"""The verdict on a test: which handles it leaked, misused or left to finalizers.

The core says what is open and how often something went wrong; only when that
is suspicious is the recording read, garbage collected, other threads waited
for.  A handle whose history is not known is not judged.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import pytest

from pytest_safehandle import HandleLeakWarning, HandleMisuseWarning
from pytest_safehandle.attribution import Scope, Scopes, drop_finished_funcargs, other_threads
from pytest_safehandle.baseline import Baseline, Tally
from pytest_safehandle.groups import as_found, way_to
from pytest_safehandle.growth import by_iteration, grows
from pytest_safehandle.holding import Holding
from pytest_safehandle.hooks import HookFailed
from pytest_safehandle.markers import Marker
from pytest_safehandle.report import Leak, Writer
from pytest_safehandle.run import Run
from pytest_safehandle.runner import tests_own
from pytest_safehandle.settings import Settings
from safehandle_debug import _native
from safehandle_debug.findings import Finding, findings_of, to_json
from safehandle_debug.ledger import History, is_library, site_of
from safehandle_debug.recording.format import Flag
from safehandle_debug.testing import (
    Misuse,
    Reader,
    Site,
    collect,
    in_use,
    reachable,
    settle,
    still_open,
)

__all__ = ["Judge", "Verdict"]

_OPEN: Final = ("leak", "unbalanced")
_LATE: Final = (
    "Judged at the end of the session: a thread was at work with it when the test ended."
)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What to do at the end of a test: warn, fail, both or neither."""

    error: str | None = None
    warnings: tuple[pytest.PytestWarning, ...] = ()


@dataclass(frozen=True, slots=True)
class _PutOff:
    """Whose an open handle is that a running thread may still close."""

    run: Run
    scope: Scope | None
    on_leak: str


class Judge:
    """Finds who is to blame for open and misused handles.

    Args:
        scopes: the fixtures of the session.
        folder: absolute path that shown paths are relative to.
        verbosity: as of report.Writer.
        since_ns: when the session began, in ns since 1970.
    """

    def __init__(
        self, settings: Settings, scopes: Scopes, folder: str, verbosity: int, since_ns: int
    ) -> None:
        self.settings = settings
        self.scopes = scopes
        self.reader = Reader(folder, since_ns, tests_own(settings))
        self.writer = Writer(folder, verbosity, time.time_ns)
        self._folder = folder
        self._holding = Holding()
        self._notes: list[str] = []  # for the end of the session
        self._background: set[int] = set()  # opened by threads of nobody known
        self._unjudged: set[int] = set()  # of fixtures that ended in a failed test
        self._told: set[int] = set()  # leaked, and reported
        self._put_off: dict[int, _PutOff] = {}  # to the end of the session
        self.baseline: Baseline | None = None
        self.tally = Tally()
        if settings.baseline is not None:
            update = settings.update_baseline
            self.baseline = Baseline.load(settings.baseline, update=update, must_be_writable=False)
        self.counts: Counter[str] = Counter()  # of findings told, by kind

    # Misuse.

    def misuses(self, run: Run, allowed: Iterable[Site]) -> str | None:
        """What went wrong in the phase that just ended, and no site is `allowed`
        to do; None: nothing."""
        blamed: list[Finding] = []
        sites = (*self.settings.allow, *allowed, *run.allow)
        for misuse in self.reader.new_misuses():
            finding = misuse.finding
            if any(site.is_in(finding.culprit) for site in sites):
                continue
            if self._is_late(run, misuse):
                line = self.writer.misuse_line(finding)
                self._notes.append(f"{line}, finalized after {finding.handle.test}")
            else:
                blamed.append(finding)
        if not blamed:
            return None
        for finding in blamed:
            self._note(run, finding, self.writer.misuse_line(finding), "error")
        return self.writer.misuses(blamed)

    def _is_late(self, run: Run, misuse: Misuse) -> bool:
        """True when a finalizer ran now by chance: an earlier test's handle."""
        serial = misuse.finding.handle.serial
        if serial > run.mark or self.scopes.find(serial) is not None:
            return False
        return bool(misuse.act.flags & Flag.FINALIZER)

    # Leaks.

    def leaks(self, run: Run, marker: Marker, own: set[int], wider: set[int]) -> Verdict:
        """Judges a test that has been torn down, and fixtures that ended with it.

        Args:
            run: the test.
            marker: what its markers say.
            own: open handles of the test and its own fixtures.
            wider: open handles of wider fixtures that are over.
        """
        if run.failed:
            self._unjudged |= wider
            return Verdict()
        on_leak = marker.on_leak or self.settings.on_leak
        if on_leak == "off":
            own = set()
        left = own | wider
        if left:
            drop_finished_funcargs(run.item)
            left = collect(left, before_full=lambda left: self._not_elsewhere(run, marker, left))
            left = settle(left, self.settings.settle_s)
            if marker.expect is None and not run.iterations:
                left = self._put_off_in_use(run, left, own, on_leak)
        leaks = self._confirmed(run, left)
        of_test = [leak for leak in leaks if leak.handle.serial in own]
        of_fixtures = [leak for leak in leaks if leak.handle.serial not in own]
        if self.baseline is not None and marker.expect is None and not run.iterations:
            of_test = self._unknown(run, of_test)
        of_fixtures = self._unknown(run, of_fixtures)
        errors: list[str] = []
        warned: list[pytest.PytestWarning] = []

        def tell(leaks: Sequence[Leak], on_leak: str, text: str) -> None:
            severity = "error" if on_leak == "error" else "warning"
            for leak in leaks:
                message = self.writer.headline(leak.finding)
                self._note(run, leak.finding, message, severity, leak.fixture)
            if on_leak == "error":
                errors.append(text)
            else:
                warned.append(HandleLeakWarning(text))

        if marker.expect is not None:
            if len(of_test) != marker.expect:
                errors.append(self._unexpected(marker.expect, of_test))
        else:
            of_test, growing = _split(of_test, run.iterations)
            for alike, counts in growing:
                tell(alike, on_leak, self.writer.growth(alike, counts))
            if of_test:
                tell(of_test, on_leak, self.writer.leaks(of_test))
        if of_fixtures:
            tell(of_fixtures, self.settings.on_leak, self.writer.leaks(of_fixtures))
        abandoned = self._abandoned(run)
        if abandoned:
            text = self.writer.abandoned(abandoned)
            if self.settings.abandoned == "error":
                errors.append(text)
            else:
                warned.append(HandleMisuseWarning(text))
        run.judged = bool(errors)
        return Verdict("\n\n".join(errors) or None, tuple(warned))

    def _put_off_in_use(self, run: Run, left: set[int], own: set[int], on_leak: str) -> set[int]:
        """Those to be judged now: the others' threads are not done with them."""
        later = in_use(self.reader.histories(left)) if left and other_threads() else set()
        for serial in later:
            severity = on_leak if serial in own else self.settings.on_leak
            self._put_off[serial] = _PutOff(run, self.scopes.find(serial), severity)
        return left - later

    def late(self) -> list[dict[str, Any]]:
        """The verdicts that were put off: for each test that leaked after all,
        its name, what to say and what was found, as plain data."""
        left = settle(collect(self._put_off), self.settings.settle_s)
        by_run: dict[int, list[int]] = {}
        for serial in sorted(left):
            by_run.setdefault(id(self._put_off[serial].run), []).append(serial)
        told: list[dict[str, Any]] = []
        for serials in by_run.values():
            first = self._put_off[serials[0]]
            run = first.run
            run.found = ()
            leaks = self._unknown(run, self._confirmed(run, set(serials)))
            if not leaks:
                continue
            text = f"{self.writer.leaks(leaks)}\n\n{_LATE}"
            is_error = first.on_leak == "error"
            if not is_error:
                try:
                    run.item.warn(HandleLeakWarning(text))
                except HandleLeakWarning:
                    is_error = True
            for leak in leaks:
                message = self.writer.headline(leak.finding)
                severity = "error" if is_error else "warning"
                self._note(run, leak.finding, message, severity, leak.fixture)
            told.append(
                {
                    "nodeid": run.item.nodeid,
                    "location": run.item.location,
                    "text": text if is_error else None,
                    "found": list(run.found),
                }
            )
        return told

    def _scope(self, serial: int) -> Scope | None:
        """The fixture that a handle belongs or belonged to; None: the test."""
        put_off = self._put_off.get(serial)
        return self.scopes.find(serial) if put_off is None else put_off.scope

    # Leaks that are known.

    def count(self, run: Run, ended: Sequence[Scope]) -> None:
        """Notes that a test and some fixtures are judged: what the baseline
        lists for them and is not met is stale."""
        if run.is_complete and not run.failed:
            self.tally.judged.add(run.item.nodeid)
            self.tally.judged.update(_fixture_name(scope) for scope in ended)

    def _unknown(self, run: Run, leaks: Sequence[Leak]) -> list[Leak]:
        if self.baseline is None:
            return list(leaks)
        keyed = []
        for leak in leaks:
            scope = self._scope(leak.handle.serial)
            is_wider = scope is not None and scope.is_wider
            where = _fixture_name(scope) if scope and is_wider else run.item.nodeid
            key = (leak.finding.kind, where, self.writer.stable_site(leak.finding.culprit))
            keyed.append((key, leak))
        return self.tally.unknown(self.baseline, keyed)

    def _not_elsewhere(self, run: Run, marker: Marker, serials: set[int]) -> set[int]:
        """Those that are findings, and that no wider fixture has taken over."""
        histories = self._findings_among(serials, (*marker.allow, *run.allow))
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

    def _findings_among(self, serials: set[int], allowed: Iterable[Site]) -> list[History]:
        sites = (*self.settings.allow, *allowed)
        return [
            history
            for history in self.reader.histories(serials)
            if self._open_finding(history) is not None
            and not any(site.covers(history) for site in sites)
        ]

    def _open_finding(self, history: History) -> Finding | None:
        found = findings_of(history, over=True, cwd=self._folder)
        return next((finding for finding in found if finding.kind in _OPEN), None)

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
        found = [
            (history, finding)
            for history in self.reader.histories(serials)
            if (finding := self._open_finding(history)) is not None
            and not self._is_expected(run, history)
        ]
        held = self._holding.of(run.item, [history for history, _ in found])
        for history, finding in found:
            scope = self._scope(history.serial)
            fixture = None if scope is None else f"'{scope.name}' ({scope.scope})"
            during = None if history.test == run.item.nodeid else history.test
            self._told.add(history.serial)
            leaks.append(Leak(finding, fixture, during, held.get(history.serial)))
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

    def _abandoned(self, run: Run) -> list[History]:
        if self.settings.abandoned == "ignore":
            return []
        return [
            history
            for history in self.reader.finalized_since(run.seq)
            if history.serial > run.mark
            and any(
                f.kind == "abandoned" for f in findings_of(history, over=True, cwd=self._folder)
            )
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
        histories = self._findings_among(serials, run.allow)
        in_use = [*self.scopes.in_use(), *(() if torn_down else self.scopes.own)]
        held = reachable((root for scope in in_use for root in scope.roots()), histories)
        started = {name for scope in in_use for name in scope.threads}
        others = run.threads | started
        histories = [h for h in histories if h.serial not in held and h.thread not in others]
        return self.writer.still_open(histories) if histories else None

    # The end.

    def finish(self, first: int) -> dict[str, Any]:
        """Plain data for the summary: notes, and abandoned handles in groups.

        Handles opened after serial `first` outside of tests, by hooks of other
        plugins say, are noted when they are still open; nobody is blamed.
        """
        notes = list(self._notes)
        left = still_open(self._unjudged)
        for history in self.reader.histories(collect(left)):
            notes.append(f"not judged, as a test failed: {self.writer.listed(history)}")
        for history in self.reader.histories(still_open(self._background)):
            where = f"opened by thread {history.thread}"
            notes.append(f"still open: {self.writer.listed(history)}, {where}")
        known = self._told | self._unjudged | self._background | self._put_off.keys()
        for history in self._findings_among(set(_native.open_since(first)) - known, ()):
            if history.test is None and self.scopes.find(history.serial) is None:
                notes.append(f"opened outside of tests: {self.writer.listed(history)}")
        abandoned = [
            {
                "site": self.writer.site(finding.handle.opened),
                "count": finding.count,
                "test": finding.test or "",
            }
            for finding in self.reader.abandoned()
        ]
        told: dict[str, Any] = {"notes": notes, "abandoned": abandoned}
        if self.settings.json is not None:
            told["json"] = self._document()
        if self.baseline is not None:
            told["baseline"] = self.tally.plain()
        return told

    def _document(self) -> dict[str, Any]:
        """This process, and what no test failed for."""
        ledger = self.reader.ledger()
        ignored = self.settings.abandoned == "ignore"
        return to_json(
            () if ledger is None else (ledger,), () if ignored else self.reader.abandoned()
        )

    def _note(
        self,
        run: Run,
        finding: Finding,
        message: str,
        severity: str,
        fixture: str | None = None,
    ) -> None:
        site = site_of(finding.culprit) or finding.handle.site
        self.counts[finding.kind] += 1
        opened, culprit = finding.handle.opened, finding.culprit
        test = getattr(run.item, "originalname", None) or run.item.name
        stacks = (opened,) if culprit == opened else (opened, culprit)
        run.found = [
            *run.found,
            {
                **as_found(stacks, test, self._folder),
                "callers": [
                    self.writer.frame(frame)
                    for frame in way_to(culprit or opened, test)
                    if frame != site and not is_library(frame.file)
                ],
                "owner": finding.handle.owner,
                "kind": finding.kind,
                "site": self.writer.site(finding.culprit or finding.handle.opened),
                "test": run.item.nodeid,
                "fixture": fixture,
                "message": message,
                "serial": finding.handle.serial,
                "severity": severity,
                "file": site.file if site is not None else None,
                "line": site.line if site is not None else None,
                "json": self._as_json(finding, severity),
            },
        ]

    def _as_json(self, finding: Finding, severity: str) -> dict[str, Any] | None:
        if self.settings.json is None:
            return None
        (plain,) = to_json((), (finding,))["findings"]
        return {**plain, "severity": severity}


def _fixture_name(scope: Scope) -> str:
    """Tells fixtures of one name apart by where they are defined."""
    return f"{scope.fixture.baseid or '.'}: fixture {scope.name}"


def _split(
    leaks: Sequence[Leak], iterations: Sequence[int]
) -> tuple[list[Leak], list[tuple[list[Leak], list[int]]]]:
    """What a body left that ran more than once: (leaks of the test's fixtures,
    per site that grows its leaks and how many each iteration left).

    Args:
        leaks: what the test and its fixtures left open.
        iterations: as of Run; empty when the body ran once.
    """
    others: list[Leak] = []
    alike: dict[object, list[Leak]] = {}
    for leak in leaks:
        serial = leak.handle.serial
        if iterations and leak.fixture is None and iterations[0] < serial <= iterations[-1]:
            key = (leak.finding.kind, leak.handle.owner, leak.handle.site)
            alike.setdefault(key, []).append(leak)
        else:
            others.append(leak)
    growing = []
    for group in alike.values():
        counts = by_iteration((leak.handle.serial for leak in group), iterations)
        if grows(counts):
            growing.append((group, counts))
    return others, growing


def _call(hook: Any, **arguments: object) -> Any:
    try:
        return hook(**arguments)
    except Exception as error:
        raise HookFailed(error) from error
