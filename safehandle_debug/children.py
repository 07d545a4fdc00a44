"""What a forked child needs from Python.

A child made by multiprocessing ends in `os._exit`: none of the interpreter's
own last hooks runs in it.  So what it has acquired is swept by
multiprocessing's finalizers, after everything else they do.

This module must not import multiprocessing: it only notices that the program
has.
"""

from __future__ import annotations

import os
import sys

from safehandle_debug import _native

__all__ = ["watch_forks"]

LAST = -(10**9)  # multiprocessing runs the highest priority first

_registered: list[object] = []


def watch_forks() -> None:
    """Makes multiprocessing children release what they acquired."""
    os.register_at_fork(before=_before_fork)


def _before_fork() -> None:
    util = sys.modules.get("multiprocessing.util")
    if util is not None and not _registered:
        _registered.append(util)
        util.register_after_fork(_native.sweep, _in_multiprocessing_child)


def _in_multiprocessing_child(_sweep: object) -> None:
    util = sys.modules["multiprocessing.util"]
    util.Finalize(None, _sweep_at_end, exitpriority=LAST)


def _sweep_at_end() -> None:
    # Threads of the program may still use their handles; multiprocessing
    # would wait for them next anyway.
    import threading

    current = threading.current_thread()
    for thread in threading.enumerate():
        if thread is not current and not thread.daemon:
            thread.join()
    _native.sweep()
