"""Python objects that own descriptors: what they take, give away, and how it ends."""

from __future__ import annotations

import pathlib

import pytest
from support_owners import Watched, watch

PRELUDE = """
import ctypes, gc, io, mmap, os, pickle, select, socket, sqlite3, tempfile

libc = ctypes.CDLL(None)


class PlainFile(io.FileIO):
    pass


class OwnFile(io.FileIO):
    def __init__(self, *args, **options):
        super().__init__(*args, **options)
        self.extra = 1


class Busy(io.RawIOBase):
    def close(self):
        with open(__file__) as f:
            f.read()
        super().close()


class Last:
    def __del__(self):
        with open(__file__) as f:
            f.read()
        os.close(os.open(__file__, os.O_RDONLY))
        open(__file__)


class PlainSocket(socket.socket):
    pass


class OwnSocket(socket.socket):
    def __init__(self, *args, **options):
        super().__init__(*args, **options)


class OwnMapping(mmap.mmap):
    def __new__(cls, *args, **options):
        return super().__new__(cls, *args, **options)


def descriptor(folder):
    return os.open(folder + "/x", os.O_RDWR | os.O_CREAT)


def memory():
    fd = os.memfd_create("m")
    os.ftruncate(fd, 4096)
    return fd
"""

# body: the owners of what it opens, oldest first, and how each ends.
ENDS = {
    "file_closed": ("open(folder + '/a', 'w').close()", "FileIO closed"),
    "file_with": ("with open(folder + '/a', 'w') as f: f.write('x')", "FileIO closed"),
    "file_dropped": ("f = open(folder + '/a', 'w')\ndel f", "FileIO dropped"),
    "file_read_in_passing": ("open(__file__).read()", "FileIO dropped"),
    "file_binary_dropped": ("open(__file__, 'rb', buffering=0)", "FileIO dropped"),
    "file_buffered_dropped": ("open(folder + '/a', 'w+b')", "FileIO dropped"),
    "file_collected": (
        "f = open(folder + '/a', 'w')\nf.buffer.raw.me = f\ndel f\ngc.collect()",
        "FileIO collected",
    ),
    "file_fileno_of_dropped": ("fd = open(__file__).fileno()", "FileIO dropped"),
    "file_number": ("io.FileIO(descriptor(folder)).close()", "FileIO closed"),
    "file_fdopen": ("os.fdopen(descriptor(folder), 'w').close()", "FileIO closed"),
    "file_fdopen_dropped": ("os.fdopen(descriptor(folder), 'w')", "FileIO dropped"),
    "file_borrowed": (
        "fd = descriptor(folder)\nos.fdopen(fd, 'w', closefd=False).close()\nos.close(fd)",
        "raw closed",
    ),
    "file_again": (
        "f = io.FileIO(folder + '/a', 'w')\nf.__init__(folder + '/b', 'w')\nf.close()",
        "FileIO closed, FileIO closed",
    ),
    "file_refused": (
        "try:\n    io.FileIO(folder, 'r')\nexcept IsADirectoryError:\n    pass",
        "FileIO closed",
    ),
    "file_opener": (
        "def opener(path, flags):\n    return os.open(path, flags)\n"
        "open(folder + '/a', 'w', opener=opener).close()",
        "FileIO closed",
    ),
    "file_plain_subclass": ("PlainFile(folder + '/a', 'w')", "FileIO dropped"),
    "file_subclass": ("OwnFile(folder + '/a', 'w').close()", "FileIO closed"),
    "file_late_subclass": (
        "class Late(io.FileIO):\n    pass\nLate(descriptor(folder)).close()",
        "FileIO closed",
    ),
    "file_in_generator": (
        "def lines():\n    with open(__file__) as f:\n        yield from f\n"
        "g = lines()\nnext(g)\ng.close()",
        "FileIO closed",
    ),
    "file_del_overridden": (
        "class Own(io.FileIO):\n    def __del__(self):\n        super().__del__()\n"
        "Own(folder + '/a', 'w')",
        "FileIO dropped",
    ),
    "opened_while_dropped": ("Busy()", "FileIO closed"),
    "opened_while_collected": (
        "b = Busy()\nb.me = b\ndel b\ngc.collect()",
        "FileIO closed",
    ),
    "opened_in_del": (
        "a = Last()\na.me = a\ndel a\ngc.collect()",
        "FileIO closed, raw closed, FileIO collected",
    ),
    "temporary_dropped": ("tempfile.TemporaryFile(dir=folder)", "FileIO dropped"),
    "socket_closed": ("socket.socket().close()", "socket closed"),
    "socket_with": ("with socket.socket(): pass", "socket closed"),
    "socket_dropped": ("socket.socket()", "socket dropped"),
    "socket_collected": (
        "s = PlainSocket()\ns.me = s\ndel s\ngc.collect()",
        "socket collected",
    ),
    "socket_pair": (
        "a, b = socket.socketpair()\na.close()\nb.close()",
        "socket closed, socket closed",
    ),
    "socket_by_number": (
        "s = socket.socket()\nsocket.socket(fileno=s.detach()).close()",
        "socket closed",
    ),
    "socket_detached": ("os.close(socket.socket().detach())", "raw closed"),
    "socket_dup": (
        "s = socket.socket()\ns.dup().close()\ns.close()",
        "socket closed, socket closed",
    ),
    "socket_accepted": (
        "l = socket.create_server(('127.0.0.1', 0))\nc = socket.create_connection("
        "l.getsockname())\ns, _ = l.accept()\ns.close()\nc.close()\nl.close()",
        "socket closed, socket closed, socket closed",
    ),
    "socket_makefile": (
        "s = socket.socket()\nf = s.makefile('rb')\ns.close()\nf.close()",
        "socket closed",
    ),
    "socket_subclass": ("OwnSocket().close()", "socket closed"),
    "socket_plain_subclass": ("PlainSocket().close()", "socket closed"),
    "mmap_closed": (
        "fd = memory()\nm = mmap.mmap(fd, 4096)\nos.close(fd)\nm.close()",
        "raw closed, mmap closed",
    ),
    "mmap_dropped": (
        "fd = memory()\nmmap.mmap(fd, 4096)\nos.close(fd)",
        "raw closed, mmap dropped",
    ),
    "mmap_subclass": (
        "fd = memory()\nm = OwnMapping(fd, 4096)\nm.close()\nos.close(fd)",
        "raw closed, mmap closed",
    ),
    "mmap_collected": (
        "class Late(mmap.mmap):\n    pass\nfd = memory()\nm = Late(fd, 4096)\nm.me = m\ndel m\n"
        "gc.collect()\nos.close(fd)",
        "raw closed, mmap collected",
    ),
    "mmap_without": ("mmap.mmap(-1, 4096).close()", ""),
    "epoll_closed": ("select.epoll().close()", "epoll closed"),
    "epoll_dropped": ("select.epoll()", "epoll dropped"),
    "epoll_by_number": (
        "e = select.epoll()\nselect.epoll.fromfd(os.dup(e.fileno())).close()\ne.close()",
        "epoll closed, epoll closed",
    ),
    "scandir_closed": ("with os.scandir(folder) as i: list(i)", "scandir closed"),
    "scandir_exhausted": ("list(os.scandir(folder))", "scandir closed"),
    "scandir_dropped": (
        "open(folder + '/a', 'w').close()\ni = os.scandir(folder)\ndel i",
        "FileIO closed, scandir dropped",
    ),
    "listdir": ("os.listdir(folder)", "scandir closed"),
}


@pytest.fixture(scope="module")
def ends(tmp_path_factory: pytest.TempPathFactory) -> Watched:
    """All of them in one program."""
    bodies = {name: body for name, (body, _) in ENDS.items()}
    return watch(bodies, tmp_path_factory.mktemp("ends"), prelude=PRELUDE)


@pytest.mark.parametrize("name", ENDS)
def test_owners_and_endings(ends: Watched, name: str) -> None:
    """What an object opens or takes over is its own, and ends as the object did."""
    handles = ends.opened_in(name)
    assert ", ".join(f"{handle.owner} {handle.ending}" for handle in handles) == ENDS[name][1]


@pytest.mark.parametrize("name", ENDS)
def test_nothing_but_abandonment_is_found(ends: Watched, name: str) -> None:
    dropped = {"dropped", "collected"}
    expected = [h.serial for h in ends.opened_in(name) if h.ending in dropped]
    found = ends.found_in(name)
    assert {finding.kind for finding in found} <= {"abandoned"}
    assert sorted(serial for finding in found for serial in finding.serials) == expected


SQLITE = {
    "sqlite_closed": (
        "db = sqlite3.connect(folder + '/a')\ndb.execute('create table t(x)')\ndb.close()",
        "closed",
    ),
    "sqlite_dropped": (
        "db = sqlite3.connect(folder + '/a')\ndb.execute('create table t(x)')\ndel db\n"
        "gc.collect()",
        "collected dropped",
    ),
}


@pytest.mark.parametrize("name", SQLITE)
def test_sqlite_owns_its_files(name: str, tmp_path: pathlib.Path) -> None:
    """What the library opens for a connection ends as the connection does."""
    handles = watch({name: SQLITE[name][0]}, tmp_path, prelude=PRELUDE).opened_in(name)
    database = [handle for handle in handles if (handle.detail or "").endswith("/a")]
    assert [handle.owner for handle in database] == ["sqlite3"]
    assert database[0].ending in SQLITE[name][1].split()
    assert {handle.owner for handle in handles} == {"sqlite3"}


WRONG = {
    "os_close": (
        "f = open(folder + '/a', 'w')\nos.close(f.fileno())  # culprit\n"
        "try:\n    f.close()\nexcept OSError:\n    pass",
        "closed-behind-owner",
    ),
    "os_close_of_socket": (
        "s = socket.socket()\nos.close(s.fileno())  # culprit\n"
        "try:\n    s.close()\nexcept OSError:\n    pass",
        "closed-behind-owner",
    ),
    "os_close_of_epoll": (
        "e = select.epoll()\nos.close(e.fileno())  # culprit\n"
        "try:\n    e.close()\nexcept OSError:\n    pass",
        "closed-behind-owner",
    ),
    "os_close_of_adopted": (
        "fd = descriptor(folder)\nf = os.fdopen(fd, 'w')\nos.close(fd)  # culprit\n"
        "try:\n    f.close()\nexcept OSError:\n    pass",
        "closed-behind-owner",
    ),
    "os_close_of_subclass": (
        "f = OwnFile(folder + '/a', 'w')\nos.close(f.fileno())  # culprit\n"
        "try:\n    f.close()\nexcept OSError:\n    pass",
        "closed-behind-owner",
    ),
    "socket_close_number": (
        "s = socket.socket()\nsocket.close(s.fileno())  # culprit\n"
        "try:\n    s.close()\nexcept OSError:\n    pass",
        "closed-behind-owner",
    ),
    "ctypes_close": (
        "f = open(folder + '/a', 'w')\nlibc.close(f.fileno())  # culprit\n"
        "try:\n    f.close()\nexcept OSError:\n    pass",
        "closed-behind-owner",
    ),
    "dup2_over_file": (
        "f = open(folder + '/a', 'w')\nfd = descriptor(folder)\n"
        "os.dup2(fd, f.fileno())  # culprit\nos.close(fd)\nf.close()",
        "closed-behind-owner",
    ),
    "dup2_over_socket": (
        "s = socket.socket()\nfd = descriptor(folder)\n"
        "os.dup2(fd, s.fileno(), inheritable=False)  # culprit\nos.close(fd)\ns.close()",
        "closed-behind-owner",
    ),
    "closerange_over_file": (
        "f = open(folder + '/a', 'w')\n"
        "os.closerange(f.fileno(), f.fileno() + 1)  # culprit\n"
        "try:\n    f.close()\nexcept OSError:\n    pass",
        "closed-behind-owner",
    ),
    "fdopen_twice": (
        "fd = descriptor(folder)\nf = os.fdopen(fd, 'w')\ng = os.fdopen(fd, 'w')  # culprit\n"
        "f.close()\ntry:\n    g.close()\nexcept OSError:\n    pass",
        "double-owner",
    ),
    "two_sockets": (
        "s = socket.socket()\nt = socket.socket(fileno=s.fileno())  # culprit\n"
        "t.close()\ntry:\n    s.close()\nexcept OSError:\n    pass",
        "double-owner",
    ),
    "file_over_socket": (
        "s = socket.socket()\nf = os.fdopen(s.fileno(), 'rb', 0)  # culprit\n"
        "f.close()\ntry:\n    s.close()\nexcept OSError:\n    pass",
        "double-owner",
    ),
    "two_epolls": (
        "e = select.epoll()\nf = select.epoll.fromfd(e.fileno())  # culprit\n"
        "f.close()\ntry:\n    e.close()\nexcept OSError:\n    pass",
        "double-owner",
    ),
    "detach_forgotten": ("s = socket.socket()\ns.detach()  # culprit", "leak"),
}


def culprit_line(name: str, folder: pathlib.Path) -> int:
    lines = (folder / "program" / "functions.py").read_text().splitlines()
    (line,) = [n for n, text in enumerate(lines, 1) if text.endswith("# culprit")]
    return line


@pytest.mark.parametrize("quarantine", [32, 0], ids=["parked", "not parked"])
@pytest.mark.parametrize("name", WRONG)
def test_the_culprit_is_told(name: str, quarantine: int, tmp_path: pathlib.Path) -> None:
    """One finding, at the line that took away what another object owned."""
    body, kind = WRONG[name]
    seen = watch({name: body}, tmp_path, prelude=PRELUDE, quarantine=quarantine)
    assert [finding.kind for finding in seen.findings] == [kind]
    here = [frame.line for frame in seen.findings[0].culprit if frame.function == name]
    assert here == [culprit_line(name, tmp_path)]


RIGHT = {
    "ssl_wrapped": """
        import ssl
        a, b = socket.socketpair()
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        wrapped = context.wrap_socket(a, do_handshake_on_connect=False)
        wrapped.close()
        b.close()
        """,
    "asyncio_server": """
        import asyncio

        async def serve(reader, writer):
            writer.write(await reader.readline())
            await writer.drain()
            writer.close()
            await writer.wait_closed()

        async def main():
            server = await asyncio.start_server(serve, "127.0.0.1", 0)
            address = server.sockets[0].getsockname()
            for _ in range(5):
                reader, writer = await asyncio.open_connection(*address)
                writer.write(b"x\\n")
                assert await reader.readline() == b"x\\n"
                writer.close()
                await writer.wait_closed()
            server.close()
            await server.wait_closed()

        asyncio.run(main())
        """,
    "connections": """
        import multiprocessing
        a, b = multiprocessing.Pipe()
        a.send(1)
        assert b.recv() == 1
        a.close()
        b.close()
        """,
    "pool_by_fork": """
        import multiprocessing
        with multiprocessing.get_context("fork").Pool(2) as pool:
            assert pool.map(abs, [-1, 2]) == [1, 2]
            pool.close()
            pool.join()
        """,
    "sockets_over_sockets": """
        a, b = socket.socketpair()
        with open(folder + "/a", "w") as f:
            socket.send_fds(a, [b"x"], [f.fileno()])
        _, (fd,), _, _ = socket.recv_fds(b, 1, 1)
        os.fdopen(fd, "w").close()
        a.close()
        b.close()
        """,
    "patched_module": """
        class Patched(socket.socket):
            def close(self):
                super().close()
        original = socket.socket
        socket.socket = Patched
        try:
            a, b = socket.socketpair()
            a.close()
            b.close()
            with socket.create_server(("127.0.0.1", 0)):
                pass
        finally:
            socket.socket = original
        """,
    "wrapped_socket": """
        class Green:
            def __init__(self):
                self.sock = socket.socket()
            def detach(self):
                return self.sock.detach()
            def close(self):
                self.sock.close()
        green = Green()
        number = green.detach()
        green.close()
        again = Green()
        os.close(number)
        again.close()
        """,
    "standard_output_moved": """
        saved = os.dup(1)
        with open(folder + "/out", "w") as out:
            os.dup2(out.fileno(), 1)
            os.dup2(saved, 1)
        os.close(saved)
        """,
    "handed_on": """
        f = open(folder + "/a", "w")
        fd = os.dup(f.fileno())
        f.close()
        g = os.fdopen(fd, "w")
        g.close()
        """,
    "refused_number": """
        fd = descriptor(folder)
        try:
            os.fdopen(fd, "nonsense")
        except ValueError:
            os.close(fd)
        """,
    "refused_socket": """
        fd = descriptor(folder)
        try:
            socket.socket(fileno=fd)
        except OSError:
            os.close(fd)
        """,
    "printed_by_c": """
        f = open(folder + "/a", "w")
        libc.fdopen.restype = ctypes.c_void_p
        stream = ctypes.c_void_p(libc.fdopen(f.fileno(), b"w"))
        libc.fflush(stream)
        f.close()
        """,
    "pickled": """
        f = open(folder + "/a", "w")
        try:
            pickle.dumps(f)
        except TypeError:
            f.close()
        """,
}


@pytest.mark.parametrize("quarantine", [32, 0], ids=["parked", "not parked"])
@pytest.mark.parametrize("name", RIGHT)
def test_correct_programs_are_silent(name: str, quarantine: int, tmp_path: pathlib.Path) -> None:
    seen = watch({name: RIGHT[name]}, tmp_path, prelude=PRELUDE, quarantine=quarantine)
    assert [finding.message for finding in seen.findings] == []
