"""What a filter can know of a handle, and how it knows it of a History."""

from __future__ import annotations

from functools import cached_property
from typing import Protocol

from safehandle_debug.ledger.model import History
from safehandle_debug.ledger.sites import place

__all__ = ["Filterable", "HandleFacts", "words_of"]


class Filterable(Protocol):
    """A handle as a filter sees it; texts are "" where there is nothing."""

    @property
    def kind(self) -> str: ...
    @property
    def detail(self) -> str: ...
    @property
    def site(self) -> str: ...  # as it is shown
    @property
    def file(self) -> str: ...
    @property
    def function(self) -> str: ...
    @property
    def thread(self) -> str: ...
    @property
    def task(self) -> str: ...
    @property
    def owner(self) -> str: ...
    @property
    def ending(self) -> str: ...
    @property
    def test(self) -> str: ...
    @property
    def problem(self) -> str: ...  # kind of a finding on it
    @property
    def value(self) -> int: ...
    @property
    def refs(self) -> int: ...
    @property
    def pid(self) -> int: ...
    @property
    def serial(self) -> int: ...
    @property
    def line(self) -> int: ...
    @property
    def borrowed(self) -> bool: ...
    @property
    def importing(self) -> bool: ...
    @property
    def is_open(self) -> bool: ...  # or was when its process ended
    @property
    def words(self) -> tuple[str, ...]: ...  # what a bare word looks through, case folded
    def age_ns(self, now_ns: int) -> int: ...  # from acquire to its end, or to now


class HandleFacts:
    """A History for a filter to judge."""

    def __init__(
        self, history: History, *, cwd: str = "", until_ns: int | None = None, problem: str = ""
    ) -> None:
        """
        Args:
            cwd: the process's; the site is shown relative to it.
            until_ns: wall clock end of the process; None while it runs.
            problem: kind of a finding on the handle, "" for none.
        """
        self.history = history
        self.problem = problem
        self._until_ns = until_ns
        self.kind = history.kind
        self.detail = history.detail or ""
        self.thread = history.thread
        self.task = history.task or ""
        self.owner = history.owner
        self.ending = history.ending or ""
        self.test = history.test or ""
        self.value = history.value
        self.refs = history.refs
        self.pid = history.pid
        self.serial = history.serial
        self.borrowed = history.borrowed
        self.importing = history.importing
        self.is_open = history.ending in (None, "lost")
        frame = history.site
        self.site = place(frame, cwd)
        self.file, self.line, self.function = (
            ("", 0, "") if frame is None else (frame.file, frame.line, frame.function)
        )

    def age_ns(self, now_ns: int) -> int:
        """How long it was open, in ns: until it was closed, its process ended, or now."""
        end = self.history.closed_at_ns or self._until_ns or now_ns
        return max(0, end - self.history.opened_at_ns)

    @cached_property
    def words(self) -> tuple[str, ...]:
        """What a bare word looks through."""
        return words_of(self)


def words_of(handle: Filterable, *more: str) -> tuple[str, ...]:
    """What a bare word looks through, of anything that a filter can judge."""
    parts = (
        *more,
        handle.kind,
        handle.owner,
        handle.detail,
        handle.file,
        handle.site,
        handle.thread,
        handle.task,
        handle.test,
        f"#{handle.serial}",
    )
    return tuple(part.casefold() for part in parts if part)
