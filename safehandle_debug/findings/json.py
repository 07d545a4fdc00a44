"""Findings as JSON, version 1: a stable format for other programs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from safehandle_debug.findings.model import Finding
from safehandle_debug.ledger import Ledger


def to_json(ledgers: Sequence[Ledger], findings: Iterable[Finding]) -> dict[str, Any]:
    """The report on some processes of one session, as plain data."""
    raise NotImplementedError
