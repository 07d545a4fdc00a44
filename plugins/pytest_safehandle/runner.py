"""What the machinery of tests opens for itself: no test's to close.

The place that counts is the innermost frame that is not the standard
library's: a test that calls a library of the runner's family, or a fixture of
its own, is judged.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from safehandle_debug.ledger import History, is_ours, is_standard

if TYPE_CHECKING:
    from pytest_safehandle.settings import Settings

# Each with what it keeps: capture's files; locks and symlinks of tmp_path; the
# pipes and sockets to workers; data files; counts of reruns; the console of a
# debugger.
_RUNNER: Final = re.compile(
    r"[/\\](?:_pytest|pluggy|xdist|execnet|coverage|pytest_cov|pytest_asyncio"
    r"|pytest_rerunfailures|pytest_timeout)(?:[/\\]|\.py$)"
)


def tests_own(settings: Settings) -> Callable[[History], bool]:
    """Says of a handle whether it is a test's business at all."""
    fds = settings.fds
    return lambda history: not history.watched or (fds and not is_of_runner(history))


def is_of_runner(history: History) -> bool:
    """True for a descriptor or child that this plugin, pytest or a plugin
    that runs tests opened; never for a SafeHandle."""
    if not history.watched:
        return False
    if history.importing:
        return True  # modules are loaded when they are first needed
    frames = (frame for frame in history.opened if not is_standard(frame.file))
    innermost = next(frames, None)
    return innermost is None or is_ours(innermost.file) or bool(_RUNNER.search(innermost.file))
