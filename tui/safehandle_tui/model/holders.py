"""Who keeps a handle alive: what its process answered, or left word of.

Only a process itself can know.  It is asked by one word in its recording, looks
in a slice of its own time, and is not stopped; when it ends, it looks once more.
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Final, Protocol

from safehandle_debug.errors import RecordingError
from safehandle_debug.findings.holders import Holders, read_holders
from safehandle_debug.findings.holders.told import ANSWER
from safehandle_debug.ledger import ProcessInfo
from safehandle_debug.recording import Recording
from safehandle_debug.recording.asking import ask, withdraw
from safehandle_tui.model.rows import HandleRow
from safehandle_tui.model.text import Line, Role, age, clean

__all__ = ["Kept", "Process", "Questions", "kept_lines"]

_AGO: Final = "\0"  # in a note: how long ago
_PATIENCE_NS: Final = 3 * 10**9
_NOBODY: Final = "raw"  # as the name of an owner: no object


@dataclass(frozen=True, slots=True)
class Kept:
    """What is known of who keeps one handle alive."""

    texts: tuple[str, ...] = ()  # a line for each that does
    like: int | None = None  # they are told of this handle, opened at the same place
    note: str = ""  # how far that can be believed, or why there is nothing
    role: Role = "muted"  # of the note
    since_ns: int | None = None  # wall clock; the note has an _AGO for the time since
    is_waiting: bool = False  # the question has not been answered


class Process(Protocol):
    """What has to be known of a process."""

    @property
    def info(self) -> ProcessInfo | None: ...

    @property
    def recording(self) -> Recording | None: ...


@dataclass(frozen=True, slots=True)
class _Asked:
    number: int  # of the question
    at_ns: int
    events: int = 0  # that the process had recorded by then
    answered_ns: int = 0
    error: str = ""
    is_overdue: bool = False


class Questions:
    """What the processes were asked, and whether they answered."""

    def __init__(self) -> None:
        self._asked: dict[str, _Asked] = {}

    def ask(self, path: str, process: Process, now_ns: int) -> None:
        """Asks a process; one that ended is not disturbed any more."""
        info, recording = process.info, process.recording
        if info is None or recording is None or info.ended != "running":
            return
        try:
            self._asked[path] = _Asked(ask(recording), now_ns, info.events)
        except RecordingError as error:
            self._asked[path] = _Asked(0, now_ns, error=str(error))

    def is_overdue(self, now_ns: int) -> bool:
        """True once for a question of which more is to be said than that it waits."""
        for path, asked in self._asked.items():
            waits = not (asked.answered_ns or asked.error or asked.is_overdue)
            if waits and now_ns - asked.at_ns > _PATIENCE_NS:
                self._asked[path] = replace(asked, is_overdue=True)
                return True
        return False

    def withdraw(self, path: str, process: Process) -> None:
        """Takes the last question to a process back."""
        asked, recording = self._asked.pop(path, None), process.recording
        if asked is not None and recording is not None and not asked.error:
            # One that cannot be taken back will be answered: no harm is done.
            with suppress(RecordingError):
                withdraw(recording, asked.number)

    def kept(
        self, process: Process, row: HandleRow, is_alike: Callable[[int], bool], now_ns: int
    ) -> Kept:
        """What is known of one handle.

        Args:
            is_alike: tells by its serial whether a handle was opened at the same
                place; the process looks for the oldest of each place only.
        """
        info, recording = process.info, process.recording
        if info is None or recording is None:
            return Kept()
        told = read_holders(recording)
        known = _of(row, is_alike, told)
        if info.ended == "running":
            events = info.events
            return self._running(
                row.key[0], recording, row, known, now_ns, events, told=bool(told)
            )
        if known.texts:
            return replace(known, note="when the program ended")
        if info.ended == "signal":
            return replace(known, note="not known: the program was killed and could not look")
        return replace(known, note="not known: the program left no word of it when it ended")

    def _running(
        self,
        path: str,
        recording: Recording,
        row: HandleRow,
        known: Kept,
        now_ns: int,
        events: int,
        *,
        told: bool,
    ) -> Kept:
        asked = self._asked.get(path)
        if asked is None:
            if known.texts:
                return replace(known, note="as it was told before; o asks again")
            return replace(known, note="o asks the program")
        if asked.error:
            return replace(known, note=clean(asked.error), role="warn")
        if not asked.answered_ns and recording.meta.get(ANSWER) == asked.number:
            asked = self._asked[path] = replace(asked, answered_ns=now_ns)
        if not asked.answered_ns:
            note = f"asked {_AGO}; it answers when it next opens or closes anything"
            if now_ns - asked.at_ns > _PATIENCE_NS:
                idle = "it has done neither since" if events == asked.events else "it is busy"
                note += f": {idle}. Esc takes the question back"
            return replace(known, note=note, role="accent", since_ns=asked.at_ns, is_waiting=True)
        if known.texts:
            return replace(known, note=f"told {_AGO}; o asks again", since_ns=asked.answered_ns)
        note = "it was not among those that the program looked for; o asks again"
        if row.owner == _NOBODY:
            note = "no Python object owns it: somebody keeps its number alone"
        elif not told:
            note = "the program found nobody who holds anything; o asks again"
        return replace(known, note=note)


def _of(row: HandleRow, is_alike: Callable[[int], bool], told: dict[int, Holders]) -> Kept:
    if row.serial in told:
        return Kept(_texts(told[row.serial]))
    for serial in told:
        if is_alike(serial):
            return Kept(_texts(told[serial]), like=serial)
    return Kept()


def _texts(holders: Holders) -> tuple[str, ...]:
    return tuple(clean(line) for line in holders.lines())


def kept_lines(kept: Kept, now_ns: int, cells: int) -> list[Line]:
    """The same in lines, at least two."""
    lines: list[Line] = [(("kept alive by", "head"),)]
    if kept.texts and kept.like is not None:
        lines.append(((f"  told of #{kept.like}, opened at the same place:", "muted"),))
    for text in kept.texts:
        for at, part in enumerate(textwrap.wrap(text, max(20, cells - 4))):
            lines.append((("    " if at else "  ", "text"), (part, "own")))
    note = kept.note
    if kept.since_ns is not None:
        note = note.replace(_AGO, f"{age(max(0, now_ns - kept.since_ns))} ago")
    for part in textwrap.wrap(note, max(20, cells - 2)):
        lines.append((("  ", "text"), (part, kept.role)))
    return lines
