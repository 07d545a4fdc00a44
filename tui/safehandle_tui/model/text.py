"""Lines of text with roles, and the small formats used in them.

A role says what a piece of text means ("bad", "muted"); the palette says how
that looks in the terminal at hand.  Meaning is never carried by colour alone.
"""

from __future__ import annotations

import posixpath
import unicodedata
from collections.abc import Iterable, Sequence
from typing import Literal

__all__ = [
    "Line",
    "Role",
    "Span",
    "age",
    "bar",
    "brief",
    "cell_width",
    "clean",
    "clip",
    "clock",
    "count",
    "delta",
    "ends",
    "fit",
    "line_width",
    "plain",
    "plural",
    "short_path",
    "strip_of",
]

Role = Literal[
    "text",
    "muted",
    "strong",
    "title",
    "head",
    "sorted",
    "good",
    "warn",
    "bad",
    "accent",
    "own",
    "source",
    "key",
    "rule",
]
Span = tuple[str, Role]
Line = tuple[Span, ...]

_SECOND = 1_000_000_000
_BLOCKS = " ▁▂▃▄▅▆▇█"


def plain(line: Iterable[Span]) -> str:
    """The text of a line without its roles."""
    return "".join(text for text, _ in line)


def clean(text: str) -> str:
    """Replaces what a terminal would obey (controls, bidirectional marks) by
    visible escapes: details and names come from the watched program."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        char
        if unicodedata.category(char)[0] != "C"
        else char.encode("unicode_escape", "surrogatepass").decode("ascii")
        for char in text
    )


def cell_width(text: str) -> int:
    """Terminal cells that the text takes; wide characters take two."""
    if text.isascii():
        return len(text)
    cells = 0
    for char in text:
        if unicodedata.combining(char):
            continue
        cells += 2 if unicodedata.east_asian_width(char) in "WF" else 1
    return cells


def line_width(line: Iterable[Span]) -> int:
    """Terminal cells that the line takes."""
    return sum(cell_width(text) for text, _ in line)


def _head(text: str, cells: int) -> str:
    """The longest beginning of the text that fits into the cells."""
    used = 0
    for index, char in enumerate(text):
        used += cell_width(char)
        if used > cells:
            return text[:index]
    return text


def fit(text: str, cells: int, *, align: str = "<", keep: str = "start") -> str:
    """The text in exactly that many cells: padded, or cut with an ellipsis.

    Args:
        text: one line, already clean.
        cells: 0 or more.
        align: "<" or ">".
        keep: which end survives a cut, "start" or "end" (for paths).
    """
    width = cell_width(text)
    if width > cells:
        if cells <= 0:
            return ""
        if keep == "end":
            text = "…" + _head(text[::-1], cells - 1)[::-1]
        else:
            text = _head(text, cells - 1) + "…"
        width = cell_width(text)
    padding = " " * (cells - width)
    return padding + text if align == ">" else text + padding


def clip(line: Iterable[Span], cells: int) -> Line:
    """The line cut to the cells, with an ellipsis when something is lost."""
    spans = tuple(line)
    if line_width(spans) <= cells:
        return spans
    kept: list[Span] = []
    left = cells - 1
    for text, role in spans:
        head = _head(text, left)
        if head != text:
            kept.append((head + "…", role))
            break
        kept.append((text, role))
        left -= cell_width(text)
    return tuple(kept) if cells > 0 else ()


def ends(left: Line, right: Line, cells: int) -> Line:
    """One line with text at both ends; the right one is kept."""
    room = cells - line_width(right) - 3
    left = clip(left, max(0, room))
    gap = cells - line_width(left) - line_width(right) - 2
    return ((" ", "text"), *left, (" " * max(1, gap), "text"), *right, (" ", "text"))


def count(number: int) -> str:
    """1204 as "1,204"."""
    return f"{number:,}"


def plural(number: int, noun: str, several: str = "") -> str:
    """1 as "1 handle", 3 as "3 handles"."""
    return f"{number:,} {noun if number == 1 else several or noun + 's'}"


def age(nanoseconds: int) -> str:
    """A length of time in at most six characters: "417ms", "12.3s", "3m12s"."""
    if nanoseconds < 0:
        return "0ms"
    if nanoseconds < _SECOND:
        return f"{nanoseconds // 1_000_000}ms"
    seconds = nanoseconds // _SECOND
    if seconds < 10:
        return f"{nanoseconds // (_SECOND // 10) / 10:.1f}s"
    if seconds < 60:
        return f"{seconds}s"
    if seconds < 3600:
        return f"{seconds // 60}m{seconds % 60:02}s"
    if seconds < 86400:
        return f"{seconds // 3600}h{seconds % 3600 // 60:02}m"
    days = seconds // 86400
    return f"{days}d{seconds % 86400 // 3600:02}h" if days < 100 else f"{days}d"


def brief(nanoseconds: int) -> str:
    """The same for what may be short: "403us"."""
    return f"{nanoseconds // 1000}us" if nanoseconds < 1_000_000 else age(nanoseconds)


def delta(nanoseconds: int) -> str:
    """The time since an earlier event: "+0", "+12 us", "+0.8 ms", "+3m12s"."""
    if nanoseconds <= 0:
        return "+0"
    if nanoseconds < 1_000_000:
        return f"+{max(1, nanoseconds // 1000)} us"
    if nanoseconds < 10_000_000:
        return f"+{nanoseconds / 1_000_000:.1f} ms"
    if nanoseconds < _SECOND:
        return f"+{nanoseconds // 1_000_000} ms"
    return "+" + age(nanoseconds)


def clock(nanoseconds: int, *, fine: bool = False) -> str:
    """Time since the start: "0:07:44"; finely "7:44.902" below an hour."""
    milliseconds = max(0, nanoseconds) // 1_000_000
    seconds = milliseconds // 1000
    hours, minutes = seconds // 3600, seconds // 60 % 60
    if not fine:
        return f"{hours}:{minutes:02}:{seconds % 60:02}"
    front = f"{hours}:{minutes:02}" if hours else str(minutes)
    return f"{front}:{seconds % 60:02}.{milliseconds % 1000:03}"


def short_path(path: str, cwd: str = "") -> str:
    """A source file's name as a reader knows it: relative to the program's
    folder, or from the library's root on."""
    if cwd and cwd != "/" and path.startswith(cwd.rstrip("/") + "/"):
        return path[len(cwd.rstrip("/")) + 1 :]
    for marker in ("/site-packages/", "/dist-packages/"):
        if marker in path:
            return path.rpartition(marker)[2]
    _, marker, tail = path.partition("/lib/python3.")
    if marker and "/" in tail:
        return "lib/" + tail.partition("/")[2]
    parts = path.split("/")
    if len(parts) > 4:
        return "…/" + posixpath.join(*parts[-3:])
    return path


def bar(share: float, cells: int) -> str:
    """A horizontal bar, `share` (0 to 1) of `cells` long, at least one eighth
    for anything above zero."""
    eighths = round(max(0.0, min(1.0, share)) * cells * 8)
    if share > 0:
        eighths = max(1, eighths)
    full, part = divmod(eighths, 8)
    text = "█" * full + ("▏▎▍▌▋▊▉"[part - 1] if part else "")
    return text + " " * (cells - len(text))


def strip_of(counts: Sequence[int]) -> str:
    """A histogram one line high: a block a bucket, the tallest one full."""
    top = max(counts, default=0)
    if top <= 0:
        return " " * len(counts)
    return "".join(
        _BLOCKS[0] if number <= 0 else _BLOCKS[max(1, -(-number * 8 // top))] for number in counts
    )
