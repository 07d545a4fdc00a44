"""How all commands end: no traceback, whatever happens to their output."""

from __future__ import annotations

import errno
import os
import sys
from typing import Any

import click

BAD_INPUT = 2

_BROKEN_PIPE = 128 + 13  # as if SIGPIPE had ended us
_INTERRUPTED = 128 + 2


class CliError(click.ClickException):
    """Bad input: one clear sentence on stderr, exit code 2."""

    exit_code = BAD_INPUT


class QuietGroup(click.Group):
    """A group whose commands end quietly when nobody reads their output any more."""

    def invoke(self, ctx: click.Context) -> Any:
        """Runs a command; its faults become sentences and exit codes."""
        try:
            result = super().invoke(ctx)
            if sys.stdout is not None:
                sys.stdout.flush()
        except KeyboardInterrupt:
            ctx.exit(_INTERRUPTED)
        except OSError as error:
            _drop_output()
            if error.errno != errno.EPIPE:
                raise CliError(_sentence(error)) from error
            ctx.exit(_BROKEN_PIPE)
        return result


def _sentence(error: OSError) -> str:
    where = f"{error.filename}: " if error.filename else ""
    return f"{where}{error.strerror or error}"


def _drop_output() -> None:
    """Sends what is still buffered nowhere, so that the flush at exit is silent too."""
    nowhere = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
    os.dup2(nowhere, 1)
    os.close(nowhere)
