"""The preloaded library that makes calls fail, built once, and what runs under it."""

from __future__ import annotations

import platform
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from support_programs import Run, run_program

SOURCE = Path(__file__).with_name("failing.c")


@pytest.fixture(scope="session")
def failing(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The library that fails calls."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None or platform.libc_ver()[0] != "glibc":
        pytest.skip("needs a C compiler and glibc")
    library = tmp_path_factory.mktemp("failing") / "failing.so"
    options = ["-shared", "-fPIC", "-O1", "-fno-builtin", "-w"]
    subprocess.run([compiler, *options, "-o", str(library), str(SOURCE)], check=True)
    return library


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., Run]:
    """Runs a program of its own: run(source, *args, level=..., env=...)."""

    def start(source: str, *args: str, **options: object) -> Run:
        return run_program(source, tmp_path / "program", *args, **options)  # type: ignore[arg-type]

    return start
