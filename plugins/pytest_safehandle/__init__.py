"""`pytest --handles`: a test that leaks or misuses a handle fails.

Warnings and errors only, so that `-W error::pytest_safehandle.HandleLeakWarning`
can import this package without loading the plugin.
"""

from __future__ import annotations

import pytest

__all__ = [
    "HandleCheckWarning",
    "HandleLeakError",
    "HandleLeakWarning",
    "HandleMisuseWarning",
]


class HandleLeakWarning(pytest.PytestWarning):
    """A test or fixture left a handle open, and `on-leak` is `warn`."""


class HandleMisuseWarning(pytest.PytestWarning):
    """A handle was left to its finalizer, and `handles_abandoned` is `warn`."""


class HandleCheckWarning(pytest.PytestWarning):
    """The check itself failed and was switched off; the text says why."""


class HandleLeakError(AssertionError):
    """What the `handles` fixture raises: handles are open or misused."""
