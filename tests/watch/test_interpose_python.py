"""Whatever calls libc in a Python process is seen, also what is loaded later."""

from __future__ import annotations

import pathlib
import subprocess
import sys
import textwrap

import pytest
from support_interpose import SOURCES, WATCH, compile_c, needs_interposition

pytestmark = needs_interposition

HERE = pathlib.Path(__file__).parent / "interpose"

PRELUDE = """
import ctypes, os, sys

counters = ctypes.CDLL(sys.argv[1])

def count(*names):
    numbers = [counters.counters_of(name.encode()) for name in names]
    assert -1 not in numbers
    return sum(numbers)

def during(act, *names):
    before = count(*names)
    act()
    return count(*names) - before

OPEN = "open", "open64"
MMAP = "mmap", "mmap64"
assert counters.counters_start() == 0
"""


@pytest.fixture(scope="module")
def counters(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    return compile_c(
        tmp_path_factory.mktemp("counters") / "counters.so",
        "-shared",
        "-fPIC",
        "-fvisibility=hidden",
        HERE / "counters.c",
        *SOURCES,
        f"-I{WATCH}",
        "-ldl",
    )


def run(counters: pathlib.Path, source: str) -> None:
    program = PRELUDE + textwrap.dedent(source)
    done = subprocess.run(
        [sys.executable, "-c", program, counters], capture_output=True, text=True, timeout=120
    )
    # Where functions have stubs in the main program, or a sanitizer's stand before
    # libc's, memray says that it noticed.
    told = [line for line in done.stderr.splitlines() if "Correcting symbol" not in line]
    assert (done.stdout, told, done.returncode) == ("", [], 0)


def test_builtin_modules(counters: pathlib.Path) -> None:
    run(
        counters,
        """
        def files():
            os.close(os.open("/dev/null", os.O_RDONLY))
            open("/dev/null").close()

        assert during(files, *OPEN) == 2
        assert during(files, "close") == 2
        counters.counters_stop()
        assert during(files, "close", *OPEN) == 0
        """,
    )


def test_extension_modules_imported_later(counters: pathlib.Path) -> None:
    run(
        counters,
        """
        assert "_socket" not in sys.modules and "mmap" not in sys.modules
        import mmap
        import socket

        def sockets():
            socket.socket().close()

        def maps():
            with open("/etc/passwd") as file:
                mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ).close()

        assert during(sockets, "socket") == 1
        assert during(sockets, "close") == 1
        assert during(maps, *MMAP) >= 1
        """,
    )


def test_sqlite_that_keeps_a_table_of_functions(
    counters: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    pytest.importorskip("sqlite3")
    run(
        counters,
        f"""
        import sqlite3

        def database():
            connection = sqlite3.connect({str(tmp_path / "base")!r})
            connection.execute("PRAGMA user_version").fetchall()
            connection.close()

        database()
        assert during(database, *OPEN) == 1
        assert during(database, "close") == 1
        """,
    )


@pytest.mark.parametrize("library", ["None", "'libc.so.6'"])
def test_ctypes(counters: pathlib.Path, library: str) -> None:
    run(
        counters,
        f"""
        libc = ctypes.CDLL({library})

        def act():
            assert libc.close(libc.open(b"/dev/null", os.O_RDONLY)) == 0

        assert during(act, "open") == 1
        assert during(act, "close") == 1
        file = libc.fopen64
        file.restype = ctypes.c_void_p
        assert during(lambda: file(b"/dev/null", b"r"), "fopen64") == 1
        """,
    )


def test_cffi(counters: pathlib.Path) -> None:
    pytest.importorskip("cffi")
    run(
        counters,
        """
        import cffi

        ffi = cffi.FFI()
        ffi.cdef("int open(const char *, int, ...); int close(int);")
        libc = ffi.dlopen(None)

        def act():
            assert libc.close(libc.open(b"/dev/null", os.O_RDONLY)) == 0

        act()
        assert during(act, "open") == 1
        assert during(act, "close") == 1
        """,
    )


@pytest.mark.parametrize("first", ["counters", "memray"])
def test_a_memory_profiler_beside_us(
    counters: pathlib.Path, tmp_path: pathlib.Path, first: str
) -> None:
    """It replaces mmap() in all objects too; whoever came first, both see what is theirs."""
    pytest.importorskip("memray")
    run(
        counters,
        f"""
        import mmap
        import memray

        def maps():
            with open("/etc/passwd") as file:
                mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ).close()

        recording = {str(tmp_path / "memory.bin")!r}
        if {first == "memray"}:
            counters.counters_stop()
        with memray.Tracker(recording, native_traces=False):
            assert counters.counters_start() == 0
            counters.counters_verify()
            assert during(maps, *OPEN) == 1
            assert during(maps, *MMAP) == 0
            assert counters.counters_foreign() > 0
        counters.counters_verify()
        assert counters.counters_foreign() == 0
        assert during(maps, *MMAP) >= 1
        with memray.FileReader(recording) as reader:
            assert any(
                record.allocator == memray.AllocatorType.MMAP
                for record in reader.get_allocation_records()
            )
        counters.counters_stop()
        """,
    )
