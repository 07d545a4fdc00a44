"""`safehandle list` on real recordings."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from safehandle_debug.cli.list import duration

Run = Callable[..., subprocess.CompletedProcess[str]]

WAIT = """
import sys, safehandle_debug
def main():
    global one, two
    one = safehandle_debug.SafeFileHandle.open("/dev/null")
    safehandle_debug.SafeFileHandle.open("/dev/zero").close()
    two = safehandle_debug.SafeFileHandle.open("/dev/null")
    two.dangerous_add_ref()
main()
print(one.handle, two.handle, flush=True)
sys.stdin.readline()
two.dangerous_release()
one.close()
two.close()
"""


@pytest.fixture
def listed(
    command: Run, environment: dict[str, str], program: Callable[[str], Path], tmp_path: Path
) -> Callable[..., tuple[str, list[str], int]]:
    """listed(*arguments) -> (stdout, values, pid) of `list` on a process that runs."""

    def run(*arguments: str) -> tuple[str, list[str], int]:
        with subprocess.Popen(
            [sys.executable, program(WAIT)],
            env=environment | {"SAFEHANDLE_DEBUG": "full,fds=off"},
            cwd=tmp_path,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as running:
            assert running.stdout is not None
            values = running.stdout.readline().split()
            done = command("list", str(running.pid), *arguments)
            running.communicate("\n", timeout=60)
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout, values, running.pid

    return run


def test_open_handles_are_listed(listed: Callable[..., tuple[str, list[str], int]]) -> None:
    output, values, pid = listed()

    heading, *lines = output.splitlines()
    assert " ".join(heading.split()) == "PROCESS HANDLE KIND VALUE AGE REFS SITE DETAIL"
    cells = [line.split() for line in lines]
    assert [cell[:4] for cell in cells] == [
        [str(pid), "#1", "file", values[0]],
        [str(pid), "#3", "file", values[1]],
    ]
    assert [cell[5] for cell in cells] == ["1", "2"]
    assert [cell[6:] for cell in cells] == [
        ["app.py:5", "main", "/dev/null"],
        ["app.py:7", "main", "/dev/null"],
    ]


def test_closed_handles_are_listed_on_demand(
    listed: Callable[..., tuple[str, list[str], int]],
) -> None:
    output, _, _ = listed("--all")

    lines = output.splitlines()[1:]
    assert ["/dev/zero" in line and "closed" in line for line in lines] == [False, True, False]


def test_json_has_the_acquire_stacks(listed: Callable[..., tuple[str, list[str], int]]) -> None:
    output, values, pid = listed("--format=json")

    told = json.loads(output)
    assert told["version"] == 1
    assert [process["pid"] for process in told["processes"]] == [pid]
    first, second = told["handles"]
    assert (first["serial"], first["kind"], first["value"]) == (1, "file", int(values[0]))
    assert (first["owner"], first["detail"], first["ending"]) == (
        "SafeFileHandle",
        "/dev/null",
        None,
    )
    assert (first["refs"], second["refs"]) == (1, 2)
    assert [frame["function"] for frame in first["opened"]] == ["main", "<module>"]
    assert first["site"]["line"] == 5
    assert first["age_s"] >= 0


def test_nothing_open_is_a_sentence(command: Run, clean: Path) -> None:
    done = command("list")

    assert done.returncode == 0
    assert done.stdout.startswith("No open handles in process ")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0ms"),
        (0.85, "850ms"),
        (1, "1s"),
        (59.9, "59s"),
        (60, "1m00s"),
        (3599, "59m59s"),
        (7500, "2h05m"),
        (86400 * 4 + 3600, "4d01h"),
    ],
)
def test_ages_are_short(seconds: float, text: str) -> None:
    assert duration(round(seconds * 1e9)) == text


def handles(output: str) -> list[str]:
    """The second column: "#1", ..."""
    return [line.split()[1] for line in output.splitlines()[1:]]


@pytest.mark.parametrize(
    ("where", "serials"),
    [
        ("refs>1", ["#3"]),
        ("!refs>1", ["#1"]),
        ("site:app.py:5", ["#1"]),
        ("kind:file func:main age<1d", ["#1", "#3"]),
        (r"/app.py:[57]\smain/ -id:1", ["#3"]),
    ],
)
def test_handles_are_listed_by_a_filter(
    listed: Callable[..., tuple[str, list[str], int]], where: str, serials: list[str]
) -> None:
    assert handles(listed("--where", where)[0]) == serials


def test_closed_handles_are_filtered_too(
    listed: Callable[..., tuple[str, list[str], int]],
) -> None:
    assert handles(listed("--all", "--where", "state:ended life<1h zero")[0]) == ["#2"]


def test_a_filter_that_nothing_matches_is_a_sentence(command: Run, leak: Path) -> None:
    done = command("list", "--where", "kind:pipe")

    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("No open handles in process ")
    assert done.stdout.endswith(" match 'kind:pipe'.\n")


@pytest.mark.parametrize("name", ["list", "report"])
def test_a_bad_filter_is_a_sentence(command: Run, leak: Path, name: str) -> None:
    done = command(name, "--where", "colour:red")

    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("Error: --where: no field 'colour': use one of kind, detail, ")
    assert done.stderr.count("\n") == 1


def test_what_is_only_counted_is_said(
    command: Run, environment: dict[str, str], program: Callable[[str], Path], tmp_path: Path
) -> None:
    """`arm=` has not come to it yet: there are descriptors, and no stacks of them."""
    with subprocess.Popen(
        [
            sys.executable,
            program("import sys\nfile = open('/dev/null')\nprint(flush=True)\ninput()"),
        ],
        env=environment | {"SAFEHANDLE_DEBUG": "full,arm=10000"},
        cwd=tmp_path,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as running:
        assert running.stdout is not None
        running.stdout.readline()
        done = command("list", str(running.pid))
        running.communicate("\n", timeout=60)
    assert re.search(
        r"^No open handles in .*; [1-9]\d* descriptors? open, counted only\.$", done.stdout
    )
