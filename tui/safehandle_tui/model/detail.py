"""What the reader collects of the selected handle, and of the selected site.

All the source lines that it takes are in it: it is turned into lines of text
for any width without touching a file again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from safehandle_debug.findings import findings_of
from safehandle_debug.ledger import Frame, History, is_library
from safehandle_tui.model.holders import Kept
from safehandle_tui.model.rows import HandleRow, SiteRow
from safehandle_tui.model.source import SourceFiles, SourceMap
from safehandle_tui.model.stacks import CONTEXT, place_of, site_of
from safehandle_tui.model.text import clean

__all__ = ["Detail", "HandleDetail", "SiteDetail", "handle_detail", "site_detail"]

_CLOSES = 3  # places that close handles of a site


@dataclass(frozen=True, slots=True)
class HandleDetail:
    """Everything that is shown of one handle."""

    row: HandleRow
    history: History  # with its events
    messages: tuple[str, ...]  # findings on it, one sentence each
    source: SourceMap
    cwd: str
    kept: Kept | None = None  # who keeps it alive; None: not to be told
    typical_ns: int = 0  # how long half of its site's live that were closed; 0: not known
    started_ns: int = 0  # wall clock start of its process; 0: not known
    verdict: str = ""  # of its site, while it is open
    generation: str = ""  # the name of the one that it was opened in; "": nothing was marked


@dataclass(frozen=True, slots=True)
class SiteDetail:
    """Everything that is shown of one site."""

    site: SiteRow
    stack: tuple[Frame, ...]  # of its newest handle, innermost first
    stacks: int  # number of different stacks
    source: SourceMap
    cwd: str
    closes: tuple[str, ...] = ()  # where they are closed
    kept: Kept | None = None  # who keeps its oldest alive


Detail = HandleDetail | SiteDetail


def handle_detail(
    row: HandleRow, history: History, files: SourceFiles, *, over: bool, cwd: str
) -> HandleDetail:
    """Collects a handle's detail; `over` when its process has exited."""
    source = files.around((f for f in history.opened if not is_library(f.file)), CONTEXT)
    for event in history.events:
        source.update(files.around(event.stack))
    source.update(files.around(history.opened))
    messages = tuple(clean(each.message) for each in findings_of(history, over=over, cwd=cwd))
    return HandleDetail(row, history, messages, source, cwd)


def site_detail(
    site: SiteRow,
    files: SourceFiles,
    *,
    cwd: str,
    closes: Sequence[Sequence[Frame]] = (),
) -> SiteDetail:
    """Collects a site's detail; `closes` are stacks that closed such handles."""
    stacks = site.stacks
    stack = stacks[0]
    source = files.around((frame for frame in stack if not is_library(frame.file)), CONTEXT)
    source.update(files.around(stack))
    frames = [frame for close in closes if (frame := site_of(close)) is not None]
    places = dict.fromkeys(f"{place_of(frame, cwd)} {clean(frame.function)}" for frame in frames)
    most = tuple(places)[:_CLOSES]
    return SiteDetail(site, stack, len(stacks), source, cwd, most)
