"""The door to the TUI: `run(targets)`, as `safehandle watch` calls it.

Textual is imported only once it is sure that there is something to show and a
terminal to show it on, so that a mistyped target is answered at once.
"""

from __future__ import annotations

import importlib.util
import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from safehandle_debug.errors import RecordingError
from safehandle_debug.recording import resolve
from safehandle_debug.recording.sessions import refusal

__all__ = ["run", "serve"]

_USAGE = 2


def run(targets: Sequence[str], *, ascii: bool = False) -> int:
    """Watches until the user quits; returns the exit status.

    Args:
        targets: pids, recordings or session folders; none: the newest
            session, or the first one that begins.
        ascii: for terminals that have no other characters.
    """
    problem = _problem(targets)
    if problem is not None:
        print(f"safehandle watch: {problem}", file=sys.stderr)
        return _USAGE
    # Textual believes these more than the terminal: where somebody exported
    # them, it would never notice that the terminal was resized.
    if "TEXTUAL_DRIVER" not in os.environ:
        for name in ("COLUMNS", "LINES"):
            os.environ.pop(name, None)
    from safehandle_tui import palette
    from safehandle_tui.watch import WatchApp

    palette.only_ascii(ascii)
    app = WatchApp(targets)
    result = app.run()
    return result if result is not None else app.return_code or 0


def serve(targets: Sequence[str], *, port: int, ascii: bool = False) -> int:
    """Shows the screen to browsers of this machine, until Ctrl-C.

    Each that connects gets a screen of its own."""
    from textual_serve.server import Server

    words = [sys.executable, "-m", "safehandle_tui", *(["--ascii"] if ascii else []), *targets]
    server = Server(shlex.join(words), host="127.0.0.1", port=port, title="safehandle watch")
    server.serve()
    return 0


def _problem(targets: Sequence[str]) -> str | None:
    """Why there is nothing to watch or no way to show it, in a sentence."""
    for target in targets:
        try:
            # A session folder may still be empty: then we wait for a process.
            if Path(target).is_dir() and not refusal(Path(target)):
                os.listdir(target)
            else:
                resolve(target)
        except RecordingError as error:
            return str(error)
        except (OSError, ValueError) as error:
            return f"{target}: {getattr(error, 'strerror', None) or error}"
    if "TEXTUAL_DRIVER" in os.environ:
        return None  # a browser is the terminal
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        return "needs a terminal; 'safehandle report' says the same without one"
    if os.environ.get("TERM", "") in ("", "dumb"):
        return "this terminal cannot show it (TERM is not set); use 'safehandle report'"
    if importlib.util.find_spec("textual") is None:
        return "needs Textual: pip install 'safehandle-debug[tui]'"
    return None
