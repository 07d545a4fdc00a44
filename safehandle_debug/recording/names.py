"""Names of recordings: PID-STARTTICKS.shd, then PID-STARTTICKS-2.shd, ..."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

_NAME = re.compile(r"(?P<pid>\d+)-(?P<start_ticks>\d+)(?:-(?P<part>\d+))?\.shd", re.ASCII)


class Name(NamedTuple):
    """What a recording's name says; sorts by time."""

    start_ticks: int  # when the process started, clock ticks since boot
    pid: int
    part: int  # from 1; a process that records again begins another


def parse(name: str) -> Name | None:
    """The parts of a file's name; None when it is not a recording's."""
    match = _NAME.fullmatch(name)
    if match is None:
        return None
    return Name(int(match["start_ticks"]), int(match["pid"]), int(match["part"] or 1))


def successor(path: Path) -> Path:
    """Where the same process would record next; `path` itself, made another
    name, when it is not named like a recording."""
    name = parse(path.name)
    if name is None:
        return path.with_name(f"{path.name}-2")
    return path.with_name(f"{name.pid}-{name.start_ticks}-{name.part + 1}.shd")
