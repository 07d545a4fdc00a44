"""The bottom line: the keys that matter here, as many as fit."""

from __future__ import annotations

from collections.abc import Sequence

from textual import events
from textual.strip import Strip
from textual.widget import Widget

from safehandle_tui.keys import Key
from safehandle_tui.model.text import Span
from safehandle_tui.palette import paint
from safehandle_tui.widgets.look import palette_of

__all__ = ["KeyBar"]


class KeyBar(Widget):
    """Shows keys with their labels; a click does what the key does."""

    ALLOW_SELECT = False

    def __init__(self, keys: Sequence[Key], *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._keys = tuple(keys)
        self._past = False

    def turn(self, *, past: bool) -> None:
        """Shows the keys that matter now, or in the past."""
        if past != self._past:
            self._past = past
            self.refresh()

    def _rank(self, key: Key) -> int:
        return key.past if self._past else key.rank

    def fitting(self) -> list[Key]:
        """The keys for which there is room: the least important go first."""
        chosen = [key for key in self._keys if self._rank(key)]
        while chosen and self._width(chosen) > self.size.width:
            chosen.remove(max(chosen, key=self._rank))
        return chosen

    @staticmethod
    def _width(keys: Sequence[Key]) -> int:
        return sum(len(key.shown) + len(key.label) + 3 for key in keys)

    def render_line(self, y: int) -> Strip:
        palette = palette_of(self)
        spans: list[Span] = []
        for key in self.fitting():
            spans += [(f" {key.shown}", "key"), (f" {key.label} ", "text")]
        return paint(spans, self.size.width, palette, palette.bar)

    async def on_click(self, event: events.Click) -> None:
        left = 0
        for key in self.fitting():
            left += self._width([key])
            if event.x < left:
                await self.screen.run_action(key.action)
                return
