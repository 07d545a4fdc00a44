"""Where recordings are looked for, and what a target means."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from support_recording import RecordingBuilder

from safehandle_debug.recording import RecordingError, Session, resolve, root, sessions
from safehandle_debug.session import create_session

OLDER = "20260101T000000.000000-10"
NEWER = "20260102T000000.000000-20"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of sessions, of this test alone."""
    monkeypatch.setenv("SAFEHANDLE_DEBUG_DIR", str(tmp_path))
    return tmp_path


def record(session: Path, name: str = "100-5.shd") -> Path:
    session.mkdir(mode=0o700, exist_ok=True)
    return RecordingBuilder().write(session / name)


def test_root_by_environment(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The variable, else the runtime folder, else the temporary one."""
    assert root() == folder
    monkeypatch.delenv("SAFEHANDLE_DEBUG_DIR")
    runtime = folder / "runtime"
    runtime.mkdir(mode=0o700)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(runtime))
    assert root() == runtime / "safehandle"
    monkeypatch.delenv("XDG_RUNTIME_DIR")
    assert root().name == f"safehandle-{os.geteuid()}"


def test_it_is_read_where_it_is_written(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A runtime folder that nothing is written into hides no recording.

    After su the variable may name another user's."""
    monkeypatch.delenv("SAFEHANDLE_DEBUG_DIR")
    monkeypatch.setenv("TMPDIR", str(folder))
    runtime = folder / "runtime"
    runtime.mkdir()
    runtime.chmod(0o777)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(runtime))
    session = Path(create_session())
    path = record(session)
    assert session.parent == folder / f"safehandle-{os.geteuid()}" == root()
    assert resolve(None) == [path]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give folders away")
def test_runtime_folder_of_another_user(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Root that kept a user's environment does not look into the user's folder."""
    monkeypatch.delenv("SAFEHANDLE_DEBUG_DIR")
    runtime = folder / "runtime"
    runtime.mkdir(mode=0o700)
    os.chown(runtime, 12345, -1)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(runtime))
    assert runtime not in root().parents


def test_sessions_newest_first(folder: Path) -> None:
    """Only folders named as sessions, newest first."""
    for name in (OLDER, NEWER, "notes", "20260101-1"):
        (folder / name).mkdir(mode=0o700)
    (folder / "20260103T000000.000000-1").touch()
    assert [session.name for session in sessions()] == [NEWER, OLDER]


def test_no_sessions(folder: Path) -> None:
    """No folder, no sessions, and the way to make one."""
    assert sessions(folder / "none") == []
    with pytest.raises(RecordingError, match=r"Run: SAFEHANDLE_DEBUG=full python app\.py"):
        resolve(None)


def test_links_and_folders_others_can_write_are_left_out(folder: Path) -> None:
    """Nobody else can have put a recording there."""
    (folder / "real").mkdir()
    (folder / OLDER).symlink_to("real")
    (folder / NEWER).mkdir()
    (folder / NEWER).chmod(0o777)
    assert sessions() == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_folders_of_others_are_left_out(folder: Path) -> None:
    """A session of another user is not ours."""
    record(folder / OLDER)
    os.chown(folder / OLDER, 12345, -1)
    assert sessions() == []


def test_recordings_oldest_first(folder: Path) -> None:
    """By start, then by the part; links and other files are left out."""
    session = folder / OLDER
    names = ["9-100.shd", "100-200.shd", "100-200-2.shd", "100-200-10.shd", "7-1000.shd"]
    for name in reversed(names):
        record(session, name)
    (session / "8-1.shd").symlink_to("9-100.shd")
    (session / "notes.txt").touch()
    assert [path.name for path in Session(session).recordings()] == names


def test_resolve_newest_with_recordings(folder: Path) -> None:
    """Without a target: the newest session that has any."""
    path = record(folder / OLDER)
    (folder / NEWER).mkdir(mode=0o700)
    assert resolve(None) == [path]


def test_resolve_pid(folder: Path) -> None:
    """A pid names the newest process of that number, all its parts."""
    record(folder / OLDER, "100-1.shd")
    record(folder / NEWER, "100-5.shd")
    parts = [record(folder / NEWER, "100-9.shd"), record(folder / NEWER, "100-9-2.shd")]
    record(folder / NEWER, "101-10.shd")
    assert resolve("100") == parts
    with pytest.raises(RecordingError, match="no recording of process 999"):
        resolve("999")


def test_resolve_paths(folder: Path) -> None:
    """A recording, a session folder, a session's name."""
    path = record(folder / OLDER)
    assert resolve(str(path)) == [path]
    assert resolve(str(folder / OLDER)) == [path]
    assert resolve(OLDER) == [path]


@pytest.mark.parametrize("target", ["nonsense", "/nowhere/x.shd", "", "-3", "9" * 400, "a\0b"])
def test_resolve_nonsense(target: str) -> None:
    """One sentence for whatever is not there."""
    with pytest.raises(RecordingError) as caught:
        resolve(target)
    assert "\n" not in str(caught.value)


def test_resolve_empty_folder(folder: Path) -> None:
    """A folder without recordings is named."""
    (folder / OLDER).mkdir(mode=0o700)
    with pytest.raises(RecordingError, match=OLDER):
        resolve(str(folder / OLDER))


def test_folder_of_sessions(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The folder that SAFEHANDLE_DEBUG_DIR named is a target: its newest session."""
    other = folder / "other"
    other.mkdir()
    record(other / OLDER)
    newest = record(other / NEWER)
    assert resolve(str(other)) == [newest]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_what_may_not_be_read_is_said(tmp_path: Path) -> None:
    """A folder of somebody else's is not an empty one."""
    folder = tmp_path / "private"
    folder.mkdir(mode=0o700)
    above = folder.parent
    while above != above.parent:
        if not above.stat().st_mode & 0o001:
            above.chmod(0o711)  # so that only the folder itself is closed
        above = above.parent
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        said = "nothing"
        try:
            os.setresuid(65534, 65534, 65534)
            resolve(str(folder))
        except RecordingError as error:
            said = str(error)
        finally:
            os.write(write, said.encode())
            os._exit(0)
    os.close(write)
    with open(read) as file:
        assert f"{folder} may not be read: it belongs to root" in file.read()
    os.waitpid(child, 0)
    with pytest.raises(RecordingError, match="there is no recording in"):
        resolve(str(folder))
