"""Makes the rows of each screen, and what the pane below tells of one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

from safehandle_debug.ledger import Frame, History
from safehandle_debug.ledger.verdict import Evidence, merged
from safehandle_tui.model.alarms import (
    AlarmRow,
    alarm_lines,
    alarm_title,
    between,
    moments_of,
)
from safehandle_tui.model.cards import Card, event_card, tree_lines
from safehandle_tui.model.detail import (
    HandleDetail,
    SiteDetail,
    handle_detail,
    site_detail,
)
from safehandle_tui.model.events import MOST_EVENTS, EventRow
from safehandle_tui.model.generations import (
    GenerationRow,
    Mark,
    generation_lines,
    generation_title,
    generations,
)
from safehandle_tui.model.groups import group_by
from safehandle_tui.model.kinds import KindRow, group_by_kind, map_lines
from safehandle_tui.model.modes import MODES, Mode
from safehandle_tui.model.rows import HandleRow, SiteKey, SiteRow, group_by_site
from safehandle_tui.model.sessions import SessionRow, Sessions, session_lines
from safehandle_tui.model.source import SourceFiles
from safehandle_tui.model.spec import ViewSpec
from safehandle_tui.model.text import Line, clean, plural
from safehandle_tui.model.tracks import Track
from safehandle_tui.model.tree import TreeRow, tree_rows

__all__ = ["Builder", "Detail"]

Detail = HandleDetail | SiteDetail | Card
_BETWEEN: Final = 200_000  # events that are looked through for a victim


class Builder:
    """Makes rows and details from tracks; one for each view."""

    def __init__(
        self,
        spec: ViewSpec,
        tracks: Sequence[Track],
        seqs: Mapping[Path, int],
        now_ns: int,
        files: SourceFiles,
        marks: Sequence[Mark],
        sessions: Sessions,
        shown: Sequence[Track],
    ) -> None:
        """
        Args:
            spec: what is wanted.
            tracks: the processes in scope.
            seqs: of the last event that counts of each, while the screen is
                in the past; {} for now.
            now_ns: wall clock, of the moment that is shown.
            shown: all processes of the session.
        """
        self.spec = spec
        self.tracks = tracks
        self.now_ns = now_ns
        self._seqs = seqs
        self._files = files
        self._marks = marks
        self._sessions = sessions
        self._shown = shown
        self._numbers: dict[SiteKey, Evidence] | None = None
        self.total = 0  # handles before the filter
        self.handles = self._kept(self._handles())

    # --- handles ---

    def _handles(self) -> list[HandleRow]:
        rows: list[HandleRow] = []
        for track in self.tracks:
            seq = self._seqs.get(track.path)
            rows += track.rows(ended=self.spec.ended) if seq is None else track.past(seq)
        self.all = rows
        return rows

    def _kept(self, rows: list[HandleRow]) -> list[HandleRow]:
        spec = self.spec
        kept: list[HandleRow] = rows
        if spec.site is not None:
            kept = [row for row in kept if row.site_key == spec.site]
        if spec.born is not None:
            since, until = spec.born
            kept = [
                row
                for row in kept
                if row.opened_at_ns > since and (until is None or row.opened_at_ns <= until)
            ]
        self.total = len(kept)
        if spec.filter:
            kept = [row for row in kept if spec.filter.matches(row, self.now_ns)]
        return kept

    @property
    def started_ns(self) -> int:
        return min((t.started_ns for t in self.tracks if t.started_ns), default=self.now_ns)

    def numbers(self) -> dict[SiteKey, Evidence]:
        """What each site in scope opened, closed and keeps."""
        if self._numbers is None:
            parts: dict[SiteKey, list[Evidence]] = {}
            for track in self.tracks:
                seq = self._seqs.get(track.path)
                for key, evidence in track.sites(self.now_ns, seq).items():
                    parts.setdefault(key, []).append(evidence)
            self._numbers = {key: merged(found) for key, found in parts.items()}
        return self._numbers

    def sites(self, rows: Iterable[HandleRow] | None = None) -> list[SiteRow]:
        """The sites of the handles in view."""
        return group_by_site(
            self.handles if rows is None else rows,
            start_ns=self.started_ns,
            now_ns=self.now_ns,
            numbers=self.numbers(),
        )

    # --- rows of the screens ---

    def rows(self) -> tuple[Any, ...]:
        """The rows of the screen that is wanted, sorted."""
        spec = self.spec
        makers: dict[Mode, Callable[[], Sequence[Any]]] = {
            "sites": self._sites,
            "handles": lambda: self.handles,
            "tree": self._tree,
            "kinds": self._kinds,
            "alarms": self._alarms,
            "generations": self._generations,
            "events": self._events,
            "sessions": self._processes,
        }
        made = makers[spec.mode]()
        columns = {column.name: column for column in MODES[spec.mode].columns}
        column = columns.get(spec.sort.column)
        if column is None:
            return tuple(made)
        order = column.order
        if spec.mode == "sites":
            # Equal sites keep one order, however the sort goes.
            made = sorted(made, key=lambda row: row.site)
        return tuple(
            sorted(made, key=lambda row: order(row, self.now_ns), reverse=spec.sort.descending)
        )

    def _sites(self) -> Sequence[SiteRow]:
        sites = self.sites()
        if self.spec.group == "site":
            return sites
        return group_by(
            self.spec.group,
            self.handles,
            self.numbers(),
            start_ns=self.started_ns,
            now_ns=self.now_ns,
        )

    def _tree(self) -> Sequence[TreeRow]:
        cwd = self.tracks[0].info.cwd if self.tracks and self.tracks[0].info else ""
        rows = [row for row in self.handles if row.is_open]
        return tree_rows(rows, self.spec.toggled, cwd=cwd, library=self.spec.library)

    def _kinds(self) -> Sequence[KindRow]:
        totals: dict[tuple[str, str], tuple[int, int]] = {}
        narrowed = self._seqs or self.spec.filter or self.spec.site or self.spec.born
        for track in self.tracks:
            numbers = track.numbers
            if numbers is not None and not narrowed:
                for key, (opened, closed) in numbers.types().items():
                    before = totals.get(key, (0, 0))
                    totals[key] = (before[0] + opened, before[1] + closed)
        return group_by_kind(self.handles, totals)

    def _alarms(self) -> Sequence[AlarmRow]:
        rows = []
        for track in self.tracks:
            seq = self._seqs.get(track.path)
            started = track.started_ns
            for finding in track.findings:
                row = AlarmRow(str(track.path), finding, started)
                if seq is not None and row.at_ns > self.now_ns:
                    continue
                rows.append(row)
        return rows

    def _generations(self) -> Sequence[GenerationRow]:
        opened = 0
        for track in self.tracks:
            if track.numbers is not None:
                opened += track.numbers.opened_by(self._seqs.get(track.path))
        marks = [mark for mark in self._marks if mark.at_ns <= self.now_ns]
        return generations(marks, self.handles, started_ns=self.started_ns, opened=opened)

    def _events(self) -> Sequence[EventRow]:
        rows: list[EventRow] = []
        for track in self.tracks:
            numbers, info = track.numbers, track.info
            if numbers is None or info is None:
                continue
            until = self._seqs.get(track.path, numbers.last_seq)
            for event, type in numbers.typed_events(max(0, until - MOST_EVENTS), until):
                kind, owner = clean(type.kind), clean(type.name)
                start = track.started_ns
                rows.append(
                    EventRow(str(track.path), info.pid, start, info.cwd, event, kind, owner)
                )
        if len(self.tracks) > 1:
            rows.sort(key=lambda row: row.event.at_ns)
        self.total = len(rows)
        if self.spec.filter:
            rows = [row for row in rows if self.spec.filter.matches(row, self.now_ns)]
        return rows

    def _processes(self) -> Sequence[SessionRow]:
        alarms = {
            str(track.path): sum(f.count for f in track.findings if f.severity == "error")
            for track in self._shown
        }
        return self._sessions.rows([track.path for track in self._shown], alarms)

    # --- the pane below ---

    def detail(self, row: Any) -> Detail | None:
        """What is told of a row."""
        if isinstance(row, HandleRow):
            return self._handle(row)
        if isinstance(row, SiteRow):
            return self._site(row)
        if isinstance(row, AlarmRow):
            return self._alarm(row)
        if isinstance(row, GenerationRow):
            return Card(generation_title(row), lambda cells, room: generation_lines(row))
        if isinstance(row, SessionRow):
            title: Line = ((row.command, "own"),)
            return Card(title, lambda cells, room: session_lines(row))
        if isinstance(row, KindRow):
            return self._kind(row)
        if isinstance(row, EventRow):
            return self._event(row)
        if isinstance(row, TreeRow):
            return self._frame(row)
        return None

    def track_of(self, process: str) -> Track | None:
        return next((track for track in self._shown if str(track.path) == process), None)

    def _handle(self, row: HandleRow) -> HandleDetail:
        track = self.track_of(row.key[0])
        history = track.history(row.serial) if track is not None else None
        over = track is not None and track.info is not None and track.info.ended == "exit"
        seq = self._seqs.get(Path(row.key[0]))
        if history is not None and seq is not None:
            history = _cut(history, seq)
            over = False
        return handle_detail(
            row, history or row.history, self._files, over=over, cwd=self._cwd(row.key[0])
        )

    def _site(self, row: SiteRow) -> SiteDetail:
        process = row.rows[-1].key[0]
        closes: list[Any] = []
        track = self.track_of(process)
        if track is not None and track.numbers is not None and not self._seqs:
            closes = track.numbers.closed_at(row.key)
        return site_detail(row, self._files, cwd=self._cwd(process), closes=closes)

    def _alarm(self, row: AlarmRow) -> Card:
        finding = row.finding
        stacks = [finding.culprit, finding.handle.opened]
        stacks += [event.stack for event in finding.events]
        source = self._files.around(frame for stack in stacks for frame in stack)
        taken = None
        moments = moments_of(finding)
        track = self.track_of(row.process)
        if moments is not None and finding.victim is None and track is not None:
            numbers = track.numbers
            if numbers is not None and moments[1] - moments[0] <= _BETWEEN:
                taken = between(finding, numbers.events(*moments))
        return Card(alarm_title(row), lambda cells, room: alarm_lines(row, taken, source, cells))

    def _kind(self, row: KindRow) -> Card:
        handles = [each for each in self.handles if each.is_open]
        sites = {site.key: site for site in self.sites()}
        title: Line = (
            (f"{row.owner} ", "title"),
            (plural(row.open, row.kind), "strong"),
            (" open", "text"),
        )
        return Card(title, lambda cells, room: map_lines(handles, sites, row.kind, cells, room))

    def _event(self, row: EventRow) -> Card:
        source = self._files.around(row.event.stack)
        return event_card(row, source)

    def _frame(self, row: TreeRow) -> Card:
        source = self._files.around(Frame(*part) for part in row.key if part[0])
        cwd = self.tracks[0].info.cwd if self.tracks and self.tracks[0].info else ""
        title: Line = (
            (clean(row.label), "own"),
            (f" · {plural(row.open, 'handle')} open", "strong"),
        )
        return Card(title, partial(tree_lines, row, source, cwd))

    def _cwd(self, process: str) -> str:
        track = self.track_of(process)
        return track.info.cwd if track is not None and track.info is not None else ""


def _cut(history: History, seq: int) -> History:
    """The history as it was right after an event."""
    history.events = [event for event in history.events if event.seq <= seq]
    if history.events:
        history.refs = history.events[-1].refs
    history.ending = None
    history.closed_at_ns = None
    return history
