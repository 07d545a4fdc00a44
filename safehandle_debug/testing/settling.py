"""Is it really left open, or only not collected yet?"""

from __future__ import annotations

import _thread
import gc
import time
from collections.abc import Callable, Collection

from safehandle_debug import _native

_FIRST_PAUSE_S = 0.0005


def still_open(serials: Collection[int]) -> set[int]:
    """Those of `serials` that are open now."""
    if not serials:
        return set()
    return set(serials).intersection(_native.open_since(min(serials) - 1))


def collect(
    serials: Collection[int], *, before_full: Callable[[set[int]], set[int]] | None = None
) -> set[int]:
    """Those still open after collecting garbage, generation by generation.

    Args:
        serials: handles that may be garbage.
        before_full: takes the handles that two young collections have left,
            returns those for which a full collection is worth its cost.
    """
    left = still_open(serials)
    for generation in (0, 1, 2):
        if left and generation == 2 and before_full is not None:
            left = before_full(left)
        if not left:
            break
        gc.collect(generation)
        left = still_open(left)
    return left


def settle(serials: Collection[int], longest_s: float) -> set[int]:
    """Those still open after other threads have had `longest_s` to close them."""
    left = still_open(serials)
    pause = _FIRST_PAUSE_S
    # The pauses are added up: tests may have stopped the clock.
    remaining = longest_s
    while left and remaining > 0 and _thread._count() > 0:
        pause = min(pause, remaining)
        time.sleep(pause)
        remaining -= pause
        pause *= 2
        left = still_open(left)
    return left
