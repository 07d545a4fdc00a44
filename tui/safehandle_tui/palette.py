"""How roles look: in a dark, a light and the terminal's own colours.

In 16 colours and without colours (NO_COLOR) the terminal's own are used, with
bold, dim and reverse to tell things apart.  Everything that matters is also
said by a word or a sign.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final, get_args

from rich.segment import Segment
from rich.style import Style
from textual.strip import Strip
from textual.theme import Theme

from safehandle_tui.model.text import Role, cell_width

__all__ = [
    "DARK",
    "LIGHT",
    "TERMINAL",
    "THEMES",
    "Palette",
    "first_theme",
    "is_ascii",
    "only_ascii",
    "paint",
    "palette_for",
]


@dataclass(frozen=True, slots=True)
class Palette:
    """A look: one style a role, and the backgrounds."""

    styles: Mapping[Role, Style]
    base: Style  # background of everything
    cursor: Style  # laid over the selected row of the focused table
    blurred: Style  # the same where the focus is elsewhere
    bar: Style  # background of the top and the bottom line


def _palette(
    colors: Mapping[Role, str], background: str, cursor: str, blurred: str, bar: str
) -> Palette:
    styles: dict[Role, Style] = {role: Style.parse(color) for role, color in colors.items()}
    assert set(styles) == set(get_args(Role)), "each role has a style"
    return Palette(
        styles,
        Style.parse(background),
        Style.parse(cursor),
        Style.parse(blurred),
        Style.parse(bar),
    )


DARK: Final = _palette(
    {
        "text": "#d3d8e0",
        "muted": "#a0a9b8",
        "strong": "bold #ffffff",
        "title": "bold #ffffff",
        "head": "#a0a9b8",
        "sorted": "bold #ffffff",
        "good": "#7ddc91",
        "warn": "#f0c35a",
        "bad": "bold #ff8a8a",
        "accent": "#63c7f5",
        "own": "#9ed2ff",
        "source": "#e9dfa6",
        "key": "bold #63c7f5",
        "rule": "#47505f",
    },
    "on #12151b",
    "on #233449",
    "on #1c232e",
    "on #1b212b",
)

LIGHT: Final = _palette(
    {
        "text": "#24292f",
        "muted": "#57606a",
        "strong": "bold #000000",
        "title": "bold #000000",
        "head": "#57606a",
        "sorted": "bold #000000",
        "good": "#12692d",
        "warn": "#7a4d00",
        "bad": "bold #b31320",
        "accent": "#0b5b9e",
        "own": "#0a3f78",
        "source": "#5f3692",
        "key": "bold #0b5b9e",
        "rule": "#b4bbc3",
    },
    "on #fcfcfb",
    "on #d5e6fa",
    "on #e9eef4",
    "on #edf0f3",
)

TERMINAL: Final = _palette(
    {
        "text": "default",
        "muted": "dim",
        "strong": "bold",
        "title": "bold",
        "head": "dim",
        "sorted": "bold",
        "good": "green",
        "warn": "yellow",
        "bad": "bold red",
        "accent": "cyan",
        "own": "cyan",
        "source": "magenta",
        "key": "bold cyan",
        "rule": "dim",
    },
    "default",
    "reverse not dim",
    "none",
    "default",
)

THEMES: Final = (
    Theme(
        name="safehandle-dark",
        primary="#63c7f5",
        error="#ff8a8a",
        warning="#f0c35a",
        success="#7ddc91",
        foreground="#d3d8e0",
        background="#12151b",
        surface="#12151b",
        panel="#1b212b",
        dark=True,
    ),
    Theme(
        name="safehandle-light",
        primary="#0b5b9e",
        error="#b31320",
        warning="#7a4d00",
        success="#12692d",
        foreground="#24292f",
        background="#fcfcfb",
        surface="#fcfcfb",
        panel="#edf0f3",
        dark=False,
    ),
)


def palette_for(theme: Theme) -> Palette:
    """The palette that goes with a theme of Textual's."""
    if theme.ansi:
        return TERMINAL
    return DARK if theme.dark else LIGHT


def first_theme(color_system: str | None) -> str:
    """The theme to start with, from what the terminal says of itself.

    Args:
        color_system: as Rich names it: "truecolor", "256", "standard" or None.
    """
    if color_system not in ("truecolor", "256"):
        return "ansi-dark"
    background = os.environ.get("COLORFGBG", "").rpartition(";")[2]
    return "safehandle-light" if background in ("7", "15") else "safehandle-dark"


# One character for each that the screens use, so that columns stay in line.
_PLAIN: Final = str.maketrans(
    {
        **dict(zip("▁▂▃▄▅▆▇█", ".:-=+*#@", strict=True)),
        **dict(zip("▏▎▍▌▋▊▉", "''|||##", strict=True)),
        **dict(zip("─━│┃┌┐└┘├┤╭╮╰╯", "--||++++++++++", strict=True)),
        **dict(zip("▸▾▲▼◄►▶←→↑↓●○✗‖…·◆", "}v^v<>><>^v*oX|~.*", strict=True)),
    }
)
_ascii = False


def only_ascii(only: bool) -> None:
    """From now on, paint in ASCII alone, or not."""
    global _ascii
    _ascii = only


def is_ascii() -> bool:
    """Whether only ASCII is painted."""
    return _ascii


def paint(
    line: Iterable[tuple[str, Role]], cells: int, palette: Palette, over: Style | None = None
) -> Strip:
    """The line as a strip of exactly `cells` (the line must fit).

    Args:
        over: laid over the roles' styles (cursor, bar).
    """
    base = palette.base if over is None else palette.base + over
    segments: list[Segment] = []
    used = 0
    for text, role in line:
        if _ascii and not text.isascii():
            text = text.translate(_PLAIN).encode("ascii", "replace").decode()
        style = palette.base + palette.styles[role]
        segments.append(Segment(text, style if over is None else style + over))
        used += cell_width(text)
    if used < cells:
        segments.append(Segment(" " * (cells - used), base))
    strip = Strip(segments, max(used, cells))
    return strip.crop(0, cells) if used > cells else strip
