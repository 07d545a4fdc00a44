"""What makes two findings the same bug.

Within one report, findings are alike when kind, type and the places in the
program's own code agree.  The fingerprint has to survive more: another run,
another machine, lines added above.  So it is made of

    kind, type of the handle,
    function and file (below the working directory, else below the folder that
        Python imports from) of the program's own frames, at most DEPTH from
        the innermost, a recursion's once,
    the how-manieth place this is, by line, of those for which all that agrees
        (two handles leaked by two lines of one function).

Numbers of lines, processes, threads and handles are not part of it.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from typing import Final

from safehandle_debug.findings.wording import short_path
from safehandle_debug.ledger import Frame, is_library, is_ours, is_standard

DEPTH: Final = 4  # frames; whose callers differ, the bug is still the same

_IMPORT_FOLDER = re.compile(r".*[/\\](?:site-packages|dist-packages|python3\.\d+t?)[/\\]")

Place = tuple[str, str]  # file, function


def own_frames(stack: Sequence[Frame]) -> list[Frame]:
    """The frames that tell bugs apart, innermost first: the program's own;
    a library's where there are none; any where there are none either."""
    for is_foreign in (is_library, lambda file: is_ours(file) or is_standard(file)):
        own = [frame for frame in stack if not is_foreign(frame.file)]
        if own:
            return own[:DEPTH]
    return list(stack[:DEPTH])


def places(stack: Sequence[Frame], cwd: str) -> tuple[Place, ...]:
    """The part of a stack that goes into the fingerprint."""
    found: list[Place] = []
    for frame in own_frames(stack):
        file = short_path(frame.file, cwd)
        if file.startswith(("/", "\\")):
            file = _IMPORT_FOLDER.sub("", file)
        if not found or found[-1] != (file, frame.function):
            found.append((file, frame.function))
    return tuple(found)


def lines(stack: Sequence[Frame]) -> tuple[int, ...]:
    """What tells places in one function apart."""
    return tuple(frame.line for frame in own_frames(stack))


def fingerprint(kind: str, owner: str, where: Sequence[Place], ordinal: int) -> str:
    """16 hexadecimal digits."""
    parts = [kind, owner, str(ordinal)]
    parts += (part for each in where for part in each)
    text = "\0".join(parts)
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()[:16]
