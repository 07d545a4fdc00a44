"""`python -m safehandle_tui [--ascii] [TARGET...]`."""

from __future__ import annotations

import sys

from safehandle_tui.app import run

if __name__ == "__main__":
    words = sys.argv[1:]
    sys.exit(run([word for word in words if word != "--ascii"], ascii="--ascii" in words))
