"""Notes in a dead process's recording which signal ended it.

A process that is killed cannot say so itself; its parent is told by the kernel.
The only place where anybody but the owner writes into a recording, and only
when the owner is gone.
"""

from __future__ import annotations

import os
import re
import struct
import sys

from safehandle_debug.recording.format import HEADER, MAGIC, VERSION, Ended, Header
from safehandle_debug.session import parse_recording_name

_FIELD = re.compile(r"\d*[a-zA-Z]")


def note_signal(session: str, pid: int, number: int) -> bool:
    """Notes that signal `number` ended process `pid`, which must have been waited for.

    Returns False when there is nothing to note: it recorded nothing, or said
    itself how it ended.
    """
    path = _last_recording(session, pid)
    if path is None:
        return False
    try:
        file = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        data = os.pread(file, HEADER.size, 0)
        if len(data) < HEADER.size:
            return False
        header = Header._make(HEADER.unpack(data))
        ours = header.magic == MAGIC and header.version == VERSION and header.pid == pid
        if not ours or header.ended != Ended.RUNNING:
            return False
        # `ended` goes last: who sees it finds the number in its place.
        os.pwrite(file, number.to_bytes(4, sys.byteorder, signed=True), _offset("exit_code"))
        os.pwrite(file, int(Ended.SIGNAL).to_bytes(4, sys.byteorder), _offset("ended"))
    except OSError:
        return False
    finally:
        os.close(file)
    return True


def _last_recording(session: str, pid: int) -> str | None:
    """The recording that the process wrote last: it begins another after exec."""
    try:
        names = os.listdir(session)
    except OSError:
        return None
    mine = [(ticks, len(name), name) for name, (number, ticks) in _parsed(names) if number == pid]
    return os.path.join(session, max(mine)[2]) if mine else None


def _parsed(names: list[str]) -> list[tuple[str, tuple[int, int]]]:
    pairs = [(name, parse_recording_name(name)) for name in names]
    return [(name, parsed) for name, parsed in pairs if parsed is not None]


def _offset(field: str) -> int:
    """Where a field lies in the header, in bytes."""
    formats = _FIELD.findall(HEADER.format.removeprefix("="))
    before = formats[: Header._fields.index(field)]
    return struct.calcsize("=" + "".join(before))
