"""Runs pytest in processes of its own, where the core's state is clean."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


class Suite:
    """A test suite in a folder of its own, and how to run it."""

    def __init__(self, pytester: pytest.Pytester, sessions: Path) -> None:
        self.pytester = pytester
        self.sessions = sessions

    def write(self, source: str, **files: str) -> None:
        """Writes test_it.py and other modules."""
        self.pytester.makepyfile(test_it=source, **files)

    def run(self, *args: str) -> pytest.RunResult:
        """Runs the suite with `--handles` and no plugins but ours."""
        return self.run_plain("--handles", *args)

    def run_plain(self, *args: str) -> pytest.RunResult:
        """Runs the suite with no plugins but ours, which is off."""
        return self.pytester.runpytest_subprocess("-p", "safehandle", *args, timeout=120)

    def run_here(self, *args: str) -> pytest.RunResult:
        """Runs the suite in this process: quicker, where no test of it is to run."""
        return self.pytester.runpytest_inprocess("-p", "safehandle", *args)

    def check(self, source: str, *args: str, **files: str) -> pytest.RunResult:
        """Writes the suite, then runs it with `--handles`."""
        self.write(source, **files)
        return self.run(*args)


@pytest.fixture
def suite(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Suite:
    for name in list(os.environ):
        if name.startswith(("SAFEHANDLE_", "PYTEST_XDIST_", "GITHUB_", "COLUMNS")):
            monkeypatch.delenv(name)
    sessions = pytester.path / "sessions"
    monkeypatch.setenv("SAFEHANDLE_DEBUG_DIR", str(sessions))
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    monkeypatch.setenv("COLUMNS", "100")
    return Suite(pytester, sessions)
