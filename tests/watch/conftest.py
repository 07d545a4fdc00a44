"""The watch's tests: hooks by themselves."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from support_hooks import Hooks


@pytest.fixture
def hooks() -> Iterator[Hooks]:
    """The hooks, and a watch that has been told nothing yet."""
    hooks = Hooks()
    hooks.calm()
    yield hooks
    hooks.calm()
