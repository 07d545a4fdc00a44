"""Fixtures of the handle types' tests."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from support_programs import Run, run_program


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., Run]:
    """Runs a program of its own: run(source, *args, level=..., env=...)."""

    def start(source: str, *args: str, **options: object) -> Run:
        return run_program(source, tmp_path / "program", *args, **options)  # type: ignore[arg-type]

    return start
