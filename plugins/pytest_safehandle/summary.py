"""The `handles` section at the end of the terminal's output.

Lives where the terminal is; what it knows came with the reports, from this
process or from the workers of pytest-xdist.  Prints nothing when there is
nothing to say.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pytest_safehandle.settings import Settings
from pytest_safehandle.words import DONE, count

if TYPE_CHECKING:
    from pytest_safehandle.baseline import Baseline

__all__ = ["SUMMARY", "ControllerSummary", "Summary"]

MOST_GROUPS = 20


class Summary:
    """Collects what was found, and says it."""

    def __init__(self, config: pytest.Config, settings: Settings) -> None:
        self._config = config
        self._settings = settings
        self.level = settings.level  # of the recording
        self._found: list[dict[str, Any]] = []
        self._notes: list[str] = []
        self._abandoned: list[dict[str, Any]] = []
        self._told: list[dict[str, Any]] = []  # for the JSON file, by process
        self._json: Path | None = None
        if settings.json is not None and not hasattr(config, "workerinput"):
            from pytest_safehandle.jsonfile import check_path

            self._json = check_path(settings.json)
        self._baseline: Baseline | None = None
        if settings.baseline is not None and not hasattr(config, "workerinput"):
            from pytest_safehandle.baseline import Baseline, Tally

            update = settings.update_baseline
            self._baseline = Baseline.load(settings.baseline, update=update, must_be_writable=True)
            self._tally = Tally()

    def found(self, found: list[dict[str, Any]]) -> None:
        """Takes what was found in one phase of one test."""
        self._found.extend(found)

    def add(self, told: dict[str, Any]) -> None:
        """Takes what the session of one process says at its end."""
        for late in told.get("late", ()):
            self.found(late["found"])
            if late["text"] is not None:
                self._config.hook.pytest_runtest_logreport(report=_late_report(late))
        self._notes.extend(told["notes"])
        self._abandoned.extend(told.get("abandoned", ()))
        if "baseline" in told and self._baseline is not None:
            self._tally.add(told["baseline"])
        if "json" in told:
            self._told.append(told["json"])

    def pytest_report_header(self) -> str:
        settings = self._settings
        words = f"handles: on, level={self.level}, on-leak={settings.on_leak}"
        if not settings.fds:
            words += ", SafeHandles only"
        return f"{words}, recording={settings.recording}" if settings.recording else words

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self) -> None:
        if self._baseline is not None:
            if self._settings.update_baseline:
                done = self._baseline.update(self._tally)
                self._notes += [done] if done else []
            else:
                self._notes += self._baseline.stale_lines(self._tally)
        if self._json is None:
            return
        from pytest_safehandle.jsonfile import document, write

        fault = write(self._json, document(self._told, self._found))
        if fault is not None:
            self._notes.append(fault)

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        verbose = self._config.get_verbosity("handles") > 0
        abandoned = sum(one["count"] for one in self._abandoned)
        totals = _totals_line(self._found, abandoned, len(self._abandoned), verbose)
        lines = [totals] if totals else []
        lines += _grouped(self._found)
        if verbose:
            lines += [_abandoned_line(one) for one in self._abandoned]
        lines += self._notes
        if not lines:
            return
        terminalreporter.write_sep("=", "handles")
        for line in lines:
            terminalreporter.write_line(line)
        if self._found and os.environ.get("GITHUB_ACTIONS") == "true":
            from pytest_safehandle.github import workflow_commands

            workspace = os.environ.get("GITHUB_WORKSPACE") or self._config.rootpath
            for line in workflow_commands(self._found, str(workspace)):
                terminalreporter.write_line(line)


class ControllerSummary(Summary):
    """Collects what the workers of pytest-xdist found."""

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        told: dict[str, Any] | None = vars(report).get("handles")
        if told is not None:
            self.found(told["found"])

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        output = getattr(node, "workeroutput", None)
        if output is None:
            self._note_crash(node.gateway.id)
        elif "handles" in output:
            self.add(output["handles"])

    def _note_crash(self, worker: str) -> None:
        from pytest_safehandle.crashed import held_by

        folder = str(self._config.invocation_params.dir)
        told = {(one["test"], one["serial"]) for one in self._found}
        self._notes += held_by(worker, self._settings, folder, told)


SUMMARY = pytest.StashKey[Summary]()


def _late_report(late: dict[str, Any]) -> pytest.TestReport:
    """A second end of a test's teardown: it failed after all."""
    location = tuple(late["location"])
    properties = [("handles_leaked", len(late["found"]))]
    return pytest.TestReport(
        late["nodeid"],
        location,
        {},
        "failed",
        late["text"],
        "teardown",
        user_properties=properties,
    )


def _grouped(found: list[dict[str, Any]]) -> list[str]:
    """Equal findings as one line, most frequent first."""
    if not found:
        return []
    from pytest_safehandle.groups import grouped

    groups = grouped(found)
    sites = Counter((group.first["kind"], group.first["site"]) for group in groups)
    lines = []
    for group in groups:
        first = group.first
        # Ways to one place are told apart.
        is_one_of_many = sites[first["kind"], first["site"]] > 1
        way = " <- ".join([first["site"], *(first["callers"] if is_one_of_many else ())])
        lines.append(_group_line(first["kind"], way, len(group.found), group.tests))
    if len(lines) > MOST_GROUPS:
        return [*lines[:MOST_GROUPS], f"... and {len(lines) - MOST_GROUPS} more groups"]
    return lines


def _abandoned_line(one: dict[str, Any]) -> str:
    return _group_line("abandoned", one["site"], one["count"], [one["test"]])


def _totals_line(
    found: Sequence[dict[str, Any]], abandoned: int, sites: int, verbose: bool
) -> str:
    """How many of each kind; "" when there is nothing to say."""
    counts = Counter(one["kind"] for one in found)
    words = [f"{counts[kind]} {DONE[kind]}" for kind in DONE if counts[kind]]
    line = ", ".join(words)
    if abandoned:
        where = f" at {count(sites, 'site')}"
        hint = "" if verbose else " (-v lists them)"
        line += f"{'; ' if line else ''}{abandoned} abandoned to the finalizer{where}{hint}"
    return line


def _group_line(kind: str, site: str, count: int, tests: Sequence[str]) -> str:
    """Equal findings of many tests in one line."""
    more = f" and {len(tests) - 1} more" if len(tests) > 1 else ""
    name = kind if count == 1 else f"{kind}s" if kind == "leak" else kind
    return f"{count} {name}   {site or 'without Python code'}   {tests[0]}{more}"
