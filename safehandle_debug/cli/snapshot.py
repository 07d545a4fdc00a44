"""`safehandle snapshot`: what is open at one moment, to be compared later."""

from __future__ import annotations

import re

import click

from safehandle_debug.cli.group import CliError
from safehandle_debug.cli.output import write
from safehandle_debug.cli.progress import progress
from safehandle_debug.cli.targets import open_ledgers, targets_argument
from safehandle_debug.ledger import take, write_moment

_UNITS = {"ms": 10**6, "s": 10**9, "m": 60 * 10**9, "h": 3600 * 10**9}
_SPAN = re.compile(r"(\d{1,9}(?:\.\d{1,9})?)(ms|s|m|h)", re.ASCII)


@click.command()
@targets_argument
@click.option("--output", metavar="FILE", help="write into FILE")
@click.option("--at", metavar="AGE", help="not now, but so long after the start, as in 90s or 5m")
def snapshot(targets: tuple[str, ...], output: str | None, at: str | None) -> None:
    """Writes down which handles are open, for `safehandle diff`.

    Of a process that ended: those it had not closed.
    """
    after_ns = None if at is None else span_ns(at)
    with open_ledgers(targets) as ledgers, progress("writing"):
        text = write_moment(take(ledgers, after_ns=after_ns))
    write(text, output)


def span_ns(text: str) -> int:
    """A time span in ns.

    Raises:
        CliError: it cannot be read.
    """
    match = _SPAN.fullmatch(text)
    if match is None:
        raise CliError(f"--at {text}: write a number and ms, s, m or h, as in 90s")
    return int(float(match[1]) * _UNITS[match[2]])
