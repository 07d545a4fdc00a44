"""One run of one test, from set-up to teardown."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from safehandle_debug.testing import Site

__all__ = ["Run"]


class Run:
    """What is known of the test that runs; a rerun is another Run.

    Made for tests of which there is something to be known.  A plain class:
    making a dataclass would cost more than all runs of a short session.
    """

    seq = 0  # newest event when it began; kept only to find abandoned handles
    failed = False
    is_complete = True  # neither failed nor skipped
    judged = False  # its leaks are in the teardown's message
    sectioned = False  # its open handles are in a section
    allow: Sequence[Site] = ()  # allowed by the fixture
    # Newest serial before the body, and after each time that it ran; empty
    # unless it is to be repeated.
    iterations: Sequence[int] = ()
    found: Sequence[dict[str, Any]] = ()  # since its last report

    def __init__(self, item: pytest.Item, mark: int, threads: frozenset[str]) -> None:
        self.item = item
        self.mark = mark  # newest serial when it began
        self.threads = threads  # names of those that ran before it
