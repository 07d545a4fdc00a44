"""Positions from a code object's line table, without the code object.

CPython 3.11 and later describe each run of instructions by one entry of
`co_linetable` (Objects/locations.md of its sources):

    first byte   1 kkkk nnn     kind, and the run's length - 1 in code units
    kind  0-9    one byte       same line, start column 8k + 3 bits, width 4 bits
    kind 10-12   two bytes      line + (k - 10), start column, end column
    kind 13      svarint        line delta, no columns
    kind 14      4 varints      line delta (signed), end line delta, columns + 1
    kind 15      nothing        no position

A recording holds the table's bytes as they were; a reader needs the position
of one instruction, so entries are walked until they reach it.
"""

from __future__ import annotations

from typing import NamedTuple

CODE_UNIT = 2  # bytes

_NO_COLUMNS = 13
_LONG = 14
_NONE = 15


class Position(NamedTuple):
    """Where an instruction stands in its source; None where not known."""

    line: int | None  # 1-based
    end_line: int | None
    column: int | None  # 0-based offset in UTF-8 bytes
    end_column: int | None


NOWHERE = Position(None, None, None, None)


def position_at(table: bytes, first_line: int, lasti: int) -> Position:
    """The position of the instruction at byte offset `lasti`.

    `lasti` is meant as in `frame.f_lasti`.  NOWHERE when the table has no
    position for it, ends before it, or is damaged.
    """
    unit = lasti // CODE_UNIT
    if lasti < 0:
        return NOWHERE
    line = first_line
    start = 0  # in code units
    at = 0
    try:
        while at < len(table):
            first = table[at]
            if not first & 0x80:
                return NOWHERE
            at += 1
            kind = first >> 3 & 15
            start += (first & 7) + 1
            reached = start > unit
            if kind < 10:
                if reached:
                    second = table[at]
                    column = kind << 3 | second >> 4
                    return Position(line, line, column, column + (second & 15))
                at += 1
            elif kind < _NO_COLUMNS:
                line += kind - 10
                if reached:
                    return Position(line, line, table[at], table[at + 1])
                at += 2
            elif kind == _NONE:
                if reached:
                    return NOWHERE
            else:
                delta, at = _signed(table, at)
                line += delta
                if kind == _NO_COLUMNS:
                    if reached:
                        return Position(line, line, None, None)
                    continue
                end_delta, at = _unsigned(table, at)
                column, at = _unsigned(table, at)
                end_column, at = _unsigned(table, at)
                if reached:
                    return Position(
                        line,
                        line + end_delta,
                        column - 1 if column else None,
                        end_column - 1 if end_column else None,
                    )
    except IndexError:
        return NOWHERE
    return NOWHERE


def _unsigned(table: bytes, at: int) -> tuple[int, int]:
    """(value, offset after it) of a varint: 6 bits a byte, least first."""
    byte = table[at]
    value = byte & 63
    shift = 6
    while byte & 64:
        at += 1
        byte = table[at]
        value |= (byte & 63) << shift
        shift += 6
    return value, at + 1


def _signed(table: bytes, at: int) -> tuple[int, int]:
    """(value, offset after it) of a varint whose lowest bit is the sign."""
    value, at = _unsigned(table, at)
    return (-(value >> 1) if value & 1 else value >> 1), at
