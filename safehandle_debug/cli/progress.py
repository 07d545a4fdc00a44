"""How far a long command has come, on a terminal, once it takes over a second."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import click

_PATIENCE_S = 1.0
_PAUSE_S = 0.1
_WIDTH = 30  # cells of the bar


@contextmanager
def progress(
    what: str, total: int = 0, *, patience_s: float = _PATIENCE_S
) -> Iterator[Callable[[int], None]]:
    """Gives a function that is told how much more is done, of `total`; 0: it
    is not known how much there is to do, and the seconds are counted.

    It writes to stderr, and only where that is a terminal; the line is gone
    when the block ends.  A thread paints it: what takes long may have nothing
    to say in between."""
    if sys.stderr is None or not sys.stderr.isatty() or os.environ.get("TERM") == "dumb":
        yield lambda more: None
        return
    began = time.monotonic()
    patience = patience_s - (began - _command_began(began))
    done = 0
    over = threading.Event()

    def step(more: int) -> None:
        nonlocal done
        done += more

    def paint() -> None:
        if over.wait(patience):
            return
        while True:
            sys.stderr.write(f"\r{_line(what, done, total, time.monotonic() - began)}")
            sys.stderr.flush()
            if over.wait(_PAUSE_S):
                sys.stderr.write("\r\033[K")
                sys.stderr.flush()
                return

    painter = threading.Thread(target=paint, name="progress", daemon=True)
    painter.start()
    try:
        yield step
    finally:
        over.set()
        painter.join()


def _command_began(now: float) -> float:
    """When the first part of the command began: many short ones are long too."""
    context = click.get_current_context(silent=True)
    if context is None:
        return now
    began: float = context.find_root().meta.setdefault("safehandle_debug.began", now)
    return began


def _line(what: str, done: int, total: int, seconds: float) -> str:
    if not total:
        return f"{what} ... {seconds:.0f} s"
    share = min(done / total, 1.0)
    bar = "#" * int(_WIDTH * share)
    return f"{what} [{bar:<{_WIDTH}}] {share:4.0%}"
