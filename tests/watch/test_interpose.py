"""libc's functions are replaced in every loaded object, and in no other way."""

from __future__ import annotations

import os
import pathlib
import subprocess
from dataclasses import dataclass

import pytest
from support_interpose import SOURCES, WATCH, compile_c, needs_interposition

HERE = pathlib.Path(__file__).parent / "interpose"

SANITIZE = ["-fsanitize=address,undefined", "-fno-sanitize-recover=undefined"]

# Ways to call libc: a lazily bound linkage table, one that is bound at once
# and read-only, none at all.
LINKING = {
    "lazy": ["-Wl,-z,lazy"],
    "now": ["-Wl,-z,now", "-Wl,-z,relro"],
    "without-plt": ["-fno-plt", "-Wl,-z,now", "-Wl,-z,relro"],
    "not-relro": ["-Wl,-z,lazy", "-Wl,-z,norelro"],
}

pytestmark = needs_interposition


@dataclass(frozen=True)
class Programs:
    folder: pathlib.Path

    def run(
        self, program: str, scenario: str, *libraries: str, preload: str | None = None
    ) -> None:
        environment = dict(os.environ, ASAN_OPTIONS="detect_leaks=0:verify_asan_link_order=0")
        environment["LD_PRELOAD"] = "" if preload is None else str(self.folder / preload)
        done = subprocess.run(
            [self.folder / program, scenario, *(self.folder / name for name in libraries)],
            env=environment,
            capture_output=True,
            text=True,
            timeout=150,
        )
        assert (done.stdout, done.stderr, done.returncode) == ("", "", 0)


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Programs:
    folder = tmp_path_factory.mktemp("interpose")
    sources = [HERE / "main.c", *SOURCES]
    rest = [f"-I{WATCH}", "-pthread", "-ldl"]
    compile_c(folder / "plain", *sources, *rest)
    compile_c(folder / "fixed", "-fno-pie", "-no-pie", *sources, *rest)
    compile_c(folder / "sanitized", *SANITIZE, *sources, *rest)
    for name, options in LINKING.items():
        compile_c(folder / f"{name}.so", "-shared", "-fPIC", *options, HERE / "caller.c", "-ldl")
    for name in ("own", "preloaded"):
        compile_c(folder / f"{name}.so", "-shared", "-fPIC", HERE / f"{name}.c", "-ldl")
    return Programs(folder)


BUILDS = ["plain", "fixed", "sanitized"]


@pytest.mark.parametrize("linking", LINKING)
@pytest.mark.parametrize("build", BUILDS)
def test_loaded_before(programs: Programs, build: str, linking: str) -> None:
    programs.run(build, "before", f"{linking}.so")


@pytest.mark.parametrize("linking", LINKING)
@pytest.mark.parametrize("build", BUILDS)
def test_loaded_after(programs: Programs, build: str, linking: str) -> None:
    programs.run(build, "after", f"{linking}.so", "now.so" if linking != "now" else "lazy.so")


@pytest.mark.parametrize("linking", LINKING)
@pytest.mark.parametrize("build", BUILDS)
def test_loaded_again_and_again(programs: Programs, build: str, linking: str) -> None:
    other = "now.so" if linking != "now" else "lazy.so"
    programs.run(build, "churn", f"{linking}.so", other)


@pytest.mark.parametrize("linking", LINKING)
@pytest.mark.parametrize("build", BUILDS)
def test_pages_are_as_read_only_as_before(programs: Programs, build: str, linking: str) -> None:
    programs.run(build, "protections", f"{linking}.so")


@pytest.mark.parametrize("build", BUILDS)
def test_functions_looked_up(programs: Programs, build: str) -> None:
    programs.run(build, "lookups", "lazy.so")


@pytest.mark.parametrize("build", ["plain", "fixed"])
def test_functions_of_the_same_name(programs: Programs, build: str) -> None:
    """The sanitizer does not allow libraries that look into themselves first."""
    programs.run(build, "own", "own.so")


@pytest.mark.parametrize("build", ["plain", "fixed"])
def test_a_preloaded_tool_is_still_called(programs: Programs, build: str) -> None:
    programs.run(build, "preloaded", "lazy.so", preload="preloaded.so")


@pytest.mark.parametrize("build", BUILDS)
def test_other_tools_keep_their_slots(programs: Programs, build: str) -> None:
    programs.run(build, "tools", "lazy.so")


@pytest.mark.parametrize("build", BUILDS)
def test_threads_that_load_patch_ask_and_fork(programs: Programs, build: str) -> None:
    programs.run(build, "threads", "lazy.so", "now.so")


@pytest.mark.parametrize("build", BUILDS)
def test_children_can_load_what_they_like(programs: Programs, build: str) -> None:
    programs.run(build, "forks", "lazy.so", "now.so")
