"""Fixtures of the conformance cases: a list that the hook of a Probe fills,
and what happens that nobody can catch."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support_programs import Run, run_program


@pytest.fixture
def released() -> list[int]:
    """Values in the order in which their handles were released."""
    return []


@pytest.fixture
def unraisable(monkeypatch: pytest.MonkeyPatch) -> list[BaseException | None]:
    """Exceptions given to sys.unraisablehook during the test."""
    caught: list[BaseException | None] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda args: caught.append(args.exc_value))
    return caught


@pytest.fixture
def no_automatic_gc() -> Iterator[None]:
    """Garbage cycles stay until the test collects them."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


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
