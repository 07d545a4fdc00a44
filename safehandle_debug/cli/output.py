"""Where text goes, how wide it is, and whether in colour."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import click

from safehandle_debug.cli.group import CliError

_Command = TypeVar("_Command", bound=Callable[..., Any])


def format_option(*others: str) -> Callable[[_Command], _Command]:
    """Gives a command its `--format`: text, JSON and the others that it knows."""
    return click.option(
        "--format",
        "form",
        type=click.Choice(["text", "json", *others]),
        default="text",
        show_default=True,
        help="text for people; json is stable, for programs",
    )


@contextmanager
def replacing(path: str) -> Iterator[str]:
    """A name to write to; the file `path` is there when the block ends well,
    complete, and untouched when it does not.

    Pipes and devices, which cannot be replaced, are written as they are.

    Raises:
        CliError: the file cannot be written.
    """
    is_special = os.path.lexists(path) and not os.path.isfile(path) and not os.path.isdir(path)
    target = os.path.realpath(path)
    part = path if is_special else f"{target}.{os.getpid()}.part"
    try:
        yield part
        if part != path:
            os.replace(part, target)
    except OSError as error:
        raise CliError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        if part != path and os.path.lexists(part):
            os.unlink(part)


def wants_color(no_color: bool = False, *, err: bool = False) -> bool:
    """True on a terminal that shows colours, unless NO_COLOR or --no-color says no."""
    stream = sys.stderr if err else sys.stdout
    if no_color or os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        return False
    return stream is not None and stream.isatty()


def width() -> int:
    """Columns to fill: the terminal's, within reason; 100 where there is none."""
    return max(60, min(shutil.get_terminal_size((100, 24)).columns, 160))


def write(text: str, path: str | None = None, *, err: bool = False) -> None:
    """Prints text as it is, or writes it into the file `path`.

    Raises:
        CliError: the file cannot be written.
    """
    if path is None:
        # The colours are decided already: click's own guess would undo them.
        click.echo(text, err=err, color=True)
        return
    with (
        replacing(path) as name,
        open(name, "w", encoding="utf-8", errors="backslashreplace") as file,
    ):
        file.write(text + "\n")
