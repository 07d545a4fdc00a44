"""Hooks that this plugin calls."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from safehandle_debug.ledger import History


@pytest.hookspec(firstresult=True)
def pytest_handles_is_expected(item: pytest.Item, record: History) -> bool | None:
    """Says whether a handle may still be open at the end of `item`.

    Called for each handle that would be reported as leaked.  True: it is
    expected and not reported; False: it is reported, whatever others say;
    None: no opinion.
    """


@pytest.hookspec
def pytest_handles_leaked(item: pytest.Item, records: Sequence[History]) -> None:
    """Called when `item`, or a fixture that ended with it, leaked `records`."""


class HookFailed(Exception):
    """A hook of somebody else raised; not our failure."""

    def __init__(self, reason: Exception) -> None:
        super().__init__(str(reason))
        self.reason = reason
