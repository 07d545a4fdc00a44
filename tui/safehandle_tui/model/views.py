"""Makes the rows of each screen, and what the pane below tells of one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Final

from safehandle_debug.ledger import Frame
from safehandle_debug.ledger._index import NONE, TYPE
from safehandle_debug.ledger.selecting import State
from safehandle_debug.ledger.verdict import Evidence, judge, merged, typical_ns
from safehandle_tui.model.alarm_card import alarm_lines, alarm_title, opened_by_enter
from safehandle_tui.model.alarms import AlarmRow, between, moments_of
from safehandle_tui.model.cards import Card, event_card, tree_lines
from safehandle_tui.model.detail import HandleDetail, SiteDetail, handle_detail, site_detail
from safehandle_tui.model.events import MOST_EVENTS, EventRow
from safehandle_tui.model.generations import (
    GenerationRow,
    Mark,
    generation_lines,
    generation_title,
    generations,
    name_of,
)
from safehandle_tui.model.groups import group_by, in_group
from safehandle_tui.model.holders import Kept, Questions
from safehandle_tui.model.kinds import KindRow, group_by_kind, map_lines
from safehandle_tui.model.modes import MODES, Mode
from safehandle_tui.model.rows import Bunch, HandleRow, SiteKey, SiteRow, group_by_site
from safehandle_tui.model.sessions import SessionRow, Sessions, session_lines
from safehandle_tui.model.shelf import HandleRows, Shelf
from safehandle_tui.model.shelves import Shelves
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
        questions: Questions,
        shown: Sequence[Track],
        cache: Shelves,
    ) -> None:
        """
        Args:
            spec: what is wanted.
            tracks: the processes in scope.
            seqs: of the last event that counts of each, while the screen is
                in the past; {} for now.
            now_ns: wall clock, of the moment that is shown.
            shown: all processes of the session.
            cache: what was made for the view before.
        """
        self.spec = spec
        self.tracks = tracks
        self.now_ns = now_ns
        self._seqs = seqs
        self._files = files
        self._marks = marks
        self._sessions = sessions
        self._questions = questions
        self._shown = shown
        self._cache = cache
        self._numbers: dict[SiteKey, Evidence] | None = None
        self.all = self._shelf(cache)  # before any filter
        self.handles, self.total = self._kept(self.all, cache)

    # --- handles ---

    def _shelf(self, cache: Shelves) -> Shelf:
        stands = []
        for track in self.tracks:
            seq = self._seqs.get(track.path)
            stand = track.stand(ended=self.spec.ended) if seq is None else track.past(seq)
            if stand is not None:
                stands.append(stand)
        return cache.get(
            ("all", self.spec.ended, *stands),
            lambda: (
                Shelf(stands) if self.spec.ended else Shelf(stands).in_state("shown", _is_shown)
            ),
        )

    def _kept(self, shelf: Shelf, cache: Shelves) -> tuple[Shelf, int]:
        """The handles that are wanted, and how many there are before the filter."""
        spec, site, born = self.spec, self.spec.site, self.spec.born
        if site is not None:
            before_site = shelf
            shelf = cache.get((shelf, site), lambda: before_site.at_site(site))
        if born is not None:
            before_birth = shelf
            shelf = cache.get((shelf, born), lambda: before_birth.born(*born))
        total = len(shelf)
        if spec.filter:
            shelf = shelf.where(spec.filter, self.now_ns)
        return shelf, total

    def bunches(self, shelf: Shelf | None = None, *, actors: bool = False) -> list[Bunch]:
        """The handles in view, or others, in bunches that are alike."""
        shelf = self.handles if shelf is None else shelf
        return self._cache.bunches(shelf, self.started_ns, self.now_ns, actors=actors)

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

    def sites(self) -> list[SiteRow]:
        """The sites of the handles in view."""
        return group_by_site(self.bunches(), self._rows_of, numbers=self.numbers())

    def _rows_of(self, site: SiteKey, count: int) -> HandleRows:
        shelf, cache = self.handles, self._cache
        key = (shelf, "rows", site)
        return HandleRows(lambda: cache.get(key, lambda: shelf.at_site(site).by_life()), count)

    # --- rows of the screens ---

    def rows(self) -> Sequence[Any]:
        """The rows of the screen that is wanted, sorted."""
        spec = self.spec
        if spec.mode == "handles":
            return self._handle_rows()
        makers: Mapping[Mode, Callable[[], Sequence[Any]]] = {
            "sites": self._sites,
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

    def _handle_rows(self) -> Sequence[HandleRow]:
        sort, shelf = self.spec.sort, self.handles
        if not len(shelf):
            return ()
        # What is older stays older.
        key = (shelf, sort.column, sort.descending, None if sort.column == "age" else 0)
        shelf = self._cache.get(
            key,
            lambda: shelf.ordered(sort.column, descending=sort.descending, now_ns=self.now_ns),
        )
        return HandleRows(lambda: shelf, len(shelf))

    def _sites(self) -> Sequence[SiteRow]:
        if self.spec.group == "site":
            return self.sites()
        return group_by(
            self.spec.group,
            self.bunches(actors=self.spec.group == "thread"),
            self.numbers(),
            lambda what, name, count: HandleRows(
                lambda: in_group(self.handles, what, name).by_life(), count
            ),
        )

    def _tree(self) -> Sequence[TreeRow]:
        cwd = self.tracks[0].info.cwd if self.tracks and self.tracks[0].info else ""
        bunches = [bunch for bunch in self.bunches() if bunch.is_open]
        return tree_rows(bunches, self.spec.toggled, cwd=cwd, library=self.spec.library)

    def _kinds(self) -> Sequence[KindRow]:
        totals: dict[tuple[str, str], tuple[int, int]] = {}
        narrowed = self._seqs or self.spec.filter or self.spec.site or self.spec.born
        for track in self.tracks:
            numbers = track.numbers
            if numbers is not None and not narrowed:
                for key, (opened, closed) in numbers.types().items():
                    before = totals.get(key, (0, 0))
                    totals[key] = (before[0] + opened, before[1] + closed)
        return group_by_kind(self.bunches(), totals)

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
        return generations(marks, self._born, started_ns=self.started_ns, opened=opened)

    def _born(self, since_ns: int, until_ns: int | None) -> list[Bunch]:
        """The open handles that were opened between two marks."""
        found = self.bunches(self.handles.born(since_ns, until_ns))
        return [bunch for bunch in found if bunch.is_open and not bunch.importing]

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

    def seq_of(self, track: Track) -> int | None:
        """The last event of a process that counts; None: all do."""
        return self._seqs.get(track.path)

    def track_of(self, process: str) -> Track | None:
        return next((track for track in self._shown if str(track.path) == process), None)

    def _handle(self, row: HandleRow) -> HandleDetail:
        track = self.track_of(row.key[0])
        seq = self._seqs.get(Path(row.key[0]))
        history = track.history(row.serial, seq) if track is not None else None
        ended = track is not None and track.info is not None and track.info.ended == "exit"
        over = ended and seq is None
        detail = handle_detail(
            row, history or row.history, self._files, over=over, cwd=self._cwd(row.key[0])
        )
        numbers = self.numbers().get(row.site_key)
        marks = [mark for mark in self._marks if mark.at_ns <= row.opened_at_ns]
        return replace(
            detail,
            kept=self._kept_by(row),
            typical_ns=typical_ns(numbers) if numbers is not None else 0,
            started_ns=track.started_ns if track is not None else 0,
            verdict=judge(numbers).word if numbers and row.life == "open" else "",
            generation=name_of(len(marks)) if self._marks else "",
        )

    def _kept_by(self, row: HandleRow) -> Kept | None:
        """Who keeps a handle alive; None when it is closed, and in the past, of
        which nobody was asked."""
        process = row.key[0]
        track = self.track_of(process)
        if track is None or self._seqs or row.life == "ended":
            return None

        def is_alike(serial: int) -> bool:
            at = self.all.find((process, serial))
            return at is not None and self.all[at].site_key == row.site_key

        return self._questions.kept(track, row, is_alike, self.now_ns)

    def _site(self, row: SiteRow) -> SiteDetail:
        process = row.bunches[0].process
        closes: list[Any] = []
        track = self.track_of(process)
        if track is not None and track.numbers is not None and not self._seqs:
            closes = track.numbers.closed_at(row.key)
        detail = site_detail(row, self._files, cwd=self._cwd(process), closes=closes)
        # Of the past nobody was asked: its rows need not be looked for.
        kept = self._kept_by(row.rows[0]) if len(row.rows) and not self._seqs else None
        return replace(detail, kept=kept)

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
        return Card(
            alarm_title(row),
            lambda cells, room: alarm_lines(row, taken, source, cells, room),
            tuple((row.process, serial) for serial in opened_by_enter(row, taken)),
        )

    def _kind(self, row: KindRow) -> Card:
        descriptors = self.handles.named(
            "descriptors", (TYPE, NONE), lambda names, type, _: names.space(type) == "fd"
        )
        bunches = [each for each in descriptors.bunches(singly=True) if each.is_open]
        sites = {site.key: site for site in self.sites()}
        title: Line = (
            (f"{row.owner} ", "title"),
            (plural(row.open, row.kind), "strong"),
            (" open", "text"),
        )
        return Card(title, lambda cells, room: map_lines(bunches, sites, row.kind, cells, room))

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


def _is_shown(state: State) -> bool:
    """True for a handle that is shown without being asked for those that ended."""
    return state.is_open or bool(state.problem)
