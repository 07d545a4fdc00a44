"""One process under watch: its ledger, and the rows made from it.

A Track never raises because of its recording: what goes wrong with the file
is kept in `error`, and the rows stay as they were seen last.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from safehandle_debug.errors import RecordingError
from safehandle_debug.findings import Finding, find
from safehandle_debug.ledger import Counts, History, Ledger, ProcessInfo
from safehandle_debug.ledger.verdict import Evidence
from safehandle_debug.recording import RawEvent, open_recording
from safehandle_debug.recording.format import EVENT, Ending, EventKind, Flag
from safehandle_tui.model.numbers import Numbers
from safehandle_tui.model.rows import HandleRow, Life, SiteKey

__all__ = ["Clock", "ProcessRow", "Track"]

_RATE_WINDOW_NS: Final = 60 * 10**9
_RATE_LEAST_NS: Final = 5 * 10**9
_SAMPLE_EVERY_NS: Final = 10**9
_MOST_ENDED: Final = 20_000  # handles that ended, the newest ones
# A recording with more events than this is shown before they have been read.
_MANY_EVENTS: Final = 3_000_000
_FINALIZED: Final = (Ending.DROPPED, Ending.COLLECTED)


class Clock:
    """The two clocks that a Track needs; tests bring their own."""

    def wall_ns(self) -> int:
        """Nanoseconds since 1970."""
        return time.time_ns()

    def steady_ns(self) -> int:
        """Nanoseconds that never jump."""
        return time.monotonic_ns()


class _Rarely:
    """Lets something costly happen again only after ten times what it took."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._next_ns = 0

    def is_due(self) -> bool:
        """True when enough time has gone by."""
        return self._clock.steady_ns() >= self._next_ns

    @contextmanager
    def measured(self) -> Iterator[None]:
        """Around the costly thing."""
        began = self._clock.steady_ns()
        try:
            yield
        finally:
            now = self._clock.steady_ns()
            self._next_ns = now + 9 * (now - began)


@dataclass(frozen=True, slots=True)
class ProcessRow:
    """One process as the process list shows it."""

    path: str  # of the recording: the process's identity
    info: ProcessInfo | None  # None when the recording could never be read
    depth: int  # below its parent in the list
    rate: float | None  # change of `live` a minute; None when not known
    open: int  # handles open now, held when it died, or never closed
    error: str | None  # why the recording cannot be read (any more)
    reading: bool = False  # its events are still to be read


class Track:
    """Follows the recording at one path.  Not thread-safe."""

    def __init__(self, path: Path, clock: Clock) -> None:
        self.path = path
        self.error: str | None = None
        self.info: ProcessInfo | None = None
        self.counts: Counts | None = None
        self.findings: list[Finding] = []
        self._clock = clock
        self._ledger: Ledger | None = None
        self._numbers: Numbers | None = None
        self._past: tuple[int, list[HandleRow]] = (-1, [])  # rows at a moment
        self._alarms: tuple[int, list[int]] = (-1, [])
        self._rows: dict[int, HandleRow] = {}
        self._current: list[HandleRow] = []
        self._ended: list[HandleRow] = []  # as of the last look back
        self._left: frozenset[int] = frozenset()  # serials, once it has exited
        self._until_ns: int | None = None
        self._samples: deque[tuple[int, int]] = deque()  # (steady ns, live)
        self._judged: tuple[int, int, str] | None = None
        self._judging = _Rarely(clock)
        self._looking_back = _Rarely(clock)
        self._reading = False
        self._stale = True
        self._size = 0  # bytes of the file, as last seen
        self._cut = False  # the file got shorter

    def refresh(self) -> bool:
        """Takes in what is new; True when anything that is shown changed."""
        before = (self.error, self.info, len(self.findings))
        changed = False
        gone = self._gone()
        try:
            changed = not self._cut and self._read()
            self.error = gone
        except RecordingError as error:
            self.error = str(error)
        return changed or (self.error, self.info, len(self.findings)) != before

    def rows(self, *, ended: bool) -> list[HandleRow]:
        """Its handles, oldest first: those open, held or left, and those with
        errors found on them; with `ended` all that are known."""
        try:
            if self._stale and not self._cut:
                self._current = self._make_current()
                self._stale = False
            if ended and not self._cut:
                self._look_back()
        except RecordingError as error:
            self.error = str(error)
        return [*self._ended, *self._current] if ended else self._current

    def sites(self, now_ns: int, seq: int | None = None) -> dict[SiteKey, Evidence]:
        """What each of its sites opened, closed and keeps; after event `seq`,
        or now."""
        if self._numbers is None or self._cut:
            return {}
        try:
            return self._numbers.sites(self._until_ns or now_ns, seq)
        except RecordingError as error:
            self.error = str(error)
            return {}

    def past(self, seq: int) -> list[HandleRow]:
        """The handles that were open right after an event, oldest first."""
        if self._numbers is None or self._cut:
            return []
        if self._past[0] != seq:
            try:
                histories = self._numbers.open_at(seq)
            except RecordingError as error:
                self.error = str(error)
                return []
            cwd = self.info.cwd if self.info else ""
            rows = [HandleRow(each, process=str(self.path), cwd=cwd) for each in histories]
            self._past = (seq, rows)
        return self._past[1]

    def alarms(self) -> list[int]:
        """The seqs of the events that are findings by themselves."""
        numbers = self.numbers
        if numbers is None:
            return []
        if self._alarms[0] != numbers.last_seq:
            self._alarms = (numbers.last_seq, numbers.alarms())
        return self._alarms[1]

    @property
    def numbers(self) -> Numbers | None:
        """The counts of its sites and its past; None when it cannot be read."""
        return None if self._cut else self._numbers

    def history(self, serial: int) -> History | None:
        """One handle with all its events; None when it cannot be read."""
        if self._ledger is None or self._cut:
            return None
        try:
            return self._ledger.history(serial)
        except RecordingError as error:
            self.error = str(error)
            return None

    def row_of(self, serial: int) -> HandleRow | None:
        """A handle as it is now, wherever it went; None when not known."""
        history = self.history(serial)
        if history is None:
            return self._rows.get(serial)
        row = self._row(history)
        row.life = self._life(history)
        row.until_ns = self._until_ns
        return row

    def row(self, depth: int) -> ProcessRow:
        """What the process list shows of it."""
        return ProcessRow(
            path=str(self.path),
            info=self.info,
            depth=depth,
            rate=self._rate(),
            open=self._open(),
            error=self.error,
            reading=self._reading,
        )

    @property
    def until_ns(self) -> int | None:
        """Wall clock end of the process; None while it runs."""
        return self._until_ns

    @property
    def started_ns(self) -> int:
        """Wall clock start of the process, 0 when not known."""
        return self.info.started_at_ns if self.info else 0

    def close(self) -> None:
        """Closes the recording."""
        if self._ledger is not None:
            self._ledger.close()

    # --- reading ---

    def _gone(self) -> str | None:
        """What happened to the file, if it is not what it was.

        One that was cut off must not be touched again: reading a mapping
        beyond the end of its file is a fatal signal, not an error."""
        try:
            size = self.path.stat().st_size
        except OSError:
            return None if self._ledger is None else "its recording vanished"
        if size < self._size:
            self._cut = True
        self._size = max(size, self._size)
        return "its recording was cut off" if self._cut else None

    def _read(self) -> bool:
        first = self._ledger is None
        if self._ledger is None:
            self._ledger = Ledger(open_recording(self.path))
            self._numbers = Numbers(self._ledger.recording, self._ledger.index)
        was_reading = self._reading
        # What is open needs no event: it is shown before the long way through
        # them begins.
        self._reading = first and self._ledger.counts.events > _MANY_EVENTS
        changed = first or was_reading
        if not self._reading:
            changed = self._ledger.refresh() or changed
        if self._numbers is not None:
            changed = self._numbers.refresh() or changed
        info = self._ledger.process
        ended = info.ended != "running"
        if ended and self._until_ns is None and not self._reading:
            # Of a killed process nobody wrote down when: if it was seen alive
            # it is now, else at its last sign of life, found below.
            seen_alive = self.info is not None
            self._until_ns = info.ended_at_ns or (self._clock.wall_ns() if seen_alive else 0)
            self._left = self._left_open(self._ledger)
            changed = True
        self.info = info
        self.counts = self._ledger.counts
        self._sample(info.live, running=not ended)
        self._judge()
        self._stale = self._stale or changed
        return changed

    def _left_open(self, ledger: Ledger) -> frozenset[int]:
        """Serials of the handles that only the interpreter's end closed."""
        began = ledger.recording.header.finalizing_seq
        if not began:
            return frozenset()
        left: set[int] = set()
        until = ledger.recording.header.next_seq
        chunks = ledger.recording.chunks_between(began - 1, until)
        events = (RawEvent._make(row) for _, data in chunks for row in EVENT.iter_unpack(data))
        for event in events:
            if event.kind != EventKind.CLOSE or event.flags & Flag.BORROWED:
                continue
            swept = event.ending == Ending.SWEPT
            if swept or (event.ending in _FINALIZED and event.flags & Flag.FINALIZING):
                left.add(event.serial)
        return frozenset(left)

    def _judge(self) -> None:
        """Asks for findings when the counts say that there may be new ones."""
        if self._ledger is None or self.counts is None or self.info is None:
            return
        state = (self.counts.problems, self.counts.abandoned, self.info.ended)
        if state == self._judged or self._reading or not self._judging.is_due():
            return
        self._judged = state
        with self._judging.measured():
            self.findings = find(self._ledger)
        self._stale = True

    def _sample(self, live: int, *, running: bool) -> None:
        if not running:
            self._samples.clear()
            return
        now = self._clock.steady_ns()
        if not self._samples or now - self._samples[-1][0] >= _SAMPLE_EVERY_NS:
            self._samples.append((now, live))
        while now - self._samples[0][0] > _RATE_WINDOW_NS:
            self._samples.popleft()

    def _rate(self) -> float | None:
        if not self._samples:
            return None
        (first, before), (last, now) = self._samples[0], self._samples[-1]
        if last - first < _RATE_LEAST_NS:
            return None
        return (now - before) * 60e9 / (last - first)

    def _open(self) -> int:
        if self.info is None:
            return 0
        if self.info.ended == "running" or self._cut:
            return self.info.live
        return sum(1 for row in self.rows(ended=False) if row.life != "ended")

    # --- rows ---

    def _make_current(self) -> list[HandleRow]:
        if self._ledger is None:
            return []
        histories = list(self._ledger.open())
        wrong = {
            serial
            for finding in self.findings
            if finding.severity == "error"
            for serial in finding.serials or (finding.handle.serial,)
        }
        missing = (self._left | wrong) - {history.serial for history in histories}
        if missing:
            histories += self._ledger.histories_of(missing)
            histories.sort(key=lambda history: history.serial)
        rows = self._make_rows(histories)
        if len(self._rows) > 2 * len(rows) + _MOST_ENDED:
            self._rows = {row.serial: row for row in (*self._ended, *rows)}
        return [row for row in rows if row.life != "ended" or row.problem]

    def _look_back(self) -> None:
        """Collects the handles that ended, if it is time to do so again.

        That goes through all events: rarely, and only the newest are kept."""
        if self._ledger is None or not self._looking_back.is_due():
            return
        current = {row.serial for row in self._current}
        with self._looking_back.measured():
            ended = (each for each in self._ledger.histories() if each.serial not in current)
            newest = deque(ended, maxlen=_MOST_ENDED)
            self._ended = self._make_rows(newest)

    def _make_rows(self, histories: Iterable[History]) -> list[HandleRow]:
        rows: list[HandleRow] = []
        problems = self._problems()
        latest = 0
        for history in histories:
            row = self._row(history)
            row.life = self._life(history)
            row.problem = problems.get(history.serial, "")
            latest = max(latest, history.closed_at_ns or history.opened_at_ns)
            rows.append(row)
        if self._until_ns == 0:
            self._until_ns = latest
        for row in rows:
            row.until_ns = self._until_ns
        return rows

    def _row(self, history: History) -> HandleRow:
        """The row of a handle, with its latest history."""
        row = self._rows.get(history.serial)
        if row is None:
            cwd = self.info.cwd if self.info else ""
            row = HandleRow(history, process=str(self.path), cwd=cwd)
            self._rows[history.serial] = row
        row.history = history
        return row

    def _problems(self) -> dict[int, str]:
        """Serial to kind of the errors found, but for leaks: every open
        handle of an ended process is one, and `life` says so."""
        problems: dict[int, str] = {}
        for finding in self.findings:
            if finding.severity == "error" and finding.kind != "leak":
                for serial in finding.serials or (finding.handle.serial,):
                    problems.setdefault(serial, finding.kind)
        return problems

    def _life(self, history: History) -> Life:
        if history.ending is None:
            return "open"
        if history.ending == "lost" and self.info is not None and self.info.ended == "signal":
            return "held"
        if history.ending == "lost" or history.serial in self._left:
            return "ended" if history.importing else "left"
        return "ended"
