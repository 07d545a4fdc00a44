"""One process under watch: its ledger, and the rows made from it.

A Track never raises because of its recording: what goes wrong with the file
is kept in `error`, and the rows stay as they were seen last.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from safehandle_debug.errors import RecordingError
from safehandle_debug.findings import Finding, find
from safehandle_debug.ledger import Counts, History, Ledger, ProcessInfo
from safehandle_debug.ledger.names import Names
from safehandle_debug.ledger.selecting import Chooser, Life
from safehandle_debug.ledger.verdict import Evidence
from safehandle_debug.recording import Recording, open_recording
from safehandle_tui.model.clock import Clock, Rarely
from safehandle_tui.model.numbers import Numbers
from safehandle_tui.model.rows import HandleRow, SiteKey, site_text
from safehandle_tui.model.shelf import Shelf, Stand
from safehandle_tui.model.stands import Known, Stands
from safehandle_tui.model.text import clean

__all__ = ["ProcessRow", "Track"]

_RATE_WINDOW_NS: Final = 60 * 10**9
_RATE_LEAST_NS: Final = 5 * 10**9
_SAMPLE_EVERY_NS: Final = 10**9
# A recording with more events than this is shown before they have been read.
_MANY_EVENTS: Final = 500_000


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
        self._stands: Stands | None = None
        self._past: tuple[int, Stand] | None = None  # at a moment
        self._alarms: tuple[int, list[int]] = (-1, [])
        self._current: Stand | None = None
        self._counted: tuple[Stand, int] | None = None  # how many are open
        self._left: tuple[bytes, bytes] | None = None  # slots, once it has exited
        self._until_ns: int | None = None
        self._samples: deque[tuple[int, int]] = deque()  # (steady ns, live)
        self._judged: tuple[int, int, str] | None = None
        self._judging = Rarely(clock)
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

    def is_behind(self) -> bool:
        """True when its process has written something since the last refresh()."""
        if self._ledger is None or self._cut:
            return False
        try:
            return self._ledger.recording.is_behind()
        except RecordingError:
            return True

    def stand(self, *, ended: bool) -> Stand | None:
        """Its handles: those open, held or left, and those with errors found on
        them; with `ended` all that are known.  None: nothing was read yet."""
        known, stands = self._known(), self._stands
        try:
            if known is not None and stands is not None and not self._cut:
                if self._stale:
                    self._current = stands.now(known)
                    self._stale = False
                if ended:
                    stands.look_back()
        except RecordingError as error:
            self.error = str(error)
        every = stands.every if ended and stands is not None else None
        return every or self._current

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

    def past(self, seq: int) -> Stand | None:
        """The handles that were open right after an event."""
        if self._numbers is None or self._stands is None or self._cut:
            return None
        if self._past is None or self._past[0] != seq:
            try:
                slots = self._numbers.open_at(seq)
            except RecordingError as error:
                self.error = str(error)
                return None
            self._past = (seq, self._stands.at(slots, self.info.cwd if self.info else ""))
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

    def history(self, serial: int, seq: int | None = None) -> History | None:
        """One handle with all its events, or those up to one; None when it
        cannot be read."""
        if self._ledger is None or self._cut:
            return None
        try:
            if seq is not None:
                return self._ledger.history_until(serial, seq)
            return self._ledger.history(serial)
        except RecordingError as error:
            self.error = str(error)
            return None

    def row_of(self, serial: int, seq: int | None = None) -> HandleRow | None:
        """A handle as it is now, or was after an event, wherever it went; None
        when not known."""
        history = self.history(serial, seq)
        if history is None:
            return None
        cwd = self.info.cwd if self.info else ""
        row = HandleRow(history, process=str(self.path), cwd=cwd)
        if seq is not None:
            row.life = "open" if history.ending is None else "ended"
            return row
        known = self._known()
        row.problem = known.problems().get(serial, "") if known is not None else ""
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
    def recording(self) -> Recording | None:
        """The recording itself; None when it cannot be read."""
        return None if self._ledger is None or self._cut else self._ledger.recording

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
            recording, cwd = self._ledger.recording, self._ledger.cwd
            names = Names(recording, clean=clean, place=lambda frame: site_text(frame, cwd))
            self._numbers = Numbers(recording, self._ledger.index, names)
            kinds: list[str] = []
            chooser = Chooser(names, recording.header.pid, kinds)
            self._stands = Stands(self.path, self._ledger, chooser, kinds, self._clock)
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
            if not self._until_ns:
                self._until_ns = self._last_sign()
            changed = True
        self.info = info
        self.counts = self._ledger.counts
        self._sample(info.live, running=not ended)
        self._judge()
        self._stale = self._stale or changed
        return changed

    def _left_open(self, ledger: Ledger) -> tuple[bytes, bytes] | None:
        """Slots of the handles that only the interpreter's end closed."""
        began = ledger.recording.header.finalizing_seq
        if not began or self._numbers is None:
            return None
        return self._numbers.left(began - 1)

    def _last_sign(self) -> int:
        """When the last event of the process was recorded, wall clock."""
        return self._numbers.time_of(self._numbers.last_seq) if self._numbers is not None else 0

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
        stand = self.stand(ended=False)
        if stand is None:
            return 0
        if self._counted is None or self._counted[0] is not stand:
            number = len(Shelf([stand]).in_state("open", lambda state: state.is_open))
            self._counted = (stand, number)
        return self._counted[1]

    # --- handles ---

    def _known(self) -> Known | None:
        if self.info is None:
            return None
        return Known(self.info, self.findings, self._left, self._until_ns)

    def _life(self, history: History) -> Life:
        if history.ending is None:
            return "open"
        if history.ending == "lost" and self.info is not None and self.info.ended == "signal":
            return "held"
        if history.ending == "lost" or self._is_left(history.serial):
            return "ended" if history.importing else "left"
        return "ended"

    def _is_left(self, serial: int) -> bool:
        if self._ledger is None or self._left is None:
            return False
        return bool(self._ledger.handles_of([(*self._left, 0)]).among([serial]))
