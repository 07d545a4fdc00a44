"""The line table decoder against CPython's own."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from types import CodeType, FrameType, ModuleType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from safehandle_debug.recording.linetable import NOWHERE, Position, position_at

MODULES = [
    "argparse",
    "ast",
    "asyncio.base_events",
    "collections",
    "dataclasses",
    "difflib",
    "email.message",
    "functools",
    "http.client",
    "inspect",
    "logging",
    "os",
    "pathlib",
    "shutil",
    "statistics",
    "subprocess",
    "tarfile",
    "tempfile",
    "textwrap",
    "threading",
    "tokenize",
    "typing",
    "xml.dom.minidom",
    "zipfile",
]


def codes_of(module: ModuleType) -> Iterator[CodeType]:
    """The module's code object and all those within it."""
    assert module.__loader__ is not None
    code = module.__loader__.get_code(module.__name__)  # type: ignore[attr-defined]
    waiting = [code]
    while waiting:
        code = waiting.pop()
        yield code
        waiting += [const for const in code.co_consts if isinstance(const, CodeType)]


@pytest.mark.parametrize("name", MODULES)
def test_agrees_with_co_positions(name: str) -> None:
    """Each instruction of the standard library is where CPython says it is."""
    checked = 0
    for code in codes_of(importlib.import_module(name)):
        table = code.co_linetable
        for unit, expected in enumerate(code.co_positions()):
            found = position_at(table, code.co_firstlineno, 2 * unit)
            assert found == Position(*expected), (code.co_qualname, unit)
            checked += 1
    assert checked > 500


def test_means_f_lasti() -> None:
    """The offset of a frame's instruction gives the frame's line."""

    def lines() -> list[tuple[int, int]]:
        frame: FrameType = sys._getframe()
        found = []
        found.append((at(frame), frame.f_lineno))
        found.append(
            (at(frame), frame.f_lineno),
        )
        found.extend((at(frame), frame.f_lineno) for _ in range(1))
        return found

    def at(frame: FrameType) -> int:
        code = frame.f_code
        line = position_at(code.co_linetable, code.co_firstlineno, frame.f_lasti).line
        assert line is not None
        return line

    found = lines()
    assert len({line for line, _ in found}) == 3
    assert [line for line, _ in found] == [line for _, line in found]


def test_beyond_the_table_is_nowhere() -> None:
    """An offset past the last instruction, or before the first, has no line."""
    code = test_beyond_the_table_is_nowhere.__code__
    for lasti in (len(code.co_code), 1 << 31, -2):
        assert position_at(code.co_linetable, code.co_firstlineno, lasti) == NOWHERE


@given(st.binary(max_size=200), st.integers(-5, 10_000), st.integers(0, 1000))
def test_garbage_is_no_error(table: bytes, first_line: int, lasti: int) -> None:
    """A damaged table gives some position or none, never an error."""
    found = position_at(table, first_line, lasti)
    assert all(each is None or isinstance(each, int) for each in found)


def test_without_columns() -> None:
    """`-X no_debug_ranges` leaves lines; a missing position leaves nothing."""
    same_line_no_columns = bytes([0x80 | 13 << 3 | 1, 0b10])  # two units, line + 1
    assert position_at(same_line_no_columns, 10, 2) == Position(11, 11, None, None)
    no_position = bytes([0x80 | 15 << 3])
    assert position_at(no_position, 10, 0) == NOWHERE
