"""The pictures of the docs show the screen as it is."""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
from support_house import ROOT

DOCS = ROOT / "docs"
TRIES = 4


@pytest.fixture(scope="module")
def screenshot() -> ModuleType:
    """What draws them, as a module."""
    spec = importlib.util.spec_from_file_location("screenshot", DOCS / "screenshot.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
def test_the_pictures_are_current() -> None:
    """Drawn anew they are the same, but for numbers: else `make screenshot`.

    They show programs that run: on a busy machine, these may have come less
    far, but hardly each time."""
    command = [sys.executable, str(DOCS / "screenshot.py"), "--check"]
    for _ in range(TRIES):
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        if done.returncode == 0:
            return
    pytest.fail(f"make screenshot draws them anew:\n{done.stdout}{done.stderr}")


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("Suspects", "Findings"),  # where one is
        ("Filter", "Search"),  # a key below
        (r"VERDICT|OLDEST|OPENED|kept|opened|why|its|at|cache|samples", "something"),  # much
    ],
)
def test_an_old_picture_is_told(
    screenshot: ModuleType, tmp_path: Path, before: str, after: str
) -> None:
    """The comparison sees what a change of the screen would change."""
    old = tmp_path / "watch.svg"
    shutil.copy(DOCS / "watch.svg", old)
    assert screenshot.differences(old, DOCS / "watch.svg") == []
    changed = re.sub(before, after, old.read_text())
    assert changed != old.read_text()
    old.write_text(changed)
    assert screenshot.differences(old, DOCS / "watch.svg")


def test_each_picture_is_shown_somewhere(screenshot: ModuleType) -> None:
    """And each that is shown is drawn."""
    pages = [ROOT / "README.md", *DOCS.glob("*.md")]
    shown = {
        Path(name).name
        for page in pages
        for name in re.findall(r"\]\(([^)]+\.svg)\)", page.read_text())
    }
    assert shown == {path.name for path in DOCS.glob("*.svg")}
    assert shown == {f"{name}.svg" for name in (*screenshot.PICTURES, "alarm")}
