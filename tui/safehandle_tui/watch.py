"""The Textual app: it carries Views from the reader to the screen."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from typing import ClassVar, Final

from textual import events
from textual.app import App
from textual.command import DiscoveryHit, Hit, Hits, Provider
from textual.css.query import NoMatches
from textual.message import Message

from safehandle_tui.keys import KEYS, keymap_path, read_keymap
from safehandle_tui.model.clock import Clock
from safehandle_tui.model.feed import Feed, View, ViewSpec
from safehandle_tui.palette import THEMES, first_theme, is_ascii
from safehandle_tui.reader import Reader
from safehandle_tui.screens.card import CardScreen
from safehandle_tui.screens.commands import Commands
from safehandle_tui.screens.detail import DetailScreen
from safehandle_tui.screens.help import HelpScreen
from safehandle_tui.screens.lines import JumpScreen, LinesScreen
from safehandle_tui.screens.main import MainScreen
from safehandle_tui.screens.small import SmallScreen, is_too_small
from safehandle_tui.screens.taking import Taking

__all__ = ["KeyCommands", "WatchApp"]

_LOOKS: Final = ("safehandle-dark", "safehandle-light", "ansi-dark")


class KeyCommands(Provider):
    """All that has a key, by name, in the command palette."""

    async def discover(self) -> Hits:
        for key in KEYS:
            if key.id != "palette":
                yield DiscoveryHit(
                    f"{key.label}: {key.help}", partial(self._run, key.action), help=key.shown
                )

    async def search(self, query: str) -> Hits:
        matcher = self.matcher(query)
        for key in KEYS:
            text = f"{key.label}: {key.help}"
            score = matcher.match(text)
            if score > 0 and key.id != "palette":
                yield Hit(
                    score, matcher.highlight(text), partial(self._run, key.action), help=key.shown
                )

    async def _run(self, action: str) -> None:
        await self.screen.run_action(action)


class WatchApp(App[int]):
    """Watches what the targets name; its result is the exit status."""

    CSS_PATH = "app.tcss"
    TITLE = "safehandle watch"
    ALLOW_SELECT = False
    COMMANDS: ClassVar = {KeyCommands}
    COMMAND_PALETTE_BINDING = ""  # it is in our own table of keys
    BINDINGS: ClassVar = []

    class NewView(Message):
        """The reader has made a view."""

        def __init__(self, view: View) -> None:
            super().__init__()
            self.view = view

    class ReaderFailed(Message):
        """The reader met an error of our own and ended."""

        def __init__(self, error: Exception) -> None:
            super().__init__()
            self.error = error

    def __init__(self, targets: Sequence[str] = (), *, clock: Clock | None = None) -> None:
        """`targets` as `recording.resolve` takes them; none: the newest session."""
        # Without this NO_COLOR would turn red into a grey that nobody can
        # read; the terminal's own colours lose theirs entirely instead.
        no_color = "NO_COLOR" in os.environ
        super().__init__(ansi_color=True if no_color else None)
        for theme in THEMES:
            self.register_theme(theme)
        if no_color:
            self.theme = "ansi-dark"
        elif "TEXTUAL_THEME" not in os.environ:
            self.theme = first_theme(self.console.color_system)
        self._clock = clock or Clock()
        self._main = MainScreen(self._ask, self._clock.wall_ns)
        self._feed = Feed(targets, self._clock)
        self._reader: Reader | None = None
        self.view: View | None = None

    def get_default_screen(self) -> MainScreen:
        return self._main

    def on_mount(self) -> None:
        self._reader = Reader(
            self._feed,
            self._main.spec,
            lambda view: self.post_message(self.NewView(view)),
            lambda error: self.post_message(self.ReaderFailed(error)),
            watch_terminal=not self.is_headless,
        )
        self._reader.start()
        self.set_class(is_ascii(), "-ascii")
        keymap, problem = read_keymap(keymap_path())
        self.set_keymap(keymap)
        if problem is not None:
            self.notify(problem, severity="warning", timeout=10)
        if not self.is_headless:
            # Otherwise SIGTERM would leave the terminal in disorder.
            asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, self.exit, 0)

    def on_unmount(self) -> None:
        if self._reader is not None:
            self._reader.stop()
            # It may be deep in a large recording; as a daemon it holds up
            # nothing for longer than this.
            self._reader.join(timeout=1.0)

    def _ask(self, spec: ViewSpec) -> None:
        if self._reader is not None:
            self._reader.ask(spec)

    def on_watch_app_new_view(self, message: NewView) -> None:
        self.view = message.view
        with suppress(NoMatches):  # on the way out the parts go one by one
            self._main.show_view(message.view)
            for screen in self.screen_stack:
                if isinstance(screen, DetailScreen | CardScreen):
                    screen.show_view(message.view)

    def on_asking_turned(self) -> None:
        for screen in self.screen_stack:
            if isinstance(screen, DetailScreen):
                screen.repaint_all()

    def on_watch_app_reader_failed(self, message: ReaderFailed) -> None:
        raise message.error

    def on_resize(self, event: events.Resize) -> None:
        small = isinstance(self.screen, SmallScreen)
        if is_too_small(event.size.width, event.size.height):
            if not small:
                self.push_screen(SmallScreen())
        elif small:
            self.pop_screen()

    def on_commands_detail_asked(self, message: Commands.DetailAsked) -> None:
        if isinstance(self.screen, SmallScreen):
            # The terminal shrank between the key and this message.
            self._main.unpin()
            return
        self.push_screen(
            DetailScreen(message.key, self.view, now=self._clock.wall_ns, main=self._main)
        )

    def on_commands_card_asked(self, message: Commands.CardAsked) -> None:
        if not isinstance(self.screen, SmallScreen):
            self.push_screen(CardScreen(message.key, self.view, self._main))

    def on_taking_lines_asked(self, message: Taking.LinesAsked) -> None:
        self.push_screen(LinesScreen(message.title, message.lines))

    def action_jump(self) -> None:
        """Shows a letter for each screen."""

        def go(mode: str | None) -> None:
            if mode is not None:
                self._main.action_mode(mode)  # type: ignore[arg-type]

        self.push_screen(JumpScreen(), go)

    def action_help(self) -> None:
        """Shows the help."""
        self.push_screen(HelpScreen(self._main.spec.mode))

    async def action_quit(self) -> None:
        """Leaves."""
        self.exit(0)

    def action_theme(self) -> None:
        """Takes the next of the looks; without colours there is one only."""
        if not self.no_color:
            at = _LOOKS.index(self.theme) if self.theme in _LOOKS else -1
            self.theme = _LOOKS[(at + 1) % len(_LOOKS)]
            self.refresh(layout=True)
