"""Children are told when they are born and when they are reaped; a child of
vfork() is left alone."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from support_hooks import KEPT_ERRNO, Hooks
from support_waiting import until

X86 = os.uname().machine == "x86_64"
SYS_WAIT4, SYS_WAITID = (61, 247) if X86 else (260, 95)
SYS_EXIT_GROUP = 231 if X86 else 94
SYS_GETPID = 39 if X86 else 172
SYS_EXECVE = 59 if X86 else 221


def child(status: int = 0) -> int:
    """A child that has ended, not reaped."""
    pid = os.posix_spawn("/bin/sh", ["sh", "-c", f"exit {status}"], os.environ)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    return pid


# --- births ----------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["fork", "__fork"])
def test_a_forked_child_is_told_to_its_parent(hooks: Hooks, name: str) -> None:
    reader, writer = os.pipe()
    pid = hooks.number(name)
    if pid == 0:
        os.write(writer, repr(hooks.told()).encode())
        os._exit(0)
    os.close(writer)
    os.waitpid(pid, 0)
    with open(reader, "rb") as stream:
        assert stream.read() == b"[]"
    assert hooks.told() == [f"child {pid} fork"]


@pytest.mark.parametrize("name", ["posix_spawn", "posix_spawnp"])
@pytest.mark.parametrize("asks", [True, False])
def test_a_spawned_child_is_told(hooks: Hooks, name: str, asks: bool) -> None:
    pid = ctypes.c_int(-5)
    argv = (ctypes.c_char_p * 2)(b"true", None)
    file = b"true" if name == "posix_spawnp" else b"/bin/true"
    into = ctypes.byref(pid) if asks else None
    assert hooks.number(name, into, file, None, None, argv, argv) == 0
    (told,) = hooks.told()
    number = int(told.split()[1])
    assert told == f"child {number} {name}"
    assert pid.value == (number if asks else -5)
    assert os.waitpid(number, 0)[1] == 0


def test_a_failed_spawn_is_not_told(hooks: Hooks) -> None:
    argv = (ctypes.c_char_p * 2)(b"true", None)
    arguments = (None, b"/nonexistent", None, None, argv, argv)
    assert hooks.number("posix_spawn", *arguments) == errno.ENOENT
    assert hooks.told() == []


def test_a_child_with_a_terminal_is_told(hooks: Hooks) -> None:
    master = ctypes.c_int()
    pid = hooks.number("forkpty", ctypes.byref(master), None, None, None)
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)
    os.close(master.value)
    assert hooks.told() == [f"opened {master.value} terminal -", f"child {pid} forkpty"]


# --- vfork -----------------------------------------------------------------------------


def test_a_child_of_vfork_is_left_alone(hooks: Hooks) -> None:
    fd = os.open(os.devnull, os.O_RDONLY)
    for _ in range(300):
        assert hooks.vfork_and_run("/bin/true", fd) == 0
        assert hooks.told() == ["vfork", "child N vfork"]
    os.fstat(fd)  # the child closed its own
    os.close(fd)


def test_a_child_of_vfork_that_runs_nothing(hooks: Hooks) -> None:
    for _ in range(300):
        assert hooks.vfork_and_run("/nonexistent", -1) == 66
        assert hooks.told() == ["vfork", "child N vfork"]


def test_vfork_that_fails_says_why(hooks: Hooks) -> None:
    """The limit of a user who has too many processes; root has none."""
    if os.geteuid() == 0:
        reader, writer = os.pipe()
        if os.fork() == 0:
            with contextlib.suppress(BaseException):
                import resource

                resource.setrlimit(resource.RLIMIT_NPROC, (1, 1))
                os.setuid(65534)
                result = hooks.number("vfork")
                os.write(writer, repr((result, hooks.errno, hooks.told())).encode())
            os._exit(0)
        os.wait()
        os.close(writer)
        with open(reader) as stream:
            assert eval(stream.read()) == (-1, errno.EAGAIN, ["vfork", "child none vfork"])


def test_vfork_among_threads(hooks: Hooks) -> None:
    """The others run on while a child has this thread's memory."""
    stop = threading.Event()
    counts = [0, 0]

    def churn(index: int) -> None:
        while not stop.is_set():
            os.close(os.open(os.devnull, os.O_RDONLY))
            counts[index] += 1

    threads = [threading.Thread(target=churn, args=(i,)) for i in range(2)]
    for thread in threads:
        thread.start()
    until(lambda: all(counts))
    results = {hooks.vfork_and_run("/bin/true", -1) for _ in range(100)}
    stop.set()
    for thread in threads:
        thread.join()
    assert results == {0}


# --- the end of this one -----------------------------------------------------------------


@contextlib.contextmanager
def in_a_child(action: Callable[[], object]) -> Iterator[tuple[int, bytes]]:
    """(wait status, what it wrote on stderr) of a child that does it."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.dup2(writer, 2)
        os.close(reader)
        try:
            action()
        finally:
            os.kill(os.getpid(), signal.SIGKILL)
    os.close(writer)
    with open(reader, "rb") as stream:
        text = stream.read()
    yield os.waitpid(pid, 0)[1], text


@pytest.mark.parametrize(
    ("name", "before"), [("_exit", ()), ("_Exit", ()), ("syscall", (SYS_EXIT_GROUP,))]
)
def test_leaving_is_told_before(hooks: Hooks, name: str, before: tuple[int, ...]) -> None:
    with in_a_child(lambda: hooks.call(name, *before, 7)) as (status, text):
        assert (status, text) == (7 << 8, b"leaving 7\n")
    hooks.awake.value = 0
    with in_a_child(lambda: hooks.call(name, *before, 7)) as (status, text):
        assert (status, text) == (7 << 8, b"")


SCRIPT = b'echo "$0 $1 $2 $X" >&2'
ARGV = (ctypes.c_char_p * 6)(b"sh", b"-c", SCRIPT, b"zero", b"one", None)
ENVIRONMENT = (ctypes.c_char_p * 2)(b"X=set", None)
LISTED = (b"sh", b"-c", SCRIPT, b"zero", b"one", None)
RUNS: list[tuple[str, tuple[Any, ...], bytes]] = [
    ("execve", (b"/bin/sh", ARGV, ENVIRONMENT), b"zero one  set"),
    ("execv", (b"/bin/sh", ARGV), b"zero one"),
    ("execvp", (b"sh", ARGV), b"zero one"),
    ("execvpe", (b"sh", ARGV, ENVIRONMENT), b"zero one  set"),
    ("execveat", (-100, b"/bin/sh", ARGV, ENVIRONMENT, 0), b"zero one  set"),
    ("execl", (b"/bin/sh", *LISTED), b"zero one"),
    ("execlp", (b"sh", *LISTED), b"zero one"),
    ("execle", (b"/bin/sh", *LISTED, ENVIRONMENT), b"zero one  set"),
    ("syscall", (SYS_EXECVE, b"/bin/sh", ARGV, ENVIRONMENT), b"zero one  set"),
]


@pytest.mark.parametrize(("name", "arguments", "text"), RUNS, ids=[each[0] for each in RUNS])
def test_another_program_is_told_before(
    hooks: Hooks, name: str, arguments: tuple[Any, ...], text: bytes
) -> None:
    with in_a_child(lambda: hooks.call(name, *arguments)) as (status, told):
        assert (status, told.strip()) == (0, b"exec\n" + text)


def test_a_program_by_its_number(hooks: Hooks) -> None:
    fd = os.open("/bin/sh", os.O_RDONLY)
    with in_a_child(lambda: hooks.call("fexecve", fd, ARGV, ENVIRONMENT)) as (status, told):
        assert (status, told.strip()) == (0, b"exec\nzero one  set")
    hooks.parked[fd] = 1
    assert hooks.number("fexecve", fd, ARGV, ENVIRONMENT) == -1
    assert (hooks.errno, hooks.told()) == (errno.EBADF, [f"bad {fd} fexecve"])
    os.close(fd)


@pytest.mark.parametrize(
    "name", ["execve", "execv", "execvp", "execvpe", "execl", "execlp", "execle"]
)
def test_a_program_that_there_is_not(hooks: Hooks, name: str, capfd: Any) -> None:
    after = (b"x", None, ENVIRONMENT) if "l" in name else (ARGV, ENVIRONMENT)
    assert hooks.number(name, b"/nonexistent/program", *after) == -1
    assert (hooks.errno, hooks.told()) == (errno.ENOENT, ["exec failed"])


# --- waiting -----------------------------------------------------------------------------

WAITS: list[tuple[str, Callable[[int, Any], tuple[Any, ...]]]] = [
    ("wait", lambda pid, status: (status,)),
    ("__wait", lambda pid, status: (status,)),
    ("waitpid", lambda pid, status: (pid, status, 0)),
    ("__waitpid", lambda pid, status: (pid, status, os.WNOHANG)),
    ("wait3", lambda pid, status: (status, 0, None)),
    ("wait4", lambda pid, status: (pid, status, 0, None)),
    ("syscall", lambda pid, status: (SYS_WAIT4, pid, status, 0, None)),
]


@pytest.mark.parametrize("asks", [True, False])
@pytest.mark.parametrize(("name", "call"), WAITS, ids=[each[0] for each in WAITS])
def test_a_reaped_child_is_told(
    hooks: Hooks, name: str, call: Callable[[int, Any], tuple[Any, ...]], asks: bool
) -> None:
    pid = child(3)
    status = ctypes.c_int()
    assert hooks.number(name, *call(pid, ctypes.byref(status) if asks else None)) == pid
    assert (hooks.errno, hooks.told()) == (KEPT_ERRNO, [f"reaped {pid}"])
    assert status.value == (3 << 8 if asks else 0)


def test_a_child_that_only_stopped_is_not_reaped(hooks: Hooks) -> None:
    pid = os.posix_spawn("/bin/sh", ["sh", "-c", "kill -STOP $$; exit 1"], os.environ)
    for into in (ctypes.byref(ctypes.c_int()), None):
        assert hooks.number("waitpid", pid, into, os.WUNTRACED) == pid
        assert hooks.told() == []
        os.kill(pid, signal.SIGCONT)
        assert hooks.number("waitpid", pid, into, os.WUNTRACED) == pid
        assert hooks.told() == [f"reaped {pid}"]
        pid = os.posix_spawn("/bin/sh", ["sh", "-c", "kill -STOP $$; exit 1"], os.environ)
    os.kill(pid, signal.SIGKILL)
    assert hooks.number("waitpid", pid, None, 0) == pid
    assert hooks.told() == [f"reaped {pid}"]


@pytest.mark.parametrize("asks", [True, False])
@pytest.mark.parametrize(("name", "before"), [("waitid", ()), ("syscall", (SYS_WAITID,))])
def test_a_look_does_not_reap(
    hooks: Hooks, name: str, before: tuple[int, ...], asks: bool
) -> None:
    pid = child()
    info = ctypes.create_string_buffer(128) if asks else None
    after = (None,) if before else ()
    look = (os.P_PID, pid, info, os.WEXITED | os.WNOWAIT, *after)
    assert hooks.number(name, *before, *look) == 0
    assert hooks.told() == []
    take = (os.P_PID, pid, info, os.WEXITED, *after)
    assert hooks.number(name, *before, *take) == 0
    assert hooks.told() == [f"reaped {pid}"]


def test_a_child_that_runs_is_not_reaped(hooks: Hooks) -> None:
    reader, writer = os.pipe()
    pid = os.posix_spawn(
        "/bin/sh", ["sh", "-c", "read x"], os.environ,
        file_actions=[(os.POSIX_SPAWN_DUP2, reader, 0)],
    )  # fmt: skip
    info = ctypes.create_string_buffer(128)
    assert hooks.number("waitpid", pid, None, os.WNOHANG) == 0
    assert hooks.number("waitid", os.P_PID, pid, info, os.WEXITED | os.WNOHANG) == 0
    assert hooks.number("waitid", os.P_PID, pid, None, os.WEXITED | os.WNOHANG) == 0
    assert hooks.told() == []
    os.close(writer)
    os.close(reader)
    assert hooks.number("waitid", os.P_PID, pid, None, os.WEXITED) == 0
    assert hooks.told() == [f"reaped {pid}"]


def test_a_child_that_the_kernel_took_is_gone(hooks: Hooks) -> None:
    before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        pid = os.posix_spawn("/bin/true", ["true"], os.environ)
        assert hooks.number("waitpid", pid, None, 0) == -1
        assert (hooks.errno, hooks.told()) == (errno.ECHILD, [f"reaped {pid}"])
        assert hooks.number("waitid", os.P_PID, pid, None, os.WEXITED) == -1
        assert (hooks.errno, hooks.told()) == (errno.ECHILD, [f"reaped {pid}"])
    finally:
        signal.signal(signal.SIGCHLD, before)


# --- syscall ---------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [SYS_GETPID, 511, 512, 100000, -1])
def test_what_concerns_nobody_passes(hooks: Hooks, number: int) -> None:
    expected = os.getpid() if number == SYS_GETPID else -1

    assert hooks.call("syscall", number) == expected
    assert hooks.told() == []
