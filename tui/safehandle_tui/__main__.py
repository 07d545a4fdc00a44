"""`python -m safehandle_tui [TARGET...]`."""

from __future__ import annotations

import sys

from safehandle_tui.app import run

if __name__ == "__main__":
    sys.exit(run(sys.argv[1:]))
