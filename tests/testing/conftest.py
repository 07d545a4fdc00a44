"""Runs programs and unittest suites in processes of their own, where the core's
state is clean."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

HEAD = """
import threading
import unittest

from safehandle_debug import SafeFileHandle
from safehandle_debug.testing import HandleLeakError, HandlesTestCase, check_handles

kept = []

def opened():
    return SafeFileHandle.open("/dev/null")
"""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a run printed, and the counts of a unittest run."""

    returncode: int
    text: str  # stdout and stderr

    @property
    def counts(self) -> tuple[int, int, int]:
        """(run, failures, errors)"""
        (run,) = re.findall(r"^Ran (\d+) tests? in ", self.text, re.MULTILINE)
        numbers = dict(re.findall(r"(?<!expected )(failures|errors)=(\d+)", self.text))
        return int(run), int(numbers.get("failures", 0)), int(numbers.get("errors", 0))


Runner = Callable[..., Outcome]


@pytest.fixture
def run(tmp_path: Path) -> Runner:
    """Runs `HEAD` and a source as a program, or with `-m unittest` and the like."""

    def run(source: str, *options: str, **environment: str) -> Outcome:
        (tmp_path / "test_it.py").write_text(HEAD + textwrap.dedent(source))
        env = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("SAFEHANDLE_", "PYTEST_"))
        }
        env["SAFEHANDLE_DEBUG_DIR"] = str(tmp_path / "sessions")
        done = subprocess.run(
            [sys.executable, *(options or ("-m", "unittest")), "test_it.py"],
            cwd=tmp_path,
            env={**env, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=120,
            check=False,
        )
        return Outcome(done.returncode, done.stdout)

    return run
