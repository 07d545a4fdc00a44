"""Which release belongs to which add-ref."""

from __future__ import annotations

from safehandle_debug.ledger import Event, Frame
from safehandle_debug.ledger.references import references


def event(seq: int, kind: str, function: str, thread: str = "main") -> Event:
    stack = (Frame("/srv/app.py", seq, function),)
    return Event(seq, 0, 1, kind, None, 1, 0, stack, thread, None, None, None, 0)  # type: ignore[arg-type]


def forgotten(*events: Event) -> list[int]:
    return [each.add_ref.seq for each in references(events) if each.release is None]


def test_nested() -> None:
    """The youngest goes first."""
    found = references(
        [event(1, "add-ref", "f"), event(2, "add-ref", "f"), event(3, "release", "f")]
    )
    assert [(each.add_ref.seq, each.release and each.release.seq) for each in found] == [
        (1, None),
        (2, 3),
    ]


def test_forgotten_while_another_was_busy() -> None:
    """The function that forgot is named, not the one that held it meanwhile."""
    assert forgotten(
        event(1, "add-ref", "busy"),
        event(2, "add-ref", "forgets"),
        event(3, "release", "busy"),
    ) == [2]


def test_threads_are_told_apart() -> None:
    """Each thread releases what it took."""
    assert forgotten(
        event(1, "add-ref", "work", "a"),
        event(2, "add-ref", "work", "b"),
        event(3, "release", "work", "a"),
    ) == [2]


def test_handed_to_another_function() -> None:
    """A release elsewhere in the thread goes before one of another thread."""
    assert forgotten(
        event(1, "add-ref", "take", "a"),
        event(2, "add-ref", "take", "b"),
        event(3, "release", "give", "a"),
    ) == [2]


def test_release_without_add_ref() -> None:
    """More releases than add-refs leave nothing open, and no error."""
    assert forgotten(event(1, "release", "f"), event(2, "release", "f")) == []


def test_without_stacks() -> None:
    """Sampled events without stacks still pair up."""
    bare = [
        Event(seq, 0, 1, kind, None, 1, 0, (), "main", None, None, None, 0)  # type: ignore[arg-type]
        for seq, kind in enumerate(["add-ref", "add-ref", "release"], 1)
    ]
    assert forgotten(*bare) == [1]
