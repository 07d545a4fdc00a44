"""Which release belongs to which add-ref."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from safehandle_debug.ledger.model import Event
from safehandle_debug.ledger.sites import site_of


@dataclass(slots=True)
class Reference:
    """One add-ref and its release, if there was one."""

    add_ref: Event
    release: Event | None = None


def references(events: Iterable[Event]) -> list[Reference]:
    """The references that a handle's events (oldest first) tell of.

    The count does not say which reference a release drops, so this is the
    likeliest reading: the youngest one taken by the same function in the same
    thread, else in the same thread, else the youngest at all.  That leaves the
    function that forgot, not one that was busy at the time."""
    found: list[Reference] = []
    open: list[Reference] = []
    for event in events:
        if event.kind == "add-ref":
            found.append(Reference(event))
            open.append(found[-1])
        elif event.kind == "release" and open:
            open.pop(_likeliest(open, event)).release = event
    return found


def _likeliest(open: list[Reference], release: Event) -> int:
    function = _function(release)
    same_thread = -1
    for index in range(len(open) - 1, -1, -1):
        add_ref = open[index].add_ref
        if add_ref.thread == release.thread:
            if _function(add_ref) == function:
                return index
            if same_thread < 0:
                same_thread = index
    return same_thread if same_thread >= 0 else len(open) - 1


def _function(event: Event) -> tuple[str, str] | None:
    site = site_of(event.stack)
    return (site.file, site.function) if site else None
