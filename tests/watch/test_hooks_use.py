"""What uses a descriptor tells the watch of EBADF from a dead number, and only then."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import select
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support_hooks import KEPT_ERRNO, Hooks

X86 = os.uname().machine == "x86_64"
AT_FDCWD = -100
ROOM = ctypes.create_string_buffer(4096)
VECTOR = (ctypes.c_size_t * 2)(ctypes.addressof(ROOM), 8)
ROOT = b"/"
TIME = (ctypes.c_long * 2)(0, 0)
EVENT = ctypes.create_string_buffer(16)
SIZE = ctypes.c_uint(128)
RETURNS_ERROR = (
    "posix_fallocate",
    "posix_fallocate64",
    "posix_fadvise",
    "posix_fadvise64",
    "ttyname_r",
)

# Function, what it is called in reports, arguments after the descriptor.
USES: list[tuple[str, str, tuple[Any, ...]]] = [
    ("read", "read", (ROOM, 8)),
    ("__read", "read", (ROOM, 8)),
    ("__read_chk", "read", (ROOM, 8, 4096)),
    ("readv", "readv", (VECTOR, 1)),
    ("write", "write", (b"x", 1)),
    ("__write", "write", (b"x", 1)),
    ("writev", "writev", (VECTOR, 1)),
    ("pread", "pread", (ROOM, 8, 0)),
    ("pread64", "pread", (ROOM, 8, 0)),
    ("__pread_chk", "pread", (ROOM, 8, 0, 4096)),
    ("__pread64_chk", "pread", (ROOM, 8, 0, 4096)),
    ("pwrite", "pwrite", (b"x", 1, 0)),
    ("pwrite64", "pwrite", (b"x", 1, 0)),
    ("preadv", "preadv", (VECTOR, 1, 0)),
    ("preadv64", "preadv", (VECTOR, 1, 0)),
    ("pwritev", "pwritev", (VECTOR, 1, 0)),
    ("pwritev64", "pwritev", (VECTOR, 1, 0)),
    ("preadv2", "preadv2", (VECTOR, 1, 0, 0)),
    ("preadv64v2", "preadv2", (VECTOR, 1, 0, 0)),
    ("pwritev2", "pwritev2", (VECTOR, 1, 0, 0)),
    ("pwritev64v2", "pwritev2", (VECTOR, 1, 0, 0)),
    ("lseek", "lseek", (0, 0)),
    ("lseek64", "lseek", (0, 0)),
    ("__lseek", "lseek", (0, 0)),
    ("ioctl", "ioctl", (0x541B, ROOM)),
    ("fsync", "fsync", ()),
    ("fdatasync", "fdatasync", ()),
    ("ftruncate", "ftruncate", (1,)),
    ("ftruncate64", "ftruncate", (1,)),
    ("flock", "flock", (fcntl.LOCK_SH | fcntl.LOCK_NB,)),
    ("lockf", "lockf", (3, 1)),
    ("lockf64", "lockf", (3, 1)),
    ("fchmod", "fchmod", (0o600,)),
    ("fchown", "fchown", (-1, -1)),
    ("futimens", "futimens", (None,)),
    ("posix_fallocate", "posix_fallocate", (0, 1)),
    ("posix_fallocate64", "posix_fallocate", (0, 1)),
    ("posix_fadvise", "posix_fadvise", (0, 1, 0)),
    ("posix_fadvise64", "posix_fadvise", (0, 1, 0)),
    ("eventfd_read", "eventfd_read", (ROOM,)),
    ("eventfd_write", "eventfd_write", (1,)),
    ("timerfd_settime", "timerfd_settime", (0, ROOM, None)),
    ("timerfd_gettime", "timerfd_gettime", (ROOM,)),
    ("inotify_add_watch", "inotify_add_watch", (ROOT, 1)),
    ("inotify_rm_watch", "inotify_rm_watch", (1,)),
    ("epoll_wait", "epoll_wait", (ROOM, 1, 0)),
    ("epoll_pwait", "epoll_pwait", (ROOM, 1, 0, None)),
    ("epoll_pwait2", "epoll_pwait2", (ROOM, 1, TIME, None)),
    ("epoll_ctl", "epoll_ctl", (1, 0, EVENT)),
    ("send", "send", (b"x", 1, 0)),
    ("__send", "send", (b"x", 1, 0)),
    ("sendto", "sendto", (b"x", 1, 0, None, 0)),
    ("recv", "recv", (ROOM, 8, 0)),
    ("__recv_chk", "recv", (ROOM, 8, 4096, 0)),
    ("recvfrom", "recvfrom", (ROOM, 8, 0, None, None)),
    ("__recvfrom_chk", "recvfrom", (ROOM, 8, 4096, 0, None, None)),
    ("sendmsg", "sendmsg", (ctypes.create_string_buffer(56), 0)),
    ("recvmsg", "recvmsg", (ctypes.create_string_buffer(56), 0)),
    ("sendmmsg", "sendmmsg", (ctypes.create_string_buffer(64), 1, 0)),
    ("recvmmsg", "recvmmsg", (ctypes.create_string_buffer(64), 1, 0, None)),
    ("accept", "accept", (None, None)),
    ("accept4", "accept4", (None, None, 0)),
    ("shutdown", "shutdown", (2,)),
    ("getsockname", "getsockname", (ROOM, ctypes.byref(SIZE))),
    ("getpeername", "getpeername", (ROOM, ctypes.byref(SIZE))),
    ("getsockopt", "getsockopt", (1, 3, ROOM, ctypes.byref(SIZE))),
    ("setsockopt", "setsockopt", (1, 2, ROOM, 4)),
    ("bind", "bind", (ROOM, 2)),
    ("connect", "connect", (ROOM, 2)),
    ("__connect", "connect", (ROOM, 2)),
    ("listen", "listen", (1,)),
    ("sendfile", "sendfile", (0, None, 1)),
    ("sendfile64", "sendfile", (0, None, 1)),
    ("splice", "splice", (None, 0, None, 1, 0)),
    ("tee", "tee", (0, 1, 0)),
    ("copy_file_range", "copy_file_range", (None, 0, None, 1, 0)),
    ("fstatvfs", "fstatvfs", (ROOM,)),
    ("fstatvfs64", "fstatvfs", (ROOM,)),
    ("fstatfs", "fstatfs", (ROOM,)),
    ("fstatfs64", "fstatfs", (ROOM,)),
    ("fchdir", "fchdir", ()),
    ("mkdirat", "mkdirat", (b"x", 0o700)),
    ("unlinkat", "unlinkat", (b"x", 0)),
    ("readlinkat", "readlinkat", (b"x", ROOM, 8)),
    ("faccessat", "faccessat", (b"x", 0, 0)),
    ("fchmodat", "fchmodat", (b"x", 0o600, 0)),
    ("fchownat", "fchownat", (b"x", -1, -1, 0)),
    ("utimensat", "utimensat", (b"x", None, 0)),
    ("renameat", "renameat", (b"x", AT_FDCWD, b"/nonexistent/y")),
    ("renameat2", "renameat2", (b"x", AT_FDCWD, b"/nonexistent/y", 0)),
    ("linkat", "linkat", (b"x", AT_FDCWD, b"/nonexistent/y", 0)),
    ("mkfifoat", "mkfifoat", (b"x", 0o600)),
    ("mknodat", "mknodat", (b"x", 0o600, 0)),
    ("fpathconf", "fpathconf", (0,)),
    ("openat", "openat", (b"x", os.O_RDONLY)),
    ("fstatat", "fstatat", (b"x", ROOM, 0)),
    ("fstatat64", "fstatat", (b"x", ROOM, 0)),
    ("statx", "statx", (b"x", 0, 0x7FF, ROOM)),
    ("fgetxattr", "fgetxattr", (b"user.x", ROOM, 8)),
    ("fsetxattr", "fsetxattr", (b"user.x", b"x", 1, 0)),
    ("flistxattr", "flistxattr", (ROOM, 8)),
    ("fremovexattr", "fremovexattr", (b"user.x",)),
    ("tcgetattr", "tcgetattr", (ROOM,)),
    ("tcsetattr", "tcsetattr", (0, ROOM)),
    ("tcdrain", "tcdrain", ()),
    ("tcflow", "tcflow", (0,)),
    ("tcflush", "tcflush", (0,)),
    ("tcsendbreak", "tcsendbreak", (0,)),
    ("tcgetpgrp", "tcgetpgrp", ()),
    ("tcsetpgrp", "tcsetpgrp", (1,)),
    ("ttyname_r", "ttyname_r", (ROOM, 64)),
]
NAMES = [each[0] for each in USES]

# Those that would succeed on a parked number, or fail with another error.
GUARDED = {
    "fstatvfs", "fstatvfs64", "fstatfs", "fstatfs64", "fchdir", "mkdirat", "unlinkat", "openat",
    "mkfifoat", "mknodat", "linkat", "renameat2", "fpathconf",
    "readlinkat", "faccessat", "fchmodat", "fchownat", "utimensat", "renameat",
    "fstatat", "fstatat64", "statx",
}  # fmt: skip


@pytest.fixture
def dead() -> int:
    """A number that nobody has."""
    number = fcntl.fcntl(0, fcntl.F_DUPFD, 700)
    os.close(number)
    return number


@pytest.fixture
def sentinel(tmp_path: Path) -> Iterator[int]:
    """What parks a number: it answers as the quarantine's does."""
    memory = os.memfd_create("quarantine")
    number = os.open(f"/proc/self/fd/{memory}", os.O_PATH)
    os.close(memory)
    yield number
    os.close(number)


def without_waits(told: list[str]) -> list[str]:
    return [line for line in told if not line.startswith(("waiting", "over"))]


def result_of(hooks: Hooks, name: str, *arguments: Any) -> int:
    """The error that a call ended with, 0 for none."""
    result = hooks.number(name, *arguments)
    if name in RETURNS_ERROR:
        return result
    return hooks.errno if result == -1 else 0


@pytest.mark.parametrize(("name", "said", "arguments"), USES, ids=NAMES)
def test_a_dead_number_is_told(
    hooks: Hooks, dead: int, name: str, said: str, arguments: tuple[Any, ...]
) -> None:
    if not hooks.exists(name):
        pytest.skip(f"this libc has no {name}")
    assert result_of(hooks, name, dead, *arguments) == errno.EBADF
    assert without_waits(hooks.told()) == [f"bad {dead} {said}"]
    assert "ffi" in hooks.told_by()


@pytest.mark.parametrize(("name", "said", "arguments"), USES, ids=NAMES)
def test_a_parked_number_is_told(
    hooks: Hooks, sentinel: int, name: str, said: str, arguments: tuple[Any, ...]
) -> None:
    """It answers as a dead one would, and is told of once."""
    if not hooks.exists(name):
        pytest.skip(f"this libc has no {name}")
    hooks.parked[sentinel] = 1
    assert result_of(hooks, name, sentinel, *arguments) == errno.EBADF
    assert without_waits(hooks.told()) == [f"bad {sentinel} {said}"]


@pytest.mark.parametrize(("name", "said", "arguments"), USES, ids=NAMES)
def test_a_number_in_order_is_not_told(
    hooks: Hooks, sentinel: int, name: str, said: str, arguments: tuple[Any, ...]
) -> None:
    """EBADF comes from O_PATH too, and from a number opened the other way."""
    if not hooks.exists(name):
        pytest.skip(f"this libc has no {name}")
    result_of(hooks, name, sentinel, *arguments)
    assert without_waits(hooks.told()) == []
    if name not in GUARDED:
        reader, writer = os.pipe()
        os.set_blocking(reader, False)
        result_of(hooks, name, reader, *arguments)
        if "read" not in name or "v" in name:
            result_of(hooks, name, writer, *arguments)
        assert without_waits(hooks.told()) == []
        os.close(reader)
        os.close(writer)


@pytest.mark.parametrize(("name", "said", "arguments"), USES, ids=NAMES)
def test_asleep_nothing_is_told(
    hooks: Hooks, dead: int, name: str, said: str, arguments: tuple[Any, ...]
) -> None:
    if not hooks.exists(name):
        pytest.skip(f"this libc has no {name}")
    hooks.awake.value = 0
    assert result_of(hooks, name, dead, *arguments) == errno.EBADF
    assert hooks.told() == []


@pytest.mark.usefixtures("company")
def test_data_comes_through(hooks: Hooks, tmp_path: Path) -> None:
    path = tmp_path / "data"
    fd = os.open(path, os.O_RDWR | os.O_CREAT)
    assert hooks.call("write", fd, b"some data", 9) == 9
    assert hooks.call("pwrite64", fd, b"S", 1, 0) == 1
    assert hooks.call("lseek", fd, 5, os.SEEK_SET) == 5
    buffer = ctypes.create_string_buffer(16)
    assert hooks.call("read", fd, buffer, 16) == 4
    assert buffer.value == b"data"
    assert hooks.call("pread64", fd, buffer, 4, 0) == 4
    assert buffer.value == b"Some"
    assert hooks.number("ftruncate", fd, 2) == 0
    assert hooks.errno == KEPT_ERRNO
    os.close(fd)
    assert path.read_bytes() == b"So"
    assert hooks.told() == [f"waiting {fd}", "over"]


def test_more_than_two_gigabytes_come_through(hooks: Hooks, tmp_path: Path) -> None:
    fd = os.open(tmp_path / "sparse", os.O_RDWR | os.O_CREAT)
    assert hooks.number("ftruncate", fd, 5 << 32) == 0
    assert hooks.call("lseek", fd, 0, os.SEEK_END) == 5 << 32
    assert hooks.call("pwrite", fd, b"x", 1, 3 << 33) == 1
    assert os.fstat(fd).st_size == (3 << 33) + 1
    os.close(fd)


def test_six_arguments_come_through(hooks: Hooks) -> None:
    """recvfrom and mmap have six, syscall seven."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with ours, theirs:
        theirs.bind(b"\0safehandle-hooks-%d" % os.getpid())
        for number in ((), (45 if X86 else 207,)):
            theirs.send(b"hello")
            name = "syscall" if number else "recvfrom"
            address, size = ctypes.create_string_buffer(110), ctypes.c_uint(110)
            buffer = ctypes.create_string_buffer(8)
            arguments = (ours.fileno(), buffer, 8, 0, address, ctypes.byref(size))
            assert hooks.call(name, *number, *arguments) == 5
            assert buffer.value == b"hello"
            assert b"safehandle-hooks" in address.raw


@pytest.mark.usefixtures("company")
def test_a_waiting_call_is_told_around(hooks: Hooks) -> None:
    reader, writer = os.pipe()
    os.write(writer, b"xx")
    buffer = ctypes.create_string_buffer(8)
    assert hooks.call("__read_chk", reader, buffer, 1, 8) == 1
    vector = (ctypes.c_size_t * 2)(ctypes.addressof(buffer), 8)
    assert hooks.call("readv", reader, vector, 1) == 1
    assert hooks.told() == [f"waiting {reader}", "over"] * 2
    os.close(reader)
    os.close(writer)


def test_writing_is_not_told(hooks: Hooks) -> None:
    """Signal handlers write: it would end what their thread was waiting for."""
    reader, writer = os.pipe()
    hooks.call("write", writer, b"x", 1)
    assert hooks.told() == []
    os.close(reader)
    os.close(writer)


def test_shutdown_is_told(hooks: Hooks) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        assert hooks.number("shutdown", ours.fileno(), socket.SHUT_RDWR) == 0
        assert hooks.told() == [f"shut down {ours.fileno()}"]
    with socket.socket() as unconnected:
        assert hooks.number("shutdown", unconnected.fileno(), 2) == -1
        assert (hooks.errno, hooks.told()) == (errno.ENOTCONN, [])


# --- two numbers ------------------------------------------------------------------------


@pytest.mark.parametrize("which", [0, 1])
@pytest.mark.parametrize(
    ("name", "call"),
    [
        ("sendfile", lambda one, two: (one, two, None, 1)),
        ("splice", lambda one, two: (one, None, two, None, 1, 0)),
        ("tee", lambda one, two: (one, two, 1, 0)),
        ("copy_file_range", lambda one, two: (one, None, two, None, 1, 0)),
        ("epoll_ctl", lambda one, two: (one, 1, two, EVENT)),
        ("renameat", lambda one, two: (one, b"a", two, b"b")),
        ("linkat", lambda one, two: (one, b".", two, b"b", 0)),
    ],
)
def test_the_dead_one_of_two_is_told(
    hooks: Hooks, dead: int, name: str, call: Callable[[int, int], Any], which: int
) -> None:
    with select.epoll() as poll:
        good = os.open("/tmp", os.O_RDONLY) if name.endswith("at") else poll.fileno()
        pair = (dead, good) if which == 0 else (good, dead)
        assert result_of(hooks, name, *call(*pair)) == errno.EBADF
        assert hooks.told() == [f"bad {dead} {name}"]
        if good != poll.fileno():
            os.close(good)


def test_two_wrong_ones_are_not_told(hooks: Hooks) -> None:
    reader, writer = os.pipe()
    assert result_of(hooks, "splice", writer, None, reader, None, 1, 0) == errno.EBADF
    assert hooks.told() == []
    os.close(reader)
    os.close(writer)


def test_taking_a_closed_number_out_is_a_habit(hooks: Hooks, dead: int) -> None:
    """Selectors do so; the kernel took it out when it was closed."""
    with select.epoll() as poll:
        assert result_of(hooks, "epoll_ctl", poll.fileno(), 2, dead, EVENT) == errno.EBADF
        assert hooks.told() == []
        number = poll.fileno()
    assert result_of(hooks, "epoll_ctl", number, 2, 0, EVENT) == errno.EBADF
    assert hooks.told() == [f"bad {number} epoll_ctl"]


# --- questions -----------------------------------------------------------------------------

PROBES: list[tuple[str, tuple[Any, ...], tuple[Any, ...]]] = [
    ("fstat", (), (ROOM,)),
    ("fstat64", (), (ROOM,)),
    ("__fxstat", (1,), (ROOM,)),
    ("__fxstat64", (1,), (ROOM,)),
    ("fstatat", (), (b"", ROOM, 0x1000)),
    ("fstatat64", (), (b"", ROOM, 0x1000)),
    ("statx", (), (b"", 0x1000, 0x7FF, ROOM)),
    ("syscall", (5 if X86 else 80,), (ROOM,)),
]


@pytest.mark.parametrize(("name", "before", "after"), PROBES, ids=[each[0] for each in PROBES])
def test_a_question_is_answered_and_not_told(
    hooks: Hooks,
    sentinel: int,
    dead: int,
    name: str,
    before: tuple[Any, ...],
    after: tuple[Any, ...],
) -> None:
    assert result_of(hooks, name, *before, dead, *after) == errno.EBADF
    hooks.parked[sentinel] = 1
    assert result_of(hooks, name, *before, sentinel, *after) == errno.EBADF
    assert hooks.told() == []


def test_a_question_gets_its_answer(hooks: Hooks, tmp_path: Path) -> None:
    fd = os.open(tmp_path / "five", os.O_RDWR | os.O_CREAT)
    os.write(fd, b"12345")
    for name in ("fstat", "fstat64"):
        found = ctypes.create_string_buffer(512)
        assert hooks.number(name, fd, found) == 0
        assert os.fstat(fd).st_ino == int.from_bytes(found.raw[8:16], "little")
    os.close(fd)


@pytest.mark.parametrize("name", ["openat", "mkdirat", "unlinkat", "faccessat", "fstatat"])
def test_an_absolute_path_needs_no_folder(hooks: Hooks, sentinel: int, name: str) -> None:
    hooks.parked[sentinel] = 1
    after: dict[str, tuple[Any, ...]] = {
        "openat": (os.O_RDONLY,),
        "mkdirat": (0o700,),
        "unlinkat": (0,),
        "faccessat": (0, 0),
        "fstatat": (ROOM, 0),
    }
    error = result_of(hooks, name, sentinel, b"/nonexistent/x", *after[name])
    assert (error, hooks.told()) == (errno.ENOENT, [])


# --- select ------------------------------------------------------------------------------------


def a_set(*numbers: int) -> ctypes.Array[ctypes.c_ulong]:
    words = (ctypes.c_ulong * 16)()
    for number in numbers:
        words[number // 64] |= 1 << number % 64
    return words


@pytest.mark.parametrize("name", ["select", "__select", "pselect"])
def test_select_refuses_what_is_parked(hooks: Hooks, sentinel: int, name: str) -> None:
    said = name.strip("_")
    after = (TIME, None) if name == "pselect" else (TIME,)
    reader, writer = os.pipe()
    sets = (a_set(reader), a_set(writer), None)
    assert hooks.number(name, 1024, *sets, *after) == 1
    assert hooks.errno == KEPT_ERRNO
    assert [list(each) for each in sets[:2] if each] == [list(a_set()), list(a_set(writer))]
    hooks.parked[writer] = 1
    for parked in [(a_set(writer), None, None), (None, a_set(writer), None)]:
        assert hooks.number(name, writer + 1, *parked, *after) == -1
        assert (hooks.errno, hooks.told()) == (errno.EBADF, [f"bad {writer} {said}"])
    assert hooks.number(name, writer, a_set(writer), None, None, *after) == 0
    assert hooks.told() == []
    hooks.parked[writer] = 0
    os.close(writer)
    assert hooks.number(name, 1024, a_set(reader, writer), None, None, *after) == -1
    assert (hooks.errno, hooks.told()) == (errno.EBADF, [f"bad {writer} {said}"])
    os.close(reader)


def test_mapping_a_dead_number_is_told(hooks: Hooks, dead: int) -> None:
    for name in ("mmap", "mmap64"):
        assert hooks.call(name, None, 4096, 1, 1, dead, 0) == -1
        assert (hooks.errno, hooks.told()) == (errno.EBADF, [f"bad {dead} mmap"])
        # Nobody looks at the number of anonymous memory.
        address = hooks.call(name, None, 4096, 1, 0x22, dead, 0)
        assert address not in (-1, 0)
        assert hooks.told() == []
        ctypes.CDLL(None).munmap(ctypes.c_void_p(address), ctypes.c_size_t(4096))
