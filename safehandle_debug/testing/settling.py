"""Is it really left open, or only not collected yet?"""

from __future__ import annotations

import _thread
import gc
import os
import sys
import threading
import time
from collections.abc import Callable, Collection, Iterable
from types import FrameType

from safehandle_debug import _native
from safehandle_debug.ledger import History, is_ours, is_standard

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
    if left:
        # What was closed, or waited for, where the watch does not see it.
        _native.watch_reconcile()
        left = still_open(left)
    return left


def settle(serials: Collection[int], longest_s: float) -> set[int]:
    """Those still open after other threads have had `longest_s` to close them."""
    left = still_open(serials)
    pause = _FIRST_PAUSE_S
    # The pauses are added up: tests may have stopped the clock.
    remaining = longest_s
    while left and remaining > 0 and _others_run():
        pause = min(pause, remaining)
        time.sleep(pause)
        remaining -= pause
        pause *= 2
        left = still_open(left)
    return left


def _others_run() -> bool:
    """True when another thread runs, be it one of a library that has no Python."""
    if _thread._count() > 0:
        return True
    try:
        # One link a thread, and two of the folder's own: nothing is opened for it.
        return os.stat("/proc/self/task").st_nlink > 3
    except OSError:
        return False


def in_use(histories: Iterable[History]) -> set[int]:
    """The serials of those that another thread opened in a function that it has
    not left yet: it may still close them."""
    if not _thread._count():
        return set()
    here = threading.get_ident()
    frames = sys._current_frames()
    running: dict[str, set[tuple[str, str]]] = {}
    for thread in threading.enumerate():
        frame = frames.get(thread.ident or 0)
        if frame is not None and thread.ident != here:
            running.setdefault(thread.name, set()).update(_functions(frame))
    return {
        history.serial
        for history in histories
        if any(
            (frame.file, frame.function) in running.get(history.thread, ())
            for frame in history.opened
        )
    }


def _functions(frame: FrameType | None) -> Iterable[tuple[str, str]]:
    """What runs, but for what any thread runs between two tasks."""
    while frame is not None:
        file = frame.f_code.co_filename
        if not is_ours(file) and not is_standard(file):
            yield file, frame.f_code.co_qualname
        frame = frame.f_back
