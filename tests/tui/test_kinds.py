"""The numbers of kinds agree with each other."""

from __future__ import annotations

from safehandle_tui.model.kinds import group_by_kind
from safehandle_tui.model.rows import Bunch


def bunch(owner: str, count: int) -> Bunch:
    """So many open sockets."""
    return Bunch(
        process="p",
        site_key=("app.py", 1, "serve"),
        site="app.py:1 serve",
        kind="socket",
        owner=owner,
        actor="",
        opened=(),
        life="open",
        problem="",
        importing=False,
        borrowed=False,
        count=count,
        oldest_ns=1,
        newest_ns=2,
        least=3,
        greatest=9,
        births=(count,),
    )


def test_an_owner_that_came_later_is_counted_with_what_it_owns() -> None:
    """As of accept(): the socket object is made for a number that is open, and
    was counted as nobody's."""
    totals = {("socket", "socket"): (1, 1), ("socket", "raw"): (9, 3)}
    rows = {row.owner: row for row in group_by_kind([bunch("socket", 5), bunch("raw", 1)], totals)}
    assert (rows["socket"].open, rows["socket"].opened, rows["socket"].closed) == (5, 6, 1)
    assert (rows["raw"].open, rows["raw"].opened, rows["raw"].closed) == (1, 4, 3)


def test_what_agrees_is_left_alone() -> None:
    """Also where everything is closed."""
    totals = {("socket", "socket"): (7, 2), ("socket", "raw"): (4, 4)}
    rows = {row.owner: row for row in group_by_kind([bunch("socket", 5)], totals)}
    assert (rows["socket"].opened, rows["socket"].closed) == (7, 2)
    assert (rows["raw"].open, rows["raw"].opened) == (0, 4)
