"""Who loads what, seen in processes of their own.

The rules of who may import whom are import-linter's (pyproject.toml); these
tests look at what is really loaded.
"""

from __future__ import annotations

import ast
import json
import pathlib
import sys
from collections.abc import Iterable

import pytest
from support_house import modules, run

LOADED = """
import sys
before = set(sys.modules)
{}
loaded = sorted(set(sys.modules) - before)
import ast
import json
print(json.dumps(loaded))
"""

# Floors 0 to 3 and what stands beside them; the views may need more.
LIBRARY = [
    name
    for name in modules()
    if name.startswith("safehandle_debug")
    and not name.startswith(("safehandle_debug.cli", "safehandle_debug.__main__"))
]


def loaded_by(statement: str, folder: pathlib.Path) -> list[str]:
    """The modules that a statement loads in a fresh process."""
    result = run([sys.executable, "-c", LOADED.format(statement)], cwd=folder)
    assert result.returncode == 0, result.stderr
    names: list[str] = json.loads(result.stdout)
    return names


def foreign(names: Iterable[str]) -> set[str]:
    """Top-level modules that are neither ours nor the standard library's."""
    tops = {name.partition(".")[0] for name in names}
    return tops - set(sys.stdlib_module_names) - {"safehandle_debug"}


def test_the_library_loads_only_the_standard_library(tmp_path: pathlib.Path) -> None:
    assert foreign(loaded_by("import safehandle_debug", tmp_path)) == set()


def test_the_library_loads_no_floor_above_the_core(tmp_path: pathlib.Path) -> None:
    """A program that only uses handles pays neither for readers nor for views."""
    ours = [
        name
        for name in loaded_by("import safehandle_debug", tmp_path)
        if name.startswith("safehandle_debug.")
    ]
    floors = ("recording", "ledger", "findings", "cli", "activate")
    assert [name for name in ours if name.split(".")[1] in floors] == []


def test_all_of_the_library_needs_only_the_standard_library(tmp_path: pathlib.Path) -> None:
    assert foreign(loaded_by(f"import {', '.join(LIBRARY)}", tmp_path)) == set()


def test_the_screen_is_loaded_when_it_is_asked_for(tmp_path: pathlib.Path) -> None:
    """Otherwise `safehandle report` would wait for textual."""
    names = loaded_by("import safehandle_debug.cli", tmp_path)
    assert [name for name in names if name.startswith(("textual", "safehandle_tui"))] == []


def test_an_unwatched_program_loads_nothing_of_ours(tmp_path: pathlib.Path) -> None:
    """The start-up hook only looks at the environment variable."""
    result = run([sys.executable, "-c", "import sys; print(*sys.modules)"], cwd=tmp_path)
    assert [name for name in result.stdout.split() if name.startswith("safehandle_debug")] == []


def test_a_watched_program_loads_nothing_of_the_views(tmp_path: pathlib.Path) -> None:
    result = run(
        [sys.executable, "-c", "import sys; print(*sys.modules)"],
        cwd=tmp_path,
        env={"SAFEHANDLE_DEBUG": "full", "SAFEHANDLE_DEBUG_DIR": str(tmp_path / "sessions")},
    )
    assert "safehandle_debug._native" in result.stdout.split()
    assert foreign(result.stdout.split()) <= foreign(sys.modules)
    for name in ("ledger", "findings", "cli", "recording"):
        assert f"safehandle_debug.{name}" not in result.stdout.split()


# The options and the names of the hooks are all that a switched-off plugin is.
PROBE = """
import sys

def test_nothing_of_ours_is_here():
    print("loaded:", *sys.modules)
    assert [name for name in sys.modules if name.startswith("safehandle_")] == []
    plugin = {name for name in sys.modules if name.startswith("pytest_safehandle")}
    assert plugin <= {"pytest_safehandle", "pytest_safehandle.plugin", "pytest_safehandle.hooks"}
    assert "pytest_safehandle.plugin" in plugin
"""


@pytest.mark.parametrize("options", [[], ["--no-handles"]])
def test_pytest_loads_nothing_of_ours_until_asked(
    tmp_path: pathlib.Path, options: list[str]
) -> None:
    (tmp_path / "test_probe.py").write_text(PROBE)
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    result = run([sys.executable, "-m", "pytest", "-q", *options], cwd=tmp_path)
    assert result.returncode == 0, result.stdout


def test_pytest_loads_the_library_when_asked(tmp_path: pathlib.Path) -> None:
    """The probe above can fail."""
    (tmp_path / "test_probe.py").write_text(PROBE)
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    result = run([sys.executable, "-m", "pytest", "-q", "--handles"], cwd=tmp_path)
    assert result.returncode == 1, result.stdout
    (loaded,) = [line for line in result.stdout.splitlines() if line.startswith("loaded:")]
    assert "safehandle_debug._native" in loaded.split()


# Who may talk to the core of its own process.  All others see any program,
# their own too, through its recording alone.
TALK_TO_THE_CORE = {
    "safehandle_debug",
    "safehandle_debug.activate.alarm",  # speaks while its own process goes on
    "safehandle_debug.activate.start",
    "safehandle_debug.children",
    "safehandle_debug.cli.doctor",  # says whether this environment can record
    # Who holds what is only known inside the process: it looks at itself.
    "safehandle_debug.findings.holders.roots",
    "safehandle_debug.findings.holders.search",
    "safehandle_debug.findings.holders.told",
    "safehandle_debug.ledger.provenance",  # a handle's own history, asked of itself
    "safehandle_debug.tracemalloc_ext.tracing",  # asks of its own process
    # They judge their own process, as the plugin does.
    "safehandle_debug.testing.check",
    "safehandle_debug.testing.reach",
    "safehandle_debug.testing.reader",
    "safehandle_debug.testing.settling",
}


def imported(path: pathlib.Path) -> set[str]:
    """The dotted names that a module imports, wherever in it."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def test_readers_and_views_do_not_ask_the_core() -> None:
    asking = {
        name
        for name, path in modules().items()
        if any(each.startswith("safehandle_debug._native") for each in imported(path))
    }
    # The plugin asks two questions; native calls and waits are made by the core itself.
    beside = ("pytest_safehandle.", "safehandle_debug.marshal", "safehandle_debug.handles.wait")
    others = {name for name in asking if not name.startswith(beside)}
    assert others == TALK_TO_THE_CORE
