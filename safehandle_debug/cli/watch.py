"""`safehandle watch`: the screen on running or ended programs."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Sequence
from pathlib import Path

import click

from safehandle_debug.cli.group import CliError
from safehandle_debug.cli.targets import targets_argument
from safehandle_debug.recording import RecordingError, open_recording


@click.command()
@targets_argument
@click.pass_context
def watch(context: click.Context, targets: tuple[str, ...]) -> None:
    """Shows the handles of a program as they come and go."""
    context.exit(open_screen(targets))


def open_screen(targets: Sequence[str]) -> int:
    """Opens the screen on the targets; returns its exit code.

    Raises:
        CliError: it is not installed, or a target is a file but no recording.
    """
    if importlib.util.find_spec("textual") is None:
        raise CliError(
            "the screen needs textual, which is not installed;"
            " install it with: pip install 'safehandle-debug[tui]'"
        )
    for target in targets:
        if Path(target).is_file():
            try:
                open_recording(target).close()
            except RecordingError as error:
                raise CliError(str(error)) from error
    from safehandle_tui.app import run

    return run(list(targets))


def has_terminal() -> bool:
    """True when a screen can be shown and keys can be read."""
    streams = (sys.stdin, sys.stdout)
    return all(stream is not None and stream.isatty() for stream in streams)
