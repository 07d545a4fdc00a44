"""Programs as strangers write them, with one bug each or none: `case(folder)` runs them.

The line of the bug is marked.
"""

from __future__ import annotations

BUGS: dict[str, tuple[str, str]] = {
    "fdopen_closefd_false": (
        "leak",
        """
import os
def case(tmp):
    fd = os.open(tmp / "a", os.O_CREAT | os.O_RDWR)  # BUG
    with os.fdopen(fd, "w", closefd=False) as f:
        f.write("x")
""",
    ),
    "pop_all": (
        "leak",
        """
import contextlib
KEEP = []
def open_all(tmp):
    with contextlib.ExitStack() as stack:
        files = [stack.enter_context(open(tmp / str(i), "w")) for i in range(3)]  # BUG
        KEEP.append(stack.pop_all())
    return files
def case(tmp):
    for f in open_all(tmp):
        f.write("x")
""",
    ),
    "socketpair_child": (
        "leak",
        """
import os, socket
KEEP = []
def case(tmp):
    a, b = socket.socketpair()  # BUG
    pid = os.fork()
    if pid == 0:
        a.close()
        b.send(b"x")
        os._exit(0)
    a.recv(1)
    os.waitpid(pid, 0)
    a.close()
    KEEP.append(b)
""",
    ),
    "named_tempfile_dropped": (
        "abandoned",
        """
import tempfile
def make(tmp):
    f = tempfile.NamedTemporaryFile(dir=tmp)  # BUG
    f.write(b"x")
    return f.name
def case(tmp):
    make(tmp)
""",
    ),
    "mp_connection": (
        "abandoned",
        """
import multiprocessing.connection, os
def talk():
    a, b = multiprocessing.connection.Pipe()  # BUG
    a.send("x")
    assert b.recv() == "x"
    a.close()
def case(tmp):
    talk()
""",
    ),
    "mmap_kept": (
        "leak",
        """
import mmap, os
KEEP = []
def case(tmp):
    (tmp / "a").write_bytes(b"x" * 4096)
    fd = os.open(tmp / "a", os.O_RDWR)
    m = mmap.mmap(fd, 0)  # BUG
    os.close(fd)
    KEEP.append(m)
""",
    ),
    "pty_fork": (
        "leak",
        """
import pty, os
def case(tmp):
    pid, fd = pty.fork()  # BUG
    if pid == 0:
        os.execlp("true", "true")
    os.waitpid(pid, 0)
""",
    ),
    "makefile": (
        "abandoned",
        """
import socket
def case(tmp):
    a, b = socket.socketpair()  # BUG
    f = a.makefile("rw")
    a.close()
    b.close()
    del f
""",
    ),
    "zipfile": (
        "abandoned",
        """
import zipfile
def read(path):
    z = zipfile.ZipFile(path)  # BUG
    return z.namelist()
def case(tmp):
    with zipfile.ZipFile(tmp / "a.zip", "w") as z:
        z.writestr("x", "y")
    read(tmp / "a.zip")
""",
    ),
    "logging_reconfigure": (
        "abandoned",
        """
import logging
def case(tmp):
    log = logging.getLogger("b19")
    h = logging.FileHandler(tmp / "1")  # BUG
    log.addHandler(h)
    log.warning("x")
    log.handlers.clear()
    h2 = logging.FileHandler(tmp / "2")
    log.addHandler(h2)
    log.warning("y")
    log.removeHandler(h2); h2.close()
""",
    ),
    "dup2_restore": (
        "leak",
        """
import os
def case(tmp):
    saved = os.dup(1)  # BUG
    fd = os.open(tmp / "out", os.O_CREAT | os.O_RDWR)
    os.dup2(fd, 1)
    os.close(fd)
    os.write(1, b"x")
    os.dup2(saved, 1)
""",
    ),
    "wakeup_fd": (
        "leak",
        """
import signal, socket
KEEP = []
def case(tmp):
    r, w = socket.socketpair()  # BUG
    w.setblocking(False)
    old = signal.set_wakeup_fd(w.fileno())
    signal.set_wakeup_fd(old)
    w.close()
    KEEP.append(r)
""",
    ),
    "epoll_stale_register": (
        "recycled",
        """
import os, select
def case(tmp):
    r, w = os.pipe()
    e = select.epoll()
    os.close(r)
    s = os.open(tmp / "v", os.O_CREAT | os.O_RDWR)
    try:
        e.register(r)  # BUG
    except OSError:
        pass
    e.close(); os.close(w); os.close(s)
""",
    ),
    "finalizer_closes_again": (
        "double-release",
        """
import os, weakref
class H:
    def __init__(self, p):
        self.fd = os.open(p, os.O_CREAT | os.O_RDWR)
        self._f = weakref.finalize(self, os.close, self.fd)
    def close(self):
        os.close(self.fd)
def case(tmp):
    import sys
    hook = sys.unraisablehook; sys.unraisablehook = lambda u: None
    h = H(tmp / "a")
    h.close()
    try:
        h._f()  # BUG
    except OSError:
        pass
    sys.unraisablehook = hook
""",
    ),
    "pwrite_stale": (
        "use-after-close",
        """
import os
def case(tmp):
    fd = os.open(tmp / "a", os.O_CREAT | os.O_RDWR)
    os.close(fd)
    try:
        os.pwrite(fd, b"x", 0)  # BUG
    except OSError:
        pass
""",
    ),
    "pidfd": (
        "leak",
        """
import os, subprocess
def case(tmp):
    p = subprocess.Popen(["true"])
    fd = os.pidfd_open(p.pid)  # BUG
    p.wait()
""",
    ),
    "scm_rights_lost": (
        "leak",
        """
import os, socket, array
def case(tmp):
    a, b = socket.socketpair()
    f = os.open(tmp / "a", os.O_CREAT | os.O_RDWR)
    socket.send_fds(a, [b"x"], [f])
    os.close(f)
    msg, fds, flags, addr = socket.recv_fds(b, 10, 4)  # BUG
    a.close(); b.close()
""",
    ),
    "traceback_keeps": (
        "leak",
        """
KEEP = []
def work(tmp):
    f = open(tmp / "a", "w")  # BUG
    raise ValueError
def case(tmp):
    try:
        work(tmp)
    except ValueError as e:
        KEEP.append(e)
""",
    ),
    "async_gen_file": (
        "leak",
        """
import asyncio
KEEP = []
async def lines(p):
    with open(p) as f:  # BUG
        for l in f:
            yield l
def case(tmp):
    (tmp / "a").write_text("1\\n2\\n")
    async def main():
        g = lines(tmp / "a")
        await g.__anext__()
        KEEP.append(g)
    loop = asyncio.new_event_loop()
    loop.run_until_complete(main())
    loop.close()
""",
    ),
}

CORRECT: dict[str, str] = {
    "pop_all": """
import contextlib
def open_all(tmp):
    with contextlib.ExitStack() as stack:
        files = [stack.enter_context(open(tmp / str(i), "w")) for i in range(3)]
        return stack.pop_all(), files
def case(tmp):
    stack, files = open_all(tmp)
    with stack:
        for f in files:
            f.write("x")
""",
    "asyncio_server": """
import asyncio
async def main():
    async def answer(reader, writer):
        writer.write(await reader.read(10))
        await writer.drain()
        writer.close()
        await writer.wait_closed()
    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        writer.write(b"x")
        writer.write_eof()
        assert await reader.read() == b"x"
        writer.close()
        await writer.wait_closed()
def case(tmp):
    asyncio.run(main())
""",
    "detach_rewrap": """
import io
def case(tmp):
    f = open(tmp / "a", "w")
    buffer = f.detach()
    g = io.TextIOWrapper(buffer, encoding="latin-1")
    g.write("x")
    g.close()
""",
    "epoll_fromfd": """
import select, os
def case(tmp):
    e = select.epoll()
    with select.epoll.fromfd(os.dup(e.fileno())) as g:
        g.poll(0)
    e.close()
""",
    "mmap_after_close": """
import mmap, os
def case(tmp):
    (tmp / "a").write_bytes(b"x" * 4096)
    fd = os.open(tmp / "a", os.O_RDWR)
    m = mmap.mmap(fd, 0)
    os.close(fd)
    m[0] = 65
    m.flush(); m.resize(8192); m.close()
""",
    "makefile": """
import socket
def case(tmp):
    a, b = socket.socketpair()
    f = a.makefile("rw")
    a.close()
    f.write("x\\n"); f.flush()
    with b, b.makefile() as g:
        assert g.readline() == "x\\n"
    f.close()
""",
    "zipfile": """
import zipfile, tarfile, gzip
def case(tmp):
    with zipfile.ZipFile(tmp / "a.zip", "w") as z:
        with z.open("x", "w") as f: f.write(b"y")
    with zipfile.ZipFile(tmp / "a.zip") as z, z.open("x") as f:
        f.read()
    with tarfile.open(tmp / "a.tgz", "w:gz") as t:
        t.add(tmp / "a.zip", "z")
    with tarfile.open(tmp / "a.tgz") as t:
        t.extractfile("z").read()
    with gzip.open(tmp / "b.gz", "wb") as g: g.write(b"x")
""",
    "logging_reconfigure": """
import logging, logging.config
def case(tmp):
    def configure(name):
        handler = {"class": "logging.FileHandler", "filename": str(tmp / name)}
        logger = {"handlers": ["f"], "level": "INFO"}
        logging.config.dictConfig(
            {"version": 1, "handlers": {"f": handler}, "loggers": {"c19": logger}}
        )
    configure("1"); logging.getLogger("c19").warning("x")
    configure("2"); logging.getLogger("c19").warning("y")
    log = logging.getLogger("c19")
    for h in log.handlers[:]:
        log.removeHandler(h); h.close()
""",
    "weakref_finalize": """
import weakref, os
class H:
    def __init__(self, path):
        self.fd = os.open(path, os.O_CREAT | os.O_RDWR)
        self.close = weakref.finalize(self, os.close, self.fd)
CACHE = weakref.WeakValueDictionary()
def case(tmp):
    h = H(tmp / "a"); CACHE["a"] = h
    os.write(h.fd, b"x")
    h.close(); h.close()
""",
    "dup2_restore": """
import os, sys, contextlib
@contextlib.contextmanager
def redirected(path):
    sys.stdout.flush()
    saved = os.dup(1)
    fd = os.open(path, os.O_CREAT | os.O_RDWR)
    os.dup2(fd, 1); os.close(fd)
    try:
        yield
    finally:
        sys.stdout.flush()
        os.dup2(saved, 1); os.close(saved)
def case(tmp):
    for i in range(3):
        with redirected(tmp / str(i)):
            print("x"); os.system("echo y")
""",
    "wakeup_fd": """
import signal, os
def case(tmp):
    r, w = os.pipe()
    os.set_blocking(w, False)
    old = signal.set_wakeup_fd(w)
    prev = signal.signal(signal.SIGUSR1, lambda *a: None)
    os.kill(os.getpid(), signal.SIGUSR1)
    assert os.read(r, 1)
    signal.set_wakeup_fd(old); signal.signal(signal.SIGUSR1, prev)
    os.close(r); os.close(w)
""",
    "dup2_loop": """
import os
def case(tmp):
    fds = [os.open(tmp / str(i), os.O_CREAT | os.O_RDWR) for i in range(3)]
    t = os.open(tmp / "t", os.O_CREAT | os.O_RDWR)
    for f in fds:
        os.dup2(f, t)
        os.write(t, b"x")
    for f in [*fds, t]:
        os.close(f)
""",
    "socket_detach_rewrap": """
import socket
def case(tmp):
    a, b = socket.socketpair()
    c = socket.socket(fileno=a.detach())
    c.send(b"x"); b.recv(1)
    c.close(); b.close()
    with socket.socket() as s:
        t = s.dup(); t.close()
""",
    "open_opener": """
import os
def case(tmp):
    d = os.open(tmp, os.O_RDONLY)
    with open("a", "w", opener=lambda p, f: os.open(p, f, 0o600, dir_fd=d)) as f:
        f.write("x")
    os.close(d)
""",
    "smtp_like_makefile": """
import socketserver, threading, socket
class H(socketserver.StreamRequestHandler):
    def handle(self):
        self.wfile.write(self.rfile.readline())
def case(tmp):
    with socketserver.TCPServer(("127.0.0.1", 0), H) as s:
        t = threading.Thread(target=s.handle_request); t.start()
        with socket.create_connection(s.server_address) as c, c.makefile("rw") as f:
            f.write("x\\n"); f.flush(); assert f.readline() == "x\\n"
        t.join()
""",
    "preexec_close": """
import subprocess, os
def case(tmp):
    fd = os.open(tmp / "a", os.O_CREAT | os.O_RDWR)
    subprocess.run(["true"], preexec_fn=lambda: os.dup2(fd, 10), close_fds=False, check=True)
    subprocess.run(["true"], stdin=fd, stdout=fd, stderr=subprocess.STDOUT, check=True)
    os.close(fd)
""",
    "fork_worker_pipe": """
import os, signal
def case(tmp):
    r, w = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(r)
        f = os.fdopen(w, "w"); f.write("hello"); f.close()
        os._exit(0)
    os.close(w)
    with os.fdopen(r) as f:
        assert f.read() == "hello"
    os.waitpid(pid, 0)
""",
    "sched_select": """
import select, socket
def case(tmp):
    a, b = socket.socketpair()
    p = select.poll(); p.register(a, select.POLLIN); p.register(b)
    p.poll(0); p.unregister(a); a.close()
    p.poll(0)
    b.close()
    select.select([], [], [], 0)
""",
    "memfd_seal": """
import os, fcntl
def case(tmp):
    fd = os.memfd_create("x", os.MFD_ALLOW_SEALING)
    os.write(fd, b"x")
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_WRITE)
    with open(f"/proc/self/fd/{fd}", "rb") as f:
        assert f.read() == b"x"
    os.close(fd)
""",
    "mp_queue_pool": """
import multiprocessing as mp
def work(q, x):
    q.put(x)
def case(tmp):
    ctx = mp.get_context("fork")
    q = ctx.Queue()
    ps = [ctx.Process(target=work, args=(q, i)) for i in range(2)]
    [p.start() for p in ps]
    assert sorted(q.get() for _ in ps) == [0, 1]
    [p.join() for p in ps]
    [p.close() for p in ps]
    q.close(); q.join_thread()
""",
}
