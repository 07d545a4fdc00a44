"""`safehandle list`: the handles that are open now, or were when a process ended."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Sequence
from typing import Any

import click

from safehandle_debug.cli.output import format_option, wants_color, width, write
from safehandle_debug.cli.progress import progress
from safehandle_debug.cli.targets import open_ledgers, targets_argument
from safehandle_debug.cli.where import chosen, facts, where_option
from safehandle_debug.findings.wording import plural
from safehandle_debug.ledger import Filter, Frame, History, Ledger, ProcessInfo
from safehandle_debug.ledger.sites import place

_HEADINGS = ("process", "handle", "kind", "value", "age", "refs", "ending", "site", "detail")
_RIGHT = frozenset({"process", "handle", "value", "age", "refs"})
_GAP = "  "

_Row = tuple[ProcessInfo, History]


@click.command("list")
@targets_argument
@click.option("--all", "everything", is_flag=True, help="closed handles too")
@where_option("handles that match")
@format_option()
@click.option("--no-color", is_flag=True, help="plain text on a terminal too")
def list_handles(
    targets: tuple[str, ...], everything: bool, where: Filter, form: str, no_color: bool
) -> None:
    """Lists open handles: who holds what, since when, acquired where."""
    with open_ledgers(targets) as ledgers:
        with progress("listing"):
            rows = [
                (ledger.process, history)
                for ledger in ledgers
                for history in chosen(
                    ledger, _by_serial(ledger) if everything else ledger.open(), where
                )
            ]
        if form == "json":
            write(json.dumps(_as_json(ledgers, rows), indent=2))
            return
        if not rows:
            pids = ", ".join(str(ledger.process.pid) for ledger in ledgers)
            matching = f" match {where.text!r}" if where else ""
            counted = sum(ledger.process.bare for ledger in ledgers)
            write(
                f"No {'' if everything else 'open '}handles in process {pids}{matching}"
                + (f"; {plural(counted, 'descriptor')} open, counted only." if counted else ".")
            )
            return
        for line in _table(rows, everything, color=wants_color(no_color)):
            write(line)


def _by_serial(ledger: Ledger) -> list[History]:
    return sorted(ledger.histories(), key=lambda history: history.serial)


def age_ns(process: ProcessInfo, history: History) -> int:
    """How long a handle was open, in ns: until it was closed, its process ended, or now."""
    return facts(process, history).age_ns(time.time_ns())


def duration(ns: int) -> str:
    """A time span in two units at most: 850ms, 12s, 3m04s, 2h05m, 4d01h."""
    seconds = ns // 10**9
    if seconds < 1:
        return f"{ns // 10**6}ms"
    if seconds < 60:
        return f"{seconds}s"
    if seconds < 3600:
        return f"{seconds // 60}m{seconds % 60:02d}s"
    if seconds < 86400:
        return f"{seconds // 3600}h{seconds % 3600 // 60:02d}m"
    return f"{seconds // 86400}d{seconds % 86400 // 3600:02d}h"


def _table(rows: Sequence[_Row], everything: bool, *, color: bool) -> Iterable[str]:
    shown = [name for name in _HEADINGS if everything or name != "ending"]
    cells = [_cells(*row) for row in rows]
    widths = {name: max(len(name), *(len(cell[name]) for cell in cells)) for name in shown}

    def line(cell: dict[str, str]) -> str:
        parts = [
            cell[name].rjust(widths[name]) if name in _RIGHT else cell[name].ljust(widths[name])
            for name in shown
        ]
        text = _GAP.join(parts).rstrip()
        return text if not color or len(text) <= width() else text[: width() - 1] + "…"

    heading = line({name: name.upper() for name in shown})
    yield click.style(heading, bold=True) if color else heading
    for cell in cells:
        yield line(cell)


def _cells(process: ProcessInfo, history: History) -> dict[str, str]:
    return {
        "process": str(history.pid),
        "handle": f"#{history.serial}",
        "kind": history.kind,
        "value": str(history.value),
        "age": duration(age_ns(process, history)),
        "refs": str(history.refs),
        "ending": history.ending or "open",
        "site": place(history.site, process.cwd),
        "detail": _one_line(history.detail or ""),
    }


def _one_line(text: str) -> str:
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)


def _as_json(ledgers: Sequence[Ledger], rows: Sequence[_Row]) -> dict[str, Any]:
    """Version 1: frames innermost first, `ending` null while open."""
    processes = [ledger.process for ledger in ledgers]
    return {
        "version": 1,
        "session": str(ledgers[0].recording.path.parent),
        "processes": [
            {
                "pid": process.pid,
                "argv": list(process.argv),
                "ended": process.ended,
                "live": process.live,
            }
            for process in processes
        ],
        "handles": [_handle(*row) for row in rows],
    }


def _handle(process: ProcessInfo, history: History) -> dict[str, Any]:
    return {
        "pid": history.pid,
        "serial": history.serial,
        "kind": history.kind,
        "value": history.value,
        "owner": history.owner,
        "detail": history.detail,
        "refs": history.refs,
        "age_s": age_ns(process, history) / 1e9,
        "ending": history.ending,
        "borrowed": history.borrowed,
        "thread": history.thread,
        "task": history.task,
        "test": history.test,
        "site": None if history.site is None else _frame(history.site),
        "opened": [_frame(frame) for frame in history.opened],
    }


def _frame(frame: Frame) -> dict[str, Any]:
    return {"file": frame.file, "line": frame.line, "function": frame.function}
