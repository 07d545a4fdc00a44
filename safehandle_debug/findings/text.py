"""Findings as text for people."""

from __future__ import annotations

from collections.abc import Sequence

from safehandle_debug.findings.model import Finding
from safehandle_debug.ledger import Ledger


def first_line(finding: Finding) -> str:
    """What and where, in one line, with the user's own line."""
    raise NotImplementedError


def render_finding(finding: Finding, *, color: bool = False, width: int = 100) -> str:
    """The whole finding in at most 26 lines, the first of them first_line()."""
    raise NotImplementedError


def render_process_death(ledger: Ledger, *, color: bool = False, width: int = 100) -> str:
    """What a killed process held; "" when it ended normally or held nothing."""
    raise NotImplementedError


def render_summary(
    ledgers: Sequence[Ledger],
    findings: Sequence[Finding],
    *,
    color: bool = False,
    width: int = 100,
) -> str:
    """The totals in a few lines."""
    raise NotImplementedError
