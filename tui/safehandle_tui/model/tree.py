"""The sites as a tree: who called whom to open what is open.

The outermost frames stand at the top; each row counts the handles that were
opened below it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from safehandle_debug.ledger import Frame, is_library, site_of
from safehandle_tui.model.columns import Column
from safehandle_tui.model.rows import Bunch, SiteKey
from safehandle_tui.model.text import Span, bar, clean, count, short_path

__all__ = ["TREE_COLUMNS", "TreeKey", "TreeRow", "tree_rows"]

TreeKey = tuple[tuple[str, int, str], ...]  # (file, line, function) from the outermost frame on

_SHOWN: Final = 40  # rows that are unfolded without being asked for


@dataclass(slots=True)
class _Node:
    key: TreeKey
    frame: Frame | None = None
    open: int = 0
    importing: int = 0
    wrong: bool = False
    site: SiteKey | None = None  # of a frame that acquired handles itself
    children: dict[tuple[str, int, str], _Node] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class TreeRow:
    """One frame of the tree."""

    key: TreeKey
    label: str
    depth: int
    open: int
    share: float
    folded: bool | None  # None: nothing below it
    site: SiteKey | None
    importing: bool
    mark: Span


def tree_rows(
    bunches: Iterable[Bunch],
    toggled: frozenset[TreeKey],
    *,
    cwd: str,
    library: bool,
) -> list[TreeRow]:
    """The rows that are unfolded, in order.

    Args:
        bunches: open handles.
        toggled: frames that are folded where they would not be, or the other
            way round.
        library: also frames of libraries.
    """
    root = _Node(())
    paths: dict[int, tuple[Frame, ...]] = {}
    for bunch in bunches:
        stack = bunch.opened
        path = paths.get(id(stack))
        if path is None:
            path = paths[id(stack)] = _path(stack, library)
        _count(root, path, bunch)
    unfolded = _unfolded(root)
    found: list[TreeRow] = []
    pending = [(node, 0) for node in _ordered(root, reverse=True)]
    while pending:
        node, depth = pending.pop()
        is_folded = (node.key in unfolded) == (node.key in toggled)
        found.append(
            TreeRow(
                key=node.key,
                label=_label(node.frame, cwd),
                depth=depth,
                open=node.open,
                share=node.open / max(1, root.open),
                folded=is_folded if node.children else None,
                site=node.site,
                importing=node.importing == node.open,
                mark=("✗", "bad") if node.wrong else (" ", "text"),
            )
        )
        if not is_folded:
            pending += [(child, depth + 1) for child in _ordered(node, reverse=True)]
    return found


def _path(stack: tuple[Frame, ...], library: bool) -> tuple[Frame, ...]:
    """The frames to show, outermost first, the site last."""
    site = site_of(stack)
    frames = stack[stack.index(site) :] if site is not None else stack
    if not library:
        own = tuple(frame for frame in frames if not is_library(frame.file))
        frames = own or frames[:1]
    return frames[::-1]


def _count(root: _Node, path: tuple[Frame, ...], bunch: Bunch) -> None:
    node = root
    root.open += bunch.count
    imported = bunch.count if bunch.importing else 0
    for frame in path:
        part = (frame.file, frame.line, frame.function)
        child = node.children.get(part)
        if child is None:
            child = node.children[part] = _Node((*node.key, part), frame)
        node = child
        node.open += bunch.count
        node.importing += imported
        node.wrong = node.wrong or bunch.mark[0] == "✗"
    if node is root:
        node = root.children.setdefault(("", 0, ""), _Node((("", 0, ""),)))
        node.open += bunch.count
        node.importing += imported
    node.site = bunch.site_key


def _ordered(node: _Node, *, reverse: bool) -> list[_Node]:
    return sorted(node.children.values(), key=lambda each: each.open, reverse=not reverse)


def _unfolded(root: _Node) -> set[TreeKey]:
    """The frames with most handles, as many as fit on a screen."""
    unfolded: set[TreeKey] = set()
    rows = len(root.children)
    pending = list(root.children.values())
    while pending:
        pending.sort(key=lambda node: node.open)
        node = pending.pop()
        if rows + len(node.children) > _SHOWN and unfolded:
            break
        rows += len(node.children)
        unfolded.add(node.key)
        pending += node.children.values()
    return unfolded


def _label(frame: Frame | None, cwd: str) -> str:
    if frame is None:
        return "(no stack recorded)"
    return f"{clean(short_path(frame.file, cwd))}:{frame.line} {clean(frame.function)}"


def _frame(row: TreeRow, now_ns: int, width: int) -> Span:
    sign = {None: "  ", True: "▸ ", False: "▾ "}[row.folded]
    text = "  " * row.depth + sign + row.label
    if row.importing:
        return text, "muted"
    return text, "own" if row.site is not None else "text"


TREE_COLUMNS: Final[tuple[Column[TreeRow], ...]] = (
    Column(
        "open",
        "OPEN",
        8,
        lambda row, now_ns, width: (count(row.open), "muted" if row.importing else "strong"),
        lambda row, now_ns: row.open,
        align=">",
    ),
    Column(
        "share",
        "SHARE",
        10,
        lambda row, now_ns, width: (bar(row.share, width), row.mark[1]),
        lambda row, now_ns: row.share,
        rank=1,
    ),
    Column("frame", "CALLED FROM", 40, _frame, lambda row, now_ns: row.label, weight=1),
)
