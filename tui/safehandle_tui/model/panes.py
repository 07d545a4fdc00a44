"""What the panes of a handle and of a site are put together from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from safehandle_debug.ledger import Frame, is_library
from safehandle_tui.model.detail import Detail
from safehandle_tui.model.stacks import folded_line, source_lines, stack_lines
from safehandle_tui.model.text import Line, clip, line_width

__all__ = ["SIDE_BY_SIDE", "beside", "stack_pane"]

SIDE_BY_SIDE: Final = 100  # cells from which two columns are easier to read


def beside(left: Sequence[Line], right: Sequence[Line], cells: int, split: int) -> list[Line]:
    """Two columns with a rule between them; the left one `split` cells."""
    lines: list[Line] = []
    for at in range(max(len(left), len(right))):
        one = clip(left[at] if at < len(left) else (), split)
        two = right[at] if at < len(right) else ()
        padding = " " * (split - line_width(one))
        lines.append((*one, (padding, "text"), (" │ ", "rule"), *clip(two, cells - split - 3)))
    return lines


def stack_pane(stack: Sequence[Frame], detail: Detail, rows: int) -> list[Line]:
    """The stack for a pane: with the program's code around it if it fits."""
    title: Line = (("opened by", "head"),)
    own = [frame for frame in stack if not is_library(frame.file)]
    folded = len(stack) - len(own)
    full = source_lines(own or stack, detail.source, detail.cwd)
    if folded and own:
        full.append(folded_line(folded))
    if len(full) < rows:
        return [title, *full]
    return [title, *stack_lines(stack, detail.source, detail.cwd)]
