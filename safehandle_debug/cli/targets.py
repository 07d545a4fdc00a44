"""From TARGET words to open ledgers."""

from __future__ import annotations

import resource
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, TypeVar

import click
from click.shell_completion import CompletionItem

from safehandle_debug.cli.group import CliError
from safehandle_debug.cli.progress import progress
from safehandle_debug.ledger import Ledger
from safehandle_debug.recording import RecordingError, open_recording, resolve
from safehandle_debug.recording.sessions import sessions

_Command = TypeVar("_Command", bound=Callable[..., Any])


def targets_argument(command: _Command) -> _Command:
    """Gives a command its `[TARGET]...`."""
    return click.argument(
        "targets", nargs=-1, metavar="[TARGET]...", shell_complete=complete_targets
    )(command)


def complete_targets(
    context: click.Context, parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Names of sessions, newest first, then files, for a shell to offer."""
    names = [session.name for session in sessions() if session.name.startswith(incomplete)]
    items = [CompletionItem(name, help="session") for name in names]
    return [*items, CompletionItem(incomplete, type="file")]


def recordings_of(targets: Sequence[str]) -> list[Path]:
    """The recordings that the targets name, each once, in the order given.

    Raises:
        CliError: a target names nothing.
    """
    try:
        found = [path for target in (targets or (None,)) for path in resolve(target)]
    except RecordingError as error:
        raise CliError(str(error)) from error
    return list(dict.fromkeys(found))


@contextmanager
def open_ledgers(targets: Sequence[str]) -> Iterator[list[Ledger]]:
    """The ledgers of all recordings that the targets name, refreshed once.

    A recording that cannot be read is a line on stderr, beside others that can.

    Raises:
        CliError: a target names nothing, no recording can be read, or one was
            damaged while the `with` block read it.
    """
    _allow_many_files()
    faults = []
    with ExitStack() as stack:
        opened = []
        for path in recordings_of(targets):
            try:
                opened.append(stack.enter_context(Ledger(open_recording(path))))
            except RecordingError as error:
                faults.append(str(error))
        ledgers = []
        with progress("reading", sum(map(_recorded, opened))) as step:
            for ledger in opened:
                try:
                    ledger.refresh(step)
                except RecordingError as error:
                    faults.append(str(error))
                else:
                    ledgers.append(ledger)
        if not ledgers:
            raise CliError("; ".join(faults))
        for fault in faults:
            click.echo(f"Left out: {fault}", err=True)
        try:
            yield ledgers
        except RecordingError as error:
            raise CliError(str(error)) from error


def _recorded(ledger: Ledger) -> int:
    """Events in the recording; the oldest may have been dropped."""
    header = ledger.recording.header
    return max(header.next_seq - 1 - header.dropped_events, 0)


def _allow_many_files() -> None:
    """A session of a thousand processes is a thousand open recordings."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
