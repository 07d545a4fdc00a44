"""Words for kinds of findings, and for numbers."""

from __future__ import annotations

from typing import Final

__all__ = ["DONE", "count"]

DONE: Final = {
    "leak": "leaked",
    "unbalanced": "unbalanced",
    "double-release": "released twice",
    "release-failed": "not released",
    "double-owner": "owned twice",
    "recycled": "recycled",
    "use-after-close": "used after close",
    "closed-behind-owner": "closed behind their owner",
    "abandoned": "abandoned",
}


def count(number: int, noun: str) -> str:
    """`1 handle`, `2 handles`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
