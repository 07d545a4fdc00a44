"""A machine that lacks something is told so in one sentence, before anything is built."""

from __future__ import annotations

import importlib.util
import pathlib
import shutil
import sys
import sysconfig
import types

import pytest
from support_house import ROOT, run

SCRIPT = ROOT / ".ci/preflight.py"


@pytest.fixture
def preflight() -> types.ModuleType:
    """The script as a module; it is not part of any package."""
    spec = importlib.util.spec_from_file_location("preflight", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_this_machine_lacks_nothing(preflight: types.ModuleType) -> None:
    assert preflight.missing() is None


def test_an_old_python(preflight: types.ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "version_info", (3, 10, 13, "final", 0))
    assert "3.10: name it with PYTHON=" in preflight.missing()


@pytest.mark.parametrize("module", ["ensurepip", "venv"])
def test_no_virtual_environments(
    preflight: types.ModuleType, monkeypatch: pytest.MonkeyPatch, module: str
) -> None:
    """Debian's python3 without python3-venv."""
    monkeypatch.setitem(sys.modules, module, None)
    assert "install python3-venv" in preflight.missing()


def test_no_compiler(preflight: types.ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CC", "no-such-compiler -O2")
    assert "no C compiler 'no-such-compiler'" in preflight.missing()


def test_no_headers(
    preflight: types.ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path
) -> None:
    monkeypatch.setattr(sysconfig, "get_path", lambda name: str(tmp_path))
    assert "has no Python.h: install python3-dev" in preflight.missing()


def make(tmp_path: pathlib.Path, *arguments: str) -> str:
    """What `make` says on stderr in a copy of the build files, where nothing is built yet."""
    for name in ("Makefile", "pyproject.toml", "setup.py"):
        shutil.copy(ROOT / name, tmp_path)
    for name in (".ci/preflight.py", "safehandle_debug/activate/safehandle_debug.pth"):
        (tmp_path / name).parent.mkdir(parents=True)
        shutil.copy(ROOT / name, tmp_path / name)
    result = run(["make", *arguments], cwd=tmp_path)
    assert result.returncode != 0
    assert "Traceback" not in result.stderr
    assert not (tmp_path / ".venv").exists()
    return result.stderr


def test_make_without_a_compiler(tmp_path: pathlib.Path) -> None:
    error = make(tmp_path, "demo", "CC=no-such-compiler")
    assert error.startswith("make: there is no C compiler 'no-such-compiler'")


def test_make_without_python(tmp_path: pathlib.Path) -> None:
    error = make(tmp_path, "test", "PYTHON=no-such-python")
    assert error.startswith("make: there is no no-such-python: install Python 3.11 or newer")
