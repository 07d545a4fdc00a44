"""`python -m safehandle_debug` is the `safehandle` command."""

from __future__ import annotations

from safehandle_debug.cli import main

if __name__ == "__main__":
    main(prog_name="safehandle")
