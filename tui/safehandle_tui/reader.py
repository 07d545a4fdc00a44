"""The thread that reads: up to ten times a second, and at once when asked.

The screen never waits for a file.  It says what it wants to show with ask(),
and gets each new View through a callback, on the reader's thread.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable
from typing import Final

from safehandle_tui.model.feed import Feed, View, ViewSpec

__all__ = ["Reader"]

_PERIOD_S: Final = 0.1
_IDLE_PERIOD_S: Final = 0.25  # while nothing happens
_GLANCES: Final = 3  # after each look that found nothing: they cost next to nothing
# Of the time, at most this share goes into reading, however much there is.
_SHARE: Final = 0.25
_GONE: Final = 129  # exit status, as if SIGHUP had ended us


class Reader(threading.Thread):
    """Polls a Feed until stop()."""

    def __init__(
        self,
        feed: Feed,
        spec: ViewSpec,
        show: Callable[[View], object],
        fail: Callable[[Exception], object],
        *,
        watch_terminal: bool = False,
    ) -> None:
        """
        Args:
            show: gets each new View.
            fail: gets an error of our own; the thread ends with it.
            watch_terminal: end the process when its terminal is gone.
        """
        super().__init__(name="safehandle-reader", daemon=True)
        self._feed = feed
        self._spec = spec
        self._show = show
        self._fail = fail
        self._watch_terminal = watch_terminal
        self._asked = threading.Event()
        self._stopped = False
        self._parent = os.getppid()

    def ask(self, spec: ViewSpec) -> None:
        """Shows this from now on."""
        self._spec = spec
        self._asked.set()

    def stop(self) -> None:
        """Ends the thread soon; it closes the recordings."""
        self._stopped = True
        self._asked.set()

    def run(self) -> None:
        glances = 0
        try:
            while not self._stopped:
                self._asked.clear()
                began = time.monotonic()
                view = self._feed.poll(self._spec, glance=glances > 0)
                if view is not None and not self._stopped:
                    self._show(view)
                glances = 0 if view is not None else (glances - 1) % (_GLANCES + 1)
                if not glances and self._watch_terminal and _terminal_is_gone(self._parent):
                    # Nobody can see anything any more, and Textual's own way
                    # out writes to the terminal: leave without it.
                    os._exit(_GONE)
                spent = time.monotonic() - began
                period = _PERIOD_S if view is not None else _IDLE_PERIOD_S
                self._asked.wait(max(period - spent, spent / _SHARE - spent))
        except Exception as error:
            self._fail(error)
        finally:
            self._feed.close()


def _terminal_is_gone(parent: int) -> bool:
    if "TEXTUAL_DRIVER" in os.environ:
        # What shows us to a browser is our parent; without it nobody looks.
        return os.getppid() != parent
    try:
        return not os.isatty(sys.__stdout__.fileno()) if sys.__stdout__ else True
    except (OSError, ValueError):
        return True
