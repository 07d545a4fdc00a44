"""The help: all keys, the filter language, the words of the state column."""

from __future__ import annotations

from typing import ClassVar, Final

from textual.app import ComposeResult
from textual.screen import ModalScreen

from safehandle_debug.ledger.filter import FIELDS, STATES
from safehandle_tui.keys import KEYS, MOVES, Key, bindings
from safehandle_tui.model.modes import MODES, Mode
from safehandle_tui.model.text import Line
from safehandle_tui.widgets.key_bar import KeyBar
from safehandle_tui.widgets.page import Page

__all__ = ["HelpScreen", "help_lines"]

_CLOSE: Final = Key(
    "close", "escape,question_mark,f1,backspace,enter", "Esc", "close", "Close", "", 1
)
_KEYS: Final = (_CLOSE, *(key for key in KEYS if key.id == "quit"))

_WORDS: Final = (
    ("open", "open now"),
    ("held", "its process was killed while it was open"),
    ("never closed", "still open when the program ended: a leak"),
    ("closed, exited", "closed by close() or by the end of its with block"),
    ("dropped, collected", "nobody closed it: a finalizer did, later"),
    ("open (import)", "opened while a module was imported, kept for life"),
    ("borrowed", "somebody else's: it need not be closed here"),
)


_VERDICTS: Final = (
    ("LEAK", "closes as a rule, but some far older ones never are"),
    ("never closed", "closes nothing, and more keep coming"),
    ("watch", "older than the rule, but too few to say more"),
    ("in use", "as old as others that were closed, or just opened"),
    ("cache", "opened at the start, or by imports, and kept"),
)


def help_lines(mode: Mode) -> list[Line]:
    """The whole text, that of a screen first."""
    lines: list[Line] = [
        ((f"{MODES[mode].name}: ", "title"), (MODES[mode].help, "text")),
        (),
        (("Keys", "title"),),
        (),
    ]
    seen: set[str] = set()
    for key in (*KEYS, *MOVES):
        if key.help not in seen:
            seen.add(key.help)
            lines.append(((f"  {key.shown:<8}", "key"), (key.help, "text")))
    lines += [
        (),
        (("Filter", "title"),),
        (),
        (("  words and terms, all of which must hold", "text"),),
        (("  kind:file ", "key"), ("the text contains it (= for exactly)", "text")),
        (("  refs>1    ", "key"), ("also < >= <= =, and age>5m, age<200ms", "text")),
        (("  !term     ", "key"), ("not;  a|b either;  ", "text"), ('"two words"', "key")),
        (("  /re/      ", "key"), ("a regular expression", "text")),
        (("  fields    ", "muted"), (" ".join(FIELDS[:8]), "text")),
        (("            ", "muted"), (" ".join(FIELDS[8:16]), "text")),
        (("            ", "muted"), (" ".join(FIELDS[16:]), "text")),
        (("  state     ", "muted"), (" ".join(STATES), "text")),
        (("  lib       ", "muted"), ("app site stdlib: whose code opened it", "text")),
        (),
        (("Verdicts on a line", "title"),),
        (),
    ]
    lines += [((f"  {word:<14}", "key"), (meaning, "text")) for word, meaning in _VERDICTS]
    lines += [(), (("States of a handle", "title"),), ()]
    lines += [((f"  {word:<20}", "key"), (meaning, "text")) for word, meaning in _WORDS]
    lines += [
        (),
        (("Open, by birth", "title"),),
        (),
        (("  ▅▆▅▇▆█▇▆  ", "accent"), ("flat: it has been leaking all the time", "text")),
        (("  █▂        ", "accent"), ("left: opened at the start and kept, a cache", "text")),
        (("         █  ", "accent"), ("right: just opened, work in progress", "text")),
    ]
    return lines


class HelpScreen(ModalScreen[None]):
    """Shows the help above whatever is there."""

    BINDINGS: ClassVar = bindings(_KEYS)
    AUTO_FOCUS = "#help"

    def __init__(self, mode: Mode) -> None:
        """`mode`: the screen that it is asked for on."""
        super().__init__()
        self._mode: Mode = mode

    def compose(self) -> ComposeResult:
        yield Page(id="help")
        yield KeyBar(_KEYS, id="help-keys")

    def on_mount(self) -> None:
        page = self.query_one("#help", Page)
        page.border_title = "safehandle watch"
        page.show([((" ", "text"), *line) for line in help_lines(self._mode)])

    def action_close(self) -> None:
        """Goes back."""
        self.dismiss()
