"""How the TUI is entered, and what it takes along."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from safehandle_tui import app as door
from support_screens import Leaky


@pytest.mark.parametrize("target", ["999999999", "no/such/file", "nonsense", "", "-1", "a\0b"])
def test_a_bad_target_is_one_sentence(target: str, capsys: pytest.CaptureFixture[str]) -> None:
    """It says what to name, and the exit status is that of wrong usage."""
    assert door.run([target]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("safehandle watch: ")
    assert err.count("\n") == 1


def test_without_a_terminal(leaky: Leaky, capsys: pytest.CaptureFixture[str]) -> None:
    """It names the command that needs none."""
    assert door.run([str(leaky.folder)]) == 2
    assert "needs a terminal; 'safehandle report'" in capsys.readouterr().err


def test_as_a_module(tmp_path: Path) -> None:
    """`python -m safehandle_tui` is the same door."""
    done = subprocess.run(
        [sys.executable, "-m", "safehandle_tui", str(tmp_path / "none.shd")],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert "none.shd" in done.stderr


def imported(code: str) -> set[str]:
    """Names of the modules that are loaded after the code, in a new process."""
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\nimport sys\nprint(*sys.modules)"],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return set(done.stdout.split())


def test_the_model_needs_no_textual() -> None:
    """All of it can be used, and tested, without a screen."""
    folder = Path(door.__file__).parent / "model"
    modules = [f"safehandle_tui.model.{path.stem}" for path in folder.glob("[a-z]*.py")]
    assert len(modules) > 5
    loaded = imported(f"import {', '.join(modules)}")
    assert set(modules) <= loaded
    assert not {"textual", "rich"} & loaded


def test_the_door_needs_no_textual() -> None:
    """A mistyped target is answered before the screen's code is loaded."""
    assert "textual" not in imported("import safehandle_tui.app as app\napp.run(['none'])")
