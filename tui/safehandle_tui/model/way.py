"""The top line's way from the session to what is looked at."""

from __future__ import annotations

import posixpath
from collections.abc import Sequence
from typing import Final

from safehandle_debug.ledger import ProcessInfo
from safehandle_tui.model.feed import View
from safehandle_tui.model.modes import MODES
from safehandle_tui.model.spec import ViewSpec
from safehandle_tui.model.text import Line, Span, cell_width, clean, plural, short_path

__all__ = ["program_of", "way"]

_SIGN: Final = " > "
_DIGITS: Final = 7  # of a pid, at most


def way(view: View | None, spec: ViewSpec, more: Sequence[str], cells: int) -> Line:
    """ "session > app.py 4711 > Handles > app/db.py:88 > #6": its beginning gives
    way where there are fewer cells.

    Args:
        more: what follows the screen.
    """
    name: Span = ("safehandle", "title")
    if view is None or view.state == "waiting":
        return (name,)
    last = [MODES[spec.mode].name]
    if spec.site is not None:
        file, line, _ = spec.site
        last.append(f"{clean(posixpath.basename(short_path(file)))}:{line}")
    last += more
    process, digits = _process(view, spec)
    first = clean(view.title)
    if spec.mode == "sessions":
        return (name, (_SIGN + _SIGN.join(last), "accent"))
    for start in (("safehandle", first, process), (first, process), (process,)):
        # Another pid is no reason for another line.
        used = cell_width(_SIGN.join((*start, *last))) + _DIGITS - digits
        if used <= cells:
            break
    title, rest = start[0], start[1:]
    return (
        (title, "title"),
        ("".join(_SIGN + part for part in rest), "muted"),
        ("".join(_SIGN + part for part in last), "accent"),
        *_how(view, cells - used),
    )


def _how(view: View, cells: int) -> Line:
    """How it was recorded, where there is room."""
    infos = [row.info for row in view.processes if row.info is not None]
    text = f"   python {infos[0].python}  level {infos[0].level}" if infos else ""
    return ((text, "muted"),) if 0 < cell_width(text) < cells else ()


def _process(view: View, spec: ViewSpec) -> tuple[str, int]:
    """Its name, and how many digits its pid has."""
    infos = [
        row.info
        for row in view.processes
        if row.info is not None and spec.scope in (None, row.path)
    ]
    if len(infos) == 1:
        return f"{program_of(infos[0])} {infos[0].pid}", len(str(infos[0].pid))
    return plural(len(view.processes), "process", "processes"), _DIGITS


def program_of(info: ProcessInfo) -> str:
    """The program's own name: "app.py", not "python"."""
    words = list(info.argv) or [info.executable]
    names = [posixpath.basename(word) for word in words]
    if names[0].startswith("python") and len(words) > 1:
        options = [word for word in words[1:] if not word.startswith("-")]
        if words[1] == "-m" and options:
            return clean(options[0])
        if words[1] == "-c":
            return "python -c"
        if options:
            return clean(posixpath.basename(options[0]))
    return clean(names[0])
