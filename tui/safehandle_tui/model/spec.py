"""What the screen wants to show: said to the reader, and answered by a View."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from safehandle_debug.ledger import Filter
from safehandle_tui.model.columns import Sort
from safehandle_tui.model.modes import Mode
from safehandle_tui.model.rows import SiteKey
from safehandle_tui.model.tree import TreeKey

__all__ = ["GROUPS", "Group", "Moment", "ViewSpec"]

Group = Literal["site", "kind", "thread", "owner", "module"]
GROUPS: tuple[Group, ...] = ("site", "kind", "thread", "owner", "module")
Moment = tuple[str, int]  # path of a recording, and seq of the last event that counts


@dataclass(frozen=True, slots=True)
class ViewSpec:
    """What the screen wants to show."""

    scope: str | None = None  # path of one process's recording; None: all
    mode: Mode = "sites"
    site: SiteKey | None = None  # handles of this site only
    ended: bool = False  # also handles that ended
    filter: Filter = field(default_factory=Filter)
    sort: Sort = field(default_factory=lambda: Sort("verdict", False))
    selected: Any = None  # key of the row whose detail; None: the first row's
    pinned: bool = False  # its detail is wanted wherever the handle went
    paused: bool = False
    session: str | None = None  # switch to this session
    group: Group = "site"  # what the rows of Suspects have in common
    moment: Moment | None = None  # show how things stood then; None: now
    step: tuple[str, ...] = ()  # with a moment: moves from there; see travel
    marks: tuple[int, ...] = ()  # wall clock times of the user's marks
    born: tuple[int, int | None] | None = None  # handles opened after, and up to
    toggled: frozenset[TreeKey] = frozenset()  # frames folded or unfolded by hand
    library: bool = False  # also frames of libraries in the tree
    asked: tuple[str, int] | None = None  # who holds its handles: process, how often
