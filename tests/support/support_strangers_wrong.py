"""More wrong programs as strangers write them: `case(folder)` runs them.

The line of the bug is marked, and that which opened the victim.
"""

from __future__ import annotations

MORE_BUGS: dict[str, tuple[str, str]] = {
    "fifo_reader_kept": (
        "leak",
        """
import os, threading
def case(tmp):
    path = tmp / "fifo"
    os.mkfifo(path)
    t = threading.Thread(target=lambda: path.write_text("hi"))
    t.start()
    fd = os.open(path, os.O_RDONLY)  # BUG
    assert os.read(fd, 10) == b"hi"
    t.join()
""",
    ),
    "executor_thread_local_conn": (
        "leak",
        """
import sqlite3, threading
from concurrent.futures import ThreadPoolExecutor
local = threading.local()
KEEP = []
def conn(path):
    if not hasattr(local, "c"):
        local.c = sqlite3.connect(path, check_same_thread=False)  # BUG
        KEEP.append(local.c)
    return local.c
def work(path):
    return conn(path).execute("select 1").fetchone()
def case(tmp):
    path = str(tmp / "x.db")
    sqlite3.connect(path).close()
    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(work, [path] * 4)) == [(1,)] * 4
""",
    ),
    "class_attr_log": (
        "leak",
        """
class Audit:
    stream = None
    @classmethod
    def note(cls, path, text):
        if cls.stream is None:
            cls.stream = open(path, "a")  # BUG
        cls.stream.write(text)
def case(tmp):
    Audit.note(tmp / "log", "a")
    Audit.note(tmp / "log", "b")
""",
    ),
    "dirfd_walk": (
        "leak",
        """
import os
def sizes(top):
    total = 0
    for name in sorted(os.listdir(top)):
        d = os.open(top, os.O_RDONLY | os.O_DIRECTORY)  # BUG
        total += os.stat(name, dir_fd=d).st_size
    return total
def case(tmp):
    (tmp / "a").write_text("x"); (tmp / "b").write_text("yy")
    assert sizes(tmp) == 3
""",
    ),
    "accepted_not_closed": (
        "leak",
        """
import socket
CLIENTS = {}
def case(tmp):
    with socket.create_server(("127.0.0.1", 0)) as s:
        with socket.create_connection(s.getsockname()) as c:
            conn, addr = s.accept()  # BUG
            CLIENTS[addr] = conn
            conn.send(b"x"); c.recv(1)
""",
    ),
    "opendir_ctypes": (
        "leak",
        """
import ctypes
libc = ctypes.CDLL(None)
libc.opendir.restype = ctypes.c_void_p
libc.readdir.argtypes = [ctypes.c_void_p]
libc.readdir.restype = ctypes.c_void_p
def case(tmp):
    d = libc.opendir(str(tmp).encode())  # BUG
    assert libc.readdir(d)
""",
    ),
    "exception_group": (
        "leak",
        """
import contextlib
FAILED = []
def load(path):
    f = open(path)  # BUG
    if f.read() != "ok":
        raise ValueError(path)
    f.close()
def case(tmp):
    (tmp / "a").write_text("bad")
    errors = []
    try:
        load(tmp / "a")
    except ValueError as e:
        errors.append(e)
    FAILED.append(ExceptionGroup("all", errors))
""",
    ),
    "fromfd_dup": (
        "abandoned",
        """
import socket
def peek(sock):
    s = socket.fromfd(sock.fileno(), socket.AF_UNIX, socket.SOCK_STREAM)  # BUG
    return s.getsockopt(socket.SOL_SOCKET, socket.SO_TYPE)
def case(tmp):
    a, b = socket.socketpair()
    with a, b:
        peek(a)
""",
    ),
    "cycle_with_file": (
        "abandoned",
        """
class Node:
    def __init__(self, path):
        self.me = self
        self.f = open(path, "w")  # BUG
def case(tmp):
    Node(tmp / "a")
    import gc; gc.collect()
""",
    ),
    "posix_spawn_zombie": (
        "leak",
        """
import os
def case(tmp):
    pid = os.posix_spawnp("true", ["true"], os.environ)  # BUG
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
""",
    ),
    "fdopen_of_directory": (
        "leak",
        """
import os
def case(tmp):
    fd = os.open(tmp, os.O_RDONLY)  # BUG
    try:
        os.fdopen(fd)
    except OSError:
        pass
""",
    ),
    "fdopen_bad_mode": (
        "leak",
        """
import os
def case(tmp):
    fd = os.open(tmp / "a", os.O_CREAT | os.O_RDWR)  # BUG
    try:
        os.fdopen(fd, "q")
    except ValueError:
        pass
""",
    ),
    "lru_cache_open": (
        "leak",
        """
import functools
@functools.lru_cache
def table(path):
    return open(path)  # BUG
def case(tmp):
    (tmp / "a").write_text("x")
    assert table(tmp / "a").read() == "x"
""",
    ),
    "queue_of_sockets": (
        "leak",
        """
import queue, socket
Q = queue.Queue()
def case(tmp):
    a, b = socket.socketpair()  # BUG
    Q.put(a)
    b.close()
""",
    ),
    "mp_pipe_parent_end": (
        "leak",
        """
import multiprocessing as mp
KEEP = []
def work(conn):
    conn.send(1); conn.close()
def case(tmp):
    ctx = mp.get_context("fork")
    ours, theirs = ctx.Pipe()  # BUG
    p = ctx.Process(target=work, args=(theirs,)); p.start()
    assert ours.recv() == 1
    p.join(); p.close()
    ours.close()
    KEEP.append(theirs)
""",
    ),
    "finally_and_except": (
        "double-release",
        """
import os
def copy(path):
    fd = os.open(path, os.O_CREAT | os.O_RDWR)
    try:
        os.write(fd, b"x")
        raise ValueError
    except ValueError:
        os.close(fd)
    finally:
        os.close(fd)  # BUG
def case(tmp):
    try:
        copy(tmp / "a")
    except OSError:
        pass
""",
    ),
    "pipe_thread_both_close": (
        "double-release",
        """
import os, threading
def case(tmp):
    r, w = os.pipe()
    def writer():
        os.write(w, b"x")
        os.close(w)
    t = threading.Thread(target=writer); t.start(); t.join()
    os.read(r, 1)
    os.close(r)
    try:
        os.close(w)  # BUG
    except OSError:
        pass
""",
    ),
    "ctypes_close_twice": (
        "double-release",
        """
import ctypes, os
libc = ctypes.CDLL(None)
def case(tmp):
    fd = libc.dup(0)
    libc.close(fd)
    libc.close(fd)  # BUG
""",
    ),
    "os_close_in_del_and_close": (
        "double-release",
        """
import os
class Owner:
    def __init__(self, path):
        self.fd = os.open(path, os.O_CREAT | os.O_RDWR)
    def close(self): os.close(self.fd)
    def __del__(self):
        try:
            os.close(self.fd)  # BUG
        except OSError:
            pass
def case(tmp):
    o = Owner(tmp / "a"); o.close(); del o
""",
    ),
    "close_twice_victim_socket": (
        "recycled",
        """
import os, socket
def case(tmp):
    r, w = os.pipe()
    os.close(r)
    s = socket.socket()  # VICTIM
    try:
        os.close(r)  # BUG
    except OSError:
        pass
    os.close(w)
    try:
        s.close()
    except OSError:
        pass
""",
    ),
    "stale_logger_fd": (
        "recycled",
        """
import os
class Log:
    def __init__(self, path):
        self.fd = os.open(path, os.O_CREAT | os.O_WRONLY)
    def write(self, text):
        os.write(self.fd, text)  # BUG
    def close(self):
        os.close(self.fd)
def case(tmp):
    log = Log(tmp / "log")
    log.close()
    data = open(tmp / "data", "wb")  # VICTIM
    try:
        log.write(b"late")
    except OSError:
        pass
    data.close()
""",
    ),
    "sendfile_stale": (
        "recycled",
        """
import os, socket
def case(tmp):
    (tmp / "a").write_bytes(b"abc")
    fd = os.open(tmp / "a", os.O_RDONLY)
    os.close(fd)
    a, b = socket.socketpair()  # VICTIM
    try:
        os.sendfile(b.fileno(), fd, 0, 3)  # BUG
    except OSError:
        pass
    a.close(); b.close()
""",
    ),
    "object_fileno_cached": (
        "recycled",
        """
import os, select
class Poller:
    def __init__(self): self.fds = []
    def add(self, f): self.fds.append(f.fileno())
    def drain(self):
        for fd in self.fds:
            try:
                os.fsync(fd)  # BUG
            except OSError:
                pass
def case(tmp):
    p = Poller()
    with open(tmp / "a", "w") as f:
        p.add(f)
    with open(tmp / "b", "w") as g:  # VICTIM
        p.drain()
""",
    ),
    "thread_recycled_victim": (
        "recycled",
        """
import os, threading
def case(tmp):
    fd = os.open(tmp / "a", os.O_CREAT | os.O_RDWR)
    os.close(fd)
    got = []
    def other():
        got.append(open(tmp / "b", "w"))  # VICTIM
    t = threading.Thread(target=other); t.start(); t.join()
    try:
        os.write(fd, b"oops")  # BUG
    except OSError:
        pass
    got.pop().close()
""",
    ),
    "closerange_over_files": (
        "closed-behind-owner",
        """
import os
KEEP = []
def case(tmp):
    f = open(tmp / "a", "w")
    KEEP.append(f)
    os.closerange(f.fileno(), f.fileno() + 1)  # BUG
    try:
        f.close()
    except OSError:
        pass
""",
    ),
    "dup2_over_socket": (
        "closed-behind-owner",
        """
import os, socket
def case(tmp):
    a, b = socket.socketpair()
    fd = os.open(tmp / "a", os.O_CREAT | os.O_RDWR)
    os.dup2(fd, a.fileno())  # BUG
    os.close(fd)
    a.close(); b.close()
""",
    ),
    "two_fdopen": (
        "double-owner",
        """
import os
def case(tmp):
    fd = os.open(tmp / "a", os.O_CREAT | os.O_RDWR)
    r = os.fdopen(fd, "rb")
    w = os.fdopen(fd, "wb")  # BUG
    w.close()
    try:
        r.close()
    except OSError:
        pass
""",
    ),
    "socket_fileno_twice": (
        "double-owner",
        """
import socket
def case(tmp):
    a, b = socket.socketpair()
    c = socket.socket(fileno=a.fileno())  # BUG
    c.close()
    try:
        a.close()
    except OSError:
        pass
    b.close()
""",
    ),
    "transport_sock_closed": (
        "closed-behind-owner",
        """
import asyncio, os, socket
async def main():
    a, b = socket.socketpair()
    reader, writer = await asyncio.open_connection(sock=a)
    os.close(writer.get_extra_info("socket").fileno())  # BUG
    writer.close()
    b.close()
    await asyncio.sleep(0)
def case(tmp):
    loop = asyncio.new_event_loop()
    loop.set_exception_handler(lambda *a: None)
    loop.run_until_complete(main())
    loop.close()
""",
    ),
    "popen_stdout_by_number": (
        "closed-behind-owner",
        """
import os, subprocess
def case(tmp):
    p = subprocess.Popen(["echo", "x"], stdout=subprocess.PIPE)
    os.close(p.stdout.fileno())  # BUG
    try:
        p.stdout.close()
    except OSError:
        pass
    p.wait()
""",
    ),
    "selector_closed_by_number": (
        "closed-behind-owner",
        """
import os, selectors
def case(tmp):
    s = selectors.DefaultSelector()
    os.close(s.fileno())  # BUG
    try:
        s.close()
    except OSError:
        pass
""",
    ),
    "asyncio_two_owner_transport": (
        "double-owner",
        """
import asyncio, socket
async def main(a):
    loop = asyncio.get_running_loop()
    dup = socket.socket(fileno=a.fileno())  # BUG
    t, _ = await loop.create_connection(asyncio.Protocol, sock=dup)
    t.close()
    await asyncio.sleep(0.01)
def case(tmp):
    a, b = socket.socketpair()
    a.setblocking(False)
    loop = asyncio.new_event_loop()
    loop.run_until_complete(main(a))
    loop.close()
    try:
        a.close()
    except OSError:
        pass
    b.close()
""",
    ),
}

# What a number that is closed by now is used for: imports, and the use.
STALE_USES = {
    "open": ("", "open(fd)"),
    "fdopen": ("", "os.fdopen(fd, 'rb', buffering=0)"),
    "stat_in_folder": ("", "os.stat('x', dir_fd=fd)"),
    "listxattr": ("", "os.listxattr(fd)"),
    "tcgetattr": ("termios", "termios.tcgetattr(fd)"),
    "tcdrain": ("termios", "termios.tcdrain(fd)"),
    "ttyname": ("", "os.ttyname(fd)"),
    "foreground_group": ("", "os.tcgetpgrp(fd)"),
    "terminal_size": ("", "os.get_terminal_size(fd)"),
    "rename_in_folder": ("", "os.rename('a', 'b', src_dir_fd=fd, dst_dir_fd=fd)"),
    "signal_process": ("signal", "signal.pidfd_send_signal(fd, 0)"),
    "fchmod": ("", "os.chmod(fd, 0o600)"),
    "socket": ("socket", "socket.socket(fileno=fd)"),
    "duplicate": ("", "os.dup(fd)"),
    "select": ("select", "select.select([fd], [], [], 0)"),
}
MORE_BUGS |= {
    f"stale_{name}": (
        "use-after-close",
        f"""
import os
{f"import {module}" if module else ""}
def case(tmp):
    fd = os.open(tmp / "a", os.O_CREAT | os.O_RDWR)
    os.close(fd)
    try:
        {use}  # BUG
    except OSError:
        pass
    except Exception as error:
        assert type(error).__name__ == "error", error
""",
    )
    for name, (module, use) in STALE_USES.items()
}
