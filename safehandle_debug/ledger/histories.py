"""Builds histories from a recording's raw events and live slots."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, get_args

from safehandle_debug.ledger.model import Ending, Event, EventKind, History
from safehandle_debug.ledger.watched import is_finalizer, is_watched, owner_of
from safehandle_debug.recording import RawEvent, RawLive, Recording
from safehandle_debug.recording.format import EventKind as KindCode
from safehandle_debug.recording.format import Flag

KINDS: Final[dict[int, EventKind]] = dict(enumerate(get_args(EventKind), 1))
ENDINGS: Final[dict[int, Ending]] = dict(enumerate(get_args(Ending), 1))

_ENDS: Final = (KindCode.CLOSE, KindCode.INVALIDATE)

# Plain integers: an operation on an enum's flag costs a microsecond.
_BORROWED: Final = int(Flag.BORROWED)
_IMPORTING: Final = int(Flag.IMPORTING)
_INHERITED: Final = int(Flag.INHERITED)
_UNSAMPLED: Final = int(Flag.UNSAMPLED)
_FINALIZING: Final = int(Flag.FINALIZING)
_LATE: Final = int(Flag.LATE)
_OWNERS: Final = (KindCode.OWNED, KindCode.DISOWNED)


def is_inherited(serial: int, flags: int, recording: Recording) -> bool:
    """True for a handle that this process got by being forked."""
    return serial <= recording.header.inherited_serials or bool(flags & _INHERITED)


def event_of(raw: RawEvent, recording: Recording) -> Event | None:
    """The event with its ids resolved; None for a kind that does not exist."""
    kind = KINDS.get(raw.kind)
    if kind is None:
        return None
    ending = ENDINGS.get(raw.ending)
    if raw.kind == KindCode.INVALIDATE and ending is None:
        ending = "transferred"
    return Event(
        seq=raw.seq,
        at_ns=recording.to_ns(raw.ticks),
        serial=raw.serial,
        kind=kind,
        ending=ending,
        refs=raw.refs,
        value=raw.value,
        stack=recording.stack(raw.stack),
        thread=recording.thread(raw.thread).name,
        task=recording.string(raw.task) or None,
        test=recording.string(raw.test) or None,
        detail=recording.string(raw.detail) or None,
        flags=raw.flags,
    )


def from_slot(live: RawLive, recording: Recording) -> History:
    """A handle that is open, as its live slot tells it; without events."""
    history = _begun(live, recording)
    history.refs = live.refs
    return history


def from_events(
    events: Sequence[RawEvent], live: RawLive | None, recording: Recording, *, full: bool = True
) -> History | None:
    """A handle as its events tell it, oldest first, and its slot if it is open.

    None when it was inherited and they tell nothing of its acquisition.
    `full=False` leaves the events themselves out."""
    acquire = next((raw for raw in events if raw.kind == KindCode.ACQUIRE), None)
    beginning: RawEvent | RawLive | None = acquire or live
    if beginning is None:
        if not events or is_inherited(events[0].serial, events[0].flags, recording):
            return None
        beginning = events[0]._replace(detail=0, stack=0)
    history = _begun(beginning, recording)
    history.refs = live.refs if live is not None else events[-1].refs
    if acquire is None and live is None and not recording.header.dropped_events:
        history.unsampled = True
    if not history.unsampled:
        history.events_dropped = acquire is None or _has_gap(events, acquire, recording)
    for raw in events:
        if raw.kind in _ENDS:
            history.ending = ENDINGS.get(raw.ending)
            if history.ending is None:
                history.ending = "transferred" if raw.kind == KindCode.INVALIDATE else "closed"
            history.closed_at_ns = recording.to_ns(raw.ticks)
            if history.watched:
                _change_owner(history, raw, recording)
                if history.ending == "closed":
                    history.ending = _ending_by_stack(raw, history, recording)
        elif raw.kind in _OWNERS:
            _change_owner(history, raw, recording)
        elif raw.kind == KindCode.SET_VALUE and live is None:
            history.value = events[-1].value
    if live is not None:
        history.value = live.value
    if full:
        resolved = (event_of(raw, recording) for raw in events)
        history.events = [event for event in resolved if event is not None]
    return history


def _ending_by_stack(raw: RawEvent, history: History, recording: Recording) -> Ending:
    """`dropped` where a finalizer in Python called close().

    When the interpreter ends there are no stacks, and nothing else runs."""
    if raw.flags & _FINALIZING or is_finalizer(recording.stack(raw.stack), history.opened):
        return "dropped"
    return "closed"


def _change_owner(history: History, raw: RawEvent, recording: Recording) -> None:
    type = recording.type(raw.type)
    history.owner = owner_of(type, history.opened)


def _begun(raw: RawEvent | RawLive, recording: Recording) -> History:
    type = recording.type(raw.type)
    opened = recording.stack(raw.stack)
    return History(
        pid=recording.header.pid,
        serial=raw.serial,
        kind=type.kind,
        owner=owner_of(type, opened),
        space=type.space,
        value=raw.value,
        detail=recording.string(raw.detail) or None,
        opened_at_ns=recording.to_ns(raw.ticks),
        opened=opened,
        thread=recording.thread(raw.thread).name,
        task=recording.string(raw.task) or None,
        test=recording.string(raw.test) or None,
        borrowed=bool(raw.flags & _BORROWED),
        importing=bool(raw.flags & _IMPORTING),
        inherited=is_inherited(raw.serial, raw.flags, recording),
        unsampled=bool(raw.flags & _UNSAMPLED),
        watched=is_watched(type),
        late=bool(raw.flags & _LATE),
        refs=raw.refs,
    )


def _has_gap(events: Sequence[RawEvent], acquire: RawEvent, recording: Recording) -> bool:
    """True when references do not add up because events were dropped."""
    if not recording.header.dropped_events:
        return False
    refs = acquire.refs
    for raw in events:
        if raw.kind == KindCode.ADD_REF:
            refs += 1
        elif raw.kind in (KindCode.RELEASE, KindCode.DISPOSE):
            refs -= 1
        else:
            continue
        if raw.refs != refs:
            return True
    return False
