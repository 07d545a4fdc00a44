"""What can be asked of what is under the cursor, and taken along."""

from __future__ import annotations

import os
import shlex
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from textual.app import App, SuspendNotSupported
from textual.message import Message

from safehandle_tui.model.alarms import AlarmRow
from safehandle_tui.model.columns import header_line, lay_out, row_line
from safehandle_tui.model.detail import HandleDetail, SiteDetail
from safehandle_tui.model.events import EventRow
from safehandle_tui.model.modes import MODES
from safehandle_tui.model.rows import HandleRow, SiteRow
from safehandle_tui.model.system import system_lines
from safehandle_tui.model.text import Line, plain
from safehandle_tui.model.tree import TreeRow
from safehandle_tui.screens.asking import Asking

__all__ = ["Taking", "edit", "export"]

_MOST_EXPORTED: Final = 100_000  # rows


class Taking(Asking):
    """Who holds it, what the system says of it; its source, its text."""

    class LinesAsked(Message):
        """Some lines are to be shown above everything."""

        def __init__(self, title: str, lines: list[Line]) -> None:
            super().__init__()
            self.title = title
            self.lines = lines

    def action_system(self) -> None:
        """What the system says of the descriptor under the cursor."""
        row = self.table.row
        if isinstance(row, SiteRow) and row.rows:
            row = row.rows[0]
        if not isinstance(row, HandleRow):
            self.app.notify("choose a handle or a site", timeout=3)
            return
        title = f"{row.owner} {row.value} of process {row.pid}"
        self.post_message(
            self.LinesAsked(title, system_lines(row.history, is_open=row.life == "open"))
        )

    def action_owners(self) -> None:
        """Asks the program who keeps what is under the cursor alive."""
        view, row = self.view, self.table.row
        if self.spec.pinned and self.spec.selected is not None:
            process = self.spec.selected[0]
        elif isinstance(row, SiteRow) and row.rows:
            process = row.bunches[0].process
        elif isinstance(row, HandleRow):
            process = row.key[0]
        else:
            self.app.notify("choose a handle or a site", timeout=3)
            return
        if view is None or view.timeline is not None:
            self.app.notify("nobody can be asked in the past: \\ goes back to now", timeout=4)
            return
        known = next((each for each in view.processes if each.path == process), None)
        if known is None or known.info is None or known.info.ended != "running":
            self.app.notify("it has ended: what it left word of is below", timeout=4)
            return
        times = self.spec.asked[1] if self.spec.asked is not None else 0
        self.change(asked=(process, times + 1))
        if self.spec.paused:
            self.app.notify("asked; the answer is shown once Space goes on", timeout=4)

    def action_edit(self) -> None:
        """Opens the source line in $EDITOR."""
        place = self._place()
        if place is None:
            self.app.notify("there is no source file to open here", timeout=3)
            return
        edit(self.app, *place)

    def _place(self) -> tuple[str, int] | None:
        row = self.table.row
        file, line = "", 0
        if isinstance(row, SiteRow | TreeRow):
            key: Any = row.key if isinstance(row, SiteRow) else row.key[-1]
            file, line = key[0], key[1]
        elif isinstance(row, HandleRow | EventRow):
            file, line = row.file, row.line
        elif isinstance(row, AlarmRow) and row.finding.culprit:
            frame = row.finding.culprit[0]
            file, line = frame.file, frame.line
        return (file, line) if file and Path(file).is_file() else None

    def action_copy(self) -> None:
        """Copies the row and what is told of it."""
        text = self._text(only_row=True)
        self.app.copy_to_clipboard(text)
        self.app.notify(f"copied {len(text.splitlines())} lines", timeout=2)

    def action_export(self) -> None:
        """Writes the rows and the pane into a file of the current folder."""
        export(self.app, self.spec.mode, self._text(only_row=False))

    def _text(self, *, only_row: bool) -> str:
        view = self.view
        if view is None or not view.rows:
            return ""
        cells = 200
        layout = lay_out(MODES[view.mode].columns, cells, without=view.hidden)
        rows = [self.table.row] if only_row else list(view.rows[:_MOST_EXPORTED])
        lines: list[Line] = [] if only_row else [view.headline, ()]
        lines.append(header_line(layout, view.spec.sort))
        lines += [row_line(layout, row, view.now_ns, cursor=False) for row in rows]
        lines += [(), *self.pane_lines(cells, 1000)]
        return "\n".join(plain(line).rstrip() for line in lines) + "\n"

    def withdraw(self) -> bool:
        """Takes the question back that is still to be answered; False: there is none."""
        detail = self.view.detail if self.view is not None else None
        kept = detail.kept if isinstance(detail, HandleDetail | SiteDetail) else None
        if self.spec.asked is None or kept is None or not kept.is_waiting:
            return False
        self.change(asked=None)
        return True

    def top_line(self, more: Sequence[str], cells: int, right: Line = ()) -> Line:
        """The top line of this screen and of those above it; MainScreen knows it."""
        raise NotImplementedError

    def pane_lines(self, cells: int, room: int) -> list[Line]:
        """The pane below the table; MainScreen knows it."""
        raise NotImplementedError


def export(app: App[Any], name: str, text: str) -> None:
    """Writes a text into a new file of the current folder."""
    stamp = time.strftime("%Y%m%d-%H%M%S")
    path = Path(f"safehandle-{name}-{stamp}.txt").absolute()
    try:
        path.write_text(text)
    except OSError as error:
        app.notify(f"cannot write {path}: {error.strerror}", severity="error", timeout=5)
    else:
        app.notify(f"written to {path}", timeout=5)


def edit(app: App[Any], file: str, line: int) -> None:
    """Opens a source line in the user's editor, and comes back."""
    editor = os.environ.get("VISUAL") or os.environ.get("EDITOR") or "vi"
    command = [*shlex.split(editor), f"+{line}", file]
    try:
        with app.suspend():
            subprocess.run(command, check=False)
    except (OSError, RuntimeError, ValueError, SuspendNotSupported) as error:
        app.notify(f"{editor}: {error}", severity="error", timeout=5)
