"""`safehandle demo`: the sample gateway under watch, with a client that meets its leak."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import IO

import click

import safehandle_debug
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
from safehandle_debug.cli.watch import has_terminal, open_screen

_SAMPLE = Path("samples", "gateway.py")
_START_S = 20.0  # for a first recording to appear
_STOP_S = 10.0  # for the gateway to end when asked
_POLL_S = 0.05


@click.command()
@click.option(
    "--seconds",
    type=click.FloatRange(0, min_open=True),
    help="end after so long  [default: 20; on a terminal 1800]",
)
@click.option(
    "--requests",
    type=click.IntRange(1),
    help="end after so many requests  [default: 3000; on a terminal no bound]",
)
def demo(seconds: float | None, requests: int | None) -> None:
    """Watches a file gateway that leaks a handle on one error path.

    On a terminal it opens the screen on it, and reports when you quit; without
    one it runs for a while and reports.
    """
    sample = find_sample()
    terminal = has_terminal()
    arguments = [sys.executable, str(sample), "--demo", "--port=0"]
    arguments.append(f"--seconds={seconds or (1800 if terminal else 20)}")
    if requests is not None or not terminal:
        arguments.append(f"--requests={requests or 3000}")
    try:
        environment, session = watched_environment("full")
    except SessionError as error:
        raise CliError(str(error)) from error
    try:
        with tempfile.TemporaryFile() as log:
            _show(arguments, environment, session, log, terminal)
        with open_ledgers([session]) as ledgers:
            judged = judge(ledgers)
            write(compose(ledgers, judged, color=wants_color()))
    finally:
        remove_if_empty(session)
    click.echo(f"\nMore: safehandle report {session}")


def find_sample() -> Path:
    """The gateway in the source checkout that we run from, or in the working directory.

    Raises:
        CliError: there is no checkout.
    """
    for folder in (Path(safehandle_debug.__file__).resolve().parent.parent, Path.cwd()):
        if (folder / _SAMPLE).is_file():
            return folder / _SAMPLE
    raise CliError(
        f"{_SAMPLE} was not found; the demo runs in a checkout of the project's sources"
    )


def _show(
    arguments: list[str], environment: dict[str, str], session: str, log: IO[bytes], terminal: bool
) -> None:
    """Runs the gateway to its end, on a terminal with the screen on it."""
    gateway = subprocess.Popen(
        arguments,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
        # The terminal's signals are meant for the screen.
        start_new_session=True,
    )
    try:
        _await_recording(gateway, session, log)
        if terminal:
            open_screen([session])
        else:
            click.echo("The gateway serves and is asked for files; this takes a few seconds.")
            gateway.wait()
    finally:
        gateway.terminate()
        try:
            gateway.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            gateway.kill()
            gateway.wait()


def _await_recording(gateway: subprocess.Popen[bytes], session: str, log: IO[bytes]) -> None:
    limit = time.monotonic() + _START_S
    while not has_recordings(session):
        if gateway.poll() is not None or time.monotonic() > limit:
            log.seek(0)
            lines = log.read().decode(errors="replace").split("\n")
            last = next((line for line in reversed(lines) if line.strip()), "it printed nothing")
            raise CliError(f"the gateway recorded nothing: {last}; see 'safehandle doctor'")
        time.sleep(_POLL_S)
