"""The environment and the session of a command to watch."""

from __future__ import annotations

import os
from collections.abc import Sequence

from safehandle_debug.activate.options import OptionError, parse
from safehandle_debug.activate.prune import prune
from safehandle_debug.cli.group import CliError
from safehandle_debug.session import (
    SESSION_VARIABLE,
    SessionError,
    create_session,
    is_session,
    parse_recording_name,
)

VARIABLE = "SAFEHANDLE_DEBUG"


def watched_environment(level: str, options: Sequence[str] = ()) -> tuple[dict[str, str], str]:
    """(environment for a command, session folder that its recordings go to).

    Within a session already it is that one.

    Raises:
        CliError: an option is unknown or has a bad value.
        SessionError: there is no folder to record into.
    """
    text = ",".join((level, *options))
    try:
        parse(text)
    except OptionError as error:
        raise CliError(f"--option: {error}") from error
    session = os.environ.get(SESSION_VARIABLE, "")
    if not is_session(session):
        session = create_session()
        prune(os.path.dirname(session))
    return os.environ | {VARIABLE: text, SESSION_VARIABLE: session}, session


def has_recordings(session: str) -> bool:
    """True when some process has recorded into the session."""
    try:
        return any(parse_recording_name(name) is not None for name in os.listdir(session))
    except OSError:
        return False


def remove_if_empty(session: str) -> None:
    """Removes a session that nobody recorded into, so that it is not the newest."""
    try:
        os.rmdir(session)
    except OSError:
        return


__all__ = ["SessionError", "has_recordings", "remove_if_empty", "watched_environment"]
