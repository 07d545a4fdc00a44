"""How the handles of one process stand: now, with those that ended, or at a moment."""

from __future__ import annotations

import struct
from collections.abc import Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from safehandle_debug.findings import Finding
from safehandle_debug.ledger import Ledger, ProcessInfo
from safehandle_debug.ledger._index import Handles, Slots
from safehandle_debug.ledger.histories import ENDINGS, from_events
from safehandle_debug.ledger.selecting import LIVES, Chooser, Life
from safehandle_debug.ledger.watched import is_finalizer, is_watched
from safehandle_debug.recording import RawLive
from safehandle_debug.recording import format as shd
from safehandle_debug.recording.format import Ending, EventKind, Flag
from safehandle_tui.model.clock import Clock, Rarely
from safehandle_tui.model.shelf import Stand

__all__ = ["Known", "Stands"]

_CLOSES: Final = (EventKind.CLOSE, EventKind.INVALIDATE)
_OVER: Final = LIVES.index("ended")
_ENDING_CODES: Final = {name: code for code, name in ENDINGS.items()}
_U64: Final = struct.Struct("=Q")
_Part = tuple[Slots | bytes, bytes | None, int]  # slots, ticks of their closes, state


@dataclass(frozen=True, slots=True)
class Known:
    """What has been found out about a process besides its events."""

    info: ProcessInfo
    findings: Sequence[Finding]
    left: tuple[bytes, bytes] | None  # slots that only the interpreter's end closed
    until_ns: int | None  # its end; None while it runs

    def problems(self) -> dict[int, str]:
        """Serial to kind of the errors found, but for leaks: every open
        handle of an ended process is one, and its life says so."""
        problems: dict[int, str] = {}
        for finding in self.findings:
            if finding.severity == "error" and finding.kind != "leak":
                for serial in finding.serials or (finding.handle.serial,):
                    problems.setdefault(serial, finding.kind)
        return problems


class Stands:
    """Makes the stands of one process.  Not thread-safe."""

    def __init__(
        self, path: Path, ledger: Ledger, chooser: Chooser, kinds: list[str], clock: Clock
    ) -> None:
        """
        Args:
            chooser: tells handles by words and patterns.
            kinds: of findings by their number, as the chooser has them; more are added.
        """
        self._path = str(path)
        self._ledger = ledger
        self._chooser = chooser
        self._kinds = kinds
        self._looking_back = Rarely(clock)
        self._known: Known | None = None
        self._parts: list[_Part] = []  # of the newest stand, not live
        self._current: Stand | None = None
        self.every: Stand | None = None  # with those that ended, as of the last look back
        self._every_of: Stand | None = None  # the current one of then
        self._ended: tuple[bytes, bytes] | None = None  # their slots

    def at(self, slots: Slots, cwd: str) -> Stand:
        """The handles that were open at a moment, from their slots."""
        return self._standing(self._ledger.handles_of([(slots, None, 0)]), cwd, None)

    def now(self, known: Known) -> Stand:
        """Those open, held or left, and those with errors found on them."""
        self._known = known
        parts: list[_Part] = [(*known.left, 0)] if known.left is not None else []
        handles = self._handles(known, parts)
        wrong = _wrong_serials(known.findings)
        if wrong:
            there = {shd.LIVE.unpack(slot)[0] for slot in handles.among(wrong)}
            parts.append((*self._closed(wrong - there), 0))
            handles = self._handles(known, parts)
        self._parts = parts
        self._current = self._standing(handles, known.info.cwd, known.until_ns)
        return self._current

    def look_back(self) -> None:
        """Puts the handles that ended beside the newest of these, in `every`."""
        known, current = self._known, self._current
        if known is None or current is None or self._every_of is current:
            return
        if self._ended is None or self._looking_back.is_due():
            with self._looking_back.measured():
                self._ended = self._newest_ended(current)
        handles = self._handles(known, [*self._parts, (*self._ended, 0)])
        self.every = self._standing(handles, known.info.cwd, known.until_ns)
        self._every_of = current

    def _handles(self, known: Known, parts: Sequence[_Part]) -> Handles:
        return self._ledger.handles(
            list(parts),
            state=_base_state(known.info),
            problems={s: self._number_of(kind) for s, kind in known.problems().items()},
            until_ns=known.until_ns or 0,
        )

    def _standing(self, handles: Handles, cwd: str, until_ns: int | None) -> Stand:
        recording = self._ledger.recording
        return Stand(self._path, cwd, recording, handles, self._chooser, until_ns)

    def _number_of(self, kind: str) -> int:
        """The number of a kind of finding."""
        if kind not in self._kinds:
            self._kinds.append(kind)
        return self._kinds.index(kind) + 1

    def _closed(self, serials: Set[int]) -> tuple[bytes, bytes]:
        """Packed slots of handles that were closed, and ticks of the closes."""
        slots, ticks = bytearray(), bytearray()
        if serials:
            for serial, events in self._ledger.recording.events_of_many(serials).items():
                history = from_events(events, None, self._ledger.recording, full=False)
                if history is None or history.ending is None:
                    continue
                first, last = events[0], events[-1]
                close = next((each for each in events if each.kind in _CLOSES), last)
                type = close.type if history.watched else first.type
                code = _OVER | _ENDING_CODES[history.ending] << 8
                slots += shd.LIVE.pack(
                    serial, first.ticks, history.value, first.stack, first.thread, first.task,
                    first.test, first.detail, type, 0, first.flags, code, close.stack,
                )  # fmt: skip
                ticks += _U64.pack(close.ticks)
        return bytes(slots), bytes(ticks)

    def _newest_ended(self, current: Stand) -> tuple[bytes, bytes]:
        slots, ticks = self._ledger.index.ended()
        rows = list(shd.LIVE.iter_unpack(slots))
        among = current.handles.among([row[0] for row in rows])
        known = {shd.LIVE.unpack(slot)[0] for slot in among}
        ended, closes = bytearray(), bytearray()
        for at, row in enumerate(rows):
            if row[0] not in known:
                ended += self._told_by_stack(row)
                closes += ticks[at * _U64.size : (at + 1) * _U64.size]
        return bytes(ended), bytes(closes)

    def _told_by_stack(self, row: tuple[int, ...]) -> bytes:
        """A slot of a handle that ended, `dropped` where the stack tells so."""
        raw = RawLive._make(row)
        recording = self._ledger.recording
        if raw.version >> 8 == Ending.CLOSED and is_watched(recording.type(raw.type)):
            finalizing = raw.flags & Flag.FINALIZING
            if finalizing or is_finalizer(
                recording.stack(raw.last_stack), recording.stack(raw.stack)
            ):
                raw = raw._replace(version=_OVER | Ending.DROPPED << 8)
        return shd.LIVE.pack(*raw)


def _base_state(info: ProcessInfo) -> int:
    """What became of the handles that have a live slot."""
    if info.ended == "running":
        return 0
    life: Life = "held" if info.ended == "signal" else "left"
    return LIVES.index(life) | Ending.LOST << 8


def _wrong_serials(findings: Sequence[Finding]) -> set[int]:
    return {
        serial
        for finding in findings
        if finding.severity == "error"
        for serial in finding.serials or (finding.handle.serial,)
    }
