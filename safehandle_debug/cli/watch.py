"""`safehandle watch`: the screen on running or ended programs."""

from __future__ import annotations

import contextlib
import importlib.util
import socket
import sys
from collections.abc import Sequence
from pathlib import Path

import click
from click.core import ParameterSource

from safehandle_debug.cli.group import CliError
from safehandle_debug.cli.targets import recordings_of, targets_argument
from safehandle_debug.recording import RecordingError, open_recording


@click.command()
@targets_argument
@click.option("--ascii", is_flag=True, help="For terminals that have no other characters.")
@click.option("--web", is_flag=True, help="Show it to a browser, on 127.0.0.1 only.")
@click.option(
    "--port", default=8765, show_default=True, type=click.IntRange(1, 65535), help="With --web."
)
@click.pass_context
def watch(
    context: click.Context, targets: tuple[str, ...], ascii: bool, web: bool, port: int
) -> None:
    """Shows the handles of a program as they come and go."""
    if not web and context.get_parameter_source("port") is ParameterSource.COMMANDLINE:
        raise click.UsageError("--port goes with --web")
    context.exit(_serve(targets, port, ascii) if web else open_screen(targets, ascii=ascii))


def _serve(targets: Sequence[str], port: int, ascii: bool) -> int:
    if importlib.util.find_spec("textual_serve") is None:
        raise CliError(
            "--web needs textual-serve, which is not installed;"
            " install it with: pip install 'safehandle-debug[web]'"
        )
    if targets:
        recordings_of(targets)
    with contextlib.closing(socket.socket()) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise CliError(f"port {port} cannot be used: {error.strerror}; --port N") from error
    from safehandle_tui.app import serve

    return serve(list(targets), port=port, ascii=ascii)


def open_screen(targets: Sequence[str], *, ascii: bool = False) -> int:
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

    return run(list(targets), ascii=ascii)


def has_terminal() -> bool:
    """True when a screen can be shown and keys can be read."""
    streams = (sys.stdin, sys.stdout)
    return all(stream is not None and stream.isatty() for stream in streams)
