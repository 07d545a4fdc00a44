"""What pyproject.toml says is what lies on the disk; modules say what they offer."""

from __future__ import annotations

import ast
import importlib
import pathlib
import re
import tomllib
from typing import Any

import pytest
from support_house import PACKAGES, ROOT, modules

LONGEST_FILE = 800  # lines
LEFT_OVER = re.compile(r"\b(TO" + r"DO|FIX" + r"ME|XX" + r"X)\b")


def pyproject() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


def packages_on_disk() -> set[str]:
    return {
        ".".join([package, *path.parent.relative_to(folder).parts])
        for package, folder in PACKAGES.items()
        for path in folder.rglob("__init__.py")
    }


def test_every_package_is_installed() -> None:
    assert set(pyproject()["tool"]["setuptools"]["packages"]) == packages_on_disk()


def test_every_folder_of_modules_is_a_package() -> None:
    """A folder without `__init__.py` would be left out of the wheel in silence."""
    folders = {
        ".".join([package, *path.parent.relative_to(folder).parts])
        for package, folder in PACKAGES.items()
        for path in folder.rglob("*.py")
    }
    assert folders == packages_on_disk()


def test_every_package_is_typed() -> None:
    assert [name for name, folder in PACKAGES.items() if not (folder / "py.typed").exists()] == []


def with_all() -> list[str]:
    """The modules that say what they offer."""
    return [name for name, path in modules().items() if "__all__" in path.read_text()]


def by_ruff(name: str) -> tuple[int, str]:
    """Sorts as ruff's RUF022 does: constants, classes, the rest."""
    if name.isupper():
        return 0, name
    return (1 if name[0].isupper() else 2), name


def offered(path: pathlib.Path) -> set[str]:
    """Names that a module re-exports (`X as X`) or defines as a public class or function."""
    names: set[str] = set()
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef):
            names.add(node.name)
        if isinstance(node, ast.ImportFrom):
            names |= {alias.name for alias in node.names if alias.asname == alias.name}
    return {name for name in names if not name.startswith("_")}


def test_packages_say_what_they_offer() -> None:
    """A package that re-exports anything has an `__all__`."""
    silent = [
        name
        for name, path in modules().items()
        if path.name == "__init__.py" and offered(path) and name not in with_all()
    ]
    assert silent == []


@pytest.mark.parametrize("name", with_all())
def test_all_is_sorted_and_complete(name: str) -> None:
    """`__all__` names everything public, each once, in order, and nothing else."""
    module = importlib.import_module(name)
    assert module.__all__ == sorted(set(module.__all__), key=by_ruff)
    assert [entry for entry in module.__all__ if not hasattr(module, entry)] == []
    assert offered(modules()[name]) - set(module.__all__) == set()


def sources() -> list[str]:
    suffixes = (".py", ".pyi", ".c", ".h", ".tcss", ".md", ".toml")
    folders = [*PACKAGES.values(), *(ROOT / name for name in ("tests", "samples", "benchmarks"))]
    return sorted(
        str(path.relative_to(ROOT))
        for folder in folders
        for path in folder.rglob("*")
        if path.suffix in suffixes
    )


def test_files_stay_short() -> None:
    lengths = {name: (ROOT / name).read_text().count("\n") for name in sources()}
    assert {name: lines for name, lines in lengths.items() if lines > LONGEST_FILE} == {}


def test_nothing_is_left_over() -> None:
    """A doubt is an issue or a sentence that says why, not a note to oneself."""
    assert [name for name in sources() if LEFT_OVER.search((ROOT / name).read_text())] == []
