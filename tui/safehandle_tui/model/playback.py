"""Playback: the past goes by again, at another speed if wanted."""

from __future__ import annotations

from typing import Final

__all__ = ["SPEEDS", "Player"]

SPEEDS: Final = (0.001, 0.01, 0.1, 1.0, 4.0, 16.0, 60.0, 600.0)
_QUIET_NS: Final = 500_000_000  # without any event: then it goes on with the next


class Player:
    """Says where in time the screen is to be."""

    def __init__(self) -> None:
        self.playing = False
        self._speed = SPEEDS.index(1.0)
        self._began_ns = 0  # wall clock
        self._from_ns = 0  # the time on the screen then
        self._seen = (-1, 0)  # event on the screen, and since when
        self._jumped = False

    @property
    def word(self) -> str:
        """ "▶ 4x" while it plays, else ""."""
        if not self.playing:
            return ""
        speed = SPEEDS[self._speed]
        return f"▶ {speed:g}x" if speed >= 1 else f"▶ 1/{1 / speed:g}x"

    def play(self, now_ns: int) -> None:
        """Begins to play from wherever the screen is."""
        self.playing = True
        self._seen = (-1, now_ns)
        self._jumped = True

    def stop(self) -> None:
        """Stands still."""
        self.playing = False

    def faster(self, step: int, now_ns: int, at_ns: int) -> None:
        """Takes the next speed, or the one before."""
        self._speed = max(0, min(len(SPEEDS) - 1, self._speed + step))
        self._begin(now_ns, at_ns)

    def step(self, now_ns: int, at_ns: int, seq: int) -> str:
        """The step from the event on the screen, as time travel takes them."""
        if seq != self._seen[0]:
            self._seen = (seq, now_ns)
            if self._jumped:
                self._begin(now_ns, at_ns)
        elif now_ns - self._seen[1] > _QUIET_NS:
            self._seen = (seq, now_ns)
            self._jumped = True
            return "+1"
        gone = (now_ns - self._began_ns) * SPEEDS[self._speed]
        return f"@{self._from_ns + int(gone)}"

    def _begin(self, now_ns: int, at_ns: int) -> None:
        self._jumped = False
        self._began_ns, self._from_ns = now_ns, at_ns
