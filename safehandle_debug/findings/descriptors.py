"""The rules for what the watch saw: numbers closed twice, used stale, closed behind an owner.

One handle is one bug, however many wrong acts followed.  Whoever acted last
is often innocent: who closes a number that was taken from under him does what
he should.  So the blame goes, in this order, to

    who closed the number behind its owner,
    who made a second owner for it, when one of the two closed it,
    who closed it while another thread was blocked on it,
    who dropped its owner and kept the number (`fd = open(path).fileno()`),
    who used or closed the number after all.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from safehandle_debug.findings.model import FindingKind
from safehandle_debug.findings.verdict import Verdict
from safehandle_debug.findings.wording import named, where
from safehandle_debug.ledger import Event, History
from safehandle_debug.recording.format import Flag

_CLOSERS: Final = frozenset(
    {"close", "fclose", "closedir", "pclose", "closerange", "close_range", "closefrom"}
)
_REPLACERS: Final = frozenset({"dup2", "dup3", "freopen"})
_BY_FINALIZER: Final = ("dropped", "collected")


def judged_acts(history: History, cwd: str) -> Verdict | None:
    """What was done wrong with a watched handle's number, if anything was."""
    if _is_of_import(history):
        return None
    events = history.events
    behind = None if _let_go_late(events) else _first(events, "closed-behind")
    second = next((each for each in events if is_second_owner(each)), None)
    in_use = next((each for each in events if each.flags & Flag.IN_USE), None)
    # A wrong act without a place names nobody: a child that finalizes what its
    # parent left it, a native thread.
    stale = [each for each in events if _is_stale(each) and (each.stack or behind or second)]
    if behind is None and second is None and in_use is None and not stale:
        return None
    recycled = _first(stale, "recycled")
    act = recycled or (stale[0] if stale else None)
    close = next((each for each in reversed(events) if each.kind == "close"), None)
    who = named(history)
    kind: FindingKind
    # The cause may be written after its consequence: closes are held back until
    # it is known that they are no loop.
    if behind is not None:
        kind, event = "closed-behind-owner", behind
        verb = "replaced" if behind.detail in _REPLACERS else "closed"
        cause = f"was {verb} behind its owner{_by(behind)} at {where(behind.stack, cwd)}"
    elif second is not None:
        kind, event = "double-owner", second
        cause = f"got a second owner at {where(second.stack, cwd)}"
    elif in_use is not None:
        event = close if close is not None and in_use.kind != "close" else in_use
        kind = "use-after-close"
        cause = f"was closed at {where(event.stack, cwd)} while another thread was blocked on it"
    elif history.ending in _BY_FINALIZER and close is not None and act is not None:
        kind, event = _kind_of(act), close
        cause = f"was closed at {where(close.stack, cwd)} when its owner was dropped"
    elif act is not None:
        kind, event = _kind_of(act), act
        cause = "was closed" + (f" at {where(close.stack, cwd)}" if close is not None else "")
    else:
        return None
    if recycled is not None:
        return _recycled(history, recycled, event, f"{who} {cause}", cwd)
    if event is act:
        done = "closed again" if is_close(act) else "used"
        message = f"{who} was {done}{_by(act)} at {where(act.stack, cwd)} after it {cause}"
    elif act is not None:
        message = f"{who} {cause}, and {_done(act)} at {where(act.stack, cwd)}"
    elif event is second and close is not None:
        message = f"{who} {cause}, and one of the two closed it at {where(close.stack, cwd)}"
    else:
        message = f"{who} {cause}"
    return Verdict(kind, message, event.stack, "events", event)


def _is_of_import(history: History) -> bool:
    """True for a file that the import machinery opened and closed itself.

    Nobody ever had its number: who uses it later got that elsewhere, from the
    command line for example."""
    return bool(history.opened) and history.opened[0].file.startswith("<frozen ")


def _let_go_late(events: Sequence[Event]) -> bool:
    """True when the owner let go of it after somebody else had closed it: the
    two had come to terms."""
    closed = [each.seq for each in events if each.kind == "close"]
    let_go = [each.seq for each in events if each.kind == "disowned"]
    return bool(closed and let_go) and let_go[-1] > closed[0]


def _recycled(history: History, act: Event, event: Event, beginning: str, cwd: str) -> Verdict:
    prevented = bool(act.flags & Flag.PREVENTED)
    was = "would have been" if prevented else "was"
    return Verdict(
        "recycled",
        f"{beginning}, and {_done(act)} at {where(act.stack, cwd)} when it {was}",
        event.stack,
        "events",
        event,
        victim_serial=act.value,
        victim_follows=True,
        prevented=prevented,
    )


def _kind_of(act: Event) -> FindingKind:
    return "double-release" if is_close(act) else "use-after-close"


def is_second_owner(event: Event) -> bool:
    """True for a second owner of one and the same handle, not of its number."""
    return event.kind == "double-owner" and event.value in (0, event.serial)


def is_about_number(event: Event) -> bool:
    """True for a wrong act that was done with the bare number."""
    return (
        event.kind in ("closed-behind", "recycled")
        or bool(event.flags & (Flag.STALE | Flag.IN_USE))
        or is_second_owner(event)
    )


def _is_stale(event: Event) -> bool:
    return bool(event.flags & Flag.STALE) or event.kind == "recycled"


def is_close(act: Event) -> bool:
    """True for a stale act that would have closed the number."""
    return act.kind == "double-release" or (act.detail in _CLOSERS and act.kind == "recycled")


def _done(act: Event) -> str:
    return f"{'closed again' if is_close(act) else 'used'}{_by(act)}"


def _by(event: Event) -> str:
    """` by write()`; nothing for what the word already says."""
    plain = event.detail is None or (event.detail == "close" and event.kind != "closed-behind")
    return "" if plain else f" by {event.detail}()"


def _first(events: Iterable[Event], kind: str) -> Event | None:
    return next((each for each in events if each.kind == kind), None)
