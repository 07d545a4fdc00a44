"""What the main screen asks the reader for, and the ways through time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final

from textual.message import Message
from textual.screen import Screen
from textual.timer import Timer

from safehandle_tui.model.alarms import AlarmRow
from safehandle_tui.model.events import EventRow
from safehandle_tui.model.feed import View
from safehandle_tui.model.playback import Player
from safehandle_tui.model.rows import HandleRow
from safehandle_tui.model.spec import ViewSpec
from safehandle_tui.widgets.table import Table

__all__ = ["TICK_S", "Asking"]

TICK_S: Final = 3.0  # ages grow in steps of this: each repaints the screen

_FRAME_S: Final = 0.1  # of the playback


class Asking(Screen[None]):
    """A screen with a ViewSpec that can be changed, also to the past."""

    class Turned(Message):
        """The past is played, or stands still, or goes by at another speed."""

    def __init__(self, ask: Callable[[ViewSpec], None], now: Callable[[], int]) -> None:
        super().__init__()
        self._ask = ask
        self._now = now
        self.spec = ViewSpec()
        self.view: View | None = None
        self.player = Player()
        self._frames: Timer | None = None  # runs while the past is played

    @property
    def table(self) -> Table:
        """The table of the screen."""
        return self.query_one("#table", Table)

    def change(self, **changes: Any) -> None:
        """Asks for a view that differs in these fields of the ViewSpec."""
        self.spec = replace(self.spec, **{"step": (), **changes})
        self._ask(self.spec)

    def repaint_all(self) -> None:
        """Paints what is not part of a view; MainScreen knows how."""

    # --- steps ---

    def action_step(self, step: str) -> None:
        """Moves in time."""
        self._stop()
        self._move(step)

    def _move(self, step: str) -> None:
        moment = self.spec.moment or (self.spec.scope or "", -1)
        # Those that have not been answered yet are asked for together.
        self.change(moment=moment, step=(*self.spec.step, step))

    def action_then(self) -> None:
        """Shows how all was at the event, the alarm or the birth under the cursor."""
        row = self.table.row
        moment = None
        if isinstance(row, EventRow):
            moment = (row.process, row.event.seq)
        elif isinstance(row, AlarmRow) and row.seq is not None:
            moment = (row.process, row.seq)
        elif isinstance(row, HandleRow) and self.view is not None:
            events = getattr(self.view.detail, "history", row.history).events
            if events:
                moment = (row.key[0], events[0].seq)
        if moment is None:
            self.app.notify("choose an event, an alarm or a handle", timeout=3)
        else:
            self._stop()
            self.change(moment=moment)

    def action_live(self) -> None:
        """Back to now."""
        self._stop()
        self.change(moment=None)

    # --- playback ---

    def action_play(self) -> None:
        """Plays on from the moment on the screen, or stands still."""
        if self.player.playing:
            self._stop()
            self._turned()
            return
        view = self.view
        if view is None or not view.processes:
            return
        if view.timeline is None or view.timeline.seq >= view.timeline.last_seq:
            # From now there is nothing to play: from the start, then.
            self.change(moment=(self.spec.scope or view.processes[0].path, 1))
        self.player.play(self._now())
        if self._frames is None:
            self._frames = self.set_interval(_FRAME_S, self._play_on)
        self._frames.resume()
        self._turned()

    def action_speed(self, step: int) -> None:
        """Plays faster, or slower."""
        line = self.view.timeline if self.view is not None else None
        self.player.faster(step, self._now(), line.at_ns if line is not None else 0)
        if not self.player.playing:
            self.action_play()
        self._turned()

    def _play_on(self) -> None:
        view = self.view
        if view is None or view.spec != self.spec:
            return  # the step before has not been answered yet
        line = view.timeline
        if line is None:
            self._stop()
        elif line.seq >= line.last_seq:
            self._stop()
            self.app.notify("this is the last event; \\ goes back to now", timeout=4)
            self._turned()
        else:
            self._move(self.player.step(self._now(), line.at_ns, line.seq))

    def _turned(self) -> None:
        self.repaint_all()
        self.post_message(self.Turned())

    def _stop(self) -> None:
        self.player.stop()
        if self._frames is not None:
            self._frames.pause()
