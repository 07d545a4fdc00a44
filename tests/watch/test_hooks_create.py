"""What makes descriptors tells the watch their number, kind and path, once."""

from __future__ import annotations

import ctypes
import errno
import os
import resource
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support_hooks import KEPT_ERRNO, Hooks

# Function, arguments before the int[2], kind: makes two descriptors.
PAIRS = [
    ("pipe", (), "pipe"),
    ("__pipe", (), "pipe"),
    ("socketpair", (socket.AF_UNIX, socket.SOCK_STREAM, 0), "socket"),
]


def no_signals() -> ctypes.Array[ctypes.c_char]:
    return ctypes.create_string_buffer(128)


# Function, arguments, kind, path told: makes one descriptor.
ONE = [
    ("open", (b"/dev/null", os.O_RDONLY), "file", "/dev/null"),
    ("open", (b"/", os.O_RDONLY | os.O_DIRECTORY), "directory", "/"),
    ("open64", (b"/dev/null", os.O_RDONLY), "file", "/dev/null"),
    ("__open", (b"/dev/null", os.O_RDONLY), "file", "/dev/null"),
    ("__open64", (b"/dev/null", os.O_RDONLY), "file", "/dev/null"),
    ("__open_2", (b"/dev/null", os.O_RDONLY), "file", "/dev/null"),
    ("__open64_2", (b"/dev/null", os.O_RDONLY), "file", "/dev/null"),
    ("openat", (-100, b"/dev/null", os.O_RDONLY), "file", "/dev/null"),
    ("openat64", (-100, b"/dev/null", os.O_RDONLY), "file", "/dev/null"),
    ("__openat_2", (-100, b"/dev/null", os.O_RDONLY), "file", "/dev/null"),
    ("__openat64_2", (-100, b"/dev/null", os.O_RDONLY), "file", "/dev/null"),
    ("creat", (b"/dev/null", 0o600), "file", "/dev/null"),
    ("creat64", (b"/dev/null", 0o600), "file", "/dev/null"),
    ("memfd_create", (b"scratch", 0), "memfd", "scratch"),
    ("posix_openpt", (os.O_RDWR | os.O_NOCTTY,), "terminal", "/dev/ptmx"),
    ("getpt", (), "terminal", "/dev/ptmx"),
    ("socket", (socket.AF_UNIX, socket.SOCK_STREAM, 0), "socket", "-"),
    ("epoll_create", (1,), "epoll", "-"),
    ("epoll_create1", (0,), "epoll", "-"),
    ("eventfd", (0, 0), "eventfd", "-"),
    ("timerfd_create", (1, 0), "timerfd", "-"),
    ("inotify_init", (), "inotify", "-"),
    ("inotify_init1", (0,), "inotify", "-"),
    ("pidfd_open", (os.getpid(), 0), "pidfd", "-"),
]


@pytest.mark.parametrize(
    ("name", "arguments", "kind", "path"), ONE, ids=[f"{each[0]}-{each[2]}" for each in ONE]
)
def test_one_is_told(
    hooks: Hooks, name: str, arguments: tuple[object, ...], kind: str, path: str
) -> None:
    if not hooks.exists(name):
        pytest.skip(f"this libc has no {name}")
    fd = hooks.number(name, *arguments)
    assert hooks.errno == KEPT_ERRNO
    os.fstat(fd)
    os.close(fd)
    assert hooks.told() == [f"opened {fd} {kind} {path}"]
    assert "ffi" in hooks.told_by()


@pytest.mark.parametrize(("name", "before", "kind"), PAIRS)
def test_both_ends_are_told(
    hooks: Hooks, name: str, before: tuple[object, ...], kind: str
) -> None:
    ends = (ctypes.c_int * 2)()
    assert hooks.number(name, *before, ends) == 0
    assert hooks.told() == [f"opened {fd} {kind} -" for fd in ends]
    for fd in ends:
        os.close(fd)


def test_flags_come_through(hooks: Hooks) -> None:
    ends = (ctypes.c_int * 2)()
    assert hooks.number("pipe2", ends, os.O_CLOEXEC | os.O_NONBLOCK) == 0
    assert hooks.told() == [f"opened {fd} pipe -" for fd in ends]
    for fd in ends:
        assert not os.get_inheritable(fd)
        assert not os.get_blocking(fd)
        os.close(fd)


@pytest.mark.parametrize("name", ["open", "openat"])
def test_the_mode_comes_through(hooks: Hooks, tmp_path: Path, name: str) -> None:
    path = bytes(tmp_path / "made")
    before = (-100,) if name == "openat" else ()
    old = os.umask(0)
    fd = hooks.number(name, *before, path, os.O_CREAT | os.O_WRONLY, 0o614)
    os.umask(old)
    assert os.fstat(fd).st_mode & 0o777 == 0o614
    os.close(fd)
    assert hooks.told() == [f"opened {fd} file {path.decode()}"]


def test_a_file_without_a_name_is_a_file(hooks: Hooks, tmp_path: Path) -> None:
    fd = hooks.number("open", bytes(tmp_path), os.O_TMPFILE | os.O_RDWR, 0o600)
    if fd == -1:
        pytest.skip("this file system has no files without names")
    os.close(fd)
    assert hooks.told() == [f"opened {fd} file {tmp_path}"]


def test_a_signalfd_is_told_when_it_is_made(hooks: Hooks) -> None:
    fd = hooks.number("signalfd", -1, no_signals(), 0)
    assert hooks.told() == [f"opened {fd} signalfd -"]
    assert hooks.number("signalfd", fd, no_signals(), 0) == fd
    assert hooks.told() == []
    os.close(fd)
    assert hooks.number("signalfd", fd, no_signals(), 0) == -1
    assert hooks.told() == [f"bad {fd} signalfd"]


def test_shared_memory_is_told_by_name(hooks: Hooks) -> None:
    name = f"/safehandle-hooks-{os.getpid()}".encode()
    fd = hooks.number("shm_open", name, os.O_CREAT | os.O_RDWR, 0o600)
    assert hooks.told() == [f"opened {fd} memfd {name.decode()}"]
    os.close(fd)
    os.unlink(b"/dev/shm" + name)


@pytest.mark.parametrize(
    ("name", "end", "after"),
    [
        ("mkstemp", b"", ()),
        ("mkstemp64", b"", ()),
        ("mkostemp", b"", (os.O_CLOEXEC,)),
        ("mkostemp64", b"", (os.O_CLOEXEC,)),
        ("mkstemps", b".txt", (4,)),
        ("mkstemps64", b".txt", (4,)),
        ("mkostemps", b".txt", (4, os.O_CLOEXEC)),
        ("mkostemps64", b".txt", (4, os.O_CLOEXEC)),
    ],
)
def test_temporary_files_are_told_by_their_name(
    hooks: Hooks, tmp_path: Path, name: str, end: bytes, after: tuple[int, ...]
) -> None:
    template = ctypes.create_string_buffer(bytes(tmp_path) + b"/aXXXXXX" + end)
    fd = hooks.number(name, template, *after)
    (made,) = tmp_path.iterdir()
    os.close(fd)
    assert hooks.told() == [f"opened {fd} file {made}"]


def test_terminals_are_told_in_pairs(hooks: Hooks) -> None:
    master, slave = ctypes.c_int(), ctypes.c_int()
    ends = (ctypes.byref(master), ctypes.byref(slave))
    assert hooks.number("openpty", *ends, None, None, None) == 0
    assert hooks.told() == [f"opened {fd.value} terminal -" for fd in (master, slave)]
    os.close(master.value)
    os.close(slave.value)


@pytest.mark.usefixtures("company")
@pytest.mark.parametrize("name", ["accept", "accept4"])
def test_an_accepted_connection_is_told(hooks: Hooks, name: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        with socket.create_connection(listener.getsockname()):
            after = (0,) if name == "accept4" else ()
            fd = hooks.number(name, listener.fileno(), None, None, *after)
        number = listener.fileno()
    os.close(fd)
    assert hooks.told() == [f"waiting {number}", "over", f"opened {fd} socket -"]


@pytest.mark.parametrize("name", ["fopen", "fopen64"])
def test_a_stream_owns_its_number(hooks: Hooks, name: str) -> None:
    stream = hooks.call(name, b"/dev/null", b"r")
    (fd,) = opened(hooks.told(), "file /dev/null", "FILE")
    assert hooks.number("fclose", ctypes.c_void_p(stream)) == 0
    assert hooks.told() == [f"closing {fd} fclose FILE stays"]
    with pytest.raises(OSError, match="Bad file"):
        os.fstat(fd)


def opened(told: list[str], what: str, owner: str) -> list[int]:
    """The numbers that were opened, each with an owner."""
    numbers = [int(line.split()[1]) for line in told[::2]]
    expected = []
    for fd in numbers:
        expected += [f"opened {fd} {what}", f"owned {fd} {owner}"]
    assert told == expected
    return numbers


def test_a_temporary_stream_owns_its_number(hooks: Hooks) -> None:
    for name in ("tmpfile", "tmpfile64"):
        stream = hooks.call(name)
        (fd,) = opened(hooks.told(), "file -", "FILE")
        assert hooks.number("fclose", ctypes.c_void_p(stream)) == 0
        assert hooks.told() == [f"closing {fd} fclose FILE stays"]


def test_a_stream_takes_a_number_over(hooks: Hooks) -> None:
    fd = os.open(os.devnull, os.O_RDONLY)
    stream = hooks.call("fdopen", fd, b"r")
    assert hooks.told() == [f"owned {fd} FILE"]
    assert hooks.number("fclose", ctypes.c_void_p(stream)) == 0
    assert hooks.told() == [f"closing {fd} fclose FILE stays"]
    assert hooks.call("fdopen", fd, b"r") == 0
    assert (hooks.errno, hooks.told()) == (errno.EBADF, [f"bad {fd} fdopen"])


def test_a_command_owns_its_pipe(hooks: Hooks) -> None:
    stream = hooks.call("popen", b"exit 3", b"r")
    (fd,) = opened(hooks.told(), "pipe -", "FILE")
    assert hooks.number("pclose", ctypes.c_void_p(stream)) == 3 << 8
    assert hooks.told() == [f"closing {fd} pclose FILE stays"]


@pytest.mark.parametrize("name", ["freopen", "freopen64"])
def test_a_stream_that_is_opened_again_keeps_its_number(hooks: Hooks, name: str) -> None:
    stream = hooks.call("fopen", b"/dev/null", b"r")
    (fd,) = opened(hooks.told(), "file /dev/null", "FILE")
    assert hooks.call(name, b"/dev/zero", b"r", ctypes.c_void_p(stream)) == stream
    told = hooks.told()
    assert told[0] == f"closing {fd} freopen FILE stays"
    assert opened(told[1:], "file /dev/zero", "FILE") == [fd]
    hooks.call("fclose", ctypes.c_void_p(stream))


def test_a_stream_without_a_number_is_nobodys_business(hooks: Hooks) -> None:
    libc = ctypes.CDLL(None)
    libc.fmemopen.restype = ctypes.c_void_p
    stream = libc.fmemopen(None, 10, b"w")
    assert hooks.number("fclose", ctypes.c_void_p(stream)) == 0
    assert (hooks.errno, hooks.told()) == (KEPT_ERRNO, [])


def test_a_folder_owns_its_number(hooks: Hooks, tmp_path: Path) -> None:
    folder = hooks.call("opendir", bytes(tmp_path))
    (fd,) = opened(hooks.told(), f"directory {tmp_path}", "DIR")
    assert hooks.number("closedir", ctypes.c_void_p(folder)) == 0
    assert hooks.told() == [f"closing {fd} closedir DIR stays"]


def test_a_folder_takes_a_number_over(hooks: Hooks, tmp_path: Path) -> None:
    fd = os.open(tmp_path, os.O_RDONLY)
    folder = hooks.call("fdopendir", fd)
    assert hooks.told() == [f"owned {fd} DIR"]
    assert hooks.number("closedir", ctypes.c_void_p(folder)) == 0
    assert hooks.told() == [f"closing {fd} closedir DIR stays"]
    assert hooks.call("fdopendir", fd) == 0
    assert (hooks.errno, hooks.told()) == (errno.EBADF, [f"bad {fd} fdopendir"])


@pytest.mark.parametrize(
    "path",
    ["/proc/self/fd", "/proc/self/fd/", "/proc/PID/fd", "/dev/fd", "/proc/self/fdinfo"],
)
@pytest.mark.parametrize("name", ["open", "openat", "opendir", "fopen", "syscall"])
def test_nothing_of_ours_is_listed(hooks: Hooks, name: str, path: str) -> None:
    """Told before: the folder's own number is the lowest then."""
    path = path.replace("PID", str(os.getpid()))
    if name in ("opendir", "fopen"):
        end = "closedir" if name == "opendir" else "fclose"
        hooks.call(end, ctypes.c_void_p(hooks.call(name, path.encode(), b"r")))
    else:
        number = (257 if os.uname().machine == "x86_64" else 56,)
        before = {"open": (), "openat": (-100,), "syscall": (*number, -100)}[name]
        os.close(hooks.number(name, *before, path.encode(), os.O_RDONLY))
    assert hooks.told()[0] == "listed"


@pytest.mark.parametrize(
    "path", ["/proc/1/fd", "/proc/self/fd/0", "/proc/self", "/proc/self/maps"]
)
def test_other_listings_are_left_alone(hooks: Hooks, path: str) -> None:
    fd = hooks.number("open", path.encode(), os.O_RDONLY)
    assert "listed" not in hooks.told()
    if fd >= 0:
        os.close(fd)


FAILING = [
    ("open", (b"/nonexistent/path", os.O_RDONLY), errno.ENOENT),
    ("open", (None, os.O_RDONLY), errno.EFAULT),
    ("openat", (-100, b"/nonexistent/path", os.O_RDONLY), errno.ENOENT),
    ("socket", (-1, 0, 0), errno.EAFNOSUPPORT),
    ("pipe", (None,), errno.EFAULT),
    ("epoll_create", (-1,), errno.EINVAL),
    ("memfd_create", (b"name", -1), errno.EINVAL),
    ("mkstemp", (ctypes.create_string_buffer(b"no letters"),), errno.EINVAL),
]


@pytest.mark.parametrize(("name", "arguments", "error"), FAILING)
def test_a_failed_call_is_not_told(
    hooks: Hooks, name: str, arguments: tuple[object, ...], error: int
) -> None:
    assert hooks.number(name, *arguments) == -1
    assert (hooks.errno, hooks.told()) == (error, [])


@pytest.mark.parametrize("name", ["fopen", "opendir"])
def test_a_failed_open_is_not_told(hooks: Hooks, name: str) -> None:
    assert hooks.call(name, b"/nonexistent/path", b"r") == 0
    assert (hooks.errno, hooks.told()) == (errno.ENOENT, [])


# --- no number left -----------------------------------------------------------------


@pytest.fixture
def no_number_left() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest = os.dup(0)
    os.close(lowest)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


CREATING: list[tuple[str, tuple[Any, ...]]] = [
    each[:2] for each in ONE if "64" not in each[0] and not each[0].startswith("__")
]
CREATING += [
    ("pipe", ((ctypes.c_int * 2)(),)),
    ("socketpair", (socket.AF_UNIX, socket.SOCK_STREAM, 0, (ctypes.c_int * 2)())),
    ("dup", (0,)),
    ("fcntl", (0, 0, 0)),
    ("fcntl", (0, 1030, 0)),
    ("signalfd", (-1, no_signals(), 0)),
]


@pytest.mark.parametrize(("name", "arguments"), CREATING, ids=[each[0] for each in CREATING])
@pytest.mark.usefixtures("no_number_left")
def test_what_found_no_number_tries_once_more(
    hooks: Hooks, name: str, arguments: tuple[object, ...]
) -> None:
    """Once for each time that room was made; the stand-in only says so."""
    if not hooks.exists(name):
        pytest.skip(f"this libc has no {name}")
    for rooms in (0, 1):
        hooks.rooms.value = rooms
        assert hooks.number(name, *arguments) == -1
        assert hooks.errno in (errno.EMFILE, errno.EINVAL)  # F_DUPFD says it so
        told = hooks.told()
        assert told == ["make room"] or hooks.errno == errno.EINVAL
        assert hooks.rooms.value == 0 or hooks.errno == errno.EINVAL


def test_the_letters_are_there_for_the_second_try(hooks: Hooks, tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    template = ctypes.create_string_buffer(bytes(tmp_path) + b"/aXXXXXX.txt")
    lowest = os.dup(0)
    os.close(lowest)
    hooks.rooms.value = 1
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, hard))
    try:
        result = hooks.number("mkstemps", template, 4)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert (result, hooks.errno) == (-1, errno.EMFILE)  # not EINVAL: no letters
    assert hooks.told() == ["make room"]


# --- asleep ---------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "arguments"), CREATING, ids=[each[0] for each in CREATING])
def test_asleep_the_call_is_all_there_is(
    hooks: Hooks, name: str, arguments: tuple[Any, ...]
) -> None:
    if not hooks.exists(name):
        pytest.skip(f"this libc has no {name}")
    hooks.awake.value = 0
    result = hooks.number(name, *arguments)
    assert hooks.told() == []
    if result > 0:
        os.close(result)
    else:
        for fd in arguments[-1]:
            os.close(fd)


def test_asleep_streams_and_folders_are_left_alone(hooks: Hooks) -> None:
    hooks.awake.value = 0
    for name, arguments, end in [
        ("fopen", (b"/dev/null", b"r"), "fclose"),
        ("tmpfile", (), "fclose"),
        ("popen", (b"true", b"r"), "pclose"),
        ("opendir", (tempfile.gettempdir().encode(),), "closedir"),
    ]:
        thing = hooks.call(name, *arguments)
        assert hooks.number(end, ctypes.c_void_p(thing)) == 0
    assert hooks.told() == []


# --- descriptors in messages ---------------------------------------------------------


class Vector(ctypes.Structure):
    _fields_ = (("base", ctypes.c_char_p), ("size", ctypes.c_size_t))


class Message(ctypes.Structure):
    """struct msghdr, with room for a few descriptors."""

    _fields_ = (
        ("name", ctypes.c_void_p),
        ("name_size", ctypes.c_uint),
        ("vectors", ctypes.POINTER(Vector)),
        ("vector_count", ctypes.c_size_t),
        ("control", ctypes.c_void_p),
        ("control_size", ctypes.c_size_t),
        ("flags", ctypes.c_int),
    )

    @classmethod
    def of(cls, control: ctypes.Array[ctypes.c_char] | None) -> Message:
        data = ctypes.create_string_buffer(16)
        vector = Vector(ctypes.cast(data, ctypes.c_char_p), 1)
        message = cls(vectors=ctypes.pointer(vector), vector_count=1)
        if control is not None:
            message.control = ctypes.addressof(control)
            message.control_size = len(control)
        message.kept = (data, vector, control)
        return message


class Messages(ctypes.Structure):
    _fields_ = (("message", Message), ("length", ctypes.c_uint))


def rights(*numbers: int) -> ctypes.Array[ctypes.c_char]:
    """A control message that carries descriptors."""
    size = socket.CMSG_SPACE(4 * len(numbers))
    control = ctypes.create_string_buffer(size)
    header = (ctypes.c_size_t * 1)(socket.CMSG_LEN(4 * len(numbers)))
    ctypes.memmove(control, header, 8)
    ctypes.memmove(ctypes.byref(control, 8), (ctypes.c_int * 2)(socket.SOL_SOCKET, 1), 8)
    ctypes.memmove(
        ctypes.byref(control, 16), (ctypes.c_int * len(numbers))(*numbers), 4 * len(numbers)
    )
    return control


@pytest.mark.parametrize("name", ["recvmsg", "recvmmsg", "syscall"])
def test_received_descriptors_are_told(hooks: Hooks, name: str) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        socket.send_fds(theirs, [b"x"], [0, 1, 2])
        message = Message.of(ctypes.create_string_buffer(128))
        if name == "recvmsg":
            assert hooks.call(name, ours.fileno(), ctypes.byref(message), 0) == 1
        elif name == "recvmmsg":
            several = (Messages * 2)(Messages(message), Messages(Message.of(None)))
            assert hooks.number(name, ours.fileno(), several, 1, 0, None) == 1
        else:
            number = 47 if os.uname().machine == "x86_64" else 212
            assert hooks.call(name, number, ours.fileno(), ctypes.byref(message), 0) == 1
        told = [line for line in hooks.told() if line.startswith("opened")]
        numbers = [int(line.split()[1]) for line in told]
        for fd in numbers:
            os.fstat(fd)
            os.close(fd)
        assert told == [f"opened {fd} descriptor -" for fd in numbers]
        assert len(numbers) == 3


@pytest.mark.usefixtures("company")
def test_an_ordinary_message_is_not_told(hooks: Hooks) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.send(b"x")
        message = Message.of(None)
        assert hooks.call("recvmsg", ours.fileno(), ctypes.byref(message), 0) == 1
        assert hooks.told() == [f"waiting {ours.fileno()}", "over"]


def test_a_parked_descriptor_is_not_sent(hooks: Hooks) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        message = Message.of(rights(0, ours.fileno()))
        assert hooks.call("sendmsg", theirs.fileno(), ctypes.byref(message), 0) == 1
        assert hooks.told() == []
        number = 46 if os.uname().machine == "x86_64" else 211
        assert hooks.call("syscall", number, theirs.fileno(), ctypes.byref(message), 0) == 1
        assert hooks.told() == []
        hooks.parked[ours.fileno()] = 1
        assert hooks.call("sendmsg", theirs.fileno(), ctypes.byref(message), 0) == -1
        assert (hooks.errno, hooks.told()) == (errno.EBADF, [f"bad {ours.fileno()} sendmsg"])
        several = (Messages * 2)(Messages(Message.of(None)), Messages(message))
        assert hooks.number("sendmmsg", theirs.fileno(), several, 2, 0) == -1
        assert (hooks.errno, hooks.told()) == (errno.EBADF, [f"bad {ours.fileno()} sendmsg"])


@pytest.mark.parametrize("before", [(), (46 if os.uname().machine == "x86_64" else 211,)])
def test_a_dead_descriptor_is_not_sent(hooks: Hooks, before: tuple[int, ...]) -> None:
    ours, theirs = socket.socketpair()
    dead = os.dup(0)
    os.close(dead)
    name = "syscall" if before else "sendmsg"
    with ours, theirs:
        message = Message.of(rights(0, dead))
        assert hooks.call(name, *before, theirs.fileno(), ctypes.byref(message), 0) == -1
        assert (hooks.errno, hooks.told()) == (errno.EBADF, [f"bad {dead} sendmsg"])


def test_every_name_is_hooked_once(hooks: Hooks) -> None:
    names = hooks.names()
    assert len(names) == len(set(names))
    assert len(names) > 190
    assert names[-1] == "syscall"  # of the last group
