"""Ctrl-C at any moment leaves complete files, or none: of every command that writes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from textwrap import dedent

import pytest
from support_house import run

from safehandle_debug.cli.export import new_folder
from safehandle_debug.cli.output import replacing

EVENTS = 60_000

PROGRAM = """
import sys
from safehandle_debug import SafeFileHandle

KEPT = [SafeFileHandle.open("/dev/null") for _ in range(3)]
for _ in range(int(sys.argv[1])):
    with SafeFileHandle.open("/dev/zero"):
        pass
"""

COMMANDS = {
    "report": ["report"],
    "report-json": ["report", "--format=json"],
    "report-html": ["report", "--format=html"],
    "report-markdown": ["report", "--format=markdown"],
    "report-sarif": ["report", "--format=sarif"],
    "snapshot": ["snapshot"],
    "holders": ["holders"],
    "holders-dot": ["holders", "--format=dot"],
    "export-perfetto": ["export", "--format=perfetto"],
}
OLD = "what was there before\n"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where a program ran whose recording takes a while to read."""
    folder = tmp_path_factory.mktemp("interrupted")
    (folder / "app.py").write_text(PROGRAM)
    env = {"SAFEHANDLE_DEBUG": "full,fds=off,size=64M", "SAFEHANDLE_DEBUG_DIR": str(folder / "s")}
    command = [sys.executable, "app.py", str(EVENTS // 2)]
    assert run(command, cwd=folder, env=env).returncode == 0
    return folder


def reads_recording(pid: int) -> bool:
    """True once a process has mapped a recording."""
    try:
        return ".shd" in Path(f"/proc/{pid}/maps").read_text()
    except OSError:
        return False


def interrupted(folder: Path, command: list[str], target: str, *, writing: bool) -> int:
    """Runs a command to where it reads, or writes, and sends it a Ctrl-C; its exit code."""
    before = set(os.listdir(folder))
    until = time.monotonic() + 60
    with subprocess.Popen(
        [sys.executable, "-m", "safehandle_debug", *command, "--output", target],
        cwd=folder,
        env=os.environ | {"SAFEHANDLE_DEBUG_DIR": str(folder / "s")},
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        while process.poll() is None and time.monotonic() < until:
            begun = set(os.listdir(folder)) - before if writing else reads_recording(process.pid)
            if begun:
                break
            os.sched_yield()
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=120)
    assert "Traceback" not in said
    return process.returncode


@pytest.mark.parametrize("name", COMMANDS)
def test_a_file_that_was_there_stays_or_is_replaced_whole(folder: Path, name: str) -> None:
    before = sorted(os.listdir(folder))
    output = folder / "out"
    output.write_text(OLD)
    try:
        code = interrupted(folder, COMMANDS[name], "out", writing=False)
        # Having read, it may have written all of it before it was told.
        assert (code == 130) == (output.read_bytes() == OLD.encode())
        assert sorted(os.listdir(folder)) == sorted([*before, "out"])
    finally:
        output.unlink()


@pytest.mark.parametrize("form", ["parquet", "csv", "perfetto"])
def test_an_export_that_is_cut_leaves_nothing(folder: Path, form: str) -> None:
    if form == "parquet":
        pytest.importorskip("pyarrow.parquet")
    before = sorted(os.listdir(folder))
    code = interrupted(folder, ["export", f"--format={form}"], "cut", writing=True)
    assert code == 130
    assert sorted(os.listdir(folder)) == before


def test_what_is_not_interrupted_is_written(folder: Path) -> None:
    """The commands above do write what they are asked for."""
    for name, command in COMMANDS.items():
        done = run(
            [sys.executable, "-m", "safehandle_debug", *command, "--output", name],
            cwd=folder,
            env={"SAFEHANDLE_DEBUG_DIR": str(folder / "s")},
        )
        assert done.returncode in (0, 1), done.stderr
        assert (folder / name).stat().st_size > 0
        (folder / name).unlink()


class Stop(BaseException):
    """Comes at the worst moment."""


def stop_at_half(path: Path) -> None:
    path.write_text("half")
    raise Stop


def test_half_a_file_is_never_there(tmp_path: Path) -> None:
    (tmp_path / "old").write_text(OLD)
    for name in ("old", "new"):
        with pytest.raises(Stop), replacing(str(tmp_path / name)) as part:
            stop_at_half(Path(part))
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("old", OLD)]


def test_half_a_folder_is_never_there(tmp_path: Path) -> None:
    with pytest.raises(Stop), new_folder(str(tmp_path / "new")) as part:
        stop_at_half(part / "events.csv")
    assert list(tmp_path.iterdir()) == []


def test_a_snapshot_of_handles_is_dumped_whole_or_not_at_all(tmp_path: Path) -> None:
    """tracemalloc's own dump() would leave what it had written."""
    program = """
        import pickle, sys
        from safehandle_debug import tracemalloc_ext as tracemalloc
        tracemalloc.start()
        snapshot = tracemalloc.take_snapshot()
        snapshot.dump("file")
        class Worst:
            def __reduce__(self):
                raise KeyboardInterrupt
        snapshot.worst = Worst()
        try:
            snapshot.dump("file")
        except KeyboardInterrupt:
            print("interrupted")
        print(type(tracemalloc.Snapshot.load("file")).__name__)
    """
    done = run([sys.executable, "-c", dedent(program)], cwd=tmp_path)
    assert done.stdout.split() == ["interrupted", "Snapshot"], done.stderr
    assert os.listdir(tmp_path) == ["file"]
