"""`safehandle watch`: the screen on running or ended programs."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import click

from safehandle_debug.cli.group import CliError
from safehandle_debug.cli.targets import recordings_of, targets_argument


@click.command()
@targets_argument
@click.pass_context
def watch(context: click.Context, targets: tuple[str, ...]) -> None:
    """Shows the handles of a program as they come and go."""
    if targets:
        recordings_of(targets)  # so that a wrong word is a sentence and no screen
    context.exit(open_screen(targets))


def open_screen(targets: Sequence[str]) -> int:
    """Opens the screen on the targets; returns its exit code.

    Raises:
        CliError: it is not installed, or there is no terminal.
    """
    try:
        from safehandle_tui.app import run
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] in ("safehandle_debug", ""):
            raise
        raise CliError(
            "the screen needs textual, which is not installed;"
            " install it with: pip install 'safehandle-debug[tui]'"
        ) from error
    if not has_terminal():
        raise CliError(
            "watch needs a terminal; use 'safehandle report' or 'safehandle list' without one"
        )
    return run(list(targets))


def has_terminal() -> bool:
    """True when a screen can be shown and keys can be read."""
    streams = (sys.stdin, sys.stdout)
    return all(stream is not None and stream.isatty() for stream in streams)
