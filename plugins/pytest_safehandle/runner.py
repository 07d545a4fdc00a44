"""What the machinery of tests opens for itself: no test's to close.

The place that counts is the innermost frame that is not the standard
library's: a test that calls a library of the runner's family, or a fixture of
its own, is judged.
"""

from __future__ import annotations

import re
from typing import Final

from safehandle_debug.ledger import History, is_ours, site_of

# Each with what it keeps: capture's files; locks and symlinks of tmp_path; the
# pipes and sockets to workers; data files; the console of a debugger.
_RUNNER: Final = re.compile(
    r"[/\\](?:_pytest|pluggy|xdist|execnet|coverage|pytest_cov|pytest_asyncio|pytest_timeout)"
    r"[/\\]"
)


def is_of_runner(history: History) -> bool:
    """True for a descriptor or child that this plugin, pytest or a plugin
    that runs tests opened; never for a SafeHandle."""
    if not history.watched:
        return False
    site = site_of(history.opened)
    return site is None or is_ours(site.file) or bool(_RUNNER.search(site.file))
