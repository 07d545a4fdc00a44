"""All the ways to get a descriptor or a child process, and to give it back.

Each case is the body of a function of one program that runs them all, and what
its recording must tell of the handles that the function acquired, in order:
(kind, owner, ending).  The function itself must be the site of all of them.
"""

from __future__ import annotations

import os
import textwrap

__all__ = ["CASES", "PRELUDE", "USES", "Expected", "program"]

Expected = tuple[str, str, str]  # kind, owner, ending

FILE = ("file", "raw", "closed")
PIPE = ("pipe", "raw", "closed")
SOCKET = ("socket", "raw", "closed")

PRELUDE = """
import asyncio, contextlib, ctypes, encodings.idna, errno, fcntl, gc, io, mmap, os, pathlib
import select, selectors, shutil, socket, socketserver, sqlite3, subprocess, sys
import tarfile, tempfile, threading, zipfile

libc = ctypes.CDLL(None, use_errno=True)
for name in ("fopen", "fdopen", "freopen", "tmpfile", "popen", "opendir", "fdopendir"):
    getattr(libc, name).restype = ctypes.c_void_p
for name in ("fclose", "pclose", "closedir", "dirfd", "fileno"):
    getattr(libc, name).argtypes = [ctypes.c_void_p]
libc.freopen.argtypes = [ctypes.c_char_p, ctypes.c_char_p, ctypes.c_void_p]
libc.syscall.restype = ctypes.c_long

CLOSE = {"x86_64": 3, "aarch64": 57}[os.uname().machine]  # its system call
NULL = os.devnull
PATH = os.path.join(os.getcwd(), "file")
pathlib.Path(PATH).write_bytes(bytes(8192))


def good(fd):
    assert fd > 2, (fd, os.strerror(ctypes.get_errno()))
    return fd
"""

CASES: dict[str, tuple[str, list[Expected]]] = {}


def case(name: str, body: str, *expected: Expected) -> None:
    assert name not in CASES
    CASES[name] = textwrap.dedent(body).strip(), list(expected)


def made_by_libc(name: str, call: str, kind: str) -> None:
    """A function of libc that returns a descriptor, called with ctypes."""
    case(f"ctypes_{name}", f"os.close(good(libc.{call}))", (kind, "raw", "closed"))


# --- files and directories, from Python

case("os_open", "os.close(os.open(NULL, os.O_RDONLY))", FILE)
case(
    "os_open_directory",
    "os.close(os.open('.', os.O_RDONLY | os.O_DIRECTORY))",
    ("directory", "raw", "closed"),
)
case(
    "os_open_in_directory",
    """
    folder = os.open(".", os.O_RDONLY | os.O_DIRECTORY)
    os.close(os.open("file", os.O_RDONLY, dir_fd=folder))
    os.close(folder)
    """,
    ("directory", "raw", "closed"),
    FILE,
)
case("open_close", "open(PATH).close()", ("file", "FileIO", "closed"))
case(
    "open_with",
    """
    with open(PATH, "rb") as file:
        file.read()
    """,
    ("file", "FileIO", "closed"),
)
case("open_unbuffered", "open(PATH, 'rb', buffering=0).close()", ("file", "FileIO", "closed"))
case("file_io", "io.FileIO(PATH).close()", ("file", "FileIO", "closed"))
case("path_open", "pathlib.Path(PATH).open().close()", ("file", "FileIO", "closed"))
case("path_read", "pathlib.Path(PATH).read_bytes()", ("file", "FileIO", "closed"))
case("os_fdopen", "os.fdopen(os.open(PATH, os.O_RDONLY)).close()", ("file", "FileIO", "closed"))
case("file_dropped", "open(PATH)", ("file", "FileIO", "dropped"))
case(
    "file_collected",
    """
    file = open(PATH)
    loop = [file]
    loop.append(loop)
    del file, loop
    gc.collect()
    """,
    ("file", "FileIO", "collected"),
)
case("mkstemp", "os.close(tempfile.mkstemp(dir='.')[0])", FILE)
case("temporary_file", "tempfile.TemporaryFile(dir='.').close()", ("file", "FileIO", "closed"))
case("copyfile", "shutil.copyfile(PATH, 'copy')", *[("file", "FileIO", "closed")] * 2)
case(
    "scandir",
    """
    with os.scandir(".") as entries:
        next(entries)
    """,
    ("directory", "scandir", "closed"),
)
case("scandir_exhausted", "list(os.scandir('.'))", ("directory", "scandir", "closed"))
case("listdir", "os.listdir('.')", ("directory", "scandir", "closed"))

# --- duplicates

case(
    "os_dup_of_file",
    """
    fd = os.open(PATH, os.O_RDONLY)
    os.close(os.dup(fd))
    os.close(fd)
    """,
    FILE,
    FILE,
)
case(
    "os_dup2_over",
    """
    reader, writer = os.pipe()
    fd = os.open(PATH, os.O_RDONLY)
    os.dup2(fd, reader)
    for each in (fd, reader, writer):
        os.close(each)
    """,
    ("pipe", "raw", "closed"),
    ("pipe", "raw", "closed"),
    FILE,
    FILE,
)
case(
    "fcntl_dup",
    """
    fd = os.open(PATH, os.O_RDONLY)
    os.close(fcntl.fcntl(fd, fcntl.F_DUPFD, 3))
    os.close(fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 3))
    os.close(fd)
    """,
    FILE,
    FILE,
    FILE,
)
case(
    "ctypes_dup",
    """
    fd = os.open(PATH, os.O_RDONLY)
    os.close(good(libc.dup(fd)))
    os.close(good(libc.dup2(fd, 200)))
    os.close(good(libc.dup3(fd, 201, os.O_CLOEXEC)))
    os.close(fd)
    """,
    FILE,
    FILE,
    FILE,
    FILE,
)

# --- pipes, sockets, and what there is to wait on

case(
    "os_pipe",
    """
    for fd in os.pipe():
        os.close(fd)
    """,
    PIPE,
    PIPE,
)
case(
    "os_pipe2",
    """
    for fd in os.pipe2(os.O_NONBLOCK):
        os.close(fd)
    """,
    PIPE,
    PIPE,
)
case(
    "ctypes_pipe",
    """
    ends = (ctypes.c_int * 2)()
    assert libc.pipe(ends) == 0
    for fd in ends:
        assert libc.close(fd) == 0
    """,
    PIPE,
    PIPE,
)
case("socket_close", "socket.socket().close()", ("socket", "socket", "closed"))
case(
    "socket_with",
    """
    with socket.socket(socket.AF_UNIX) as it:
        it.fileno()
    """,
    ("socket", "socket", "closed"),
)
case("socket_dropped", "socket.socket()", ("socket", "socket", "dropped"))
case("socket_detach", "os.close(socket.socket().detach())", SOCKET)
case(
    "socket_by_number",
    "socket.socket(fileno=socket.socket().detach()).close()",
    ("socket", "socket", "closed"),
)
case(
    "socketpair",
    """
    for it in socket.socketpair():
        it.close()
    """,
    ("socket", "socket", "closed"),
    ("socket", "socket", "closed"),
)
case(
    "accept",
    """
    listener = socket.create_server(("127.0.0.1", 0))
    client = socket.create_connection(listener.getsockname())
    server, _ = listener.accept()
    for it in (server, client, listener):
        it.close()
    """,
    ("socket", "socket", "closed"),
    ("socket", "socket", "closed"),
    ("socket", "socket", "closed"),
)
case(
    "socket_makefile",
    """
    one, other = socket.socketpair()
    file = one.makefile("rb")
    one.close()
    file.close()
    other.close()
    """,
    ("socket", "socket", "closed"),
    ("socket", "socket", "closed"),
)
case(
    "ctypes_socket",
    """
    ends = (ctypes.c_int * 2)()
    assert libc.socketpair(socket.AF_UNIX, socket.SOCK_STREAM, 0, ends) == 0
    for fd in (*ends, good(libc.socket(socket.AF_INET, socket.SOCK_DGRAM, 0))):
        assert libc.close(fd) == 0
    """,
    SOCKET,
    SOCKET,
    SOCKET,
)
case(
    "received",
    """
    one, other = socket.socketpair()
    fd = os.open(PATH, os.O_RDONLY)
    socket.send_fds(one, [b"x"], [fd])
    _, (received,), _, _ = socket.recv_fds(other, 10, 4)
    for each in (fd, received):
        os.close(each)
    one.close()
    other.close()
    """,
    ("socket", "socket", "closed"),
    ("socket", "socket", "closed"),
    FILE,
    ("descriptor", "raw", "closed"),
)
case("epoll", "select.epoll().close()", ("epoll", "epoll", "closed"))
case("epoll_selector", "selectors.EpollSelector().close()", ("epoll", "epoll", "closed"))
made_by_libc("epoll_create", "epoll_create(1)", "epoll")
made_by_libc("epoll_create1", "epoll_create1(0)", "epoll")
case("eventfd", "os.close(os.eventfd(0))", ("eventfd", "raw", "closed"))
made_by_libc("eventfd", "eventfd(0, 0)", "eventfd")
made_by_libc("timerfd_create", "timerfd_create(1, 0)", "timerfd")
made_by_libc("signalfd", "signalfd(-1, bytes(128), 0)", "signalfd")
made_by_libc("inotify_init", "inotify_init()", "inotify")
made_by_libc("inotify_init1", "inotify_init1(0)", "inotify")
case("memfd", "os.close(os.memfd_create('memory'))", ("memfd", "raw", "closed"))
made_by_libc("memfd_create", "memfd_create(b'memory', 0)", "memfd")
case("pidfd", "os.close(os.pidfd_open(os.getpid()))", ("pidfd", "raw", "closed"))
case(
    "shm_open",
    """
    name = b"/shd-%d" % os.getpid()
    fd = good(libc.shm_open(name, os.O_CREAT | os.O_RDWR, 0o600))
    assert libc.shm_unlink(name) == 0
    os.close(fd)
    """,
    ("memfd", "raw", "closed"),
)
case(
    "openpty",
    """
    for fd in os.openpty():
        os.close(fd)
    """,
    ("terminal", "raw", "closed"),
    ("terminal", "raw", "closed"),
)
made_by_libc("posix_openpt", "posix_openpt(os.O_RDWR)", "terminal")

# --- mappings

case(
    "mmap",
    """
    with open(PATH, "rb") as file:
        mapping = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    mapping.close()
    """,
    ("file", "FileIO", "closed"),
    ("file", "mmap", "closed"),
)
case("mmap_anonymous", "mmap.mmap(-1, 4096).close()")

# --- C: files, directories, temporary files

made_by_libc("open", "open(PATH.encode(), os.O_RDONLY)", "file")
made_by_libc("open64", "open64(PATH.encode(), os.O_RDONLY)", "file")
made_by_libc("openat", "openat(-100, PATH.encode(), os.O_RDONLY)", "file")
made_by_libc("creat", "creat(PATH.encode(), 0o600)", "file")
made_by_libc("mkstemp", "mkstemp(ctypes.create_string_buffer(b'tXXXXXX'))", "file")
made_by_libc("mkostemp", "mkostemp(ctypes.create_string_buffer(b'tXXXXXX'), 0)", "file")
case("ctypes_fopen", "libc.fclose(libc.fopen(PATH.encode(), b'r'))", ("file", "FILE", "closed"))
case("ctypes_tmpfile", "libc.fclose(libc.tmpfile())", ("file", "FILE", "closed"))
case(
    "ctypes_fdopen",
    "libc.fclose(libc.fdopen(os.open(PATH, os.O_RDONLY), b'r'))",
    ("file", "FILE", "closed"),
)
case(
    "ctypes_freopen",
    """
    file = libc.fopen(PATH.encode(), b"r")
    file = libc.freopen(NULL.encode(), b"r", file)
    assert libc.fclose(file) == 0
    """,
    ("file", "FILE", "closed"),
    ("file", "FILE", "closed"),
)
case("ctypes_opendir", "libc.closedir(libc.opendir(b'.'))", ("directory", "DIR", "closed"))
case(
    "ctypes_fdopendir",
    "libc.closedir(libc.fdopendir(os.open('.', os.O_RDONLY | os.O_DIRECTORY)))",
    ("directory", "DIR", "closed"),
)
case(
    "ctypes_popen",
    "assert libc.pclose(libc.popen(b'exit 0', b'r')) == 0",
    ("pipe", "FILE", "closed"),
)

# --- closing

case("ctypes_close", "assert libc.close(os.open(NULL, os.O_RDONLY)) == 0", FILE)
case(
    "closerange",
    """
    first = os.open(NULL, os.O_RDONLY)
    second = os.open(NULL, os.O_RDONLY)
    os.closerange(min(first, second), max(first, second) + 1)
    """,
    FILE,
    FILE,
)
case(
    "ctypes_close_range",
    """
    fd = os.open(NULL, os.O_RDONLY)
    assert libc.fcntl(fd, fcntl.F_DUPFD, 300) == 300
    assert libc.close_range(300, 300, 0) == 0
    os.close(fd)
    """,
    FILE,
    FILE,
)
case(
    "close_by_system_call",
    """
    fd = os.open(NULL, os.O_RDONLY)
    assert libc.syscall(ctypes.c_long(CLOSE), ctypes.c_long(fd)) == 0
    """,
    FILE,
)

# --- other people's code

case(
    "sqlite",
    """
    connection = sqlite3.connect("base")
    connection.execute("PRAGMA user_version").fetchall()
    connection.close()
    """,
    ("file", "sqlite3", "closed"),
)

# --- child processes

CHILD = ("child", "raw", "closed")
case(
    "fork_wait",
    """
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)
    """,
    CHILD,
)
case(
    "posix_spawn",
    """
    pid = os.posix_spawn("/bin/true", ["true"], {})
    os.waitid(os.P_PID, pid, os.WEXITED)
    """,
    CHILD,
)
# Popen's own pipe tells it whether the program could be started; not where
# posix_spawn() can do all that Popen needs (CPython 3.13).
POPEN = [("child", "Popen", "closed")]
if not hasattr(os, "POSIX_SPAWN_CLOSEFROM"):
    POPEN = [("pipe", "Popen", "closed"), ("pipe", "Popen", "closed"), *POPEN]
case("popen_wait", "subprocess.Popen(['/bin/true']).wait()", *POPEN)
case("run", "subprocess.run(['/bin/true'], check=True)", *POPEN)

case(
    "spawnv",
    "assert os.spawnv(os.P_WAIT, '/bin/true', ['true']) == 0",
    CHILD,
)
case(
    "wait3_and_wait4",
    """
    for wait in (lambda pid: os.wait4(pid, 0), lambda pid: os.wait3(0), lambda pid: os.wait()):
        pid = os.fork()
        if pid == 0:
            os._exit(0)
        wait(pid)
    """,
    CHILD,
    CHILD,
    CHILD,
)
case(
    "forkpty",
    """
    pid, fd = os.forkpty()
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)
    os.close(fd)
    """,
    ("terminal", "raw", "closed"),
    CHILD,
)
case(
    "system_that_libc_keeps_to_itself",
    "assert os.system('exit 0') == 0",
)

# What libraries do with all this: it ends as it began, whatever they do inside.
USES: dict[str, str] = {}


def use(name: str, body: str) -> None:
    assert name not in USES
    USES[name] = textwrap.dedent(body).strip()


use(
    "asyncio_streams",
    """
    async def answer(reader, writer):
        writer.write(await reader.readline())
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    async def main():
        server = await asyncio.start_server(answer, "127.0.0.1", 0)
        async with server:
            reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
            writer.write(b"line\\n")
            assert await reader.readline() == b"line\\n"
            writer.close()
            await writer.wait_closed()

    asyncio.run(main())
    """,
)
use(
    "asyncio_subprocess",
    """
    async def main():
        child = await asyncio.create_subprocess_exec("cat", stdin=-1, stdout=-1)
        assert (await child.communicate(b"text"))[0] == b"text"

    asyncio.run(main())
    """,
)
use(
    "subprocess_with_pipes",
    """
    done = subprocess.run(["cat"], input=b"text", capture_output=True, check=True)
    assert done.stdout == b"text"
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        child.stdin.close()
        assert child.stdout.read() == b""
    with os.popen("echo text") as pipe:
        assert pipe.read() == "text\\n"
    """,
)
use(
    "subprocess_that_cannot_start",
    """
    with contextlib.suppress(FileNotFoundError):
        subprocess.run(["/nowhere"])
    """,
)
use(
    "pass_fds",
    """
    reader, writer = os.pipe()
    source = f"import os; os.write({writer}, b'text')"
    subprocess.run([sys.executable, "-c", source], pass_fds=[writer], check=True)
    os.close(writer)
    with open(reader) as file:
        assert file.read() == "text"
    """,
)
use(
    "directories",
    """
    with tempfile.TemporaryDirectory(dir=".") as folder:
        for name in ("one", "two"):
            os.makedirs(os.path.join(folder, name, "below"))
            pathlib.Path(folder, name, "file").write_text("text")
        assert len(list(os.fwalk(folder))) == 5
        assert len(list(os.walk(folder))) == 5
        assert len(list(pathlib.Path(folder).rglob("file"))) == 2
        shutil.copytree(os.path.join(folder, "one"), os.path.join(folder, "three"))
    """,
)
use(
    "archives",
    """
    with zipfile.ZipFile("archive.zip", "w") as archive:
        archive.write(PATH, "file")
    with zipfile.ZipFile("archive.zip") as archive, archive.open("file") as file:
        file.read()
    with tarfile.open("archive.tar.gz", "w:gz") as archive:
        archive.add(PATH, "file")
    with tarfile.open("archive.tar.gz") as archive:
        archive.extractfile("file").read()
    """,
)
use(
    "temporary_files",
    """
    with tempfile.NamedTemporaryFile(dir=".") as file, tempfile.SpooledTemporaryFile(1) as spooled:
        file.write(b"text")
        spooled.write(b"text")
    """,
)
use(
    "redirection",
    """
    saved = os.dup(1)
    with open("out", "wb") as file:
        os.dup2(file.fileno(), 1)
    os.write(1, b"text")
    os.dup2(saved, 1)
    os.close(saved)
    assert pathlib.Path("out").read_bytes() == b"text"
    """,
)
use(
    "servers_and_threads",
    """
    class Answer(socketserver.StreamRequestHandler):
        def handle(self):
            self.wfile.write(self.rfile.readline())

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Answer) as server:
        serving = threading.Thread(target=server.serve_forever)
        serving.start()
        for _ in range(5):
            with socket.create_connection(server.server_address) as client:
                client.sendall(b"line\\n")
                assert client.recv(10) == b"line\\n"
        server.shutdown()
        serving.join()
    """,
)
use(
    "detached_buffer",
    """
    with open(PATH, "rb") as file:
        fd = os.dup(file.fileno())
    raw = io.FileIO(fd)
    io.BufferedReader(raw).detach().close()
    """,
)
use(
    "file_without_its_descriptor",
    """
    fd = os.open(PATH, os.O_RDONLY)
    with open(fd, closefd=False) as file:
        file.read()
    os.close(fd)
    """,
)
use(
    "close_loop",
    """
    pid = os.fork()
    if pid == 0:
        for fd in range(3, 256):
            with contextlib.suppress(OSError):
                os.close(fd)
        os._exit(0)
    assert os.waitpid(pid, 0) == (pid, 0)
    """,
)
use(
    "probes",
    """
    for fd in range(900, 950):
        for probe in (os.fstat, os.get_inheritable, lambda fd: fcntl.fcntl(fd, fcntl.F_GETFD)):
            try:
                probe(fd)
            except OSError as error:
                assert error.errno == errno.EBADF
            else:
                assert False, fd
    """,
)


def program() -> str:
    """The program that runs all cases."""
    bodies = {f"case_{name}": body for name, (body, _) in CASES.items()}
    bodies |= {f"use_{name}": body for name, body in USES.items()}
    functions = [
        f"def {name}():\n{textwrap.indent(body, '    ')}\n" for name, body in bodies.items()
    ]
    calls = [f"{name}()" for name in bodies]
    return "\n".join([PRELUDE, *functions, *calls, ""])
