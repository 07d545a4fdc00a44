"""Every case of the conformance list is a test here."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

REQUIRED = [*range(1, 223)]


def _cases() -> dict[int, list[str]]:
    """Names of the tests whose docstring starts with a case's number."""
    cases: dict[int, list[str]] = {}
    for path in Path(__file__).parent.glob("test_*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.FunctionDef) or not node.name.startswith("test_"):
                continue
            match = re.match(r"Case (\d+): ", ast.get_docstring(node) or "")
            if match:
                cases.setdefault(int(match[1]), []).append(node.name)
    return cases


@pytest.mark.parametrize("number", REQUIRED)
def test_every_case_is_tested(number: int) -> None:
    assert _cases().get(number), f"no test says 'Case {number}: '"


def test_no_case_is_unknown() -> None:
    assert set(_cases()) <= set(REQUIRED)
