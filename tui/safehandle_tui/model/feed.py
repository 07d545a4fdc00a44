"""Finds the recordings of the targets, follows them, and makes Views.

The feed belongs to one thread, the reader's.  The screen tells it what to
show (a ViewSpec) and gets back something frozen that it can paint without
asking again (a View).  Nothing here touches the watched processes: their
recordings are files.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal

from safehandle_debug.errors import RecordingError
from safehandle_debug.ledger import Filter
from safehandle_debug.recording import resolve, root, sessions
from safehandle_tui.model.columns import HANDLE_COLUMNS, SITE_COLUMNS, Sort
from safehandle_tui.model.detail import HandleDetail, SiteDetail, handle_detail, site_detail
from safehandle_tui.model.rows import HandleKey, HandleRow, SiteKey, SiteRow, group_by_site
from safehandle_tui.model.source import SourceFiles
from safehandle_tui.model.states import State, headline, state_of, tally
from safehandle_tui.model.text import Line
from safehandle_tui.model.tracks import Clock, ProcessRow, Track

__all__ = ["Feed", "Mode", "View", "ViewSpec"]

Mode = Literal["sites", "handles"]
Row = HandleRow | SiteRow

_FRESH_NS: Final = 10**9
_HANDLE_ORDERS: Final = {column.name: column.order for column in HANDLE_COLUMNS}
_SITE_ORDERS: Final = {column.name: column.order for column in SITE_COLUMNS}


@dataclass(frozen=True, slots=True)
class ViewSpec:
    """What the screen wants to show."""

    scope: str | None = None  # path of one process's recording; None: all
    mode: Mode = "sites"
    site: SiteKey | None = None  # handles of this site only
    ended: bool = False  # also handles that ended
    filter: Filter = field(default_factory=Filter)
    sort: Sort = field(default_factory=lambda: Sort("open", True))
    selected: HandleKey | SiteKey | None = None  # whose detail; None: the first row's
    pinned: bool = False  # its detail is wanted wherever the handle went
    paused: bool = False
    session: str | None = None  # switch to this session


@dataclass(frozen=True, slots=True)
class View:
    """What the screen shows: nothing in it changes any more but the rows'
    histories, which the reader exchanges for newer ones."""

    spec: ViewSpec
    processes: tuple[ProcessRow, ...]  # all, parents before children
    state: State  # of those in scope
    title: str  # name of the session, or of the target
    place: str  # the folder where recordings are looked for
    newer: str | None  # name of a session that began after this one
    rows: tuple[Row, ...]  # filtered and sorted
    shown: int  # handles that pass the filter
    total: int  # handles before the filter
    headline: Line
    tally: Line
    cursor: int | None  # index of the selected row; None when it is not there
    detail: HandleDetail | SiteDetail | None
    hidden: frozenset[str]  # columns that would say the same in every row
    now_ns: int  # wall clock that ages refer to
    ticking: bool  # ages go on growing

    @property
    def mode(self) -> Mode:
        """What the rows are."""
        return self.spec.mode


class Feed:
    """Follows the recordings that the targets name.  Not thread-safe."""

    def __init__(self, targets: Sequence[str], clock: Clock | None = None) -> None:
        """`targets` as `resolve` takes them; none: the newest session."""
        self._targets = tuple(targets)
        self._clock = clock or Clock()
        self._tracks: dict[Path, Track] = {}
        self._files = SourceFiles()
        self._session: str | None = None
        self._newer: str | None = None
        self._spec: ViewSpec | None = None
        self._rows: tuple[Row, ...] = ()
        self._paused_at_ns = 0
        self._folder_times: dict[Path, int] = {}  # when they changed, ns

    def poll(self, spec: ViewSpec) -> View | None:
        """Reads what is new; a View when there is something new to show."""
        before = self._spec
        self._spec = spec
        if spec.session is not None and spec.session != self._session:
            self._switch(spec.session)
        changed = before is None
        if not spec.paused:
            changed = self._discover() or changed
            for track in self._tracks.values():
                changed = track.refresh() or changed
            self._paused_at_ns = 0
        elif not self._paused_at_ns:
            self._paused_at_ns = self._clock.wall_ns()
        if spec == before and not changed:
            return None
        return self._view(spec)

    def close(self) -> None:
        """Closes all recordings."""
        for track in self._tracks.values():
            track.close()
        self._tracks.clear()

    # --- finding recordings ---

    def _discover(self) -> bool:
        """Adds new recordings; True when there is one, or a newer session."""
        if not self._folders_changed():
            return False
        added = False
        for path in self._paths():
            if path not in self._tracks:
                self._tracks[path] = Track(path, self._clock)
                added = True
        newer = self._newer
        if not self._targets:
            newest = next(iter(sessions()), None)
            new = newest is not None and newest.name != self._session
            self._newer = newest.name if newest is not None and new and self._session else None
        return added or newer != self._newer

    def _folders_changed(self) -> bool:
        """False when no folder that matters has changed since the last look.

        A folder's time is too coarse for one that has just changed: that is
        looked at again."""
        if not self._tracks:
            return True
        folders = [root(), *(path.parent for path in self._tracks), *map(Path, self._targets)]
        times: dict[Path, int] = {}
        for folder in folders:
            try:
                times[folder] = folder.stat().st_mtime_ns
            except (OSError, ValueError):
                times[folder] = 0
        fresh = time.time_ns() - max(times.values()) < _FRESH_NS
        changed = fresh or times != self._folder_times
        self._folder_times = {} if fresh else times
        return changed

    def _paths(self) -> list[Path]:
        targets: tuple[str | None, ...] = self._targets or (self._session,)
        paths: list[Path] = []
        for target in targets:
            try:
                paths += resolve(target)
            except RecordingError:
                # Not there yet, or not there any more: what was read stays.
                continue
        if not self._targets and self._session is None and paths:
            self._session = paths[0].parent.name
        return paths

    def _switch(self, session: str) -> None:
        self.close()
        self._session = session
        self._newer = None

    # --- views ---

    def _scope(self, spec: ViewSpec) -> list[Track]:
        return [
            track
            for path, track in self._tracks.items()
            if spec.scope is None or str(path) == spec.scope
        ]

    def _view(self, spec: ViewSpec) -> View:
        tracks = self._scope(spec)
        processes = self._processes()
        in_scope = [row for row in processes if spec.scope in (None, row.path)]
        state = state_of(in_scope)
        rows = [row for track in tracks for row in track.rows(ended=spec.ended)]
        now_ns = self._now(tracks)
        kept = rows
        if spec.site is not None:
            kept = [row for row in kept if row.site_key == spec.site]
        total = len(kept)
        if spec.filter:
            kept = [row for row in kept if spec.filter.matches(row, now_ns)]
        self._rows = self._ordered(spec, kept, tracks, now_ns)
        cursor = self._index_of(spec.selected)
        return View(
            spec=spec,
            processes=processes,
            state=state,
            title=self._title(),
            place=self._place(),
            newer=self._newer,
            rows=self._rows,
            shown=len(kept),
            total=total,
            headline=headline(state, in_scope, rows),
            tally=self._tally(tracks),
            cursor=cursor,
            detail=self._detail(spec, cursor),
            hidden=self._hidden(spec, tracks),
            now_ns=now_ns,
            ticking=state == "live" and not spec.paused,
        )

    def _ordered(
        self, spec: ViewSpec, rows: list[HandleRow], tracks: Sequence[Track], now_ns: int
    ) -> tuple[Row, ...]:
        descending = spec.sort.descending
        if spec.mode == "handles":
            handle_order = _HANDLE_ORDERS[spec.sort.column]
            return tuple(
                sorted(rows, key=lambda row: handle_order(row, now_ns), reverse=descending)
            )
        start = min((track.started_ns for track in tracks if track.started_ns), default=now_ns)
        sites = group_by_site(rows, start_ns=start, now_ns=now_ns)
        # Equal sites keep one order, however the sort goes.
        sites.sort(key=lambda site: site.site)
        site_order = _SITE_ORDERS[spec.sort.column]
        sites.sort(key=lambda site: site_order(site, now_ns), reverse=descending)
        return tuple(sites)

    def _now(self, tracks: Sequence[Track]) -> int:
        """The time that ages refer to: of processes that all ended, the end."""
        if self._paused_at_ns:
            return self._paused_at_ns
        ends = [track.until_ns for track in tracks]
        if ends and None not in ends:
            return max(end for end in ends if end is not None) or self._clock.wall_ns()
        return self._clock.wall_ns()

    def _processes(self) -> tuple[ProcessRow, ...]:
        """Parents before their children, each family by start."""
        tracks = sorted(self._tracks.values(), key=lambda each: (each.started_ns, str(each.path)))
        by_pid = {track.info.pid: track for track in tracks if track.info is not None}
        children: dict[int, list[Track]] = {}
        roots: list[Track] = []
        for track in tracks:
            parent = by_pid.get(track.info.parent_pid) if track.info is not None else None
            if parent is None or parent is track or parent.info is None:
                roots.append(track)
            else:
                children.setdefault(parent.info.pid, []).append(track)
        ordered: list[ProcessRow] = []
        pending = [(track, 0) for track in reversed(roots)]
        while pending:
            track, depth = pending.pop()
            ordered.append(track.row(depth))
            if track.info is not None and by_pid.get(track.info.pid) is track:
                below = children.pop(track.info.pid, [])
                pending += [(child, depth + 1) for child in reversed(below)]
        return tuple(ordered)

    def _tally(self, tracks: Sequence[Track]) -> Line:
        kinds: Counter[str] = Counter()
        for track in tracks:
            for finding in track.findings:
                if finding.severity == "error" and finding.kind != "leak":
                    kinds[finding.kind] += finding.count
        abandoned = sum(track.counts.abandoned for track in tracks if track.counts)
        lost = sum(track.info.dropped for track in tracks if track.info)
        reading = sum(t.info.events for t in tracks if t.info and t.row(0).reading)
        return tally(sorted(kinds.items()), abandoned, lost, reading)

    def _title(self) -> str:
        if self._session is not None:
            return self._session
        folders = {path.parent for path in self._tracks}
        return folders.pop().name if len(folders) == 1 else " ".join(self._targets)

    def _place(self) -> str:
        return " ".join(self._targets) or str(root())

    def _index_of(self, key: HandleKey | SiteKey | None) -> int | None:
        if key is None:
            return None
        return next((at for at, row in enumerate(self._rows) if row.key == key), None)

    def _detail(self, spec: ViewSpec, cursor: int | None) -> HandleDetail | SiteDetail | None:
        row: Row | None = self._rows[cursor or 0] if self._rows else None
        if spec.pinned and spec.mode == "handles" and spec.selected is not None:
            row = self._pinned(spec.selected) or row
        if row is None:
            return None
        cwd = self._cwd(row if isinstance(row, HandleRow) else row.rows[-1])
        if isinstance(row, SiteRow):
            return site_detail(row, self._files, cwd=cwd)
        track = self._tracks.get(Path(row.key[0]))
        history = track.history(row.serial) if track is not None else None
        over = track is not None and track.info is not None and track.info.ended == "exit"
        return handle_detail(row, history or row.history, self._files, over=over, cwd=cwd)

    def _pinned(self, key: HandleKey | SiteKey) -> HandleRow | None:
        track = self._tracks.get(Path(key[0]))
        return track.row_of(key[1]) if track is not None else None

    def _hidden(self, spec: ViewSpec, tracks: Sequence[Track]) -> frozenset[str]:
        hidden: set[str] = set()
        if len(tracks) == 1:
            hidden.add("pid")
        if not spec.ended:
            hidden.add("ended")
        if spec.site is not None:
            hidden.add("site")
        rows = self._rows
        if not any(isinstance(row, SiteRow) and row.problems for row in rows):
            hidden.add("found")
        if all(isinstance(row, HandleRow) and row.is_ordinary for row in rows):
            hidden.add("state")
        return frozenset(hidden)

    def _cwd(self, row: HandleRow) -> str:
        track = self._tracks.get(Path(row.key[0]))
        return track.info.cwd if track is not None and track.info is not None else ""
