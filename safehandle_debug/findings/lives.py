"""Two lives of one number, when the first was over long before the second.

A number that was closed twice is caught while it is in quarantine.  Later its
new owner is hit in earnest, and all that the watch sees is a close: behind its
owner, or before that of whoever opened it.  Who did it shows by what it had to
do with the number's life before.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from safehandle_debug.findings.verdict import Verdict
from safehandle_debug.findings.wording import named, where
from safehandle_debug.ledger import Event, Frame, History, site_of
from safehandle_debug.recording.format import Flag

_Scope = tuple[str, str]  # file, class or function
_RAW = "raw"


def retold(
    verdict: Verdict, history: History, before: Callable[[History], History | None], cwd: str
) -> tuple[Verdict, History]:
    """The verdict on a number closed by a stranger, and whose it is; as
    `recycled`, on the number's life before, when the stranger is who opened
    and closed that.

    Args:
        before: finds the life before, as Ledger.life_before does.
    """
    close = _close_by_stranger(verdict, history)
    if close is None:
        return verdict, history
    stranger = _scope(close.stack)
    if stranger is None or stranger in map(_scope_of, history.opened):
        return verdict, history
    earlier = before(history)
    if earlier is None or not earlier.watched or earlier.owner != _RAW:
        return verdict, history
    closed = next((each for each in reversed(earlier.events) if each.kind == "close"), None)
    if closed is None or not _scope(earlier.opened) == _scope(closed.stack) == stranger:
        return verdict, history
    message = f"{named(earlier)} was closed at {where(closed.stack, cwd)}, and closed again"
    message += f" at {where(close.stack, cwd)} when it was"
    again = replace(
        close,
        kind="recycled",
        value=history.serial,
        detail="close",
        flags=close.flags | Flag.STALE,
    )
    story = replace(earlier, events=[*earlier.events, again])
    retold = Verdict(
        "recycled",
        message,
        close.stack,
        "events",
        again,
        victim_serial=history.serial,
        victim_follows=True,
    )
    return retold, story


def _close_by_stranger(verdict: Verdict, history: History) -> Event | None:
    """The close that took the number from its owner, or from who closed it
    after that and was told off."""
    if verdict.kind == "closed-behind-owner":
        return verdict.event
    if verdict.kind == "double-release" and history.watched and history.owner == _RAW:
        return next((each for each in history.events if each.kind == "close"), None)
    return None


def _scope(stack: Sequence[Frame]) -> _Scope | None:
    site = site_of(tuple(stack))
    return None if site is None else _scope_of(site)


def _scope_of(frame: Frame) -> _Scope:
    """Methods of one class do their work together; functions each for themselves."""
    outer, _, _ = frame.function.rpartition(".")
    is_method = bool(outer) and not outer.endswith("<locals>")
    return frame.file, outer if is_method else frame.function
