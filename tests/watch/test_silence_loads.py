"""Correct programs of the larger kind: servers, pools, daemons, cells.

Each is run unwatched and watched.  It does the same both times, and nothing is
found: what it opens by unusual ways, hands from process to process, and closes
on suspicion is all in order.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from support_loads import run_watched, said

PREFORK = """
# Workers share a listener, as application servers do; each request touches files.
import os, signal, socket, sys, tempfile, threading

listener = socket.create_server(("127.0.0.1", 0))
port = listener.getsockname()[1]


def serve(requests):
    for _ in range(requests):
        connection, _ = listener.accept()
        with connection, connection.makefile("rwb") as stream:
            name = stream.readline().strip()
            with tempfile.NamedTemporaryFile() as file:
                file.write(name)
                file.flush()
                fd = os.open(file.name, os.O_RDONLY)
                os.sendfile(connection.fileno(), fd, 0, len(name))
                os.close(fd)


workers = []
for number in range(3):
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reader)
        serve(10)
        os.write(writer, b"x")
        os._exit(0)
    os.close(writer)
    workers.append((pid, reader))
for number in range(30):
    with socket.create_connection(("127.0.0.1", port)) as client:
        client.sendall(b"%d\\n" % number)
        data = b""
        while chunk := client.recv(100):
            data += chunk
        assert data == b"%d" % number, data
for pid, reader in workers:
    assert os.read(reader, 1) == b"x"
    os.close(reader)
    assert os.waitpid(pid, 0) == (pid, 0)
listener.close()
print("served")
"""

THREADED_SERVER = """
import http.server, threading, urllib.request, os

class Handler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass

with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    url = f"http://127.0.0.1:{server.server_port}/"
    for _ in range(20):
        with urllib.request.urlopen(url + "program.py") as answer:
            assert b"SimpleHTTP" in answer.read()
        with urllib.request.urlopen(url) as answer:
            answer.read()
    server.shutdown()
    thread.join()
print("served")
"""

DAEMON = """
# The classical daemon: two forks, every descriptor closed, 0 to 2 on the null device.
import os, signal, socket, sys

reader, writer = os.pipe()
held = open(__file__)
pair = socket.socketpair()
if os.fork() == 0:
    os.setsid()
    if os.fork():
        os._exit(0)
    for fd in range(0, 256):
        if fd != writer:
            try:
                os.close(fd)
            except OSError:
                pass
    assert [os.open(os.devnull, os.O_RDWR), os.dup(0), os.dup(0)] == [0, 1, 2]
    with open("log", "w") as log:
        log.write(str(log.fileno()))
    with socket.socket() as new:
        new.bind(("127.0.0.1", 0))
    os.closerange(3, writer)
    os.write(writer, b"well")
    os._exit(0)
os.close(writer)
os.wait()
assert os.read(reader, 10) == b"well"
os.close(reader)
held.close()
for end in pair:
    end.close()
with open("log") as log:
    print(log.read())
"""

RESPAWN = """
# A program that replaces itself, with a descriptor that it hands on by number.
import os, sys

if len(sys.argv) > 1:
    fd = int(sys.argv[1])
    with open(fd) as file:
        print(file.read())
else:
    reader, writer = os.pipe()
    os.write(writer, b"handed on")
    os.close(writer)
    os.set_inheritable(reader, True)
    sys.stdout.flush()
    os.execv(sys.executable, [sys.executable, __file__, str(reader)])
"""

PASSED_ON = """
# Descriptors sent through a socket to a child, and back as new ones.
import os, socket, sys

one, other = socket.socketpair()
pid = os.fork()
if pid == 0:
    one.close()
    data, fds, flags, _ = socket.recv_fds(other, 10, 4)
    for fd in fds:
        os.write(fd, b"child")
        os.close(fd)
    with open("file", "rb") as file:
        socket.send_fds(other, [b"x"], [file.fileno()])
    other.close()
    os._exit(0)
other.close()
with open("file", "wb") as file:
    socket.send_fds(one, [b"x"], [file.fileno(), file.fileno()])
data, fds, flags, _ = socket.recv_fds(one, 10, 4)
os.waitpid(pid, 0)
with os.fdopen(fds[0], "rb") as file:
    print(file.read())
one.close()
"""

CELLS = """
# What a notebook does: cells compiled and run one by one, one of them wrong.
import contextlib, io

names = {"__name__": "__main__"}
cells = [
    "import os, sqlite3, subprocess, tempfile, threading, mmap",
    "folder = tempfile.TemporaryDirectory()\\npath = os.path.join(folder.name, 'x')",
    "with open(path, 'w') as file: file.write('text' * 100)",
    "def early():\\n    with open(path) as file:\\n        return file.read(4)\\nprint(early())",
    "with open(path) as file:\\n    1 / 0",
    "print(subprocess.run(['ls', folder.name], capture_output=True, text=True).stdout)",
    "base = sqlite3.connect(path + '.db')\\nbase.execute('create table t (a)')\\nbase.close()",
    "thread = threading.Thread(target=early)\\nthread.start()\\nthread.join()",
    "import asyncio\\nasync def later():\\n    await asyncio.sleep(0)\\n    return early()\\n"
    "print(asyncio.run(later()))",
    "with open(path, 'r+b') as file, mmap.mmap(file.fileno(), 0) as mapped: print(mapped[:4])",
    "folder.cleanup()",
]
for number, cell in enumerate(cells):
    out = io.StringIO()
    try:
        with contextlib.redirect_stdout(out):
            exec(compile(cell, f"<cell {number}>", "exec"), names)
    except ZeroDivisionError as error:
        print(type(error).__name__)
    print(out.getvalue())
"""

EVERY_LOOP = """
# asyncio as far as it goes: streams, processes, executors, signals, pipes.
import asyncio, os, signal, socket, sys


async def echo(reader, writer):
    while line := await reader.readline():
        writer.write(line)
        await writer.drain()
    writer.close()
    await writer.wait_closed()


async def ask(port):
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for _ in range(5):
        writer.write(b"line\\n")
        assert await reader.readline() == b"line\\n"
    writer.close()
    await writer.wait_closed()


async def main():
    loop = asyncio.get_running_loop()
    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    await asyncio.gather(*(ask(port) for _ in range(20)))
    server.close()
    await server.wait_closed()
    process = await asyncio.create_subprocess_exec(
        "/bin/cat", stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    print(await process.communicate(b"text"))
    process = await asyncio.create_subprocess_shell("exit 3")
    print(await process.wait())
    arrived = asyncio.Event()
    loop.add_signal_handler(signal.SIGUSR1, arrived.set)
    os.kill(os.getpid(), signal.SIGUSR1)
    await arrived.wait()
    loop.remove_signal_handler(signal.SIGUSR1)
    reader, writer = os.pipe()
    ready = loop.create_future()
    loop.add_reader(reader, ready.set_result, None)
    os.write(writer, b"x")
    await ready
    loop.remove_reader(reader)
    os.close(reader)
    os.close(writer)
    one, other = socket.socketpair()
    one.setblocking(False)
    other.setblocking(False)
    await loop.sock_sendall(one, b"x")
    print(await loop.sock_recv(other, 1))
    one.close()
    other.close()
    try:
        await asyncio.open_connection("127.0.0.1", port)
    except ConnectionRefusedError:
        pass
    transport, _ = await loop.create_datagram_endpoint(
        asyncio.DatagramProtocol, local_addr=("127.0.0.1", 0)
    )
    transport.close()
    with open(__file__, "rb") as file:
        source = os.dup(file.fileno())
    reader = asyncio.StreamReader()
    await asyncio.to_thread(os.close, source)


for _ in range(2):
    asyncio.run(main())
print("well")
"""

PROBES = """
# Numbers asked about: whether they are open is what these lines want to know.
import errno, os, select, stat

def is_open(fd):
    try:
        os.fstat(fd)
    except OSError as error:
        assert error.errno == errno.EBADF
        return False
    return True

for _ in range(3):
    fd = os.open(__file__, os.O_RDONLY)
    assert is_open(fd)
    os.close(fd)
    assert not is_open(fd)
    try:
        os.get_inheritable(fd)
    except OSError as error:
        assert error.errno == errno.EBADF
    poll = select.poll()
    poll.register(fd)
    assert poll.poll(0) == [(fd, select.POLLNVAL)]
for number in (-1, 10**6):
    try:
        os.close(number)
    except OSError as error:
        assert error.errno == errno.EBADF
reader, writer = os.pipe()
assert reader < 20
os.close(reader)
os.close(writer)
print(sorted(map(int, os.listdir("/proc/self/fd")))[:3])
"""

TERMINAL = """
import os, pty, subprocess, sys

master, slave = pty.openpty()
process = subprocess.Popen(["/bin/echo", "text"], stdout=slave, close_fds=True)
os.close(slave)
print(os.read(master, 100))
process.wait()
os.close(master)
pid, master = pty.fork()
if pid == 0:
    os.write(1, b"child")
    os._exit(0)
text = b""
try:
    while chunk := os.read(master, 100):
        text += chunk
except OSError:
    pass
print(text)
os.close(master)
os.waitpid(pid, 0)
"""

PIPELINES = """
import os, subprocess, sys, threading

with subprocess.Popen(["/bin/echo", "text"], stdout=subprocess.PIPE) as first:
    with subprocess.Popen(
        ["/bin/cat"], stdin=first.stdout, stdout=subprocess.PIPE
    ) as second:
        first.stdout.close()
        print(second.communicate()[0])
reader, writer = os.pipe()
with subprocess.Popen(["/bin/sh", "-c", f"echo inner >/dev/fd/{writer}"], pass_fds=[writer]):
    os.close(writer)
    with os.fdopen(reader) as stream:
        print(stream.read())
with os.popen("echo out") as stream:
    print(stream.read())
with os.popen("cat", "w") as stream:
    stream.write("")
print(os.system("exit 0"), subprocess.getoutput("echo done"))
try:
    subprocess.run(["/nowhere"])
except FileNotFoundError:
    print("not there")


def start():
    for _ in range(20):
        subprocess.run(["/bin/true"], stdin=subprocess.DEVNULL, capture_output=True, check=True)


threads = [threading.Thread(target=start) for _ in range(3)]
for thread in threads:
    thread.start()
for _ in range(200):
    with open(__file__) as file:
        file.readline()
for thread in threads:
    thread.join()
"""

THREADS = """
# Threads that open, hand over and close all at once.
import os, queue, socket, threading

numbers = queue.Queue()


def opening():
    for _ in range(300):
        numbers.put(os.open(__file__, os.O_RDONLY))
    numbers.put(None)


def closing():
    while (fd := numbers.get()) is not None:
        os.read(fd, 10)
        os.close(fd)


def talking():
    for _ in range(100):
        one, other = socket.socketpair()
        with one, other:
            one.sendall(b"x")
            assert other.recv(1) == b"x"


targets = [opening] * 4 + [closing] * 4 + [talking] * 4
threads = [threading.Thread(target=target) for target in targets]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print(len(os.listdir("/proc/self/fd")))
"""

UNBLOCKED = """
# A thread that waits for a connection is sent home by shutdown(), then the socket closes.
import socket, threading

listener = socket.create_server(("127.0.0.1", 0))
started = threading.Event()


def accept():
    started.set()
    try:
        while True:
            listener.accept()[0].close()
    except OSError:
        pass


thread = threading.Thread(target=accept)
thread.start()
started.wait()
socket.create_connection(listener.getsockname()).close()
listener.shutdown(socket.SHUT_RDWR)
thread.join()
listener.close()
print("well")
"""

PROGRAMS = {
    "prefork": PREFORK,
    "threaded server": THREADED_SERVER,
    "daemon": DAEMON,
    "respawn": RESPAWN,
    "passed on": PASSED_ON,
    "cells": CELLS,
    "event loop": EVERY_LOOP,
    "probes": PROBES,
    "terminal": TERMINAL,
    "pipelines": PIPELINES,
    "threads": THREADS,
    "unblocked": UNBLOCKED,
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_nothing_is_found(name: str, tmp_path: Path) -> None:
    assert said(run_watched(PROGRAMS[name], tmp_path)) == []
