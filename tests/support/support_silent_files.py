"""Correct programs with files and sockets: `python support_silent_files.py NAME`.

Each does what real programs do and cleans up after itself.  The watch must
find nothing in any of them.
"""

from __future__ import annotations

import os
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path

keep: list[object] = []


# --- files ---


def files_in_all_forms(folder: Path) -> None:
    path = folder / "a"
    with open(path, "w", encoding="utf-8") as file:
        file.write("x" * 100_000)
    with open(path, "rb", buffering=0) as raw:
        assert len(raw.read()) == 100_000
    with open(path, "r+b") as file:
        file.seek(5)
        file.truncate()
    fd = os.open(path, os.O_RDONLY)
    try:
        assert os.read(fd, 10) == b"x" * 5
    finally:
        os.close(fd)
    assert path.read_text() == "xxxxx"
    with open(os.open(path, os.O_RDONLY), closefd=True) as file:
        file.read()
    fd = os.open(path, os.O_RDONLY)
    with open(fd, closefd=False) as file:
        file.read()
    os.close(fd)


def chains_of_owners(folder: Path) -> None:
    import io

    fd = os.open(folder / "a", os.O_RDWR | os.O_CREAT)
    with os.fdopen(fd, "w+") as file:
        file.write("x")
    text = open(folder / "a")  # noqa: SIM115
    buffered = text.detach()
    raw = buffered.detach()
    raw.close()
    with io.FileIO(folder / "a", "r+") as raw, io.BufferedRandom(raw) as whole:
        whole.write(b"yy")
    fd = os.open(folder / "a", os.O_RDONLY)
    copy = os.dup(fd)
    os.close(fd)
    with os.fdopen(copy) as file:
        assert file.read() == "yy"


def temporary_files(folder: Path) -> None:
    import shutil

    with tempfile.TemporaryFile() as file:
        file.write(b"x")
    with tempfile.NamedTemporaryFile("w+", dir=folder) as file:
        file.write("x")
        with open(file.name) as again:
            again.read()
    with tempfile.SpooledTemporaryFile(max_size=10) as file:
        file.write(b"x" * 100)
    fd, name = tempfile.mkstemp(dir=folder)
    with os.fdopen(fd, "wb") as file:
        file.write(b"x")
    os.unlink(name)
    with tempfile.TemporaryDirectory(dir=folder) as inner:
        Path(inner, "a").write_text("x")
        os.mkdir(Path(inner, "b"))
    kept = tempfile.mkdtemp(dir=folder)
    Path(kept, "a").touch()
    shutil.rmtree(kept)


def folders(folder: Path) -> None:
    import glob
    import shutil

    for name in ("a", "b/c"):
        (folder / name).mkdir(parents=True)
        (folder / name / "file").write_text("x")
    with os.scandir(folder) as entries:
        assert sum(1 for _ in entries) == 2
    assert len(list(os.walk(folder))) == 4
    assert len(list(os.fwalk(folder))) == 4
    assert len(glob.glob(f"{folder}/**/*", recursive=True)) == 5
    shutil.copytree(folder / "a", folder / "copy")
    shutil.rmtree(folder / "copy")
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    assert sorted(os.listdir(fd)) == ["a", "b"]
    inner = os.open("a", os.O_RDONLY, dir_fd=fd)
    with os.scandir(inner) as entries:
        assert [entry.name for entry in entries] == ["file"]
    os.close(inner)
    os.close(fd)


def mappings(folder: Path) -> None:
    import mmap

    path = folder / "a"
    path.write_bytes(b"x" * 8192)
    with open(path, "r+b") as file, mmap.mmap(file.fileno(), 0) as view:
        view[:1] = b"y"
    with mmap.mmap(-1, 4096) as anonymous:
        anonymous[:1] = b"z"
    with open(path, "r+b") as file:
        view = mmap.mmap(file.fileno(), 4096, access=mmap.ACCESS_READ)
    assert view[:1] == b"y"
    view.close()


def archives_and_databases(folder: Path) -> None:
    import bz2
    import dbm
    import gzip
    import lzma
    import shelve
    import tarfile
    import zipfile

    for module in (gzip, bz2, lzma):
        with module.open(folder / module.__name__, "wb") as file:
            file.write(b"x" * 1000)
        with module.open(folder / module.__name__, "rb") as file:
            assert len(file.read()) == 1000
    with zipfile.ZipFile(folder / "a.zip", "w") as archive:
        archive.writestr("a", "x")
    with zipfile.ZipFile(folder / "a.zip") as archive, archive.open("a") as file:
        assert file.read() == b"x"
    with tarfile.open(folder / "a.tar.gz", "w:gz") as archive:
        archive.add(folder / "a.zip", "a.zip")
    with tarfile.open(folder / "a.tar.gz") as archive:
        member = archive.extractfile("a.zip")
        assert member is not None
        with member:
            member.read()
    with shelve.open(str(folder / "shelf")) as shelf:
        shelf["a"] = 1
    with dbm.open(str(folder / "shelf")) as database:
        assert database.keys()


def sqlite(folder: Path) -> None:
    import contextlib
    import sqlite3

    for mode in ("delete", "wal"):
        path = folder / mode
        with contextlib.closing(sqlite3.connect(path)) as connection:
            connection.execute(f"pragma journal_mode={mode}")
            with connection:
                connection.execute("create table a (b)")
                connection.executemany("insert into a values (?)", [(n,) for n in range(100)])
            with contextlib.closing(sqlite3.connect(path)) as second:
                assert second.execute("select count(*) from a").fetchone() == (100,)
                with contextlib.closing(sqlite3.connect(folder / "backup")) as copy:
                    connection.backup(copy)


def logs_with_rotation(folder: Path) -> None:
    """Closed by logging's own exit handler."""
    import logging
    import logging.handlers

    log = logging.getLogger("test")
    rotating = logging.handlers.RotatingFileHandler(folder / "log", maxBytes=200, backupCount=2)
    timed = logging.handlers.TimedRotatingFileHandler(folder / "timed", when="S")
    log.addHandler(rotating)
    log.addHandler(timed)
    for number in range(100):
        log.warning("message %d", number)
    logging.basicConfig(filename=folder / "root")
    logging.warning("x")


def standard_streams(folder: Path) -> None:
    import contextlib
    import subprocess

    with open(folder / "out", "w") as file, contextlib.redirect_stdout(file):
        print("x")
    saved = os.dup(1)
    fd = os.open(folder / "raw", os.O_WRONLY | os.O_CREAT)
    os.dup2(fd, 1)
    os.close(fd)
    print("redirected", flush=True)
    subprocess.run(["echo", "child"], check=True)
    os.dup2(saved, 1)
    os.close(saved)
    assert (folder / "raw").read_text() == "redirected\nchild\n"
    os.close(0)
    null = os.open(os.devnull, os.O_RDONLY)
    assert null == 0


# --- sockets ---


def numbers_handed_over(folder: Path) -> None:
    import socket

    left, right = socket.socketpair()
    number = left.detach()
    with socket.fromfd(number, socket.AF_UNIX, socket.SOCK_STREAM) as copy:
        copy.send(b"x")
    os.close(number)
    right.close()


def sockets(folder: Path) -> None:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as server:
        with socket.create_connection(server.getsockname()) as client:
            peer, _ = server.accept()
            with peer:
                with client.makefile("rw") as stream, peer.makefile("rb") as lines:
                    stream.write("hello\n")
                    stream.flush()
                    assert lines.readline() == b"hello\n"
                copy = client.dup()
                copy.close()
        again = socket.socket(fileno=server.detach())
        again.close()
    left, right = socket.socketpair()
    number = left.detach()
    with socket.socket(fileno=number) as left, right, open(folder / "a", "w+b") as file:
        socket.send_fds(left, [b"x"], [file.fileno()])
        _, (received,), _, _ = socket.recv_fds(right, 1, 1)
        os.write(received, b"y")
        os.close(received)


def refused_connections(folder: Path) -> None:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as server:
        address = server.getsockname()
    for _ in range(3):
        try:
            socket.create_connection(address, timeout=5)
        except OSError:
            continue
        raise AssertionError


def encrypted(folder: Path) -> None:
    import socket
    import ssl

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    with socket.create_server(("127.0.0.1", 0)) as server:
        plain = socket.create_connection(server.getsockname())
        peer, _ = server.accept()
        with context.wrap_socket(
            plain, do_handshake_on_connect=False, server_hostname="localhost"
        ):
            peer.close()
        plain.close()


def web_server_and_client(folder: Path) -> None:
    import http.client
    import http.server
    import urllib.request

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args: object) -> None:
            super().__init__(*args, directory=str(folder))  # type: ignore[arg-type]

        def log_message(self, *args: object) -> None: ...

    (folder / "page").write_text("x" * 1000)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        host, port = server.server_address[:2]
        for _ in range(5):
            with urllib.request.urlopen(f"http://{host}:{port}/page") as response:
                assert len(response.read()) == 1000
        connection = http.client.HTTPConnection(str(host), port)
        connection.request("GET", "/page")
        assert len(connection.getresponse().read()) == 1000
        connection.close()
        server.shutdown()
        thread.join()


def selectors_and_pipes(folder: Path) -> None:
    import select
    import selectors

    reader, writer = os.pipe()
    with selectors.DefaultSelector() as selector:
        selector.register(reader, selectors.EVENT_READ)
        os.write(writer, b"x")
        assert selector.select()
        selector.unregister(reader)
    assert select.select([reader], [], [], 0)[0]
    with select.epoll() as poll:
        poll.register(reader)
        assert poll.poll(0)
    os.close(reader)
    os.close(writer)
    os.mkfifo(folder / "fifo")
    fd = os.open(folder / "fifo", os.O_RDWR)
    os.close(fd)


def listener_shut_down_by_another_thread(folder: Path) -> None:
    import socket

    server = socket.create_server(("127.0.0.1", 0))
    started = threading.Event()

    def serve() -> None:
        started.set()
        try:
            server.accept()
        except OSError:
            return

    thread = threading.Thread(target=serve)
    thread.start()
    started.wait()
    server.shutdown(socket.SHUT_RDWR)
    thread.join()
    server.close()


# --- the interpreter itself ---


def imports_and_compiles(folder: Path) -> None:
    import compileall
    import importlib
    import runpy
    import zipfile

    (folder / "made.py").write_text("import json, csv\nVALUE = 3\n")
    with zipfile.ZipFile(folder / "packed.zip", "w") as archive:
        archive.writestr("packed.py", "VALUE = 4\n")
    sys.path[:0] = [str(folder), str(folder / "packed.zip")]
    assert importlib.import_module("made").VALUE == 3
    assert importlib.import_module("packed").VALUE == 4
    assert runpy.run_path(str(folder / "made.py"))["VALUE"] == 3
    assert compileall.compile_dir(folder, quiet=1)
    for name in ("ctypes", "decimal", "xml.etree.ElementTree", "unittest", "curses", "readline"):
        importlib.import_module(name)
    exec(
        compile(
            "import wave\nwith open(__import__('os').devnull) as f: f.read()", "<cell>", "exec"
        )
    )


def errors_that_are_handled(folder: Path) -> None:
    import contextlib

    for _ in range(3):
        with contextlib.suppress(FileNotFoundError):
            open(folder / "missing")  # noqa: SIM115
        with contextlib.suppress(IsADirectoryError):
            open(folder)  # noqa: SIM115
        with contextlib.suppress(ValueError):
            os.fdopen(-1)
        with contextlib.suppress(KeyError), open(folder / "a", "w") as file:
            file.write("x")
            raise KeyError
    file = open(folder / "a")  # noqa: SIM115
    file.close()
    file.close()


def generators_run_to_their_end(folder: Path) -> None:
    (folder / "a").write_text("1\n2\n3\n")

    def lines() -> object:
        with open(folder / "a") as file:
            yield from file

    assert len(list(lines())) == 3  # type: ignore[call-overload]
    started = iter(lines())  # type: ignore[call-overload]
    next(started)
    started.close()


def locks_held_for_life(folder: Path) -> None:
    """Only one program of its kind may run: the lock goes with the process."""
    import fcntl

    file = open(folder / "only.one", "w")  # noqa: SIM115
    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    keep.append(file)
    fd = os.open(folder / "only.two", os.O_CREAT | os.O_RDWR)
    fcntl.lockf(fd, fcntl.LOCK_EX)
    fd = os.open(folder / "only.three", os.O_CREAT | os.O_RDWR)
    fcntl.flock(fd, fcntl.LOCK_SH)


def closed_by_exit_handlers(folder: Path) -> None:
    import atexit
    import weakref

    file = open(folder / "a", "w")  # noqa: SIM115
    atexit.register(file.close)
    fd = os.open(folder / "b", os.O_WRONLY | os.O_CREAT)

    class Pool: ...

    pool = Pool()
    keep.append(pool)
    weakref.finalize(pool, os.close, fd)


def foreign_calls(folder: Path) -> None:
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    libc.fopen.restype = ctypes.c_void_p
    libc.fclose.argtypes = [ctypes.c_void_p]
    stream = libc.fopen(b"/dev/null", b"r")
    assert libc.fclose(stream) == 0
    fd = libc.open(b"/dev/null", 0)
    assert libc.close(fd) == 0
    fd = libc.open(b"/dev/null", 0)
    os.close(fd)
    fd = os.open("/dev/null", os.O_RDONLY)
    assert libc.close(fd) == 0
    fd = libc.inotify_init1(0)
    with open(fd, "rb", buffering=0):
        pass


PROGRAMS: dict[str, Callable[[Path], None]] = {
    name: value
    for name, value in list(globals().items())
    if callable(value)
    and getattr(value, "__module__", "") == __name__
    and not name.startswith("_")
}


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as scratch:
        PROGRAMS[sys.argv[1]](Path(scratch))
