"""The clocks of the model, and what is done rarely by them."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["Clock", "Rarely"]


class Clock:
    """The two clocks that a Track needs; tests bring their own."""

    def wall_ns(self) -> int:
        """Nanoseconds since 1970."""
        return time.time_ns()

    def steady_ns(self) -> int:
        """Nanoseconds that never jump."""
        return time.monotonic_ns()


class Rarely:
    """Lets something costly happen again only after ten times what it took."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._next_ns = 0

    def is_due(self) -> bool:
        """True when enough time has gone by."""
        return self._clock.steady_ns() >= self._next_ns

    @contextmanager
    def measured(self) -> Iterator[None]:
        """Around the costly thing."""
        began = self._clock.steady_ns()
        try:
            yield
        finally:
            now = self._clock.steady_ns()
            self._next_ns = now + 9 * (now - began)
