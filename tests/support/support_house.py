"""Where things are in the checkout, and how its programs are started."""

from __future__ import annotations

import os
import pathlib
import subprocess
import sys
from collections.abc import Mapping, Sequence

__all__ = ["PACKAGES", "ROOT", "modules", "run"]

ROOT = pathlib.Path(__file__).parents[2]

# Import package -> its folder.
PACKAGES = {
    "safehandle_debug": ROOT / "safehandle_debug",
    "safehandle_tui": ROOT / "tui/safehandle_tui",
    "pytest_safehandle": ROOT / "plugins/pytest_safehandle",
}

TIMEOUT_S = 120.0


def modules() -> dict[str, pathlib.Path]:
    """Our modules on disk, packages included: dotted name -> file, sorted."""
    found = {}
    for package, folder in PACKAGES.items():
        for path in folder.rglob("*.py"):
            parts = [package, *path.relative_to(folder).with_suffix("").parts]
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return dict(sorted(found.items()))


def run(
    command: Sequence[str | os.PathLike[str]],
    *,
    cwd: pathlib.Path,
    env: Mapping[str, str] | None = None,
    timeout: float = TIMEOUT_S,
) -> subprocess.CompletedProcess[str]:
    """Runs a command without a terminal and returns what it said.

    `env` is added to the environment; our own Python's folder comes first in
    PATH, so that `python` and `safehandle` are those under test.
    """
    path = f"{pathlib.Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    environment = {**os.environ, "PATH": path, "NO_COLOR": "1", "COLUMNS": "100", **(env or {})}
    return subprocess.run(
        command,
        cwd=cwd,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=timeout,
        check=False,
    )
