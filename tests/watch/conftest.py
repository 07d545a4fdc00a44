"""The watch's tests: hooks by themselves."""

from __future__ import annotations

import threading
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


@pytest.fixture
def company() -> Iterator[None]:
    """Another thread: only then somebody could close what this one waits on."""
    over = threading.Event()
    other = threading.Thread(target=over.wait)
    other.start()
    yield
    over.set()
    other.join()
