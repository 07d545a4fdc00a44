"""Handles in tests without pytest: the verdicts of `pytest --handles`.

    from safehandle_debug.testing import HandlesTestCase, check_handles

    with check_handles():
        ...                      # must close each handle that it opens

    class TestStore(HandlesTestCase, unittest.TestCase):
        ...                      # so must each test

A leak, a reference that was never given back, a handle that was released
twice, owned twice or could not be released: each raises HandleLeakError, a
failure.  A block or test that fails by itself is not judged.

`audit_hooks()` reads the release hooks of handle types of your own, for what would
fail when they run late.

What the verdicts rest on is here too, and the pytest plugin uses it: what is
open (`still_open`, `collect`, `settle`, `in_use`), who can reach it (`reachable`), and
what this process's own recording tells of it (`Reader`).  Nothing is recorded
before the first check, unless SAFEHANDLE_DEBUG says so.
"""

from __future__ import annotations

from safehandle_debug.testing.check import HandleLeakError, HandlesTestCase, check_handles
from safehandle_debug.testing.hooks import audit_hooks
from safehandle_debug.testing.reach import reachable
from safehandle_debug.testing.reader import MOST_WHOLE, Misuse, Reader
from safehandle_debug.testing.settling import collect, in_use, settle, still_open
from safehandle_debug.testing.site import Site, SiteError

__all__ = [
    "MOST_WHOLE",
    "HandleLeakError",
    "HandlesTestCase",
    "Misuse",
    "Reader",
    "Site",
    "SiteError",
    "audit_hooks",
    "check_handles",
    "collect",
    "in_use",
    "reachable",
    "settle",
    "still_open",
]
