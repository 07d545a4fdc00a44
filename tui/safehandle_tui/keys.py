"""All keys in one table: bindings, the bottom line, the help, the palette and
the user's own keymap come from it."""

from __future__ import annotations

import os
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from textual.binding import Binding, BindingType

__all__ = ["KEYS", "MOVES", "Key", "bindings", "keymap_path", "read_keymap"]


@dataclass(frozen=True, slots=True)
class Key:
    """One action and the keys that start it."""

    id: str  # as a keymap names it
    keys: str  # as Textual names them, comma separated
    shown: str  # as people name them
    action: str
    label: str  # in the bottom line
    help: str  # in the help
    rank: int = 0  # in the bottom line: 0 is never shown, 1 goes last
    past: int = 0  # the same while the screen is in the past


MOVES: Final = (
    Key("up", "up,k", "↑ k", "move(-1)", "Up", "one row up"),
    Key("down", "down,j", "↓ j", "move(1)", "Down", "one row down"),
    Key("page-up", "pageup,ctrl+b", "PgUp", "page(-1)", "Page up", "one page up"),
    Key("page-down", "pagedown,ctrl+f", "PgDn", "page(1)", "Page down", "one page down"),
    Key("top", "home,g", "Home g", "top", "Top", "first row, and stay on the first"),
    Key("bottom", "end,G", "End G", "bottom", "Bottom", "last row"),
)

_SCREENS: Final = (
    Key("suspects", "1", "1", "mode('sites')", "Suspects", "Suspects: lines that open handles"),
    Key("handles", "2", "2", "mode('handles')", "Handles", "Handles, one by one"),
    Key("tree", "3", "3", "mode('tree')", "Tree", "Sites tree: who called whom"),
    Key("kinds", "4", "4", "mode('kinds')", "Kinds", "Kinds, and the map of the descriptors"),
    Key("alarms", "5,a", "5 a", "mode('alarms')", "Alarms", "Alarms, each with its card", 7),
    Key(
        "generations",
        "6",
        "6",
        "mode('generations')",
        "Generations",
        "Generations: what is left of what was opened between marks",
    ),
    Key("events", "7", "7", "mode('events')", "Events", "Events, the newest last"),
    Key(
        "sessions",
        "0",
        "0",
        "mode('sessions')",
        "All",
        "all processes: live, ended, crashed, recorded",
        10,
    ),
)

KEYS: Final = (
    Key("open", "enter", "Enter", "open", "Open", "opens what is under the cursor", 2, 6),
    Key("itself", "H", "H", "itself", "Handle", "Alarms, a card: the handle that it is about"),
    Key("back", "escape,backspace", "Esc", "back", "Back", "back, or drop the filter", 9, 9),
    *_SCREENS,
    Key("filter", "slash", "/", "filter", "Filter", "show only some; see below", 3),
    Key("next-match", "n", "n", "match(1)", "Next", "next row that is marked, or matches"),
    Key("previous-match", "N", "N", "match(-1)", "Previous", "the one before"),
    Key("sort", "s", "s", "sort(1)", "Sort", "sort by the next column", 4),
    Key("sort-left", "left,h", "← h", "sort(-1)", "Sort", "sort by the column before"),
    Key("sort-right", "right,l", "→ l", "sort(1)", "Sort", "sort by the next column"),
    Key("invert", "i,S", "i", "reverse", "Invert", "sort the other way round"),
    Key("by-live", "L", "L", "sort_by('open')", "Open", "sort by number open"),
    Key("by-births", "B", "B", "sort_by('newest')", "Births", "sort by the latest birth"),
    Key("by-age", "A", "A", "sort_by('oldest')", "Age", "sort by age"),
    Key("by-opened", "O", "O", "sort_by('opened')", "Opened", "sort by number ever opened"),
    Key("group", "t", "t", "group", "Group", "Suspects by site, kind, thread, owner, module", 5),
    Key("ended", "c", "c", "ended", "Ended", "also handles that ended, or open ones only", 8),
    Key("pause", "space", "Space", "pause", "Pause", "stop the picture; the program runs on", 6),
    Key("follow", "F", "F", "follow", "Follow", "Events: stay on the newest, or stand still"),
    Key("mark", "m", "m", "mark", "Mark", "begin a new generation now"),
    Key("diff", "d", "d", "diff", "Diff", "only what was opened since the last mark"),
    Key("diff-marks", "D", "D", "diff_marks", "Diff", "only what was opened between two marks"),
    Key(
        "step-back",
        "left_square_bracket",
        "[",
        "step('-1')",
        "Back",
        "one event back in time",
        0,
        4,
    ),
    Key("step-on", "right_square_bracket", "]", "step('+1')", "On", "one event on", 0, 4),
    Key(
        "alarm-back",
        "left_curly_bracket",
        "{",
        "step('-!')",
        "Alarm",
        "back to the alarm before",
        0,
        7,
    ),
    Key(
        "alarm-on", "right_curly_bracket", "}", "step('+!')", "Alarm", "on to the next alarm", 0, 7
    ),
    Key("leap-back", "less_than_sign", "<", "step('-%')", "Leap", "a hundredth of all back"),
    Key("leap-on", "greater_than_sign", ">", "step('+%')", "Leap", "a hundredth of all on"),
    Key(
        "then",
        "full_stop",
        ".",
        "then",
        "Then",
        "how all was at this event, alarm or birth",
    ),
    Key("play", "P", "P", "play", "Play", "play the past; in the past Space does so too", 0, 2),
    Key("slower", "left_parenthesis", "(", "speed(-1)", "Slower", "play it slower", 0, 5),
    Key("faster", "right_parenthesis", ")", "speed(1)", "Faster", "play it faster", 0, 5),
    Key("live", "backslash", "\\", "live", "Live", "back to now", 0, 1),
    Key("processes", "p,tab", "p", "processes", "Process", "choose a process: ↑ ↓, Enter"),
    Key("newer", "w", "w", "newer", "Newer", "go to the newer session when one began"),
    Key("owners", "o", "o", "owners", "Owners", "ask the program who keeps it alive", 8),
    Key("system", "v", "v", "system", "System", "what the system says of a descriptor"),
    Key("edit", "e", "e", "edit", "Edit", "the source line in $EDITOR"),
    Key("copy", "y", "y", "copy", "Copy", "copy the row and what is told of it"),
    Key("export", "x", "x", "export", "Export", "write what is shown into a file"),
    Key(
        "library",
        "u",
        "u",
        "library",
        "Frames",
        "Sites tree, a handle's page: frames of libraries too",
    ),
    Key("zoom", "z,plus", "z +", "layout(1)", "Zoom", "the table alone, the pane alone, both"),
    Key("layout-back", "underscore", "_", "layout(-1)", "Zoom", "the same, backwards"),
    Key("theme", "T", "T", "app.theme", "Theme", "dark, light, or the terminal's own colours"),
    Key("jump", "ctrl+o", "^o", "app.jump", "Jump", "go to a screen by its letter"),
    Key("palette", "ctrl+p", "^p", "app.command_palette", "Palette", "all commands by name"),
    Key("help", "question_mark,f1", "?", "app.help", "Help", "this help", 1, 1),
    Key("suspend", "ctrl+z", "^z", "app.suspend_process", "Suspend", "to the shell; fg returns"),
    Key("quit", "q,ctrl+c", "q", "app.quit", "Quit", "leave; the program is not touched", 1, 1),
)


def bindings(keys: tuple[Key, ...]) -> list[BindingType]:
    """The keys as Textual wants them; their ids are what a keymap names."""
    return [
        Binding(key.keys, key.action, key.label, show=False, id=key.id, tooltip=key.help)
        for key in keys
    ]


def keymap_path() -> Path:
    """Where a user's own keys are looked for."""
    config = os.environ.get("XDG_CONFIG_HOME") or str(Path.home() / ".config")
    return Path(config) / "safehandle" / "keys.toml"


def read_keymap(path: Path) -> tuple[dict[str, str], str | None]:
    """The user's keys by id, and what is wrong with the file, in a sentence.

    What is right in it counts all the same."""
    try:
        with path.open("rb") as file:
            said = tomllib.load(file)
    except FileNotFoundError:
        return {}, None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        return {}, f"{path} cannot be read: {error}"
    keys = said.get("keys", {})
    if not isinstance(keys, dict):
        return {}, f'{path}: [keys] must be a table of lines like  mark = "M"'
    known = {key.id for key in (*KEYS, *MOVES)}
    good = {id: keys[id] for id in keys if id in known and isinstance(keys[id], str)}
    bad = sorted(set(keys) - set(good))
    if not bad:
        return good, None
    return good, f"no key is called {', '.join(bad)}, in {path}"
