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
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from safehandle_debug.errors import RecordingError
from safehandle_debug.recording import resolve, root, sessions
from safehandle_tui.model.clock import Clock
from safehandle_tui.model.generations import Mark
from safehandle_tui.model.holders import Questions
from safehandle_tui.model.limits import Limits
from safehandle_tui.model.modes import Mode
from safehandle_tui.model.sessions import Sessions
from safehandle_tui.model.shelf import HandleRows
from safehandle_tui.model.shelves import Shelves
from safehandle_tui.model.source import SourceFiles
from safehandle_tui.model.spec import Moment, ViewSpec
from safehandle_tui.model.states import State, headline, state_of, tally
from safehandle_tui.model.text import Line, Span
from safehandle_tui.model.tracks import ProcessRow, Track
from safehandle_tui.model.travel import Timeline, timeline, travelled
from safehandle_tui.model.views import Builder, Detail

__all__ = ["Feed", "Mode", "View", "ViewSpec"]

_FRESH_NS: Final = 10**9
_SESSIONS_NS: Final = 2 * 10**9  # how often the list of all processes is made anew


@dataclass(frozen=True, slots=True)
class View:
    """What the screen shows: nothing in it changes any more."""

    spec: ViewSpec
    processes: tuple[ProcessRow, ...]  # all, parents before children
    state: State  # of those in scope
    title: str  # name of the session, or of the target
    place: str  # the folder where recordings are looked for
    newer: str | None  # name of a session that began after this one
    rows: Sequence[Any]  # filtered and sorted
    shown: int  # handles (or events) that pass the filter
    total: int  # handles before the filter
    headline: Line
    tally: Line
    gauge: Span | None  # descriptors of the process nearest to its limit
    cursor: int | None  # index of the selected row; None when it is not there
    detail: Detail | None
    hidden: frozenset[str]  # columns that would say the same in every row
    now_ns: int  # wall clock that ages refer to
    ticking: bool  # ages go on growing
    timeline: Timeline | None = None  # while the screen is in the past
    moment: Moment | None = None  # where a step has led

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
        self._rows: Sequence[Any] = ()
        self._sessions = Sessions()
        self._questions = Questions()
        self._limits = Limits()
        self._marks: list[Mark] = []
        self._shelves = Shelves()
        self._looked_ns = 0  # when the list of all processes was made
        self._paused_at_ns = 0
        self._folder_times: dict[Path, int] = {}  # when they changed, ns

    def poll(self, spec: ViewSpec, *, glance: bool = False) -> View | None:
        """Reads what is new; a View when there is something new to show.

        Args:
            glance: look only whether the known processes have written anything,
                not whether they live on or others came.
        """
        before = self._spec
        if glance and spec == before and self._is_quiet(spec):
            return None
        self._spec = spec
        if spec.session is not None and spec.session != self._session:
            self._switch(spec.session)
        changed = before is None
        self._question(spec.asked, before.asked if before is not None else None)
        if not spec.paused:
            changed = self._discover() or changed
            for track in self._tracks.values():
                changed = track.refresh() or changed
            self._paused_at_ns = 0
            changed = self._questions.is_overdue(self._clock.wall_ns()) or changed
        elif not self._paused_at_ns:
            self._paused_at_ns = self._clock.wall_ns()
        if spec.mode == "sessions" and not spec.paused:
            now = self._clock.steady_ns()
            if now - self._looked_ns >= _SESSIONS_NS:
                self._looked_ns, changed = now, True
        if spec == before and not changed:
            return None
        return self._view(spec)

    def _question(self, asked: tuple[str, int] | None, before: tuple[str, int] | None) -> None:
        """Asks a process, or takes that back."""
        if asked == before:
            return
        process = asked or before
        track = self._tracks.get(Path(process[0])) if process is not None else None
        if process is None or track is None:
            return
        if asked is not None:
            self._questions.ask(process[0], track, self._clock.wall_ns())
        else:
            self._questions.withdraw(process[0], track)

    def _is_quiet(self, spec: ViewSpec) -> bool:
        return spec.paused or not any(track.is_behind() for track in self._tracks.values())

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
        self._targets = ()
        self._marks.clear()
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
        now_ns = self._now(tracks)
        moment, line = None, None
        seqs: dict[Path, int] = {}
        if spec.moment is not None:
            moment = travelled(tracks, spec.moment, spec.step)
            line = timeline(tracks, moment, self._marks) if moment is not None else None
        if line is not None:
            seqs, now_ns = line.seqs, line.at_ns
        self._mark(spec, tracks, seqs)
        shown = tuple(self._tracks.values())
        build = Builder(
            spec,
            tracks,
            seqs,
            now_ns,
            self._files,
            self._marks,
            self._sessions,
            self._questions,
            shown,
            self._shelves,
        )
        self._rows = build.rows()
        cursor = self._index_of(spec.selected)
        is_event = spec.mode == "events"
        return View(
            spec=spec,
            processes=processes,
            state=state,
            title=self._title(),
            place=self._place(),
            newer=self._newer,
            rows=self._rows,
            shown=len(self._rows) if is_event else len(build.handles),
            total=build.total,
            headline=headline(state, in_scope, build.bunches(build.all), past=line is not None),
            tally=self._tally(tracks),
            gauge=None if line is not None or spec.paused else self._gauge(tracks),
            cursor=cursor,
            detail=self._detail(spec, cursor, build),
            hidden=self._hidden(spec, tracks, build),
            now_ns=now_ns,
            ticking=state == "live" and not spec.paused and line is None,
            timeline=line,
            moment=moment,
        )

    def _mark(self, spec: ViewSpec, tracks: Sequence[Track], seqs: dict[Path, int]) -> None:
        """Notes how much had been opened at the user's marks."""
        known = {mark.at_ns for mark in self._marks}
        for at_ns in spec.marks:
            if at_ns not in known:
                opened = sum(
                    track.numbers.opened_by(seqs.get(track.path))
                    for track in tracks
                    if track.numbers is not None
                )
                self._marks.append(Mark(at_ns, opened))
        self._marks = sorted(
            (mark for mark in self._marks if mark.at_ns in spec.marks), key=lambda mark: mark.at_ns
        )

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

    def _gauge(self, tracks: Sequence[Track]) -> Span | None:
        infos = [track.info for track in tracks if track.info is not None]
        return self._limits.span(infos, self._clock.steady_ns())

    def _title(self) -> str:
        if self._session is not None:
            return self._session
        folders = {path.parent for path in self._tracks}
        return folders.pop().name if len(folders) == 1 else " ".join(self._targets)

    def _place(self) -> str:
        return " ".join(self._targets) or str(root())

    def _index_of(self, key: Any) -> int | None:
        if key is None:
            return None
        if isinstance(self._rows, HandleRows):
            return self._rows.find(key)
        return next((at for at, row in enumerate(self._rows) if row.key == key), None)

    def _detail(self, spec: ViewSpec, cursor: int | None, build: Builder) -> Detail | None:
        first = -1 if spec.mode == "events" else 0
        row = self._rows[first if cursor is None else cursor] if self._rows else None
        if spec.pinned and spec.selected is not None:
            track = self._tracks.get(Path(spec.selected[0]))
            if track is not None:
                row = track.row_of(spec.selected[1], build.seq_of(track)) or row
        return build.detail(row) if row is not None else None

    def _hidden(self, spec: ViewSpec, tracks: Sequence[Track], build: Builder) -> frozenset[str]:
        hidden: set[str] = set()
        if len(tracks) == 1 and spec.mode != "sessions":
            hidden.add("pid")
        if spec.site is not None and spec.mode == "handles":
            hidden.add("site")
        if spec.group not in ("site", "module"):
            hidden |= {"opened", "closed", "typical"}
        bunches = build.bunches()
        if not any(bunch.problem for bunch in bunches):
            hidden.add("found")
        if spec.mode == "handles" and all(bunch.is_ordinary for bunch in bunches):
            hidden.add("state")
        return frozenset(hidden)
