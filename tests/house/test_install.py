"""What a user installs: built, unpacked and used away from the checkout."""

from __future__ import annotations

import pathlib
import shutil
import subprocess
import sys
import tarfile
import venv
import zipfile
from dataclasses import dataclass

import click
import pytest
from support_house import PACKAGES, ROOT, run

pytestmark = pytest.mark.slow

LEAKS = """
import os
from safehandle_debug import SafeFileHandle
KEPT = []
def keep():
    KEPT.append(SafeFileHandle.open(os.devnull, os.O_RDONLY))
keep()
"""


NOT_SOURCE = (
    *(".git", ".venv", ".*_cache", ".hypothesis"),
    *("build", "dist", "*.egg-info", "*.so", "__pycache__"),
)


@dataclass(frozen=True, slots=True)
class Built:
    """The two files that a release consists of."""

    sdist: pathlib.Path
    wheel: pathlib.Path


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """The sdist, built from a copy of the checkout, and the wheel, built from the sdist."""
    folder = tmp_path_factory.mktemp("dist")
    source = folder / "source"
    left_out = shutil.ignore_patterns(*NOT_SOURCE)
    shutil.copytree(ROOT, source, ignore=left_out)
    result = run(
        [sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, source], cwd=folder
    )
    assert result.returncode == 0, result.stdout + result.stderr
    (sdist,) = folder.glob("*.tar.gz")
    (wheel,) = folder.glob("*.whl")
    return Built(sdist, wheel)


@pytest.fixture(scope="module")
def python(built: Built, tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """The Python of a fresh environment with the wheel installed, and click."""
    folder = tmp_path_factory.mktemp("fresh")
    venv.create(folder, with_pip=False)
    executable = folder / "bin/python"
    result = run(
        [
            *(sys.executable, "-m", "pip", "--python", executable),
            *("install", "--quiet", "--no-index", "--no-deps", built.wheel),
        ],
        cwd=folder,
    )
    assert result.returncode == 0, result.stderr
    (site,) = folder.glob("lib/python*/site-packages")
    shutil.copytree(pathlib.Path(click.__file__).parent, site / "click")
    return executable


def files(wheel: pathlib.Path) -> list[pathlib.PurePosixPath]:
    with zipfile.ZipFile(wheel) as archive:
        return [pathlib.PurePosixPath(name) for name in archive.namelist()]


def test_the_wheel_holds_our_packages_and_the_hook_only(built: Built) -> None:
    """No module called `tui`, `plugins` or `tests` gets into anybody's site-packages."""
    tops = {path.parts[0] for path in files(built.wheel)}
    tops = {name for name in tops if not name.endswith(".dist-info")}
    assert tops == {*PACKAGES, "safehandle_debug.pth"}


def test_the_wheel_holds_no_c(built: Built) -> None:
    """None but the header for other extensions."""
    found = files(built.wheel)
    suffixes = {path.suffix for path in found}
    assert suffixes.isdisjoint({".c", ".o"})
    assert [path.name for path in found if path.suffix == ".h"] == ["safehandle_debug.h"]
    assert ".so" in suffixes


def test_the_wheel_holds_what_is_not_python_too(built: Built) -> None:
    names = {path.name for path in files(built.wheel)}
    assert {"py.typed", "_native.pyi", "LICENSE"} <= names
    assert {path.name for path in ROOT.glob("tui/**/*.tcss")} <= names


def test_the_sdist_holds_the_core_and_the_tests(built: Built) -> None:
    with tarfile.open(built.sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    for pattern in ("safehandle_debug/**/*.[ch]", "samples/*", "tests/**/*.py"):
        assert {
            str(path.relative_to(ROOT)) for path in ROOT.glob(pattern) if path.is_file()
        } <= names


def test_only_the_init_function_is_exported(built: Built, tmp_path: pathlib.Path) -> None:
    """A name that leaks out of an extension could clash with another library's."""
    exported = {}
    with zipfile.ZipFile(built.wheel) as archive:
        for name in archive.namelist():
            if name.endswith(".so"):
                listing = subprocess.run(
                    ["nm", "-D", "--defined-only", archive.extract(name, tmp_path)],
                    check=True,
                    capture_output=True,
                    text=True,
                )
                names = [line.split()[-1] for line in listing.stdout.splitlines()]
                exported[name.partition(".")[0]] = names
    assert exported == {
        "safehandle_debug/_native": ["PyInit__native"],
        "safehandle_debug/ledger/_index": ["PyInit__index"],
    }


def test_the_installed_package_is_used(python: pathlib.Path, tmp_path: pathlib.Path) -> None:
    result = run(
        [python, "-c", "import safehandle_debug; print(safehandle_debug.__file__)"], cwd=tmp_path
    )
    assert pathlib.Path(result.stdout.strip()).is_relative_to(python.parents[1]), result.stderr


def test_the_start_up_hook_records_any_program(
    python: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    """With the variable set, a program that never heard of us is reported on."""
    script = tmp_path / "app.py"
    script.write_text(LEAKS)
    env = {"SAFEHANDLE_DEBUG_DIR": str(tmp_path / "sessions")}
    app = run([python, script], cwd=tmp_path, env={**env, "SAFEHANDLE_DEBUG": "full"})
    assert (app.returncode, app.stderr) == (0, "")
    told = run([python.parent / "safehandle", "report"], cwd=tmp_path, env=env)
    assert told.returncode == 1, told.stderr
    assert "app.py:6" in told.stdout.splitlines()[0]


def test_the_start_up_hook_does_nothing_without_the_variable(
    python: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    code = "import sys; print([name for name in sys.modules if 'safehandle' in name])"
    result = run([python, "-c", code], cwd=tmp_path)
    assert (result.stdout, result.stderr) == ("[]\n", "")


def test_without_textual_watch_says_what_to_install(
    python: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    """The screen is an extra; a report needs no terminal library."""
    result = run([python.parent / "safehandle", "watch"], cwd=tmp_path)
    assert result.returncode == 2
    assert "pip install" in result.stderr
    assert "Traceback" not in result.stderr
