"""Ticks of a recording to wall clock time."""

from __future__ import annotations

import math
from dataclasses import dataclass

from safehandle_debug.recording.format import Header

_CLOCK_MONOTONIC = 0
_LATEST_NS = 1 << 62  # the year 2116; what is beyond is damage


@dataclass(frozen=True, slots=True)
class Clock:
    """A straight line through the header's anchors."""

    ticks: int  # at the first anchor
    realtime_ns: int  # at the first anchor
    ns_per_tick: float

    @classmethod
    def of(cls, header: Header) -> Clock:
        return cls(header.first_ticks, header.first_realtime_ns, _rate(header))

    def to_ns(self, ticks: int) -> int:
        """Wall clock time, ns since 1970; 0 when ticks make no sense."""
        elapsed = ticks - self.ticks
        if self.ns_per_tick != 1.0:
            elapsed = round(elapsed * self.ns_per_tick)
        ns = self.realtime_ns + elapsed
        return ns if 0 <= ns < _LATEST_NS else 0


def _rate(header: Header) -> float:
    """Nanoseconds a tick, from the two anchors as soon as there are two.

    Measured against the monotonic clock: the wall clock may have been set in
    between, and then no handle would seem to live for a negative time."""
    if header.clock == _CLOCK_MONOTONIC:
        return 1.0
    if header.second_version > 0 and header.second_version % 2 == 0:
        ticks = header.second_ticks - header.first_ticks
        ns = header.second_monotonic_ns - header.first_monotonic_ns
        if ticks > 0 and ns > 0:
            return ns / ticks
    rate = header.ticks_per_ns
    return 1 / rate if math.isfinite(rate) and rate > 1e-6 else 1.0
