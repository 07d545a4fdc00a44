"""What was made for one view of the handles, and may do for the next."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, Final

from safehandle_tui.model.rows import Bunch
from safehandle_tui.model.shelf import Shelf

__all__ = ["Shelves"]

_SHELVES: Final = 6  # that are kept for the next view
_STRIPS_AGE: Final = 200  # a strip of births is made anew after that part of its length


class Shelves:
    """The latest few: shelves of the same handles are the same, as a key press
    changes no handle."""

    def __init__(self) -> None:
        self._lock = threading.Lock()  # the screen asks for the rows of a site
        self._known: dict[Any, Shelf] = {}
        self._bunches: dict[Any, tuple[int, list[Bunch]]] = {}

    def get(self, key: Any, make: Callable[[], Shelf]) -> Shelf:
        """The shelf that was made for an equal key before, or a new one."""
        with self._lock:
            known = self._known.pop(key, None)
        if known is None:
            known = make()
        with self._lock:
            self._known[key] = known
            while len(self._known) > _SHELVES:
                del self._known[next(iter(self._known))]
        return known

    def bunches(self, shelf: Shelf, start_ns: int, now_ns: int, *, actors: bool) -> list[Bunch]:
        """Its bunches; their strips of births may be a little older."""
        key = (shelf, start_ns, actors)
        known = self._bunches.pop(key, None)
        if known is None or abs(now_ns - known[0]) > max(1, known[0] - start_ns) // _STRIPS_AGE:
            known = (now_ns, shelf.bunches(start_ns, now_ns, actors=actors))
        self._bunches[key] = known
        while len(self._bunches) > _SHELVES:
            del self._bunches[next(iter(self._bunches))]
        return known[1]
