"""Real programs of this environment, started with SAFEHANDLE_DEBUG in various words."""

from __future__ import annotations

import os
import subprocess
import sys
import venv
from collections.abc import Callable
from pathlib import Path

import pytest

import safehandle_debug

Launch = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Where the launched programs keep their sessions; does not exist yet."""
    return tmp_path / "sessions"


@pytest.fixture
def environment(root: Path) -> dict[str, str]:
    """This environment without our variables, but for the place of sessions."""
    clean = {
        name: value for name, value in os.environ.items() if not name.startswith("SAFEHANDLE")
    }
    return clean | {"SAFEHANDLE_DEBUG_DIR": str(root)}


@pytest.fixture
def launch(environment: dict[str, str], tmp_path: Path) -> Launch:
    """launch(*arguments, value=None, **variables) runs this Python to its end.

    `value` is SAFEHANDLE_DEBUG's; a variable given as None is unset.
    """

    def run(
        *arguments: str,
        value: str | None = None,
        python: str = sys.executable,
        **variables: str | None,
    ) -> subprocess.CompletedProcess[str]:
        env = environment | {name: text for name, text in variables.items() if text is not None}
        for name, text in variables.items():
            if text is None:
                env.pop(name, None)
        if value is not None:
            env["SAFEHANDLE_DEBUG"] = value
        return subprocess.run(
            [python, *arguments],
            env=env,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    return run


@pytest.fixture
def recordings(root: Path) -> Callable[[], list[Path]]:
    """All recordings below the place of sessions."""
    return lambda: sorted(root.glob("*/*.shd"))


@pytest.fixture
def hooked_python(tmp_path: Path) -> Path:
    """A Python of its own, in a virtual environment with our start-up hook."""
    folder = tmp_path / "venv"
    venv.EnvBuilder(symlinks=False, with_pip=False).create(folder)
    (site,) = folder.glob("lib/python*/site-packages")
    package = Path(safehandle_debug.__file__).resolve().parent
    # Read before the hook: `site` goes by name.
    (site / "a_paths.pth").write_text(f"{package.parent}\n")
    hook = package.parent / "safehandle_debug.pth"  # where a wheel puts it
    if not hook.is_file():
        hook = package / "activate" / hook.name
    (site / hook.name).write_text(hook.read_text())
    return folder / "bin" / "python"
