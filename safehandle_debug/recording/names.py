"""Names of recordings: PID-STARTTICKS.shd, then PID-STARTTICKS-2.shd, ..."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from safehandle_debug.session import parse_recording_parts


class Name(NamedTuple):
    """What a recording's name says; sorts by time."""

    start_ticks: int  # when the process started, clock ticks since boot
    pid: int
    part: int  # from 1; a process that records again begins another


def parse(name: str) -> Name | None:
    """The parts of a file's name; None when it is not a recording's."""
    parts = parse_recording_parts(name)
    if parts is None:
        return None
    pid, start_ticks, part = parts
    return Name(start_ticks, pid, part)


def successor(path: Path) -> Path:
    """Where the same process would record next; `path` itself, made another
    name, when it is not named like a recording."""
    name = parse(path.name)
    if name is None:
        return path.with_name(f"{path.name}-2")
    return path.with_name(f"{name.pid}-{name.start_ticks}-{name.part + 1}.shd")
