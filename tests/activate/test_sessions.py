"""Session folders: where they are, which are safe, which are pruned."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from safehandle_debug import recording, session
from safehandle_debug.activate.prune import prune

NEEDS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
NOBODY = 65534


@pytest.fixture
def dead(root: Path) -> Make:
    return Make(root)


class Make:
    """Makes sessions of processes that are long dead, the oldest first."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.root.mkdir(mode=0o700)
        self.second = 0

    def __call__(self, *, pid: int = 4_194_305, size: int = 0) -> Path:
        self.second += 1
        folder = self.root / session.session_name(self.second * 10**9, pid)
        folder.mkdir(mode=0o700)
        (folder / f"{pid}-1.shd").write_bytes(b"x" * size)
        os.utime(folder, (self.second, self.second))
        return folder


def test_the_root_is_the_chosen_folder_made_absolute(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SAFEHANDLE_DEBUG_DIR", "here")

    assert session.sessions_root() == str(tmp_path / "here")
    assert recording.root().absolute() == tmp_path / "here"


def test_the_root_is_in_the_users_runtime_folder(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("SAFEHANDLE_DEBUG_DIR", raising=False)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))

    assert session.sessions_root() == str(tmp_path / "safehandle")
    assert recording.root() == tmp_path / "safehandle"


def test_without_either_the_root_is_in_the_temp_folder(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("SAFEHANDLE_DEBUG_DIR", raising=False)
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    monkeypatch.setenv("TMPDIR", str(tmp_path))

    assert session.sessions_root() == str(tmp_path / f"safehandle-{os.geteuid()}")


@NEEDS_ROOT
def test_another_users_runtime_folder_is_passed_over(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    runtime = tmp_path / "run"
    runtime.mkdir()
    os.chown(runtime, NOBODY, NOBODY)
    monkeypatch.delenv("SAFEHANDLE_DEBUG_DIR", raising=False)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(runtime))

    assert not session.sessions_root().startswith(str(runtime))


def test_a_session_folder_is_private_and_named_by_time_and_pid(root: Path) -> None:
    first = session.create_session(str(root))
    second = session.create_session(str(root))

    assert [path.name for path in sorted(root.iterdir())] == [
        os.path.basename(first),
        os.path.basename(second),
    ]
    for path in (root, Path(first)):
        assert path.stat().st_mode & 0o777 == 0o700
    assert session.parse_session_name(os.path.basename(first)) == os.getpid()
    assert session.is_session(first)


def test_names_that_are_not_a_sessions_are_told_apart() -> None:
    good = session.session_name(1_700_000_000_123_456_789, 77)

    assert good == "20231114T221320.123456-77"
    assert session.parse_session_name(good) == 77
    for bad in (
        "",
        "x",
        good + "x",
        good[:-3],
        good.replace("T", "t"),
        good.replace(".", ","),
        "\u0663" + good[1:],
    ):
        assert session.parse_session_name(bad) is None, bad


def test_names_that_are_not_a_recordings_are_told_apart() -> None:
    assert session.parse_recording_name("12-34.shd") == (12, 34)
    assert session.parse_recording_name("12-34-2.shd") == (12, 34)
    for bad in (
        "12.shd",
        "12-34",
        "12-34-5-6.shd",
        "a-b.shd",
        "-1-2.shd",
        "12-.shd",
        "\u0661-\u0662.shd",
    ):
        assert session.parse_recording_name(bad) is None, bad


def test_a_second_recording_of_a_process_gets_a_number(tmp_path: Path) -> None:
    names = []
    for _ in range(3):
        path = Path(session.new_recording_path(str(tmp_path), 5, 9))
        path.touch()
        names.append(path.name)

    assert names == ["5-9.shd", "5-9-2.shd", "5-9-3.shd"]


def test_a_dangling_link_is_never_taken_as_a_new_recording(tmp_path: Path) -> None:
    (tmp_path / "5-9.shd").symlink_to(tmp_path / "elsewhere")

    assert session.new_recording_path(str(tmp_path), 5, 9).endswith("5-9-2.shd")


def test_folders_that_others_could_change_are_not_safe(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir(mode=0o700)
    link = tmp_path / "link"
    link.symlink_to(folder)
    file = tmp_path / "file"
    file.touch()
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o770)

    assert session.folder_fault(str(folder)) is None
    assert session.folder_fault(str(link)) == "is a symbolic link"
    assert session.folder_fault(str(file)) == "is not a folder"
    assert session.folder_fault(str(shared)) == "can be written by others (mode 0770)"
    assert "No such file" in str(session.folder_fault(str(tmp_path / "none")))


@NEEDS_ROOT
def test_another_users_folder_is_not_safe_even_for_root(tmp_path: Path) -> None:
    os.chown(tmp_path, NOBODY, NOBODY)

    assert session.folder_fault(str(tmp_path)) == f"belongs to another user (uid {NOBODY})"


def test_a_folder_that_is_not_named_as_a_session_is_not_joined(tmp_path: Path) -> None:
    assert session.folder_fault(str(tmp_path)) is None
    assert not session.is_session(str(tmp_path))


def test_the_start_time_of_a_process_is_the_kernels() -> None:
    fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()

    assert session.start_ticks(os.getpid()) == int(fields[19])
    assert session.start_ticks(4_194_305) is None


def test_the_oldest_dead_sessions_beyond_the_count_go(dead: Make) -> None:
    folders = [dead() for _ in range(5)]

    deleted = prune(str(dead.root), sessions=3)

    assert deleted == [str(path) for path in folders[:2]]
    assert sorted(dead.root.iterdir()) == folders[2:]


def test_the_oldest_dead_sessions_beyond_the_size_go(dead: Make) -> None:
    folders = [dead(size=100_000) for _ in range(4)]

    prune(str(dead.root), size=250_000)

    assert sorted(dead.root.iterdir()) == folders[2:]


def test_a_sparse_recording_counts_as_what_it_allocates(dead: Make) -> None:
    folder = dead()
    with open(next(folder.iterdir()), "r+b") as file:
        file.truncate(2**33)
    dead()

    assert prune(str(dead.root), size=2**20) == []


def test_sessions_with_a_live_process_stay(dead: Make) -> None:
    ticks = session.start_ticks(os.getpid())
    live = dead()
    (live / f"{os.getpid()}-{ticks}.shd").touch()
    os.utime(live, (1, 1))
    other = dead()

    assert prune(str(dead.root), sessions=0) == [str(other)]
    assert live.is_dir()


def test_a_reused_pid_does_not_keep_a_session(dead: Make) -> None:
    ticks = session.start_ticks(os.getpid())
    assert ticks is not None
    folder = dead(pid=os.getpid())
    (folder / f"{os.getpid()}-{ticks + 1}.shd").touch()
    os.utime(folder, (1, 1))

    assert prune(str(dead.root), sessions=0) == [str(folder)]


def test_a_session_stays_while_its_maker_is_about_to_record(dead: Make) -> None:
    mine = dead.root / session.session_name(10**9, os.getpid())
    mine.mkdir()
    os.utime(mine, (1, 1))

    assert prune(str(dead.root), sessions=0) == []


def test_a_session_younger_than_a_minute_stays(dead: Make) -> None:
    young = dead()
    os.utime(young)

    assert prune(str(dead.root), sessions=0) == []
    assert prune(str(dead.root), sessions=0, young_s=0) == [str(young)]


def test_only_recordings_are_deleted(dead: Make) -> None:
    folder = dead()
    (folder / "notes.txt").touch()
    (dead.root / "19700101T000000.000000-1").symlink_to(folder)
    elsewhere = dead.root / "mine"
    elsewhere.mkdir()
    (elsewhere / "1-1.shd").touch()
    os.utime(folder, (1, 1))

    assert prune(str(dead.root), sessions=0) == []
    assert [path.name for path in folder.iterdir()] == ["notes.txt"]
    assert (elsewhere / "1-1.shd").exists()


def test_many_may_prune_and_create_at_once(dead: Make) -> None:
    for _ in range(40):
        dead()
    ready = threading.Barrier(4)

    def work() -> str:
        ready.wait()
        mine = session.create_session(str(dead.root))
        prune(str(dead.root), sessions=4)
        return mine

    with ThreadPoolExecutor(4) as pool:
        made = [future.result() for future in [pool.submit(work) for _ in range(4)]]

    assert len(set(made)) == 4
    assert sorted(str(path) for path in dead.root.iterdir()) == sorted(made)


def test_a_process_that_lives_keeps_its_session(root: Path, dead: Make) -> None:
    child = subprocess.Popen([sys.executable, "-S", "-c", "input()"], stdin=subprocess.PIPE)
    try:
        folder = dead(pid=child.pid)
        (folder / f"{child.pid}-{session.start_ticks(child.pid)}.shd").touch()
        os.utime(folder, (1, 1))
        assert prune(str(root), sessions=0) == []
    finally:
        child.communicate(b"\n")

    assert prune(str(root), sessions=0) == [str(folder)]
