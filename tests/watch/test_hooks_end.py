"""What ends or moves a descriptor asks the watch first, and does as it says."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import resource
import subprocess
import sys
import textwrap
from collections.abc import Iterator

import pytest
from support_hooks import KEPT_ERRNO, TESTS, Hooks

CALL, DONE, REFUSE = range(3)
SYS_CLOSE = 3 if os.uname().machine == "x86_64" else 57
CLOSES = [("close", ()), ("__close", ()), ("syscall", (SYS_CLOSE,))]


@pytest.fixture
def fd() -> Iterator[int]:
    """A descriptor that may be closed."""
    number = os.open(os.devnull, os.O_RDONLY)
    yield number
    if is_open(number):
        os.close(number)


def is_open(fd: int) -> bool:
    try:
        fcntl.fcntl(fd, fcntl.F_GETFD)
    except OSError:
        return False
    return True


# --- close -------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "before"), CLOSES)
def test_close_is_told_before(hooks: Hooks, fd: int, name: str, before: tuple[int, ...]) -> None:
    assert hooks.number(name, *before, fd) == 0
    assert (hooks.errno, hooks.told()) == (KEPT_ERRNO, [f"closing {fd} close raw"])
    assert "ffi" in hooks.told_by()
    assert not is_open(fd)
    assert hooks.number(name, *before, fd) == -1
    assert hooks.errno == errno.EBADF
    assert hooks.told() == [f"closing {fd} close raw", f"bad {fd} close"]


@pytest.mark.parametrize(("name", "before"), CLOSES)
def test_a_parked_number_is_not_closed(
    hooks: Hooks, fd: int, name: str, before: tuple[int, ...]
) -> None:
    hooks.verdict.value = DONE
    assert hooks.number(name, *before, fd) == 0
    assert (hooks.errno, hooks.told()) == (KEPT_ERRNO, [f"closing {fd} close raw"])
    assert is_open(fd)


@pytest.mark.parametrize(("name", "before"), CLOSES)
def test_a_dead_number_is_refused(
    hooks: Hooks, fd: int, name: str, before: tuple[int, ...]
) -> None:
    hooks.verdict.value = REFUSE
    assert hooks.number(name, *before, fd) == -1
    assert (hooks.errno, hooks.told()) == (errno.EBADF, [f"closing {fd} close raw"])
    assert is_open(fd)


@pytest.mark.parametrize(("name", "before"), CLOSES)
def test_minus_one_is_no_number(hooks: Hooks, name: str, before: tuple[int, ...]) -> None:
    assert hooks.number(name, *before, -1) == -1
    assert (hooks.errno, hooks.told()) == (errno.EBADF, [])


@pytest.mark.parametrize(("name", "before"), CLOSES)
def test_asleep_it_is_closed(hooks: Hooks, fd: int, name: str, before: tuple[int, ...]) -> None:
    hooks.awake.value = 0
    assert hooks.number(name, *before, fd) == 0
    assert hooks.told() == []
    assert not is_open(fd)


@pytest.mark.parametrize(
    ("name", "opens", "owner"), [("fclose", "fopen", "FILE"), ("closedir", "opendir", "DIR")]
)
def test_a_stale_owner_goes_all_the_same(hooks: Hooks, name: str, opens: str, owner: str) -> None:
    path = b"/" if opens == "opendir" else b"/dev/null"
    thing = hooks.call(opens, path, b"r")
    number = int(hooks.told()[0].split()[1])
    hooks.verdict.value = REFUSE
    assert hooks.number(name, ctypes.c_void_p(thing)) == -1
    assert hooks.errno == errno.EBADF
    assert hooks.told() == [f"closing {number} {name} {owner} stays"]
    assert not is_open(number)


def in_a_process_of_its_own(code: str) -> subprocess.CompletedProcess[str]:
    """Runs code that closes what a test needs; `hooks` and `os` are there."""
    program = f"""
    import os, sys
    sys.path.insert(0, {str(TESTS / "support")!r})
    from support_hooks import Hooks
    hooks = Hooks()
    """
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program) + textwrap.dedent(code)],
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("name", ["close_range", "closefrom", "syscall"])
def test_a_range_is_told_before(hooks: Hooks, name: str) -> None:
    if not hooks.exists(name):
        pytest.skip(f"this libc has no {name}")
    arguments = {"close_range": (100, 4294967295, 0), "closefrom": (100,)}
    call = arguments.get(name, (436, 100, 4294967295, 0))
    result = in_a_process_of_its_own(f"""
        for fd in (150, 151):
            os.dup2(0, fd)
        hooks.call({name!r}, *{call})
        print(*hooks.told())
        for fd in (150, 151):
            try:
                os.fstat(fd)
            except OSError:
                print("gone")
    """)
    assert result.stdout.splitlines() == ["closing 100 to 4294967295", "gone", "gone"]


@pytest.mark.parametrize("arguments", [(5, 4, 0), (900, 1000, 4), (900, 1000, 64)])
def test_a_range_that_closes_nothing_is_not_told(hooks: Hooks, arguments: tuple[int]) -> None:
    """The wrong way round, marked only, and a flag that there is not."""
    if not hooks.exists("close_range"):
        pytest.skip("this libc has no close_range")
    hooks.number("close_range", *arguments)
    hooks.number("syscall", 436, *arguments)
    assert hooks.told() == []


# --- duplicates ----------------------------------------------------------------------

SYS_DUP = 32 if os.uname().machine == "x86_64" else 23
SYS_FCNTL = 72 if os.uname().machine == "x86_64" else 25
DUPLICATES = [
    ("dup", (), (), "dup"),
    ("fcntl", (), (fcntl.F_DUPFD, 200), "fcntl"),
    ("fcntl64", (), (fcntl.F_DUPFD_CLOEXEC, 200), "fcntl"),
    ("__fcntl", (), (fcntl.F_DUPFD, 200), "fcntl"),
    ("syscall", (SYS_DUP,), (), "dup"),
    ("syscall", (SYS_FCNTL,), (fcntl.F_DUPFD, 200), "dup"),
]


@pytest.mark.parametrize(("name", "before", "after", "said"), DUPLICATES)
def test_a_duplicate_is_told(
    hooks: Hooks,
    fd: int,
    name: str,
    before: tuple[int, ...],
    after: tuple[int, ...],
    said: str,
) -> None:
    copy = hooks.number(name, *before, fd, *after)
    assert copy >= (200 if after else 3)
    assert (hooks.errno, hooks.told()) == (KEPT_ERRNO, [f"duplicated {copy} from {fd}"])
    os.close(copy)
    hooks.parked[fd] = 1
    assert hooks.number(name, *before, fd, *after) == -1
    assert (hooks.errno, hooks.told()) == (errno.EBADF, [f"bad {fd} {said}"])
    hooks.parked[fd] = 0
    os.close(fd)
    assert hooks.number(name, *before, fd, *after) == -1
    assert (hooks.errno, hooks.told()) == (errno.EBADF, [f"bad {fd} {said}"])


SYS_DUP3 = 292 if os.uname().machine == "x86_64" else 24
REPLACES = [
    ("dup2", (), (), "dup2"),
    ("__dup2", (), (), "dup2"),
    ("dup3", (), (os.O_CLOEXEC,), "dup3"),
    ("syscall", (SYS_DUP3,), (os.O_CLOEXEC,), "dup2"),
]


@pytest.mark.parametrize(("name", "before", "after", "said"), REPLACES)
def test_a_replacement_is_told_before_and_after(
    hooks: Hooks,
    fd: int,
    name: str,
    before: tuple[int, ...],
    after: tuple[int, ...],
    said: str,
) -> None:
    assert hooks.number(name, *before, fd, 300, *after) == 300
    assert hooks.told() == [f"replacing 300 from {fd} {said}", f"replaced 300 from {fd}"]
    assert hooks.errno == KEPT_ERRNO
    os.close(300)
    hooks.parked[fd] = 1
    assert hooks.number(name, *before, fd, 300, *after) == -1
    assert (hooks.errno, hooks.told()) == (errno.EBADF, [f"bad {fd} {said}"])


@pytest.mark.parametrize(("name", "before", "after", "said"), REPLACES)
def test_what_will_fail_replaces_nothing(
    hooks: Hooks,
    fd: int,
    name: str,
    before: tuple[int, ...],
    after: tuple[int, ...],
    said: str,
) -> None:
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    for target in (-1, most):
        assert hooks.number(name, *before, fd, target, *after) == -1
        assert (hooks.errno, hooks.told()) == (errno.EBADF, [])
    os.close(fd)
    assert hooks.number(name, *before, fd, 300, *after) == -1
    assert (hooks.errno, hooks.told()) == (errno.EBADF, [f"bad {fd} {said}"])


def test_a_redirection_is_told_after() -> None:
    """A standard stream that is nobody's handle: one question, and no call more."""
    result = in_a_process_of_its_own("""
        fd = os.open("/dev/null", os.O_WRONLY)
        print(hooks.number("dup2", fd, 2) - 2, os.path.sameopenfile(fd, 2))
        os.close(fd)
        print(hooks.number("dup2", fd, 2), *hooks.told(), sep="|")
    """)
    assert result.stdout.splitlines() == ["0 True", "-1|redirected 2 from 3|bad 3 dup2"]


def test_onto_itself_is_a_question(hooks: Hooks, fd: int) -> None:
    assert hooks.number("dup2", fd, fd) == fd
    hooks.parked[fd] = 1
    assert hooks.number("dup2", fd, fd) == -1
    assert hooks.errno == errno.EBADF
    hooks.parked[fd] = 0
    os.close(fd)
    assert hooks.number("dup2", fd, fd) == -1
    assert hooks.number("dup3", 0, 0, os.O_CLOEXEC) == -1
    assert hooks.errno == errno.EINVAL
    assert hooks.number("dup3", 0, 300, 1) == -1
    assert (hooks.errno, hooks.told()) == (errno.EINVAL, [])


# --- fcntl -----------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "before"), [("fcntl", ()), ("syscall", (SYS_FCNTL,))])
@pytest.mark.parametrize("command", [fcntl.F_GETFD, fcntl.F_GETFL])
def test_to_ask_is_no_use(
    hooks: Hooks, fd: int, name: str, before: tuple[int, ...], command: int
) -> None:
    assert hooks.number(name, *before, fd, command) >= 0
    hooks.parked[fd] = 1
    assert hooks.number(name, *before, fd, command) == -1
    assert hooks.errno == errno.EBADF
    hooks.parked[fd] = 0
    os.close(fd)
    assert hooks.number(name, *before, fd, command) == -1
    assert (hooks.errno, hooks.told()) == (errno.EBADF, [])


@pytest.mark.parametrize(("name", "before"), [("fcntl", ()), ("syscall", (SYS_FCNTL,))])
def test_to_set_is_one(hooks: Hooks, fd: int, name: str, before: tuple[int, ...]) -> None:
    assert hooks.number(name, *before, fd, fcntl.F_SETFD, 0) == 0
    assert os.get_inheritable(fd)
    assert hooks.number(name, *before, fd, fcntl.F_SETFD, fcntl.FD_CLOEXEC) == 0
    assert not os.get_inheritable(fd)
    assert hooks.told() == []
    hooks.parked[fd] = 1
    assert hooks.number(name, *before, fd, fcntl.F_SETFD, 0) == -1
    said = "fcntl"
    assert (hooks.errno, hooks.told()) == (errno.EBADF, [f"bad {fd} {said}"])
    assert not os.get_inheritable(fd)


@pytest.mark.usefixtures("company")
def test_a_lock_that_is_waited_for(hooks: Hooks, fd: int) -> None:
    lock = ctypes.create_string_buffer(64)
    ctypes.memmove(lock, ctypes.byref(ctypes.c_short(fcntl.F_RDLCK)), 2)
    assert hooks.number("fcntl", fd, fcntl.F_SETLKW, lock) == 0
    assert hooks.told() == [f"waiting {fd}", "over"]


def test_alone_nothing_is_waited_for() -> None:
    """Nobody could close it meanwhile, and reading costs nothing more."""
    result = in_a_process_of_its_own("""
        import ctypes
        fd = os.open("/dev/zero", os.O_RDONLY)
        assert hooks.call("read", fd, ctypes.create_string_buffer(8), 8) == 8
        print(hooks.told())
    """)
    assert result.stdout == "[]\n"


# --- the terminal ------------------------------------------------------------------------


def test_a_terminal_moves_to_the_standard_numbers() -> None:
    result = in_a_process_of_its_own("""
        import ctypes, pty
        out = os.dup(1)
        master, slave = pty.openpty()
        hooks.parked[slave] = 1
        assert hooks.number("login_tty", slave) == -1
        hooks.parked[slave] = 0
        told = hooks.told()
        os.setsid = None
        if os.fork() == 0:
            assert hooks.number("login_tty", slave) == 0
            told += hooks.told() + [os.ttyname(0)]
            os.write(out, repr((slave, told)).encode())
            os._exit(0)
        os.wait()
    """)
    slave, told = eval(result.stdout)  # what repr wrote
    assert told[:2] == [f"bad {slave} login_tty", f"closing {slave} login_tty raw stays"]
    assert told[2].startswith("/dev/pts/")
