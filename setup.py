"""Builds the C core and the reader's index, and installs the start-up hook.

The rest of the configuration is in pyproject.toml.  The hook is a `.pth` file
beside the packages: `site` runs it in every program of the environment, and
its two lines import something of ours only when SAFEHANDLE_DEBUG is set.
"""

from __future__ import annotations

import pathlib
import shutil
from typing import Any

from setuptools import Extension, setup
from setuptools.command.build_py import build_py
from setuptools.command.editable_wheel import editable_wheel

CORE = pathlib.Path("safehandle_debug/_core")
INDEX = pathlib.Path("safehandle_debug/ledger/_index")
FLAGS = ["-std=gnu11", "-Wall", "-Wextra", "-fvisibility=hidden", "-fno-plt"]
HOOK = pathlib.Path("safehandle_debug/activate/safehandle_debug.pth")


class BuildWithHook(build_py):
    """Puts the start-up hook at the root of the wheel."""

    def run(self) -> None:
        super().run()
        if not self.editable_mode:
            shutil.copy(HOOK, pathlib.Path(self.build_lib) / HOOK.name)


class EditableWithHook(editable_wheel):
    """Puts the start-up hook into an editable install's wheel too."""

    def _select_strategy(self, *args: Any, **kwargs: Any) -> Any:
        strategy = super()._select_strategy(*args, **kwargs)

        class WithHook:
            def __call__(self, wheel: Any, files: Any, mapping: Any) -> None:
                strategy(wheel, files, mapping)
                wheel.writestr(HOOK.name, HOOK.read_text())

            def __enter__(self) -> WithHook:
                strategy.__enter__()
                return self

            def __exit__(self, *exc_info: Any) -> None:
                strategy.__exit__(*exc_info)

        return WithHook()


setup(
    ext_modules=[
        Extension(
            "safehandle_debug._native",
            sources=sorted(str(path) for path in CORE.rglob("*.c")),
            depends=sorted(str(path) for path in CORE.rglob("*.h")),
            include_dirs=[str(CORE)],
            extra_compile_args=FLAGS,
        ),
        Extension(
            "safehandle_debug.ledger._index",
            sources=sorted(str(path) for path in INDEX.glob("*.c")),
            depends=[*map(str, INDEX.glob("*.h")), str(CORE / "recording/format.h")],
            include_dirs=[str(INDEX), str(CORE)],
            extra_compile_args=FLAGS,
        ),
    ],
    cmdclass={"build_py": BuildWithHook, "editable_wheel": EditableWithHook},
)
