"""The command and the programs it looks at, all as real processes."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

Run = Callable[..., subprocess.CompletedProcess[str]]

LEAK = """
import safehandle_debug
handles = []
def keep():
    handles.append(safehandle_debug.SafeFileHandle.open("/dev/null"))
def main():
    keep()
main()
"""
CLEAN = """
import safehandle_debug
def main():
    with safehandle_debug.SafeFileHandle.open("/dev/null"):
        pass
main()
"""
ABANDON = """
import safehandle_debug
def main():
    safehandle_debug.SafeFileHandle.open("/dev/null")
main()
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Where sessions are kept; does not exist yet."""
    return tmp_path / "sessions"


@pytest.fixture
def environment(root: Path) -> dict[str, str]:
    """This environment without variables that change what we print or record."""
    ours = ("SAFEHANDLE", "NO_COLOR", "TERM", "COLUMNS")
    clean = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    return clean | {"SAFEHANDLE_DEBUG_DIR": str(root)}


@pytest.fixture
def command(environment: dict[str, str], tmp_path: Path) -> Run:
    """command(*arguments, **options of subprocess.run) runs `safehandle` to its end."""

    def run(*arguments: str, **options: object) -> subprocess.CompletedProcess[str]:
        settings: dict[str, object] = {
            "env": environment,
            "cwd": tmp_path,
            "capture_output": True,
            "text": True,
            "timeout": 120,
        }
        settings |= options
        return subprocess.run([sys.executable, "-m", "safehandle_debug", *arguments], **settings)  # type: ignore[call-overload,no-any-return]

    return run


@pytest.fixture
def program(tmp_path: Path) -> Callable[[str], Path]:
    """program(text) writes a script into the working directory."""
    return lambda text: _write(tmp_path / "app.py", text)


def _write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


@pytest.fixture
def recorded(
    environment: dict[str, str], program: Callable[[str], Path], tmp_path: Path, root: Path
) -> Callable[..., Path]:
    """recorded(text, value="full") runs a script under watch; returns its session."""

    def run(text: str, value: str = "full") -> Path:
        subprocess.run(
            [sys.executable, program(text)],
            env=environment | {"SAFEHANDLE_DEBUG": value},
            cwd=tmp_path,
            check=False,
            timeout=120,
        )
        return max(root.iterdir())

    return run


@pytest.fixture
def leak(recorded: Callable[..., Path]) -> Path:
    """The session of a program that ended with a handle open."""
    return recorded(LEAK)


@pytest.fixture
def clean(recorded: Callable[..., Path]) -> Path:
    """The session of a program that did nothing wrong."""
    return recorded(CLEAN)


@pytest.fixture
def abandoned(recorded: Callable[..., Path]) -> Path:
    """The session of a program that left a handle to the finalizer."""
    return recorded(ABANDON)


@pytest.fixture
def leaking() -> str:
    """A program that ends with a handle open, acquired in line 5."""
    return LEAK
