"""SAFEHANDLE_DEBUG in real programs: what is recorded, and what is said when it cannot be."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from safehandle_debug.activate.prune import KEPT_SESSIONS
from safehandle_debug.recording import open_recording
from safehandle_debug.session import session_name

Launch = Callable[..., subprocess.CompletedProcess[str]]
Recordings = Callable[[], list[Path]]

NEEDS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
NOBODY = 65534
OPEN = "import safehandle_debug; h = safehandle_debug.SafeFileHandle.open('/dev/null'); h.close()"


def one_line(done: subprocess.CompletedProcess[str]) -> str:
    """The one line on stderr of a program that ran on and printed `ran`."""
    assert (done.returncode, done.stdout) == (0, "ran\n"), done.stderr
    assert done.stderr.count("\n") == 1, done.stderr
    assert done.stderr.startswith("safehandle-debug: ")
    return done.stderr


def test_a_program_is_recorded_without_a_change(
    launch: Launch, recordings: Recordings, tmp_path: Path
) -> None:
    done = launch("-c", OPEN, "argument", value="full,frames=8,fds=off")

    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    (path,) = recordings()
    with open_recording(path) as recording:
        assert recording.meta == {
            "argv": [sys.executable, "-c", OPEN, "argument"],
            "executable": sys.executable,
            "cwd": str(tmp_path),
            "python": ".".join(str(part) for part in sys.version_info[:3]),
            "session": str(path.parent),
            "suppressions": None,
            "ask": True,
        }
        assert recording.header.frames == 8
        assert len(list(recording.events())) == 2
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert path.parent.parent.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("value", [None, "", "off", "off,frames=3"])
def test_without_a_level_nothing_is_made(launch: Launch, root: Path, value: str | None) -> None:
    done = launch("-c", "import os; print('SAFEHANDLE_DEBUG_SESSION' in os.environ)", value=value)

    assert (done.returncode, done.stdout, done.stderr) == (0, "False\n", "")
    assert not root.exists()


def test_unset_loads_nothing_of_ours(launch: Launch) -> None:
    done = launch("-c", "import sys; print([m for m in sys.modules if m.startswith('safeh')])")

    assert done.stdout == "[]\n"


@pytest.mark.parametrize("flag", ["-E", "-I"])
def test_the_variable_is_ignored_where_python_ignores_the_environment(
    launch: Launch, root: Path, flag: str
) -> None:
    done = launch(flag, "-c", "print('ran')", value="full")

    assert (done.returncode, done.stdout, done.stderr) == (0, "ran\n", "")
    assert not root.exists()


@pytest.mark.parametrize(
    ("value", "hint"),
    [
        ("ful", "unknown level 'ful': use off, sampled, full or 1"),
        ("full,frame=3", "unknown word 'frame=3'"),
        ("full,frames=many", "use a whole number from 1 to 1000"),
        ("full,on_error=die", "use one of record, warn, raise, abort"),
        ("a\nb\x1b[31m", r"unknown level 'a\nb\x1b[31m'"),
    ],
)
def test_a_bad_value_is_one_line_and_the_program_runs_on(
    launch: Launch, root: Path, value: str, hint: str
) -> None:
    line = one_line(launch("-c", "print('ran')", value=value))

    assert hint in line
    assert line.endswith("the program runs on unwatched\n")
    assert not root.exists()


def test_an_unreadable_suppressions_file_is_one_line_and_recording_goes_on(
    launch: Launch, recordings: Recordings, tmp_path: Path
) -> None:
    line = one_line(launch("-c", "print('ran')", value="full,suppressions=none.txt"))

    assert f"suppressions file {tmp_path}/none.txt cannot be read" in line
    with open_recording(recordings()[0]) as recording:
        assert recording.meta["suppressions"] is None


def test_a_suppressions_file_is_noted_with_its_absolute_path(
    launch: Launch, recordings: Recordings, tmp_path: Path
) -> None:
    (tmp_path / "known.txt").touch()

    launch("-c", "pass", value="full,suppressions=known.txt")

    with open_recording(recordings()[0]) as recording:
        assert recording.meta["suppressions"] == str(tmp_path / "known.txt")


def test_closed_stderr_does_not_matter(launch: Launch, tmp_path: Path) -> None:
    script = f"exec {sys.executable} -c 'print(1)' 2>&-"

    done = launch("-c", script, python="/bin/sh", value="nonsense")

    assert (done.returncode, done.stdout) == (0, "1\n")


def test_the_program_finds_its_world_as_it_would_without_us(launch: Launch) -> None:
    program = (
        "import signal, sys, threading, json; print(json.dumps([sys.argv, sys.path, sys.flags,"
        " [str(signal.getsignal(n)) for n in range(1, 32)], threading.active_count(),"
        " sys.gettrace() is None, sys.getprofile() is None]))"
    )

    plain = launch("-c", program, "a", "b")
    watched = launch("-c", program, "a", "b", value="full")

    assert json.loads(watched.stdout) == json.loads(plain.stdout)


def test_start_up_loads_no_heavy_modules(launch: Launch) -> None:
    program = "import sys; print('\\n'.join(sys.modules))"

    plain = set(launch("-c", program).stdout.split())
    watched = set(launch("-c", program, value="full").stdout.split())

    assert "safehandle_debug.activate.start" in watched
    heavy = {"click", "dataclasses", "inspect", "json", "logging", "subprocess", "tempfile"}
    assert (watched - plain) & (heavy | {"threading", "textual", "pytest"}) == set()
    assert "safehandle_debug.recording" not in watched


def test_a_new_session_prunes_the_oldest(launch: Launch, root: Path) -> None:
    root.mkdir(mode=0o700)
    for number in range(1, 31):
        old = root / session_name(number * 10**9, 4_194_305)
        old.mkdir(mode=0o700)
        (old / "4194305-1.shd").touch()
        os.utime(old, (number, number))

    launch("-c", "pass", value="full")

    names = sorted(path.name for path in root.iterdir())
    assert len(names) == KEPT_SESSIONS
    assert names[0] == session_name(12 * 10**9, 4_194_305)


def test_programs_started_at_once_have_a_session_each(
    environment: dict[str, str], root: Path
) -> None:
    running = [
        subprocess.Popen(
            [sys.executable, "-c", OPEN], env=environment | {"SAFEHANDLE_DEBUG": "full"}
        )
        for _ in range(6)
    ]

    assert [program.wait(timeout=120) for program in running] == [0] * 6
    assert len(list(root.glob("*/*.shd"))) == len(list(root.iterdir())) == 6


def test_a_working_directory_that_is_gone_does_not_matter(
    launch: Launch, recordings: Recordings, tmp_path: Path
) -> None:
    (tmp_path / "gone").mkdir()
    line = f"cd gone && rmdir ../gone && exec {sys.executable} -c 'print(1)'"

    done = launch("-c", line, python="/bin/sh", value="full")

    assert (done.returncode, done.stdout, done.stderr) == (0, "1\n", "")
    with open_recording(recordings()[0]) as recording:
        assert recording.meta["cwd"] == ""


def test_arguments_of_any_bytes_are_noted(launch: Launch, recordings: Recordings) -> None:
    odd = ["", 'quote " and \\', "new\nline", "\x01\x7f", "é", "😀", "\udcff\udc80"]

    done = launch("-c", "pass", *odd, value="full")

    assert (done.returncode, done.stderr) == (0, "")
    with open_recording(recordings()[0]) as recording:
        assert recording.meta["argv"][3:] == odd


class TestFolders:
    """Where recordings cannot go, the program runs on with one line."""

    def test_a_file_in_the_place_of_the_folder(self, launch: Launch, root: Path) -> None:
        root.touch()

        assert "cannot make the folder" in one_line(launch("-c", "print('ran')", value="full"))

    def test_a_symbolic_link(self, launch: Launch, root: Path, tmp_path: Path) -> None:
        (tmp_path / "real").mkdir(mode=0o700)
        root.symlink_to(tmp_path / "real")

        assert "is a symbolic link" in one_line(launch("-c", "print('ran')", value="full"))
        assert list((tmp_path / "real").iterdir()) == []

    def test_a_folder_that_others_may_write(self, launch: Launch, root: Path) -> None:
        root.mkdir()
        root.chmod(0o777)

        assert "can be written by others" in one_line(launch("-c", "print('ran')", value="full"))
        assert list(root.iterdir()) == []

    @NEEDS_ROOT
    def test_another_users_folder(self, launch: Launch, root: Path) -> None:
        root.mkdir(mode=0o700)
        os.chown(root, NOBODY, NOBODY)

        assert "belongs to another user" in one_line(launch("-c", "print('ran')", value="full"))
        assert list(root.iterdir()) == []

    def test_a_folder_that_cannot_be_made(self, launch: Launch) -> None:
        done = launch("-c", "print('ran')", value="full", SAFEHANDLE_DEBUG_DIR="/proc/none")

        assert "cannot make the folder /proc/none" in one_line(done)

    @NEEDS_ROOT
    @pytest.mark.parametrize("size", ["4k", "64k"])
    def test_a_full_disk(self, launch: Launch, root: Path, size: str) -> None:
        root.mkdir(mode=0o700)
        mount = ["mount", "-t", "tmpfs", "-o", f"size={size},mode=700", "shd-test", str(root)]
        if subprocess.run(mount, capture_output=True, check=False).returncode != 0:
            pytest.skip("no file system can be mounted here")
        try:
            done = launch("-c", f"{OPEN}; print('ran')", value="full")
        finally:
            subprocess.run(["umount", str(root)], check=True)

        assert (done.returncode, done.stdout) == (0, "ran\n"), done.stderr
        assert done.stderr.count("\n") <= 1
        assert "Traceback" not in done.stderr


class TestSetId:
    """A process with more rights than its starter does not do as the starter's variable says."""

    @NEEDS_ROOT
    @pytest.mark.parametrize(("bit", "owner"), [(0o2000, (0, NOBODY)), (0, (0, 0))])
    def test_a_set_group_id_program(
        self, hooked_python: Path, launch: Launch, root: Path, bit: int, owner: tuple[int, int]
    ) -> None:
        os.chown(hooked_python, *owner)
        hooked_python.chmod(0o755 | bit)

        done = launch(
            "-c",
            "import os; print(os.getegid() == os.getgid())",
            python=str(hooked_python),
            value="full",
        )
        if bit and done.stdout == "True\n":
            pytest.skip("set-id bits are ignored on this file system")

        assert (done.returncode, done.stderr) == (0, "")
        assert root.exists() is (bit == 0)

    def test_the_kernels_word_is_taken(self, launch: Launch) -> None:
        program = "from safehandle_debug.activate.start import _is_set_id; print(_is_set_id())"

        assert launch("-c", program).stdout == "False\n"


class TestVenv:
    """A virtual environment, where `site` runs each hook twice."""

    def test_one_recording(
        self, hooked_python: Path, launch: Launch, recordings: Recordings
    ) -> None:
        done = launch("-c", OPEN, python=str(hooked_python), value="full")

        assert (done.returncode, done.stderr) == (0, "")
        assert len(recordings()) == 1

    def test_one_line(self, hooked_python: Path, launch: Launch) -> None:
        one_line(launch("-c", "print('ran')", python=str(hooked_python), value="nonsense"))

    def test_a_core_that_cannot_be_loaded_is_one_line(
        self, hooked_python: Path, launch: Launch
    ) -> None:
        (paths,) = hooked_python.parent.parent.glob("lib/python*/site-packages/a_paths.pth")
        broken = paths.with_name("safehandle_debug")
        paths.unlink()
        broken.mkdir()
        (broken / "__init__.py").write_text("raise ImportError('built for another Python')")

        done = launch("-c", "print('ran')", python=str(hooked_python), value="full")

        assert "cannot be loaded (built for another Python)" in one_line(done)


@pytest.mark.parametrize(
    "arguments",
    [("-m", "safehandle_debug", "list"), ("-Bm", "safehandle_debug", "list")],
)
def test_our_own_commands_are_not_recorded(
    launch: Launch, root: Path, arguments: tuple[str, ...]
) -> None:
    done = launch(*arguments, value="full")

    assert "Traceback" not in done.stderr
    assert not root.exists()
