"""What the `/` line needs beyond the filter language itself."""

from __future__ import annotations

from safehandle_debug.ledger.filter import ALIASES, FIELDS

__all__ = ["is_unfinished"]


def is_unfinished(text: str) -> bool:
    """True while the last term may become a field with a value.

    `ag` is a word, but whoever types it letter by letter may go on to
    `age>5m` and does not want to see an empty table meanwhile."""
    word = text.rpartition(" ")[2].lstrip("!-").casefold()
    return bool(word) and any(name.startswith(word) for name in (*FIELDS, *ALIASES))
