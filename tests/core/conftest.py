"""Fixtures of the core's tests."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support_programs import Run, run_program


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., Run]:
    """Runs a program of its own: run(source, *args, level=..., env=...)."""

    def start(source: str, *args: str, **options: object) -> Run:
        return run_program(source, tmp_path / "program", *args, **options)  # type: ignore[arg-type]

    return start


@pytest.fixture
def fast_switching() -> Iterator[None]:
    """Threads take turns after every few instructions."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(interval)
