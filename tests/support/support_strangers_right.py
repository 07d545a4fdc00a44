"""More correct programs as strangers write them: `case(folder)` runs them."""

from __future__ import annotations

MORE_CORRECT: dict[str, str] = {
    "close_in_finally_guarded": """
import os
def case(tmp):
    fd = -1
    try:
        fd = os.open(tmp / "a", os.O_CREAT | os.O_RDWR)
        os.write(fd, b"x")
    finally:
        if fd >= 0:
            os.close(fd)
    fds = [os.open(tmp / "a", os.O_RDONLY) for _ in range(3)]
    while fds:
        os.close(fds.pop())
""",
    "reuse_same_number": """
import os
def case(tmp):
    for i in range(50):
        fd = os.open(tmp / "a", os.O_CREAT | os.O_RDWR)
        os.write(fd, b"x")
        os.close(fd)
        a, b = os.pipe()
        os.close(a); os.close(b)
""",
    "asyncio_subprocess": """
import asyncio
async def main():
    pipe = asyncio.subprocess.PIPE
    p = await asyncio.create_subprocess_exec("cat", stdin=pipe, stdout=pipe)
    out, _ = await p.communicate(b"x")
    assert out == b"x"
    p = await asyncio.create_subprocess_exec("sleep", "60")
    p.kill()
    await p.wait()
def case(tmp):
    asyncio.run(main())
""",
    "cancelled_connect": """
import asyncio
async def main():
    server = await asyncio.start_server(lambda r, w: w.close(), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    t = asyncio.create_task(asyncio.open_connection("127.0.0.1", port))
    await asyncio.sleep(0)
    t.cancel()
    try:
        await t
    except asyncio.CancelledError:
        pass
    r, w = await asyncio.open_connection("127.0.0.1", port)
    assert await r.read() == b""
    w.close()
    await w.wait_closed()
    server.close()
    await server.wait_closed()
def case(tmp):
    asyncio.run(main())
""",
    "tempfile_all": """
import tempfile, os
def case(tmp):
    with tempfile.TemporaryFile() as f: f.write(b"x")
    with tempfile.NamedTemporaryFile("w") as f: f.write("x")
    with tempfile.SpooledTemporaryFile(max_size=2) as f: f.write(b"xxxx")
    with tempfile.TemporaryDirectory() as d: open(os.path.join(d, "x"), "w").close()
    fd, name = tempfile.mkstemp()
    os.close(fd); os.unlink(name)
    f = tempfile.NamedTemporaryFile(delete=False); f.close(); os.unlink(f.name)
""",
    "fileinput_linecache": """
import fileinput, linecache, mailbox, wave, csv
def case(tmp):
    (tmp / "a").write_text("1\\n2\\n")
    with fileinput.input([str(tmp / "a")], inplace=True) as f:
        for line in f:
            print(line.strip() + "!")
    assert linecache.getline(str(tmp / "a"), 1) == "1!\\n"
    box = mailbox.mbox(tmp / "box")
    box.add("From: a\\n\\nhi\\n"); box.flush(); box.close()
    with wave.open(str(tmp / "a.wav"), "wb") as w:
        w.setnchannels(1); w.setsampwidth(1); w.setframerate(8000); w.writeframes(b"x")
""",
    "pty_spawn": """
import os, pty
def case(tmp):
    pid, fd = pty.fork()
    if pid == 0:
        os.execlp("echo", "echo", "x")
    out = b""
    while True:
        try:
            data = os.read(fd, 100)
        except OSError:
            break
        if not data: break
        out += data
    os.close(fd)
    os.waitpid(pid, 0)
    m, s = os.openpty(); os.close(s); os.close(m)
""",
    "scm_rights": """
import os, socket, array
def case(tmp):
    a, b = socket.socketpair()
    r, w = os.pipe()
    socket.send_fds(a, [b"x"], [r])
    _, fds, _, _ = socket.recv_fds(b, 10, 4)
    os.close(r)
    os.write(w, b"y"); os.close(w)
    assert os.read(fds[0], 1) == b"y"
    os.close(fds[0])
    a.close(); b.close()
""",
    "ssl_memory_and_wrapped": """
import ssl, socket
def case(tmp):
    ctx = ssl.create_default_context()
    ctx.check_hostname = False; ctx.verify_mode = ssl.CERT_NONE
    a, b = socket.socketpair()
    s = ctx.wrap_socket(a, do_handshake_on_connect=False)
    b.close()
    try:
        s.do_handshake()
    except (ssl.SSLError, OSError):
        pass
    s.close()
    inc, out = ssl.MemoryBIO(), ssl.MemoryBIO()
    ctx.wrap_bio(inc, out)
""",
    "ctypes_streams": """
import ctypes, os
libc = ctypes.CDLL(None)
for n in ("fopen", "fdopen", "opendir", "popen", "tmpfile"):
    getattr(libc, n).restype = ctypes.c_void_p
for n in ("fclose", "closedir", "pclose"):
    getattr(libc, n).argtypes = [ctypes.c_void_p]
def case(tmp):
    f = libc.fopen(str(tmp / "a").encode(), b"w"); libc.fclose(f)
    fd = os.open(tmp / "a", os.O_RDONLY); libc.fclose(libc.fdopen(fd, b"r"))
    libc.closedir(libc.opendir(str(tmp).encode()))
    libc.pclose(libc.popen(b"true", b"r"))
    libc.fclose(libc.tmpfile())
    fds = (ctypes.c_int * 2)()
    libc.socketpair(1, 1, 0, fds)
    libc.close(fds[0]); os.close(fds[1])
    e = libc.eventfd(0, 0); d = libc.dup(e); os.close(e); libc.close(d)
""",
    "closerange_loop": """
import os
def case(tmp):
    pid = os.fork()
    if pid == 0:
        os.closerange(3, 256)
        for fd in range(3, 100):
            try: os.close(fd)
            except OSError: pass
        os._exit(0)
    os.waitpid(pid, 0)
    for fd in range(600, 640):
        try: os.close(fd)
        except OSError: pass
""",
    "recursion_reopen": """
import os, contextlib
@contextlib.contextmanager
def chdir_fd(path):
    old = os.open(".", os.O_RDONLY)
    try:
        os.chdir(path)
        yield
    finally:
        os.fchdir(old)
        os.close(old)
def case(tmp):
    with chdir_fd(tmp):
        with chdir_fd("/"):
            pass
""",
    "probes": """
import os, stat
def case(tmp):
    fd = os.open(tmp / "a", os.O_CREAT | os.O_RDWR)
    os.close(fd)
    for f in (os.fstat, os.get_inheritable, os.get_blocking):
        try: f(fd)
        except OSError: pass
    os.isatty(fd)
    import fcntl
    try: fcntl.fcntl(fd, fcntl.F_GETFD)
    except OSError: pass
""",
    "atexit_closes": """
import atexit, os, weakref
F = None
class Holder: pass
HOLD = Holder()
def case(tmp):
    global F
    F = open(tmp / "a", "w")
    atexit.register(F.close)
    fd = os.open(tmp / "b", os.O_CREAT | os.O_RDWR)
    weakref.finalize(HOLD, os.close, fd)
""",
    "generator_closed": """
def lines(path):
    with open(path) as f:
        yield from f
def case(tmp):
    (tmp / "a").write_text("1\\n2\\n")
    g = lines(tmp / "a")
    next(g)
    g.close()
""",
    "dup_then_close": """
import os, socket
def case(tmp):
    f = open(tmp / "a", "wb")
    fd = os.dup(f.fileno())
    f.close()
    with os.fdopen(fd, "wb") as g: g.write(b"x")
    fd = os.open(tmp / "a", os.O_RDONLY)
    with open(fd, closefd=False) as h: h.read()
    os.close(fd)
    a, b = socket.socketpair()
    fd = a.detach(); os.close(fd); b.close()
""",
    "swap_log": """
import os
def case(tmp):
    log = os.open(tmp / "log", os.O_CREAT | os.O_WRONLY | os.O_APPEND)
    for i in range(3):
        os.write(log, b"x")
        new = os.open(tmp / f"log{i}", os.O_CREAT | os.O_WRONLY)
        os.dup2(new, log)
        os.close(new)
    os.close(log)
""",
    "close_never_open": """
import os, contextlib
def case(tmp):
    with contextlib.suppress(OSError):
        os.close(987)
    with contextlib.suppress(OSError):
        os.close(-1)
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            os.readlink("/proc/self/fd/" + name)
""",
    "shutdown_unblocks": """
import socket, threading
def case(tmp):
    a, b = socket.socketpair()
    t = threading.Thread(target=lambda: a.recv(1)); t.start()
    a.shutdown(socket.SHUT_RDWR)
    t.join()
    a.close(); b.close()
    s = socket.create_server(("127.0.0.1", 0))
    def serve():
        try: s.accept()
        except OSError: pass
    t = threading.Thread(target=serve); t.start()
    s.shutdown(socket.SHUT_RDWR)
    t.join(); s.close()
""",
    "double_fork": """
import os
def case(tmp):
    pid = os.fork()
    if pid == 0:
        os.setsid()
        if os.fork() == 0:
            os.closerange(3, 64)
            null = os.open("/dev/null", os.O_RDWR)
            for n in range(3): os.dup2(null, n)
            os._exit(0)
        os._exit(0)
    os.waitpid(pid, 0)
""",
    "sys_stdout_swapped": """
import contextlib, io, os, sys
def case(tmp):
    with open(tmp / "o", "w") as f, contextlib.redirect_stdout(f):
        print("x")
    saved = sys.stdout
    sys.stdout = os.fdopen(os.dup(1), "w")
    sys.stdout.close()
    sys.stdout = saved
""",
    "concurrent_close_by_owner_lock": """
import os, threading
class Shared:
    def __init__(self, path):
        self.lock = threading.Lock(); self.fd = os.open(path, os.O_CREAT | os.O_RDWR)
    def close(self):
        with self.lock:
            fd, self.fd = self.fd, None
        if fd is not None: os.close(fd)
def case(tmp):
    for i in range(10):
        s = Shared(tmp / "a")
        ts = [threading.Thread(target=s.close) for _ in range(4)]
        [t.start() for t in ts]; [t.join() for t in ts]
""",
    "idempotent_objects": """
import mmap, select, socket, sqlite3, zipfile, tempfile
def case(tmp):
    (tmp / "a").write_bytes(b"x" * 10)
    for make in (
        lambda: open(tmp / "a"), socket.socket, select.epoll, tempfile.TemporaryFile,
        lambda: sqlite3.connect(str(tmp / "b")), lambda: zipfile.ZipFile(tmp / "z", "w"),
    ):
        o = make(); o.close(); o.close()
    with open(tmp / "a", "r+b") as f:
        m = mmap.mmap(f.fileno(), 0)
    m.close(); m.close()
""",
    "saved_as_the_interpreter_ends": """
import dbm.dumb
DATABASE = None
def case(tmp):
    global DATABASE
    DATABASE = dbm.dumb.open(str((tmp / "data").resolve()))
    DATABASE["x"] = b"y"
""",
}
