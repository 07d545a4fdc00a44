"""All recorded processes: live, ended, crashed and copied from elsewhere."""

from __future__ import annotations

import os
import posixpath
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from safehandle_debug.errors import RecordingError
from safehandle_debug.ledger import Ledger, ProcessInfo
from safehandle_debug.recording import open_recording
from safehandle_debug.recording import sessions as all_sessions
from safehandle_tui.model.columns import Column
from safehandle_tui.model.limits import descriptors
from safehandle_tui.model.processes import command_of
from safehandle_tui.model.states import process_state
from safehandle_tui.model.text import Line, Span, age, bar, clean, count
from safehandle_tui.model.tracks import ProcessRow

__all__ = ["SESSION_COLUMNS", "SessionRow", "Sessions", "session_lines"]

_MOST: Final = 300  # processes, the newest sessions first


@dataclass(frozen=True, slots=True)
class SessionRow:
    """One recorded process."""

    path: str
    session: str
    info: ProcessInfo | None
    error: str | None
    depth: int  # below its parent
    fds: tuple[int, int] | None  # descriptors open and their limit, of a live one
    here: bool  # of the session that is shown
    alarms: int | None  # findings, where they were looked for

    @property
    def key(self) -> str:
        return self.path

    @property
    def mark(self) -> Span:
        return ("●", "accent") if self.here else (" ", "text")

    @property
    def state(self) -> Span:
        held = self.info.live if self.info is not None else 0
        return process_state(ProcessRow(self.path, self.info, self.depth, None, held, self.error))

    @property
    def last_ns(self) -> int:
        """When it ended, or was last known of; 0: it runs or nobody knows."""
        if self.info is None or self.info.ended == "running":
            return 0
        if self.info.ended_at_ns:
            return self.info.ended_at_ns
        try:
            return os.stat(self.path).st_mtime_ns
        except OSError:
            return 0

    @property
    def command(self) -> str:
        if self.info is None:
            return clean(self.error or "")
        branch = "  " * (self.depth - 1) + "└ " if self.depth else ""
        return branch + clean(command_of(self.info))


class Sessions:
    """Looks through the recordings; those that ended are read once."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, int, int], ProcessInfo] = {}

    def rows(
        self, shown: Iterable[Path] = (), alarms: dict[str, int] | None = None
    ) -> list[SessionRow]:
        """One row a process, sessions newest first, parents before children.

        Args:
            shown: recordings that are on the screen now; they come first.
            alarms: findings of those, by path.
        """
        groups: dict[str, list[Path]] = {}
        here = list(shown)
        for path in here:
            groups.setdefault(str(path.parent), []).append(path)
        for session in all_sessions():
            paths = session.recordings()
            known = groups.setdefault(str(session.path), [])
            known += [path for path in paths if path not in known]
            if sum(map(len, groups.values())) > _MOST:
                break
        rows: list[SessionRow] = []
        for folder, paths in groups.items():
            rows += self._family(folder, paths, {str(each) for each in here}, alarms or {})
        return rows

    def _family(
        self, folder: str, paths: list[Path], here: set[str], alarms: dict[str, int]
    ) -> list[SessionRow]:
        found = []
        for path in paths:
            info, error = self._info(path)
            found.append((info.started_at_ns if info else 0, str(path), info, error))
        found.sort(key=lambda each: each[:2])
        depths: dict[int, int] = {}
        by_parent: dict[int, list[SessionRow]] = {}
        pids = {info.pid for _, _, info, _ in found if info is not None}
        roots: list[SessionRow] = []
        for _, name, info, error in found:
            parent = info.parent_pid if info is not None else 0
            depth = depths.get(parent, 0) + 1 if parent in pids else 0
            if info is not None:
                depths[info.pid] = depth
            row = SessionRow(
                path=name,
                session=posixpath.basename(folder),
                info=info,
                error=error,
                depth=depth,
                fds=descriptors(info),
                here=name in here,
                alarms=alarms.get(name),
            )
            if depth:
                by_parent.setdefault(parent, []).append(row)
            else:
                roots.append(row)
        ordered: list[SessionRow] = []
        pending = roots[::-1]
        while pending:
            row = pending.pop()
            ordered.append(row)
            if row.info is not None:
                pending += by_parent.pop(row.info.pid, [])[::-1]
        return ordered

    def _info(self, path: Path) -> tuple[ProcessInfo | None, str | None]:
        try:
            status = path.stat()
            key = (str(path), status.st_mtime_ns, status.st_size)
            known = self._known.get(key)
            if known is not None:
                return known, None
            with Ledger(open_recording(path)) as ledger:
                info = ledger.process
        except (OSError, RecordingError) as error:
            return None, str(error)
        if info.ended != "running":
            self._known[key] = info
        return info, None


def _fds(row: SessionRow, now_ns: int, width: int) -> Span:
    if row.fds is None:
        return "-", "muted"
    used, limit = row.fds
    role = "bad" if used > limit * 0.9 else "warn" if used > limit * 0.7 else "text"
    return f"{used:,}/{limit:,} {bar(used / limit, 4)}", role  # type: ignore[return-value]


def _last(row: SessionRow, now_ns: int, width: int) -> Span:
    if row.info is not None and row.info.ended == "running":
        return "now", "good"
    last = row.last_ns
    return (f"{age(max(0, now_ns - last))} ago" if last else "-"), "muted"


def _none(row: SessionRow, now_ns: int) -> int:
    return 0


SESSION_COLUMNS: Final[tuple[Column[SessionRow], ...]] = (
    Column(
        "pid",
        "PID",
        7,
        lambda row, now_ns, width: (str(row.info.pid) if row.info else "?", "text"),
        _none,
        align=">",
    ),
    Column("state", "STATE", 19, lambda row, now_ns, width: row.state, _none),
    Column(
        "command",
        "COMMAND",
        20,
        lambda row, now_ns, width: (row.command, "own" if row.info else "bad"),
        _none,
        weight=3,
    ),
    Column(
        "python",
        "PY",
        6,
        lambda row, now_ns, width: (row.info.python if row.info else "-", "muted"),
        _none,
        rank=4,
    ),
    Column(
        "level",
        "LEVEL",
        7,
        lambda row, now_ns, width: (row.info.level if row.info else "-", "muted"),
        _none,
        rank=3,
    ),
    Column(
        "live",
        "OPEN",
        7,
        lambda row, now_ns, width: (count(row.info.live) if row.info else "-", "strong"),
        _none,
        align=">",
    ),
    Column(
        "alarms",
        "ALARMS",
        6,
        lambda row, now_ns, width: (f"✗{row.alarms}", "bad") if row.alarms else ("-", "muted"),
        _none,
        align=">",
        rank=2,
    ),
    Column("fds", "FDS", 19, _fds, _none, rank=1),
    Column("last", "LAST", 10, _last, _none, align=">"),
)


def session_lines(row: SessionRow) -> list[Line]:
    """What is known of a process."""
    lines: list[Line] = [((" recording  ", "muted"), (row.path, "text"))]
    lines.append(((" session    ", "muted"), (row.session, "text")))
    if row.info is None:
        lines.append(((f" {clean(row.error or '')}", "bad"),))
        return lines
    info = row.info
    facts = (
        ("command", " ".join(info.argv) or info.executable),
        ("folder", info.cwd),
        ("python", f"{info.python}  {info.executable}"),
        ("level", info.level),
        ("events", f"{info.events:,}, {info.dropped:,} lost"),
    )
    lines += [((f" {name:<10} ", "muted"), (clean(text), "text")) for name, text in facts]
    if info.error:
        lines.append(((f" {clean(info.error)}", "bad"),))
    lines.append(((" Enter shows it", "muted"),))
    return lines
