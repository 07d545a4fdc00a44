"""`safehandle run`: a command under watch, as if it had been started without us."""

from __future__ import annotations

import os
from collections.abc import Sequence

import click

from safehandle_debug.cli.child import CommandError, Ended, run_child
from safehandle_debug.cli.death import note_signal
from safehandle_debug.cli.environment import (
    SessionError,
    has_recordings,
    remove_if_empty,
    watched_environment,
)
from safehandle_debug.cli.group import CliError
from safehandle_debug.cli.output import wants_color, write
from safehandle_debug.cli.report import compose, judge
from safehandle_debug.cli.targets import open_ledgers


@click.command(
    context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False},
    options_metavar="[OPTIONS] --",
)
@click.option(
    "--level",
    type=click.Choice(["off", "sampled", "full"]),
    default="full",
    show_default=True,
    help="how much is recorded",
)
@click.option(
    "--option",
    "options",
    multiple=True,
    metavar="NAME=VALUE",
    help="an option of SAFEHANDLE_DEBUG, such as frames=64; may be repeated",
)
@click.option("--report", "reporting", is_flag=True, help="report on stderr when CMD has ended")
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED, metavar="CMD...")
@click.pass_context
def run(
    context: click.Context,
    level: str,
    options: tuple[str, ...],
    reporting: bool,
    command: tuple[str, ...],
) -> None:
    """Runs CMD and records the handles of all Python programs in it.

    The exit code is CMD's own; 128+N when signal N ended it, 126 or 127 when
    it cannot be started.
    """
    if level == "off":
        context.exit(_run(command, dict(os.environ)).exit_code)
    try:
        environment, session = watched_environment(level, options)
    except SessionError as error:
        click.echo(f"{error}; the program runs on unwatched", err=True)
        context.exit(_run(command, dict(os.environ)).exit_code)
    try:
        ended = _run(command, environment)
        if ended.signal is not None:
            note_signal(session, ended.pid, ended.signal)
        if has_recordings(session):
            if reporting:
                _report(session)
        elif ended.pid:
            click.echo(
                f"Nothing was recorded: no Python program in '{command[0]}' loaded"
                " safehandle-debug; it must be installed in that program's environment"
                " ('safehandle doctor' tells more)",
                err=True,
            )
    finally:
        remove_if_empty(session)
    context.exit(ended.exit_code)


def _run(command: Sequence[str], environment: dict[str, str]) -> Ended:
    try:
        return run_child(command, environment)
    except CommandError as error:
        click.echo(f"Error: {error}", err=True)
        return Ended(pid=0, exit_code=error.exit_code, signal=None)


def _report(session: str) -> None:
    """Reports on stderr: stdout is the command's."""
    try:
        with open_ledgers([session]) as ledgers:
            judged = judge(ledgers)
            text = compose(ledgers, judged, color=wants_color(err=True))
    except CliError as error:
        error.show()
        return
    write(text, err=True)
