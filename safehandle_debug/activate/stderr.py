"""How a watched program is told something: one line on stderr, if there is one."""

from __future__ import annotations

import sys


def say(text: str) -> None:
    """Writes one line to stderr, whatever `text` holds, if there is a stderr."""
    line = "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)
    try:
        if sys.stderr is not None:
            sys.stderr.write(f"safehandle-debug: {line}\n")
            sys.stderr.flush()
    except OSError:
        return  # nobody reads it
