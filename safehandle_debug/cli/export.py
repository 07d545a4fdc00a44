"""`safehandle export`: recordings as tables, or as a trace."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from safehandle_debug.cli.group import CliError
from safehandle_debug.cli.output import replacing
from safehandle_debug.cli.progress import progress
from safehandle_debug.cli.targets import open_ledgers, targets_argument


@click.command()
@targets_argument
@click.option(
    "--format",
    "form",
    type=click.Choice(["parquet", "csv", "perfetto"]),
    required=True,
    help="tables as Parquet or CSV, or a trace for Perfetto",
)
@click.option(
    "--output",
    metavar="PATH",
    required=True,
    help="a new folder for the tables, or the trace's file",
)
def export(targets: tuple[str, ...], form: str, output: str) -> None:
    """Writes events, handles, stacks and findings for other programs.

    Tables are processes, events, handles, findings and stacks, a file each.
    """
    from safehandle_debug.exports import ExportError, write_perfetto, write_tables

    with open_ledgers(targets) as ledgers:
        events = sum(ledger.process.events for ledger in ledgers)
        if form == "perfetto":
            with (
                progress("exporting", events) as step,
                replacing(output) as name,
                open(name, "wb") as file,
            ):
                write_perfetto(ledgers, file, step)
            return
        with progress("exporting", 2 * events) as step, new_folder(output) as folder:
            try:
                write_tables(ledgers, folder, form, step)
            except ExportError as error:
                raise CliError(str(error)) from error


@contextmanager
def new_folder(output: str) -> Iterator[Path]:
    """A folder to write into, which becomes `output` when the block ends well.

    Raises:
        CliError: there is something of that name, or it cannot be made.
    """
    if os.path.lexists(output):
        raise CliError(f"{output} exists: name a folder that does not")
    part = Path(f"{output.rstrip(os.sep)}.{os.getpid()}.part")
    try:
        part.mkdir()
        yield part
        part.rename(output)
    except OSError as error:
        raise CliError(f"cannot write {output}: {error.strerror or error}") from error
    finally:
        shutil.rmtree(part, ignore_errors=True)
