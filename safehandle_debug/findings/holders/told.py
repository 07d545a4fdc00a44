"""The answer in the recording, so that a report can give it later.

What holds a handle is only known inside the process.  When it ends with
handles open, it looks once, within bounds, and adds what it found to what its
recording says of the process.  A process that is killed adds nothing.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any, Final

from safehandle_debug import _native
from safehandle_debug.findings.holders.model import Holders
from safehandle_debug.findings.holders.numbers import CHILD, RAW
from safehandle_debug.findings.holders.search import MOST_OBJECTS, SECONDS, Target, search
from safehandle_debug.ledger.replay import Key
from safehandle_debug.recording import Recording, open_recording
from safehandle_debug.recording.asking import MAY_BE_ASKED
from safehandle_debug.recording.format import Flag

__all__ = ["ANSWER", "KEY", "read_holders", "write_holders"]

KEY: Final = "holders"  # in a recording's meta
ANSWER: Final = "holders_answer"  # to which question
_MOST_TARGETS: Final = 200
_OF_A_PLACE: Final = 2  # handles alike that are looked for
_MOST_BYTES: Final = 40_000  # of the 65,000 that a text has room for
# Owners that are no Python objects, or none that can be told by a number.
_NO_OBJECT: Final = frozenset({"sqlite3", "FILE", "DIR", "scandir", "mmap", "?"})
_NOT_OURS: Final = int(Flag.BORROWED | Flag.IMPORTING | Flag.INHERITED)


def write_holders(
    *, seconds: float = SECONDS, most: int = MOST_OBJECTS, answer: int | None = None
) -> int:
    """Looks who holds the handles that this process has open, and writes it.

    `answer` is the number of the question, when a reader asked.

    Returns how many were looked for; 0: nothing is recorded, or nothing open.

    Raises:
        OSError, RecordingError: something cannot be read or written.
    """
    path = _native.recording_path()
    if path is None:
        return 0
    with open_recording(path) as recording:
        meta = recording.meta
    if answer is not None and meta.get(MAY_BE_ASKED) is False:
        return 0
    targets = _open_targets(path)
    if not targets and answer is None:
        return 0
    found = search(targets, seconds=seconds, most=most)
    meta = {**meta, KEY: _fitting(found.values())}
    if answer is not None:
        meta[ANSWER] = answer
    _native.set_meta(json.dumps(meta))
    return len(targets)


def _open_targets(path: str) -> list[Target]:
    """The oldest handles of each place: a report shows no others."""
    alike: dict[Key, int] = {}
    targets: list[Target] = []
    with open_recording(path) as recording:
        for raw in recording.live():
            if raw.flags & _NOT_OURS or raw.serial <= recording.header.inherited_serials:
                continue
            info = recording.type(raw.type)
            owner = CHILD if info.space == "pid" and info.name == RAW else info.name
            if owner in _NO_OBJECT or (owner == RAW and info.space != "fd"):
                continue
            key = Key(raw.type, raw.stack, 0, False, 0)
            alike[key] = alike.get(key, 0) + 1
            if alike[key] <= _OF_A_PLACE:
                targets.append(Target(raw.serial, owner, raw.value))
            if len(targets) == _MOST_TARGETS:
                break
    return targets


def _fitting(found: Iterable[Holders]) -> list[dict[str, Any]]:
    """As many as one text of a recording has room for."""
    kept: list[dict[str, Any]] = []
    size = 0
    for holders in found:
        plain = holders.plain()
        size += len(json.dumps(plain)) + 2
        if size > _MOST_BYTES:
            break
        kept.append(plain)
    return kept


def read_holders(recording: Recording) -> dict[int, Holders]:
    """What a process has left about its handles, by serial; {} when nothing."""
    try:
        each = [Holders.from_plain(plain) for plain in recording.meta.get(KEY, ())]
    except (ValueError, KeyError, TypeError):
        return {}  # damaged
    return {holders.serial: holders for holders in each}
