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

    A plain class: making a dataclass would cost more than all runs of a short
    session.
    """

    __slots__ = (
        "allow",
        "ended",
        "failed",
        "found",
        "in_phase",
        "is_complete",
        "is_over",
        "item",
        "iterations",
        "judged",
        "mark",
        "sectioned",
        "seq",
        "threads",
    )

    def __init__(self, item: pytest.Item, mark: int, threads: frozenset[str]) -> None:
        self.item = item
        self.mark = mark  # newest serial when it began
        self.threads = threads  # names of those that ran before it
        self.seq = 0  # newest event when it began; kept only to find abandoned handles
        self.in_phase = True  # between the beginning and the end of a phase's hook
        self.is_over = False  # torn down
        self.ended = False  # judged, and no longer what events are marked with
        self.failed = False
        self.is_complete = True  # neither failed nor skipped
        self.judged = False  # its leaks are in the teardown's message
        self.sectioned = False  # its open handles are in a section
        self.allow: Sequence[Site] = ()  # allowed by the fixture
        # Newest serial before the body, and after each time that it ran; empty
        # unless it is to be repeated.
        self.iterations: list[int] = []
        self.found: list[dict[str, Any]] = []  # since its last report
