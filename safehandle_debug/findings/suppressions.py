"""Findings that someone has decided to live with, and why.

A file has one rule a line:

    kind  path-glob:function-glob  # reason
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from safehandle_debug.findings.model import Finding


class SuppressionError(ValueError):
    """A suppressions file cannot be read; the text names file and line."""


@dataclass(frozen=True, slots=True)
class Suppression:
    """One rule of a suppressions file."""

    kind: str  # of finding, or "*"
    path: str  # glob
    function: str  # glob
    reason: str
    file: str  # the rule's own place
    line: int


def load(path: str | os.PathLike[str]) -> list[Suppression]:
    """Reads a suppressions file.

    Raises SuppressionError with one sentence."""
    raise NotImplementedError


def apply(
    findings: Iterable[Finding], rules: Sequence[Suppression]
) -> tuple[list[Finding], list[tuple[Finding, Suppression]]]:
    """(findings to report, findings suppressed each with its rule)."""
    raise NotImplementedError
