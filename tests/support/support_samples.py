"""Runs a sample as its reader would: watched, then reported on."""

from __future__ import annotations

import json
import os
import pathlib
import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from support_house import ROOT, run

__all__ = [
    "SAMPLES",
    "Outcome",
    "as_json",
    "check_transcript",
    "findings",
    "line_of",
    "normalised",
    "report",
    "steady",
    "watched",
]

SAMPLES = ROOT / "samples"

# What differs from run to run, and what the expected reports say in its place.
_VOLATILE = [
    (re.compile(r"/tmp/(?:tmp|gateway-)\w+"), "/tmp/FOLDER"),
    (re.compile(r"\b(pid|process) \d+"), r"\1 PID"),
    (re.compile(r"\b(fd|value|held) \d+"), r"\1 N"),  # the quarantine shifts them
    # Imports open files too, and more in one version of Python than in another.
    (re.compile(r"#\d+"), "#N"),
    (re.compile(r"\b[1-9][\d,]* (events)\b"), r"N \1"),
    (re.compile(r"\[\d{12,}\]"), "[IDENT]"),
    (re.compile(r"\b\d+(?:\.\d+)? ?(?:ns|µs|us|ms|s|min|h)\b"), "TIME"),
    (re.compile(r"\b\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d(?:\.\d+)?Z?"), "MOMENT"),
    (re.compile(r"\b\d\d:\d\d:\d\d(?:\.\d+)?\b"), "MOMENT"),
    (re.compile(r"\b[0-9a-f]{16}\b"), "FINGERPRINT"),
    (re.compile(r"^(  thread +[a-z]+_)\d+$", re.MULTILINE), r"\1N"),  # of a pool
]

_RACING = [
    (re.compile(r"\b[1-9][\d,]* (abandoned|descriptors|handles)\b"), r"N \1"),
    (re.compile(r"\babandoned [\d,]+"), "abandoned N"),
    (re.compile(r"\([\d,]+ times\)"), "(N times)"),
    (re.compile(r"\bThread-\d+"), "Thread-N"),
    (re.compile(r"127\.0\.0\.1:\d+"), "127.0.0.1:PORT"),
]

# Samples whose counts depend on the moment.
RACING = {"interrupted_open", "gateway"}

# Set by `make expected`.
UPDATE = "SAFEHANDLE_UPDATE_EXPECTED"


@dataclass(frozen=True, slots=True)
class Outcome:
    """A watched program that ended, and where its recordings are."""

    output: str
    code: int
    sessions: pathlib.Path


def watched(script: str, arguments: Sequence[str], folder: pathlib.Path) -> Outcome:
    """Runs `samples/SCRIPT` from the root of the checkout under SAFEHANDLE_DEBUG=full."""
    sessions = folder / "sessions"
    sessions.mkdir(mode=0o700)
    result = run(
        [sys.executable, f"samples/{script}", *arguments],
        cwd=ROOT,
        env={"SAFEHANDLE_DEBUG": "full", "SAFEHANDLE_DEBUG_DIR": str(sessions)},
    )
    assert result.stderr == "", result.stderr
    return Outcome(result.stdout, result.returncode, sessions)


def report(outcome: Outcome, *options: str) -> subprocess.CompletedProcess[str]:
    """`safehandle report` on the newest session, which is the sample's."""
    result = run(
        [sys.executable, "-m", "safehandle_debug", "report", *options],
        cwd=ROOT,
        env={"SAFEHANDLE_DEBUG_DIR": str(outcome.sessions)},
    )
    assert result.returncode in (0, 1), result.stderr
    assert result.stderr == "", result.stderr
    return result


def as_json(outcome: Outcome) -> dict[str, Any]:
    """All that `safehandle report --format json` says."""
    told: dict[str, Any] = json.loads(report(outcome, "--format", "json").stdout)
    return told


def findings(outcome: Outcome) -> list[dict[str, Any]]:
    """The findings of `safehandle report --format json`."""
    found: list[dict[str, Any]] = as_json(outcome)["findings"]
    return found


def normalised(text: str) -> str:
    """The text with what differs from run to run replaced, and no trailing blanks."""
    for pattern, replacement in _VOLATILE:
        text = pattern.sub(replacement, text)
    return "\n".join(line.rstrip() for line in text.strip().splitlines()) + "\n"


def steady(text: str) -> str:
    """The text without counts, serials and threads: for programs that a race decides."""
    for pattern, replacement in _RACING:
        text = pattern.sub(replacement, text)
    return text


def check_transcript(name: str, arguments: Sequence[str], output: str, told: str) -> None:
    """Compares what a reader sees with `samples/NAME.expected.txt`, or writes it when asked to."""
    command = " ".join(["SAFEHANDLE_DEBUG=full python", f"samples/{name}.py", *arguments])
    transcript = normalised(f"$ {command}\n{output}$ safehandle report\n{told}")
    if name in RACING:
        transcript = steady(transcript)
    file = SAMPLES / f"{name}.expected.txt"
    if os.environ.get(UPDATE):
        file.write_text(transcript)
    assert transcript == file.read_text()


def line_of(script: str, code: str) -> int:
    """The number of the one line of a sample that is `code`."""
    lines = (SAMPLES / script).read_text().splitlines()
    numbers = [number for number, line in enumerate(lines, 1) if line.strip() == code]
    assert len(numbers) == 1, f"{code!r} stands {len(numbers)} times in {script}"
    return numbers[0]
