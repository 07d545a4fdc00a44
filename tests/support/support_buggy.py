"""Programs with one bug each: `python support_buggy.py NAME`.

`# BUG` marks the culprit's line, `# VICTIM` that where a victim was opened.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import gc
import os
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple


class Bug(NamedTuple):
    """A program and the one finding that it must get."""

    kind: str
    run: Callable[[Path], None]


BUGS: dict[str, Bug] = {}
Program = Callable[[Path], None]
kept: list[object] = []


def bug(kind: str) -> Callable[[Program], Program]:
    def add(program: Program) -> Program:
        BUGS[program.__name__] = Bug(kind, program)
        return program

    return add


def _open(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT)


# --- leaks ---


@bug("leak")
def connection_that_was_accepted(folder: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        with socket.create_connection(server.getsockname()):
            connection, _ = server.accept()  # BUG
        kept.append(connection)


@bug("leak")
def copy_of_a_descriptor(folder: Path) -> None:
    fd = _open(folder / "a")
    os.dup(fd)  # BUG
    os.close(fd)


@bug("leak")
def one_end_of_a_pair(folder: Path) -> None:
    left, right = socket.socketpair()  # BUG
    kept.append(left)
    right.close()


@bug("leak")
def on_the_error_path(folder: Path) -> None:
    def read_header(path: Path) -> bytes:
        fd = _open(path)  # BUG
        header = os.read(fd, 4)
        if header != b"good":
            raise ValueError(path)
        os.close(fd)
        return header

    for _ in range(3):
        with contextlib.suppress(ValueError):
            read_header(folder / "a")


@bug("leak")
def child_that_nobody_waits_for(folder: Path) -> None:
    pid = os.posix_spawn("/bin/true", ["true"], os.environ)  # BUG
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)


@bug("leak")
def stream_of_a_foreign_call(folder: Path) -> None:
    libc = ctypes.CDLL(None)
    libc.fopen.restype = ctypes.c_void_p
    kept.append(libc.fopen(b"/dev/null", b"r"))  # BUG


@bug("leak")
def number_of_an_epoll(folder: Path) -> None:
    import select

    kept.append(select.epoll())  # BUG


@bug("leak")
def received_descriptor(folder: Path) -> None:
    left, right = socket.socketpair()
    with left, right, open(folder / "a", "w") as file:
        socket.send_fds(left, [b"x"], [file.fileno()])
        socket.recv_fds(right, 1, 1)  # BUG


@bug("leak")
def lock_that_was_given_back(folder: Path) -> None:
    fd = os.open(folder / "lock", os.O_CREAT | os.O_RDWR)  # BUG
    fcntl.flock(fd, fcntl.LOCK_EX)
    fcntl.flock(fd, fcntl.LOCK_UN)


@bug("leak")
def number_of_which_a_copy_is_kept(folder: Path) -> None:
    left, right = socket.socketpair()
    number = left.detach()
    with right, socket.fromfd(number, socket.AF_UNIX, socket.SOCK_STREAM):  # BUG
        pass


@bug("leak")
def walk_half_done(folder: Path) -> None:
    walk = os.fwalk(folder)  # BUG
    next(walk)
    kept.append(walk)


@bug("leak")
def detached_file(folder: Path) -> None:
    left, right = socket.socketpair()
    right.close()
    left.detach()  # BUG


# --- left to a finalizer ---


@bug("abandoned")
def read_in_one_line(folder: Path) -> None:
    (folder / "a").write_text("x")
    assert open(folder / "a").read() == "x"  # noqa: SIM115  # BUG


@bug("abandoned")
def socket_in_a_cycle(folder: Path) -> None:
    class Client:
        def __init__(self) -> None:
            self.socket = socket.socket()  # BUG
            self.itself = self

    Client()
    gc.collect()


@bug("abandoned")
def pipe_of_a_child(folder: Path) -> None:
    child = subprocess.Popen(["true"], stdout=subprocess.PIPE)  # BUG
    child.wait()
    del child


@bug("abandoned")
def database(folder: Path) -> None:
    import sqlite3

    connection = sqlite3.connect(folder / "a")  # BUG
    connection.execute("create table a (b)")
    del connection
    gc.collect()  # it is in a cycle of its own


@bug("abandoned")
def class_with_a_finalizer(folder: Path) -> None:
    class Log:
        def __init__(self) -> None:
            self.fd = _open(folder / "a")  # BUG

        def __del__(self) -> None:
            os.close(self.fd)

    Log()


@bug("abandoned")
def folder_half_read(folder: Path) -> None:
    for name in "abc":
        (folder / name).touch()
    next(os.scandir(folder))  # BUG


# --- numbers ---


@bug("double-release")
def closed_by_both_owners(folder: Path) -> None:
    fd = _open(folder / "a")
    file = os.fdopen(fd, "w")
    file.close()
    with contextlib.suppress(OSError):
        os.close(fd)  # BUG


@bug("use-after-close")
def written_to_after_its_close(folder: Path) -> None:
    reader, writer = os.pipe()
    try:
        os.close(writer)
        os.write(writer, b"x")  # BUG
    except OSError:
        pass
    finally:
        os.close(reader)


@bug("recycled")
def pool_that_closes_twice(folder: Path) -> None:
    fd = _open(folder / "a")
    os.close(fd)
    with open(folder / "b", "w") as victim:  # VICTIM
        with contextlib.suppress(OSError):
            os.close(fd)  # BUG
        with contextlib.suppress(OSError):
            victim.write("precious")
            victim.flush()


@bug("recycled")
def reads_from_somebody_elses(folder: Path) -> None:
    left, right = socket.socketpair()
    number = left.fileno()
    left.close()
    fd = _open(folder / "a")  # VICTIM
    with contextlib.suppress(OSError):
        os.read(number, 1)  # BUG
    os.close(fd)
    right.close()


@bug("recycled")
def stale_number_is_copied(folder: Path) -> None:
    fd = _open(folder / "a")
    os.close(fd)
    other = socket.socket()  # VICTIM
    with contextlib.suppress(OSError):
        os.close(os.dup(fd))  # BUG
    other.close()


@bug("use-after-close")
def used_when_nobody_has_it(folder: Path) -> None:
    fd = _open(folder / "a")
    os.close(fd)
    with contextlib.suppress(OSError):
        os.write(fd, b"x")  # BUG


@bug("use-after-close")
def closed_under_a_reader(folder: Path) -> None:
    left, right = socket.socketpair()
    started = threading.Event()

    def read() -> None:
        started.set()
        with contextlib.suppress(OSError):
            left.recv(1)

    thread = threading.Thread(target=read)
    thread.start()
    started.wait()
    _until_blocked(thread)
    left.close()  # BUG
    right.send(b"x")
    thread.join()
    right.close()


def _until_blocked(thread: threading.Thread) -> None:
    """Until the thread is in its system call."""
    call = Path(f"/proc/self/task/{thread.native_id}/syscall")
    while not call.read_text().startswith("45 "):  # recvfrom
        os.sched_yield()


@bug("closed-behind-owner")
def number_of_a_socket(folder: Path) -> None:
    server = socket.socket()
    os.close(server.fileno())  # BUG
    with contextlib.suppress(OSError):
        server.close()


@bug("closed-behind-owner")
def range_over_a_file(folder: Path) -> None:
    file = open(folder / "a", "w")  # noqa: SIM115
    os.closerange(file.fileno(), file.fileno() + 1)  # BUG
    with contextlib.suppress(OSError):
        file.close()


@bug("closed-behind-owner")
def replaced_by_dup2(folder: Path) -> None:
    file = open(folder / "a", "w")  # noqa: SIM115
    fd = _open(folder / "b")
    os.dup2(fd, file.fileno())  # BUG
    os.close(fd)
    file.close()


@bug("double-owner")
def two_files_of_one_number(folder: Path) -> None:
    import io

    fd = _open(folder / "a")
    first = io.FileIO(fd, "w")
    second = io.FileIO(fd, "w")  # BUG
    first.close()
    with contextlib.suppress(OSError):
        second.close()


@bug("double-owner")
def socket_made_of_a_socket(folder: Path) -> None:
    one = socket.socket()
    two = socket.socket(fileno=one.fileno())  # BUG
    one.close()
    with contextlib.suppress(OSError):
        two.close()


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as scratch:
        BUGS[sys.argv[1]].run(Path(scratch))
