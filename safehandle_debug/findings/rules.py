"""The rules: from histories to findings."""

from __future__ import annotations

from safehandle_debug.findings.model import Finding
from safehandle_debug.ledger import History, Ledger


def findings_of(history: History, *, over: bool, cwd: str = "") -> list[Finding]:
    """What is wrong with one handle.

    Args:
        history: the handle, with its events.
        over: the scope in which it should have been closed has ended (the
            process, a test), so that an open handle is a leak.
        cwd: shown paths are relative to it.
    """
    raise NotImplementedError


def find(ledger: Ledger, *, now: bool = False) -> list[Finding]:
    """All findings of one process, alike ones grouped, errors first.

    `now` judges a running process as if it ended now: open handles are leaks.
    """
    raise NotImplementedError
