"""`watch`, `demo`, `doctor`, and what holds for all commands."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import click
import pytest
import safehandle_tui

import safehandle_debug

Run = Callable[..., subprocess.CompletedProcess[str]]
PROJECT = Path(__file__).resolve().parents[2]


def python(program: str, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", program],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_the_library_does_not_load_the_command(environment: dict[str, str]) -> None:
    done = python("import safehandle_debug, sys; print('click' in sys.modules)", environment)

    assert done.stdout == "False\n"


def test_the_command_does_not_load_the_screen(environment: dict[str, str]) -> None:
    program = (
        "import safehandle_debug.cli, sys;"
        " print([m for m in ('textual', 'safehandle_tui', 'pytest') if m in sys.modules])"
    )

    assert python(program, environment).stdout == "[]\n"


@pytest.mark.parametrize("name", ["run", "report", "list", "watch", "demo", "doctor"])
def test_each_command_explains_itself(command: Run, name: str) -> None:
    done = command(name, "--help")

    assert done.returncode == 0
    assert done.stdout.startswith(f"Usage: safehandle {name}")


@pytest.mark.parametrize("arguments", [["none"], ["report", "--none"], ["list", "--format=xml"]])
def test_bad_usage_is_exit_code_2(command: Run, arguments: list[str]) -> None:
    done = command(*arguments)

    assert done.returncode == 2
    assert "Traceback" not in done.stderr


def test_watch_without_the_extra_says_how_to_install_it(
    environment: dict[str, str], tmp_path: Path
) -> None:
    for module in (click, safehandle_debug, safehandle_tui):
        folder = Path(module.__path__[0])
        (tmp_path / folder.name).symlink_to(folder)
    line = [sys.executable, "-S", "-P", "-m", "safehandle_debug", "watch"]

    done = subprocess.run(
        line,
        env=environment | {"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 2
    assert "pip install 'safehandle-debug[tui]'" in done.stderr
    assert done.stderr.count("\n") == 1


def test_watch_without_a_terminal_says_what_to_use(command: Run) -> None:
    pytest.importorskip("textual")

    done = command("watch")

    assert done.returncode == 2
    assert "needs a terminal" in done.stderr


def test_doctor_finds_this_environment_well(command: Run) -> None:
    done = command("doctor")

    assert done.returncode == 0, done.stdout
    assert done.stdout.endswith("Recording works here.\n")


def test_doctor_finds_a_bad_variable(command: Run, environment: dict[str, str]) -> None:
    done = command("doctor", env=environment | {"SAFEHANDLE_DEBUG": "ful"})

    assert done.returncode == 1
    assert "bad  SAFEHANDLE_DEBUG: unknown level 'ful'" in done.stdout


def test_doctor_finds_a_bad_folder(command: Run, root: Path) -> None:
    root.mkdir()
    root.chmod(0o777)

    done = command("doctor")

    assert done.returncode == 1
    assert "can be written by others" in done.stdout


@pytest.mark.slow
@pytest.mark.skipif(not (PROJECT / "samples").is_dir(), reason="needs a checkout")
def test_the_demo_without_a_terminal_reports_the_gateways_leak(command: Run, root: Path) -> None:
    done = command("demo", "--requests=300", stdin=subprocess.DEVNULL)

    assert done.returncode == 0, done.stderr
    assert "leak" in done.stdout
    assert "gateway.py" in done.stdout
    assert len(list(root.iterdir())) == 1


def test_the_demo_outside_a_checkout_says_so(environment: dict[str, str], tmp_path: Path) -> None:
    program = (
        "import safehandle_debug, sys; safehandle_debug.__file__ = '/none/safehandle_debug/x.py';"
        f" import os; os.chdir({os.fspath(tmp_path)!r});"
        " from safehandle_debug.cli import main; main(['demo'])"
    )

    done = python(program, environment)

    assert done.returncode == 2
    assert "checkout" in done.stderr
