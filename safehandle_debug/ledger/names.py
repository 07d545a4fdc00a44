"""What the ids in one recording say, as a view shows it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from safehandle_debug.errors import RecordingError
from safehandle_debug.ledger.sites import place, site_of
from safehandle_debug.ledger.watched import owner_of
from safehandle_debug.recording import Frame, Recording

__all__ = ["NO_SITE", "Names", "SiteKey"]

SiteKey = tuple[str, int, str]  # (file, line, function)

NO_SITE: Final[SiteKey] = ("", 0, "")
_KEPT: Final = 65_536  # sites
_UNKNOWN: Final = "?"


class Names:
    """Texts for ids.  A recording that was closed or cut off meanwhile says
    "?": what asks is a screen, which has nothing better to show then."""

    def __init__(
        self,
        recording: Recording,
        *,
        clean: Callable[[str], str] = str,
        place: Callable[[Frame | None], str] = lambda frame: place(frame, ""),
    ) -> None:
        """
        Args:
            clean: makes a text fit to be shown.
            place: how a site is shown.
        """
        self._recording = recording
        self._clean = clean
        self._place = place
        self._sites: dict[int, tuple[SiteKey, str]] = {}

    def kind(self, type: int) -> str:
        """The kind of handles of a TYPE id."""
        try:
            return self._clean(self._recording.type(type).kind)
        except (RecordingError, ValueError):
            return _UNKNOWN

    def space(self, type: int) -> str:
        """The space of numbers of handles of a TYPE id."""
        try:
            return self._recording.type(type).space
        except (RecordingError, ValueError):
            return _UNKNOWN

    def owner(self, type: int, stack: int) -> str:
        """The owner of handles of a TYPE id that were acquired there."""
        try:
            return self._clean(owner_of(self._recording.type(type), self.stack(stack)))
        except (RecordingError, ValueError):
            return _UNKNOWN

    def thread(self, id: int) -> str:
        """A thread's name."""
        try:
            return self._clean(self._recording.thread(id).name)
        except (RecordingError, ValueError):
            return _UNKNOWN

    def text(self, id: int) -> str:
        """The text of a STRING id, "" for 0."""
        try:
            return self._clean(self._recording.string(id))
        except (RecordingError, ValueError):
            return _UNKNOWN

    def stack(self, id: int) -> tuple[Frame, ...]:
        """The frames of a stack, innermost first."""
        try:
            return self._recording.stack(id)
        except (RecordingError, ValueError):
            return ()

    def site_key(self, stack: int) -> SiteKey:
        """The site of a stack; NO_SITE when there is none."""
        return self._site(stack)[0]

    def site(self, stack: int) -> str:
        """The same as it is shown."""
        return self._site(stack)[1]

    def _site(self, stack: int) -> tuple[SiteKey, str]:
        known = self._sites.get(stack)
        if known is None:
            frame = site_of(self.stack(stack))
            key = NO_SITE if frame is None else (frame.file, frame.line, frame.function)
            known = (key, self._place(frame))
            if len(self._sites) >= _KEPT:
                self._sites.clear()
            if frame is not None or not stack:
                self._sites[stack] = known
        return known
