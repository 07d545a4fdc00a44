"""Fixture of the finalization programs."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from support_programs import Run, run_program


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., Run]:
    """Runs a program of its own: run(source, *args, level=..., env=...).

    It can import `holding`: `both(value)` makes a native handle and one whose
    Python hook leaves `value` in `Run.released`."""

    def start(source: str, *args: str, **options: object) -> Run:
        return run_program(source, tmp_path / "program", *args, **options)  # type: ignore[arg-type]

    return start


LAST_LOOK = """
#include <fcntl.h>
#include <stdio.h>

int looked_at[64];
int looked_at_count;

/* A preloaded library is initialised first, so this runs last of all. */
__attribute__((destructor)) static void look(void)
{
    int open = 0;
    for (int i = 0; i < looked_at_count; i++)
        open += fcntl(looked_at[i], F_GETFD) != -1;
    if (looked_at_count > 0)
        dprintf(1, "looked at %d descriptors, %d open\\n", looked_at_count, open);
}
"""


@pytest.fixture(scope="session")
def last_look(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Environment that makes a program say, as the very last thing, how many of
    the descriptors in `looked_at` are still open."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("needs a C compiler")
    folder = tmp_path_factory.mktemp("last_look")
    (folder / "look.c").write_text(LAST_LOOK)
    library = folder / "look.so"
    command = [compiler, "-shared", "-fPIC", "-o", str(library), str(folder / "look.c")]
    subprocess.run(command, check=True)
    return {"LD_PRELOAD": str(library)}
