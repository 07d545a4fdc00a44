"""What the ids in a recording stand for: texts, types, threads, stacks."""

from __future__ import annotations

from typing import Final, TypeVar

from safehandle_debug.recording import format as shd
from safehandle_debug.recording.format import DataType
from safehandle_debug.recording.linetable import position_at
from safehandle_debug.recording.mapping import Mapping
from safehandle_debug.recording.records import Frame, ThreadInfo, TypeInfo

UNKNOWN: Final = "?"
DEEPEST: Final = 10_000  # frames of a stack; damaged files may tell of more
_KEPT: Final = 65_536  # resolved ids kept of each sort

K = TypeVar("K")
V = TypeVar("V")

Code = tuple[str, str, int, bytes]  # file, function, first line, line table


class Data:
    """Resolves ids and keeps what it resolved.

    An id that leads nowhere is never an error: it stands for "?" or nothing.
    """

    def __init__(self, mapping: Mapping) -> None:
        self._mapping = mapping
        self._strings: dict[int, str] = {}
        self._types: dict[int, TypeInfo] = {}
        self._threads: dict[int, ThreadInfo] = {}
        self._codes: dict[int, Code] = {}
        self._frames: dict[tuple[int, int], Frame] = {}
        self._stacks: dict[int, tuple[Frame, ...]] = {}

    def string(self, id: int) -> str:
        if id == 0:
            return ""
        text = self._strings.get(id)
        if text is None:
            payload = self._mapping.data(id, DataType.STRING)
            if payload is None:
                return ""
            text = payload.decode("utf-8", "replace")
            _keep(self._strings, id, text)
        return text

    def type(self, id: int) -> TypeInfo:
        info = self._types.get(id)
        if info is None:
            payload = self._mapping.data(id, DataType.TYPE) if id else None
            if payload is None or len(payload) != shd.TYPE.size:
                return TypeInfo(UNKNOWN, UNKNOWN, UNKNOWN)
            name, kind, space, _ = shd.TYPE.unpack(payload)
            info = TypeInfo(*(self.string(each) or UNKNOWN for each in (name, kind, space)))
            _keep(self._types, id, info)
        return info

    def thread(self, id: int) -> ThreadInfo:
        info = self._threads.get(id)
        if info is None:
            payload = self._mapping.data(id, DataType.THREAD) if id else None
            if payload is None or len(payload) != shd.THREAD.size:
                return ThreadInfo(0, 0, UNKNOWN)
            ident, native, name = shd.THREAD.unpack(payload)
            if not name:
                # Not known yet: the writer may still fill it in.
                return ThreadInfo(ident, native, f"thread {native}")
            info = ThreadInfo(ident, native, self.string(name) or UNKNOWN)
            _keep(self._threads, id, info)
        return info

    def stack(self, id: int) -> tuple[Frame, ...]:
        """Innermost frame first; a damaged stack ends where it is damaged."""
        if id == 0:
            return ()
        stack = self._stacks.get(id)
        if stack is None:
            frames: list[Frame] = []
            node = self._mapping.node(id)
            while node is not None and len(frames) < DEEPEST:
                parent, code, lasti, depth = node
                frame = self._frame(code, lasti)
                if frame is not None:
                    frames.append(frame)
                node = self._mapping.node(parent) if parent else None
                if node is not None and node[3] >= depth:
                    break
            stack = tuple(frames)
            if stack:
                _keep(self._stacks, id, stack)
        return stack

    def _frame(self, code_id: int, lasti: int) -> Frame | None:
        key = (code_id, lasti)
        frame = self._frames.get(key)
        if frame is None:
            code = self._code(code_id)
            if code is None:
                return None
            file, function, first_line, table = code
            at = position_at(table, first_line, lasti)
            line = first_line if at.line is None else at.line
            columns = (at.end_line, at.column, at.end_column)
            frame = Frame(file, max(line, 1), function, *columns, lasti)
            _keep(self._frames, key, frame)
        return frame

    def _code(self, id: int) -> Code | None:
        code = self._codes.get(id)
        if code is None:
            payload = self._mapping.data(id, DataType.CODE)
            if payload is None or len(payload) < shd.CODE.size:
                return None
            file, function, first_line, size = shd.CODE.unpack_from(payload)
            table = payload[shd.CODE.size : shd.CODE.size + size]
            names = (self.string(file) or UNKNOWN, self.string(function) or UNKNOWN)
            code = (*names, first_line, table)
            _keep(self._codes, id, code)
        return code


def _keep(cache: dict[K, V], key: K, value: V) -> None:
    """Remembers one more; starts over rather than grow without bound."""
    if len(cache) >= _KEPT:
        cache.clear()
    cache[key] = value
