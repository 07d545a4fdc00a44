"""How far a long command has come, on a terminal, once it takes over a second."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_PATIENCE_S = 1.0
_PAUSE_S = 0.1
_WIDTH = 30  # cells of the bar


@contextmanager
def progress(
    what: str, total: int, *, patience_s: float = _PATIENCE_S
) -> Iterator[Callable[[int], None]]:
    """Gives a function that is told how much more is done, of `total`.

    It writes to stderr, and only where that is a terminal; the line is gone
    when the block ends."""
    if sys.stderr is None or not sys.stderr.isatty() or os.environ.get("TERM") == "dumb":
        yield lambda more: None
        return
    began = shown = time.monotonic()
    done = 0
    visible = False

    def step(more: int) -> None:
        nonlocal done, shown, visible
        done += more
        now = time.monotonic()
        if now - began < patience_s or now - shown < _PAUSE_S:
            return
        shown, visible = now, True
        share = min(done / max(total, 1), 1.0)
        bar = "#" * int(_WIDTH * share)
        sys.stderr.write(f"\r{what} [{bar:<{_WIDTH}}] {share:4.0%}")
        sys.stderr.flush()

    try:
        yield step
    finally:
        if visible:
            sys.stderr.write("\r\033[K")
            sys.stderr.flush()
