"""Builds C programs with the part of the watch that stands in libc's place."""

from __future__ import annotations

import pathlib
import platform
import shutil
import subprocess

import pytest

__all__ = ["SOURCES", "WATCH", "compile_c", "needs_interposition"]

WATCH = pathlib.Path(__file__).parents[2] / "safehandle_debug/_core/watch"
SOURCES = [
    WATCH / name for name in ("interpose.c", "objects.c", "originals.c", "slots.c", "dlsym.c")
]

needs_interposition = [
    pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler"),
    pytest.mark.skipif(
        platform.machine() not in {"x86_64", "aarch64"}, reason="needs a known processor"
    ),
]


def compile_c(target: pathlib.Path, *arguments: str | pathlib.Path) -> pathlib.Path:
    command = ["cc", "-std=gnu11", "-O1", "-g", "-Wall", "-fno-optimize-sibling-calls"]
    command += ["-o", target, *arguments]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return target
