"""A descriptor's name below /proc and /dev/fd, and the folder that lists it: what is in
quarantine is not there, as it would not be unwatched."""

from __future__ import annotations

from pathlib import Path

import pytest
from support_interpose import needs_interposition
from support_loads import WATCHED, run_watched, said
from support_programs import run_program

pytestmark = needs_interposition

ASKING = """
import ctypes, errno, os, shutil, stat, sys

libc = ctypes.CDLL(None, use_errno=True)
room = ctypes.create_string_buffer(4096)
AT_FDCWD = -100


def c(name, *arguments):
    ctypes.set_errno(0)
    function = getattr(libc, name)
    function.restype = ctypes.c_ssize_t
    if function(*arguments) in (-1, 0) and ctypes.get_errno():
        raise OSError(ctypes.get_errno(), name)
    return "done"


ASK = {
    "stat": os.stat,
    "lstat": os.lstat,
    "readlink": os.readlink,
    "access": lambda path: os.access(path, os.F_OK),
    "effective": lambda path: os.access(path, os.F_OK, effective_ids=True),
    "exists": os.path.exists,
    "islink": os.path.islink,
    "open": lambda path: os.close(os.open(path, os.O_RDONLY)),
    "O_PATH": lambda path: os.close(os.open(path, os.O_PATH)),
    "made": lambda path: os.close(os.open(path, os.O_WRONLY | os.O_CREAT)),
    "file": lambda path: open(path).close(),
    "listdir": lambda path: os.listdir(path) and None,
    "chdir": os.chdir,
    "chmod": lambda path: os.chmod(path, 0o600),
    "chown": lambda path: os.chown(path, -1, -1),
    "utime": os.utime,
    "truncate": lambda path: os.truncate(path, 0),
    "statvfs": os.statvfs,
    "pathconf": lambda path: os.pathconf(path, "PC_NAME_MAX"),
    "listxattr": os.listxattr,
    "getxattr": lambda path: os.getxattr(path, "user.none"),
    "setxattr": lambda path: os.setxattr(path, "user.none", b""),
    "removexattr": lambda path: os.removexattr(path, "user.none"),
    "link": lambda path: os.link(path, "other", follow_symlinks=True),
    "scandir": lambda path: next(os.scandir(path)),
    "copy": lambda path: shutil.copyfile(path, "other"),
    "fopen": lambda path: c("fopen", path.encode(), b"r"),
    "opendir": lambda path: c("opendir", path.encode()),
    "realpath": lambda path: c("realpath", path.encode(), room),
    "syscall open": lambda path: c("syscall", OPENAT, AT_FDCWD, path.encode(), 0),
    "syscall stat": lambda path: c("syscall", STAT, AT_FDCWD, path.encode(), room, 0),
    "syscall readlink": lambda path: c("syscall", READLINK, AT_FDCWD, path.encode(), room, 99),
    "syscall access": lambda path: c("syscall", ACCESS, AT_FDCWD, path.encode(), 0),
}
OPENAT, STAT, READLINK, ACCESS = {
    "x86_64": (257, 262, 267, 269),
    "aarch64": (56, 79, 78, 48),
}[os.uname().machine]


def ask(path):
    for name, how in ASK.items():
        try:
            answer = how(path)
        except OSError as error:
            answer = errno.errorcode[error.errno]
        print(name, answer)


fd = os.open("/etc/passwd", os.O_RDONLY)
os.close(fd)
"""

SPELLINGS = [
    "/proc/self/fd/{fd}",
    "/proc/self/fdinfo/{fd}",
    "/proc/thread-self/fd/{fd}",
    "/proc/{pid}/fd/{fd}",
    "/proc/{pid}/task/{pid}/fd/{fd}",
    "/dev/fd/{fd}",
    "/proc//self/fd//{fd}",
    "/proc/self/fd/{fd}/below",
]

HELD = """
import os, stat

with open("held", "w+") as file:
    file.write("text")
    file.flush()
    path = f"/proc/self/fd/{file.fileno()}"
    print(os.path.exists(path), os.path.basename(os.readlink(path)))
    for name in (path, f"/dev/fd/{file.fileno()}", f"/proc/self/fdinfo/{file.fileno()}"):
        with open(name) as again:
            print(again.read()[:4], os.stat(path).st_size, os.access(path, os.R_OK))
    os.truncate(path, 2)
    print(os.fstat(file.fileno()).st_size)
print(os.path.exists(path))
nameless = os.open(".", os.O_TMPFILE | os.O_WRONLY)
here = os.open(".", os.O_RDONLY)
os.link(f"/proc/self/fd/{nameless}", "named", src_dir_fd=here, follow_symlinks=True)
os.close(nameless)
os.close(here)
print(os.path.exists("named"))
"""

RELATIVE = """
import errno, os

here = os.open(".", os.O_RDONLY)
fd = os.open("/etc/passwd", os.O_RDONLY)
folder = os.open("/proc/self/fd", os.O_RDONLY)
os.close(fd)


def ask(how):
    try:
        return how()
    except OSError as error:
        return errno.errorcode[error.errno]


print(ask(lambda: os.stat(str(fd), dir_fd=folder)))
print(ask(lambda: os.readlink(str(fd), dir_fd=folder)))
print(ask(lambda: os.open(str(fd), os.O_RDONLY, dir_fd=folder)))
print(os.access(str(fd), os.F_OK, dir_fd=folder))
os.chdir("/proc/self/fd")
print(ask(lambda: os.stat(str(fd))), os.path.lexists(str(fd)), os.path.exists(str(here)))
os.fchdir(here)
open(str(fd), "w").close()  # a file of that name elsewhere is a file
print(os.listdir(".") == [str(fd)], os.path.getsize(str(fd)))
print(os.stat(str(fd), dir_fd=here).st_size)
os.remove(str(fd))
os.close(here)
os.close(folder)
"""

LISTED_MEANWHILE = """
import os

fds = [os.open("/etc/passwd", os.O_RDONLY) for _ in range(5)]
entries = os.scandir("/proc/self/fd")  # opened, and not read yet
for fd in fds:
    os.close(fd)
names = sorted(int(entry.name) for entry in entries)
print([fd for fd in fds if fd in names], len(names))
"""

SEEN_FROM_OUTSIDE = """
import os, subprocess

fd = os.open("/etc/passwd", os.O_RDONLY)
os.close(fd)
subprocess.run(["readlink", f"/proc/{os.getpid()}/fd/{fd}"], check=True)
"""


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_the_name_of_a_closed_number(spelling: str, tmp_path: Path) -> None:
    """Whatever is asked of it, the answer is the one of an unwatched program."""
    path = spelling.format(fd="{fd}", pid="{os.getpid()}")
    run = run_watched(ASKING + f'ask(f"{path}")\n', tmp_path)
    assert said(run) == []
    assert "stat ENOENT" in run.lines
    assert "done" not in run.out


def test_the_name_of_an_open_one(tmp_path: Path) -> None:
    run = run_watched(HELD, tmp_path)
    assert run.lines[0] == "True held"
    assert said(run) == []


def test_a_name_in_the_folder_of_names(tmp_path: Path) -> None:
    run = run_watched(RELATIVE, tmp_path)
    assert run.lines[:4] == ["ENOENT", "ENOENT", "ENOENT", "False"]
    assert said(run) == []


def test_what_is_closed_while_it_is_listed(tmp_path: Path) -> None:
    run = run_watched(LISTED_MEANWHILE, tmp_path)
    assert run.out.startswith("[] ")
    assert said(run) == []


def test_the_quarantine_stands_there(tmp_path: Path) -> None:
    """Another process sees it: only so the tests above say something."""
    run = run_program(SEEN_FROM_OUTSIDE, tmp_path, level=WATCHED).ok()
    assert "/memfd:shd-quarantine" in run.out


WITHOUT_LIBC = """
import ctypes, os, platform, re

libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long
EXECVE, GETDENTS = {"x86_64": (59, 217), "aarch64": (221, 61)}[platform.machine()]
room = ctypes.create_string_buffer(65536)


def syscall(number, *arguments):
    ctypes.set_errno(0)
    return libc.syscall(number, *arguments), ctypes.get_errno()


closed = [os.open(os.devnull, os.O_RDONLY) for _ in range(20)]
folder = os.open("/proc/self/fd", os.O_RDONLY)
for fd in closed:
    os.close(fd)
name = f"/proc/self/fd/{closed[5]}"
for call in (os.execv, lambda path, argv: os.execve(path, argv, {}), os.execvp):
    try:
        call(name, ["none"])
    except OSError as error:
        print(error.errno)
argv = (ctypes.c_char_p * 2)(b"none", None)
print(syscall(EXECVE, name.encode(), argv, argv))
print(syscall(GETDENTS, folder, room, len(room))[0] > 0)
listed = {int(name) for name in re.findall(rb"[^0-9]([0-9]+)\\0", room.raw)}
print(sorted(listed & {folder, *closed}) == [folder])
print(syscall(GETDENTS, closed[3], room, len(room)))
os.close(folder)
"""


@pytest.mark.parametrize("level", [None, "full,fds=on,quarantine=0", "full,fds=on"])
def test_without_libc(tmp_path: Path, level: str | None) -> None:
    """Programs by name, and the list by the system call."""
    run = run_program(WITHOUT_LIBC, tmp_path, level=level, options=["-W", "ignore"]).ok()
    assert run.lines == [*(["2"] * 3), "(-1, 2)", "True", "True", "(-1, 9)"]
