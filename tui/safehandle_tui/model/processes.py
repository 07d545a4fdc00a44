"""The rows and columns of the process list."""

from __future__ import annotations

import posixpath
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from safehandle_debug.ledger import ProcessInfo
from safehandle_tui.model.columns import Column, Sort
from safehandle_tui.model.states import process_state
from safehandle_tui.model.text import Role, Span, clean, count, plural
from safehandle_tui.model.tracks import ProcessRow

__all__ = ["ALL", "PROCESS_COLUMNS", "PROCESS_SORT", "ProcessEntry", "command_of", "entries"]

ALL: Final = ""  # key of the row that stands for all processes
PROCESS_SORT: Final = Sort("", False)  # families stay together: no column sorts


@dataclass(frozen=True, slots=True)
class ProcessEntry:
    """One line of the process list."""

    key: str  # path of the recording, or ALL
    pid: str
    state: Span
    open: int
    rate: float | None
    events: int
    lost: int
    command: str
    role: Role = "text"
    mark: Span = (" ", "text")


def entries(processes: Sequence[ProcessRow]) -> list[ProcessEntry]:
    """The lines: all together first, when there are several."""
    lines = [_entry(process) for process in processes]
    if len(lines) > 1:
        lines.insert(0, _together(processes))
    return lines


def _together(processes: Sequence[ProcessRow]) -> ProcessEntry:
    infos = [each.info for each in processes if each.info is not None]
    rates = [each.rate for each in processes if each.rate is not None]
    running = sum(1 for info in infos if info.ended == "running")
    return ProcessEntry(
        key=ALL,
        pid="all",
        state=(f"{count(running)} running", "text"),
        open=sum(each.open for each in processes),
        rate=sum(rates) if rates else None,
        events=sum(info.events for info in infos),
        lost=sum(info.dropped for info in infos),
        command=plural(len(processes), "process", "processes"),
        role="muted",
    )


def _entry(process: ProcessRow) -> ProcessEntry:
    info = process.info
    if info is None:
        return ProcessEntry(
            key=process.path,
            pid="?",
            state=process_state(process),
            open=0,
            rate=None,
            events=0,
            lost=0,
            command=clean(process.error or ""),
            role="bad",
        )
    branch = "  " * (process.depth - 1) + "└ " if process.depth else ""
    command = clean(command_of(info))
    error = process.error or info.error
    return ProcessEntry(
        key=process.path,
        pid=str(info.pid),
        state=process_state(process),
        open=process.open,
        rate=process.rate,
        events=info.events,
        lost=info.dropped,
        command=branch + command + (f"  ({clean(error)})" if error else ""),
        role="bad" if error else "text",
    )


def command_of(info: ProcessInfo) -> str:
    """The command line as one would type it: python without its folder, files
    relative to the program's own."""
    words = list(info.argv) or [info.executable]
    program = posixpath.basename(words[0])
    words[0] = program if program.startswith("python") else words[0]
    below = info.cwd.rstrip("/") + "/"
    return " ".join(word.removeprefix(below) for word in words)


def _rate(entry: ProcessEntry, now_ns: int, width: int) -> Span:
    if entry.rate is None:
        return "", "muted"
    if abs(entry.rate) < 0.5:
        return "0", "muted"
    return f"{entry.rate:+,.0f}", "warn" if entry.rate > 0 else "muted"


def _open(entry: ProcessEntry, now_ns: int, width: int) -> Span:
    return count(entry.open), "strong" if entry.open else "muted"


def _unsorted(entry: ProcessEntry, now_ns: int) -> int:
    return 0


PROCESS_COLUMNS: Final[tuple[Column[ProcessEntry], ...]] = (
    Column("pid", "PID", 7, lambda e, now_ns, width: (e.pid, e.role), _unsorted, align=">"),
    Column("state", "STATE", 19, lambda e, now_ns, width: e.state, _unsorted),
    Column("open", "OPEN", 7, _open, _unsorted, align=">"),
    Column("rate", "+/MIN", 6, _rate, _unsorted, align=">", rank=2),
    Column(
        "events",
        "EVENTS",
        9,
        lambda e, now_ns, width: (count(e.events), "muted"),
        _unsorted,
        align=">",
        rank=1,
    ),
    Column(
        "lost",
        "LOST",
        5,
        lambda e, now_ns, width: (count(e.lost), "warn" if e.lost else "muted"),
        _unsorted,
        align=">",
        rank=3,
    ),
    Column(
        "command", "COMMAND", 16, lambda e, now_ns, width: (e.command, e.role), _unsorted, weight=1
    ),
)
