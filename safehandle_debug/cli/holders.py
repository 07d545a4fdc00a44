"""`safehandle holders`: what kept leaked handles alive, as chains or a picture."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence

import click

from safehandle_debug.cli.group import CliError
from safehandle_debug.cli.output import write
from safehandle_debug.cli.targets import open_ledgers, targets_argument
from safehandle_debug.findings.holders import (
    Holders,
    PictureError,
    read_holders,
    to_dot,
    to_svg,
)
from safehandle_debug.findings.wording import numbered
from safehandle_debug.ledger import History, Ledger

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
@click.option("--output", metavar="FILE", help="write into FILE")
def holders(targets: tuple[str, ...], form: str, output: str | None) -> None:
    """Says who held the handles that were open when a program ended.

    The program itself looks when it ends; of one that runs, or that was
    killed, nothing is known.
    """
    with open_ledgers(targets) as ledgers:
        rows = list(_rows(ledgers))
        names = [(numbered(history), held) for history, held in rows]
        if form == "json":
            text = json.dumps(_as_json(rows), indent=2)
        elif form == "text":
            text = _as_text(rows) or "No process ended by itself with handles open."
        else:
            text = to_dot(names)
            if form == "svg":
                try:
                    text = to_svg(text).rstrip("\n")
                except PictureError as error:
                    raise CliError(str(error)) from error
    write(text, output)


def _rows(ledgers: Sequence[Ledger]) -> Iterator[_Row]:
    for ledger in ledgers:
        for serial, held in read_holders(ledger.recording).items():
            history = ledger.history(serial)
            if history is not None:
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
