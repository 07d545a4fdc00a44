"""Puts the events of several threads in order, a portion at a time."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, TypeVar

Row = TypeVar("Row", bound=Sequence[Any])


def in_order(chunks: Iterable[tuple[int, Iterable[Row]]]) -> Iterator[list[Row]]:
    """The rows of all chunks, smallest first element (seq) first, in portions.

    A chunk is (a lower bound of its seqs, rows by seq); chunks come by that
    bound.  What is below the next chunk's bound can go out before it, so only
    chunks that overlap in time are held together."""
    pending: list[Row] = []
    for bound, rows in chunks:
        done = bisect_left(pending, bound, key=_seq)
        if done:
            yield pending[:done]
            del pending[:done]
        pending += rows
        pending.sort(key=_seq)
    if pending:
        yield pending


def _seq(row: Sequence[Any]) -> int:
    seq: int = row[0]
    return seq
