"""Perfetto's packets in bytes: as much of protobuf as a trace of handles needs.

Only what `perfetto_trace.proto` calls track events: descriptors of tracks,
slices, instants, counters, and texts that are written once and then named by a
number (interned).  Written by hand, as the format is small and stable and the
library that writes any format is a dependency.
"""

from __future__ import annotations

from collections.abc import Hashable
from enum import IntEnum
from typing import Final

__all__ = ["MOST_INTERNED", "Interned", "Packets", "Shape", "Type", "varint"]

MOST_INTERNED: Final = 65_536  # texts of each sort that readers keep; others are written out


class Type(IntEnum):
    """`TrackEvent.Type`."""

    BEGIN = 1
    END = 2
    INSTANT = 3
    COUNTER = 4


class Shape(IntEnum):
    """What a track is: the field of `TrackDescriptor` that says so."""

    PLAIN = 0
    PROCESS = 3
    THREAD = 4
    COUNTER = 8


_BOOT, _REAL = 6, 1  # BuiltinClock
_STATE_CLEARED, _STATE_NEEDED = 1, 2  # SequenceFlags
_COUNT: Final = 2  # CounterDescriptor.Unit


def varint(number: int) -> bytes:
    """A number, negative ones as 64 bits of two's complement."""
    if 0 <= number < 0x80:
        return bytes((number,))
    number &= (1 << 64) - 1
    out = bytearray()
    while number >= 0x80:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def _number(field: int, value: int) -> bytes:
    """A field that is a number."""
    return varint(field << 3) + varint(value)


def _message(field: int, content: bytes) -> bytes:
    """A field that is a message, bytes or a text in UTF-8."""
    return varint(field << 3 | 2) + varint(len(content)) + content


def _text(field: int, value: str) -> bytes:
    """A field that is a text."""
    return _message(field, value.encode("utf-8", "backslashreplace"))


class Interned:
    """Texts of one sort: each is written out once, and named by a number after that."""

    def __init__(self, table: int, content: int, most: int = MOST_INTERNED) -> None:
        """`table` is the field of InternedData, `content` that of its entries' text."""
        self._table = table
        self._content = content
        self._most = most
        self._numbers: dict[Hashable, int] = {}

    def known(self, key: Hashable) -> int:
        """The number of a text; 0: it has none."""
        return self._numbers.get(key, 0)

    def add(self, key: Hashable, shown: str) -> tuple[int, bytes]:
        """(number of a new text, its entry in InternedData); (0, b"") when there are too many."""
        if len(self._numbers) >= self._most:
            return 0, b""
        iid = self._numbers[key] = len(self._numbers) + 1
        return iid, _message(self._table, _number(1, iid) + _text(self._content, shown))


class Packets:
    """The packets of one sequence, which is one process here.

    What it returns is to be written as it comes: later packets refer to the texts
    of earlier ones."""

    def __init__(self, sequence: int, clock_ns: int) -> None:
        self._sequence = _number(10, sequence)
        self._flags = _STATE_CLEARED | _STATE_NEEDED  # of the next packet
        self._categories = Interned(1, 2)
        self._names = Interned(2, 2)
        self._labels = Interned(3, 2)
        self._texts = Interned(29, 2)
        self._new = b""  # texts for InternedData, in the next packet
        self._clock_ns = clock_ns

    def clocks(self) -> bytes:
        """Says that the trace's clock is the wall clock, nanoseconds since 1970."""
        clocks = b"".join(
            _message(1, _number(1, clock) + _number(2, self._clock_ns)) for clock in (_BOOT, _REAL)
        )
        return self._packet(_message(6, clocks + _number(2, _BOOT)), self._clock_ns)

    def track(
        self,
        uuid: int,
        name: str,
        parent: int = 0,
        shape: Shape = Shape.PLAIN,
        ids: tuple[int, ...] = (),
    ) -> bytes:
        """Describes a track, before anything happens on it.

        Args:
            ids: (pid,) of a process; (pid, tid) of a thread.
        """
        inner = b"".join(_number(field, value) for field, value in enumerate(ids, 1))
        fields = _number(1, uuid) + (_number(5, parent) if parent else b"")
        if shape is Shape.PROCESS:
            fields += _message(shape, inner + _text(6, name))
        elif shape is Shape.THREAD:
            fields += _message(shape, inner + _text(5, name))
        else:
            fields += _text(2, name)
            if shape is Shape.COUNTER:
                fields += _message(shape, _number(3, _COUNT))
        return self._packet(_message(60, fields))

    def name(self, key: Hashable, shown: str, category: str = "handle") -> bytes:
        """What a slice that begins, or an instant, is called; for `event`.

        What has the same key has the same text."""
        iid = self._interned(self._names, key, shown)
        return (_number(10, iid) if iid else _text(23, shown)) + _number(
            3, self._interned(self._categories, category, category)
        )

    def detail(self, label: str, value: int | str | tuple[Hashable, str]) -> bytes:
        """A number or a text, perhaps with a key that is shorter; for `event`."""
        content = _number(1, self._interned(self._labels, label, label))
        if isinstance(value, int):
            return _message(4, content + _number(4, value))
        key, shown = (value, value) if isinstance(value, str) else value
        iid = self._interned(self._texts, key, shown)
        return _message(4, content + (_number(17, iid) if iid else _text(6, shown)))

    def event(self, type: Type, at_ns: int, track: int, fields: bytes) -> bytes:
        """Something that happens on a track; `fields` are its name and details."""
        fields = _number(9, type) + _number(11, track) + fields
        return self._packet(_message(11, fields), at_ns)

    def count(self, at_ns: int, track: int, value: int) -> bytes:
        """A counter's value from then on."""
        fields = _number(9, Type.COUNTER) + _number(11, track) + _number(30, value)
        return self._packet(_message(11, fields), at_ns)

    def _interned(self, table: Interned, key: Hashable, shown: str) -> int:
        iid = table.known(key)
        if not iid:
            iid, entry = table.add(key, shown)
            self._new += entry
        return iid

    def _packet(self, content: bytes, at_ns: int | None = None) -> bytes:
        if self._new:
            content += _message(12, self._new)
            self._new = b""
        time = b"" if at_ns is None else _number(8, at_ns)
        flags, self._flags = self._flags, _STATE_NEEDED
        return _message(1, time + self._sequence + _number(13, flags) + content)
