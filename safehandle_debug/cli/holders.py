"""`safehandle holders`: what kept leaked handles alive, as chains or a picture."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence

import click

from safehandle_debug.cli.group import CliError
from safehandle_debug.cli.output import write
from safehandle_debug.cli.progress import progress
from safehandle_debug.cli.targets import open_ledgers, targets_argument
from safehandle_debug.errors import RecordingError
from safehandle_debug.findings.holders import (
    Holders,
    PictureError,
    read_holders,
    to_dot,
    to_svg,
)
from safehandle_debug.findings.holders.told import ANSWER
from safehandle_debug.findings.wording import numbered
from safehandle_debug.ledger import History, Ledger
from safehandle_debug.recording.asking import ask

_PAUSE_S = 0.02

_Row = tuple[History, Holders]


@click.command()
@targets_argument
@click.option(
    "--format",
    "form",
    type=click.Choice(["text", "json", "dot", "svg"]),
    default="text",
    show_default=True,
    help="chains, or a graph of them; svg needs graphviz",
)
@click.option(
    "--wait",
    type=click.FloatRange(min=0),
    default=5.0,
    show_default=True,
    metavar="SECONDS",
    help="how long to wait for programs that run",
)
@click.option("--output", metavar="FILE", help="write into FILE")
def holders(targets: tuple[str, ...], form: str, wait: float, output: str | None) -> None:
    """Says who holds open handles, or held them when a program ended.

    The program itself looks: when it ends, or, asked while it runs, as soon
    as it opens or closes anything.  Of one that was killed nothing is known.
    """
    with open_ledgers(targets) as ledgers:
        with progress("waiting for answers"):
            silent = _ask(ledgers, wait)
        for pid in silent:
            click.echo(
                f"Process {pid} has not answered: it does when it next opens or closes anything.",
                err=True,
            )
        rows = list(_rows(ledgers))
        names = [(numbered(history), held) for history, held in rows]
        if form == "json":
            text = json.dumps(_as_json(rows), indent=2)
        elif form == "text":
            text = _as_text(rows) or "No handles are held that anybody can tell of."
        else:
            text = to_dot(names)
            if form == "svg":
                try:
                    text = to_svg(text).rstrip("\n")
                except PictureError as error:
                    raise CliError(str(error)) from error
    write(text, output)


def _ask(ledgers: Sequence[Ledger], wait: float) -> list[int]:
    """Asks the processes that run, and waits for their answers; those that gave none."""
    asked = {}
    for ledger in ledgers:
        if ledger.ended != "running":
            continue
        try:
            asked[ledger.process.pid] = (ledger.recording, ask(ledger.recording))
        except RecordingError as error:
            if len(ledgers) == 1:
                raise
            # The others may still tell.
            click.echo(f"{str(error)[0].upper()}{str(error)[1:]}.", err=True)
    until = time.monotonic() + wait
    while asked:
        for pid, (recording, number) in list(asked.items()):
            recording.refresh()
            if recording.meta.get(ANSWER) == number:
                del asked[pid]
        if time.monotonic() >= until:
            break
        time.sleep(_PAUSE_S)
    return list(asked)


def _rows(ledgers: Sequence[Ledger]) -> Iterator[_Row]:
    for ledger in ledgers:
        for serial, held in read_holders(ledger.recording).items():
            history = ledger.history(serial)
            # Something that was open only while the process looked is nobody's.
            closed = history is not None and history.closed_at_ns is not None
            if history is not None and not (closed and ledger.ended == "running"):
                yield history, held


def _as_text(rows: Sequence[_Row]) -> str:
    lines = []
    for history, held in rows:
        lines.append(f"{numbered(history)}, of process {history.pid}")
        lines += [f"  {line}" for line in held.lines()]
    return "\n".join(lines)


def _as_json(rows: Sequence[_Row]) -> dict[str, object]:
    """Version 1: chains from the root to the handle."""
    return {
        "version": 1,
        "handles": [{"pid": history.pid, **held.plain()} for history, held in rows],
    }
