"""`safehandle diff A B`: which places hold more handles than before."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from typing import Any

import click

from safehandle_debug.cli.group import CliError
from safehandle_debug.cli.output import format_option, wants_color, write
from safehandle_debug.cli.progress import progress
from safehandle_debug.cli.targets import open_ledgers
from safehandle_debug.findings.wording import plural
from safehandle_debug.ledger import (
    Frame,
    Growth,
    Moment,
    SnapshotError,
    compare,
    read_moment,
    site_of,
    take,
)

GROWN = 1
_SHOWN = 30  # places of the text
_CALLERS = 3  # frames of each
_LARGEST = 1 << 30  # bytes of a snapshot


@click.command()
@click.argument("before", metavar="A")
@click.argument("after", metavar="B")
@format_option()
@click.option("--no-color", is_flag=True, help="plain text on a terminal too")
@click.pass_context
def diff(context: click.Context, before: str, after: str, form: str, no_color: bool) -> None:
    """Says which places hold more handles in B than in A.

    A and B are snapshots or targets: two moments of one process, two runs, or
    two versions of a program.  The exit code is 1 when anything has grown.
    """
    moments = [_moment(name) for name in (before, after)]
    grown = compare(*moments)
    if form == "json":
        write(json.dumps(_as_json(grown), indent=2))
    else:
        write(_as_text(grown, moments, color=wants_color(no_color)))
    if grown:
        context.exit(GROWN)


def _moment(name: str) -> Moment:
    """A snapshot's, or a target's now or at its end."""
    if os.path.isfile(name) and not _is_recording(name):
        try:
            with open(name, encoding="utf-8") as file:
                return read_moment(file.read(_LARGEST))
        except (OSError, UnicodeDecodeError) as error:
            raise CliError(f"{name} cannot be read: {error}") from error
        except SnapshotError as error:
            raise CliError(f"{name}: {error}") from error
    with open_ledgers([name]) as ledgers, progress("comparing"):
        return take(ledgers)


def _is_recording(name: str) -> bool:
    try:
        with open(name, "rb") as file:
            return file.read(6) == b"SHDREC"
    except OSError:
        return False


def _as_text(grown: Sequence[Growth], moments: Sequence[Moment], *, color: bool) -> str:
    before, after = (len(moment.handles) for moment in moments)
    totals = f"{plural(before, 'open handle')} in A, {after:,} in B"
    if not grown:
        return f"nothing has grown: {totals}"
    lines = [f"{plural(sum(each.grown for each in grown), 'handle')} more, {totals}"]
    if color:
        lines[0] = click.style(lines[0], bold=True)
    for each in grown[:_SHOWN]:
        rate = "" if each.per_minute is None else f", {each.per_minute:,.3g} per minute"
        place = f"{each.file}:{each.line} in {each.function}"
        head = (
            f"+{each.grown:,}  {each.owner} at {place} ({each.before:,} -> {each.after:,}{rate})"
        )
        lines.append(click.style(head, fg="red") if color else head)
        lines += [
            f"      called at {frame.file}:{frame.line} in {frame.function}"
            for frame in _callers(each.opened)[:_CALLERS]
        ]
    if len(grown) > _SHOWN:
        lines.append(f"... and {plural(len(grown) - _SHOWN, 'other place')}")
    return "\n".join(lines)


def _callers(opened: tuple[Frame, ...]) -> tuple[Frame, ...]:
    """What called the place, innermost first; within it are a library's own frames."""
    site = site_of(opened)
    return opened[opened.index(site) + 1 :] if site is not None else ()


def _as_json(grown: Sequence[Growth]) -> dict[str, Any]:
    """Version 1: frames innermost first, `per_minute` null for two runs."""
    return {
        "version": 1,
        "grown": [
            {
                "file": each.file,
                "line": each.line,
                "function": each.function,
                "owner": each.owner,
                "before": each.before,
                "after": each.after,
                "grown": each.grown,
                "per_minute": each.per_minute,
                "opened": [
                    {"file": frame.file, "line": frame.line, "function": frame.function}
                    for frame in each.opened
                ],
            }
            for each in grown
        ],
    }
