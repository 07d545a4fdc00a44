"""`pytest --handles`: a test that leaks or misuses a handle fails.

Warnings and errors only, so that `-W error::pytest_safehandle.HandleLeakWarning`
can import this package without loading the plugin.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from safehandle_debug.testing import HandleLeakError as HandleLeakError

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


if not TYPE_CHECKING:  # checkers would take any name to be here

    def __getattr__(name: str) -> object:
        if name != "HandleLeakError":
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from safehandle_debug.testing import HandleLeakError

        return HandleLeakError
