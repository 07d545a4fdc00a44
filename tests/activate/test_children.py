"""Children join their parent's session, however they are made."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from safehandle_debug.recording import open_recording

Launch = Callable[..., subprocess.CompletedProcess[str]]
Recordings = Callable[[], list[Path]]

SUBPROCESS = """
import subprocess, sys
subprocess.run([sys.executable, "-c", "print('child')"], check=True)
"""
FORK = """
import os
pid = os.fork()
if pid == 0:
    import safehandle_debug
    safehandle_debug.SafeFileHandle.open("/dev/null").close()
    print("child", flush=True)
    os._exit(0)
os.waitpid(pid, 0)
"""
MULTIPROCESSING = """
import multiprocessing, safehandle_debug
def work():
    safehandle_debug.SafeFileHandle.open("/dev/null").close()
    print("child", flush=True)
if __name__ == "__main__":
    child = multiprocessing.get_context("{method}").Process(target=work)
    child.start()
    child.join()
"""
EXEC = """
import os, sys
os.execv(sys.executable, [sys.executable, "-c", "print('child')"])
"""


def pids(paths: list[Path]) -> set[int]:
    return {int(path.name.partition("-")[0]) for path in paths}


def run(launch: Launch, tmp_path: Path, program: str, value: str = "full") -> None:
    script = tmp_path / "program.py"
    script.write_text(program)
    done = launch(str(script), value=value)
    assert (done.returncode, done.stdout, done.stderr) == (0, "child\n", "")


@pytest.mark.parametrize(
    ("program", "least"),
    [
        pytest.param(SUBPROCESS, 2, id="subprocess"),
        pytest.param(FORK, 2, id="fork"),
        pytest.param(MULTIPROCESSING.format(method="fork"), 2, id="multiprocessing-fork"),
        # These two start helpers of their own beside the child.
        pytest.param(MULTIPROCESSING.format(method="spawn"), 2, id="multiprocessing-spawn"),
        pytest.param(
            MULTIPROCESSING.format(method="forkserver"), 3, id="multiprocessing-forkserver"
        ),
    ],
)
def test_children_join_with_recordings_of_their_own(
    launch: Launch,
    recordings: Recordings,
    root: Path,
    tmp_path: Path,
    program: str,
    least: int,
) -> None:
    run(launch, tmp_path, program)

    assert len(list(root.iterdir())) == 1
    assert len(pids(recordings())) >= least
    for path in recordings():
        with open_recording(path) as recording:
            assert recording.header.pid == int(path.name.partition("-")[0])


def test_a_process_that_replaces_itself_starts_another_recording(
    launch: Launch, recordings: Recordings, root: Path, tmp_path: Path
) -> None:
    run(launch, tmp_path, EXEC)

    names = sorted((path.name for path in recordings()), key=len)
    assert len(list(root.iterdir())) == 1
    assert len(names) == 2
    assert names[1] == names[0].replace(".shd", "-2.shd")


@pytest.mark.parametrize(
    "program",
    [
        pytest.param(SUBPROCESS, id="subprocess"),
        pytest.param(FORK, id="fork"),
        pytest.param(MULTIPROCESSING.format(method="spawn"), id="multiprocessing-spawn"),
    ],
)
def test_with_children_off_only_the_first_process_is_recorded(
    launch: Launch, recordings: Recordings, root: Path, tmp_path: Path, program: str
) -> None:
    run(launch, tmp_path, program, "full,children=off")

    assert len(list(root.iterdir())) == 1
    assert len(pids(recordings())) == 1


def test_a_session_that_is_gone_is_replaced_by_a_new_one(
    launch: Launch, recordings: Recordings, root: Path
) -> None:
    gone = root / "20200101T000000.000000-1"

    done = launch("-c", "pass", value="full", SAFEHANDLE_DEBUG_SESSION=str(gone))

    assert (done.returncode, done.stderr) == (0, "")
    assert len(recordings()) == 1
    assert not gone.exists()


@pytest.mark.parametrize("kind", ["symlink", "foreign name", "shared", "relative"])
def test_a_session_that_is_not_ours_is_not_joined(
    launch: Launch, recordings: Recordings, tmp_path: Path, kind: str
) -> None:
    name = "folder" if kind == "foreign name" else "20200101T000000.000000-1"
    real = tmp_path / "elsewhere" / name
    real.mkdir(parents=True, mode=0o700)
    target = real
    if kind == "symlink":
        target = tmp_path / name
        target.symlink_to(real)
    elif kind == "shared":
        real.chmod(0o777)
    elif kind == "relative":
        target = real.relative_to(tmp_path)

    done = launch("-c", "pass", value="full", SAFEHANDLE_DEBUG_SESSION=str(target))

    assert (done.returncode, done.stderr) == (0, "")
    assert list(real.iterdir()) == []
    assert len(recordings()) == 1


def test_a_good_session_is_joined(launch: Launch, root: Path, tmp_path: Path) -> None:
    session = tmp_path / "20200101T000000.000000-1"
    session.mkdir(mode=0o700)

    done = launch("-c", "pass", value="full", SAFEHANDLE_DEBUG_SESSION=str(session))

    assert (done.returncode, done.stderr) == (0, "")
    assert len(list(session.iterdir())) == 1
    assert not root.exists()
