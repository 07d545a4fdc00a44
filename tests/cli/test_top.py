"""`safehandle top`: the table of suspects on stdout."""

from __future__ import annotations

import json
import os
import pty
import select
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

Run = Callable[..., subprocess.CompletedProcess[str]]

PROGRAM = """
import os, sys
import safehandle_debug
kept = []
def keep():
    kept.append(safehandle_debug.SafeFileHandle.open("/etc/hosts"))
def use():
    safehandle_debug.SafeFileHandle.open("/etc/hosts").close()
for _ in range(12):
    keep()
    use()
print("ready", flush=True)
sys.stdin.read()
os._exit(0)
"""


@pytest.fixture
def program(tmp_path: Path, environment: dict[str, str]) -> object:
    """A process that keeps twelve files open until its stdin ends."""
    script = tmp_path / "service.py"
    script.write_text(PROGRAM)
    process = subprocess.Popen(
        [sys.executable, str(script)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=tmp_path,
        env=environment | {"SAFEHANDLE_DEBUG": "full,fds=off"},
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    yield process
    process.communicate()


def test_where(program: object, command: Run) -> None:
    """The filter language; what it leaves out is counted, and a bad one explained."""
    result = command("top", "--once", "--where", "value<7 site:keep")
    assert result.returncode == 0, result.stderr
    lines = result.stdout.splitlines()
    assert "filter: " in lines[1]
    assert "of 12 handles)" in lines[1]
    told = json.loads(command("top", "--json", "--where", "kind:pipe").stdout)
    assert told["sites"] == []
    (site,) = json.loads(command("top", "--json", "--where", "kind:file").stdout)["sites"]
    assert (site["open"], site["function"]) == (12, "keep")
    bad = command("top", "--where", "age>5")
    assert bad.returncode == 2
    assert "--where:" in bad.stderr
    assert "Traceback" not in bad.stderr


def test_once(program: object, command: Run) -> None:
    """One table, without colours in a pipe."""
    result = command("top", "--once")
    assert result.returncode == 0, result.stderr
    lines = result.stdout.splitlines()
    assert lines[0].startswith("● LIVE  12 handles open; all come from service.py:6 keep")
    assert "VERDICT" in lines[1]
    assert "service.py:6 keep" in lines[2]
    assert " 12 " in lines[2]
    assert "\x1b" not in result.stdout
    assert command("top").stdout.splitlines()[0] == lines[0]


def test_json(program: object, command: Run, tmp_path: Path) -> None:
    """The same numbers for programs."""
    document = json.loads(command("top", "--json").stdout)
    assert document["version"] == 1
    assert document["state"] == "live"
    (site,) = document["sites"]
    assert (site["file"], site["line"]) == (str(tmp_path / "service.py"), 6)
    assert (site["open"], site["opened"], site["closed"]) == (12, 12, 0)
    assert site["verdict"] in ("in use", "cache", "watch", "never closed")
    assert sum(site["survivors_by_birth"]) == 12


def test_inline(program: subprocess.Popen[str], environment: dict[str, str]) -> None:
    """On a terminal it is printed again in place, until the program ends."""
    master, slave = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-m", "safehandle_debug", "top", "--interval", "0.1"],
        stdin=slave,
        stdout=slave,
        env=environment | {"TERM": "xterm"},
    ) as top:
        os.close(slave)
        seen, last = b"", time.monotonic() + 60
        while time.monotonic() < last:
            if select.select([master], [], [], 0.5)[0]:
                try:
                    seen += os.read(master, 65536)
                except OSError:
                    break
            if seen.count(b"VERDICT") >= 2 and program.stdin is not None:
                program.stdin.close()
                program.stdin = None
        assert top.wait(60) == 0
    os.close(master)
    assert b"\x1b[" in seen
    assert b"A\r" in seen
    assert seen.count(b"VERDICT") >= 2


def test_nothing_to_show(command: Run) -> None:
    """One clear sentence."""
    result = command("top", "--once")
    assert result.returncode == 2
    assert result.stderr.count("\n") == 1


def test_choices_that_exclude_each_other(command: Run) -> None:
    """Said before anything is read."""
    result = command("top", "--once", "--json")
    assert result.returncode == 2
    assert "exclude each other" in result.stderr
