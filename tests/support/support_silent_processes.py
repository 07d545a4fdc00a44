"""Correct programs with processes and threads: `python support_silent_processes.py NAME`.

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

PYTHON = sys.executable

keep: list[object] = []


def subprocesses(folder: Path) -> None:
    import subprocess
    from subprocess import DEVNULL, PIPE, STDOUT

    assert subprocess.run(["echo", "x"], capture_output=True, check=True).stdout == b"x\n"
    assert subprocess.check_output(["cat"], input=b"x") == b"x"
    subprocess.check_call("exit 0", shell=True)
    assert subprocess.call(["false"]) == 1
    with subprocess.Popen(["cat"], stdin=PIPE, stdout=PIPE, stderr=STDOUT) as process:
        assert process.communicate(b"x") == (b"x", None)
    with open(folder / "out", "wb") as out:
        subprocess.run(["echo", "x"], stdout=out, stderr=DEVNULL, stdin=DEVNULL, check=True)
    reader, writer = os.pipe()
    writes = f"import os; os.write({writer}, b'x\\n')"
    process = subprocess.Popen([PYTHON, "-c", writes], pass_fds=[writer])
    os.close(writer)
    with open(reader) as file:
        assert file.read() == "x\n"
    process.wait()
    try:
        subprocess.run(["/no/such/program"], stdout=PIPE)
    except FileNotFoundError:
        process = subprocess.Popen(["sleep", "60"])
    process.kill()
    process.wait()
    try:
        subprocess.run(["sleep", "60"], timeout=0.01, stdout=PIPE)
    except subprocess.TimeoutExpired:
        assert os.system("true") == 0
    with os.popen("echo x") as stream:
        assert stream.read() == "x\n"
    subprocess.run([PYTHON, "-c", "print(1)"], check=True, stdout=DEVNULL, close_fds=False)


def children_by_hand(folder: Path) -> None:
    pid = os.fork()
    if pid == 0:
        os._exit(3)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 3
    pid = os.posix_spawn("/bin/true", ["true"], os.environ)
    os.waitpid(pid, 0)
    pid = os.spawnlp(os.P_NOWAIT, "true", "true")
    os.wait()
    pid = os.fork()
    if pid == 0:
        os.execlp("true", "true")
    os.waitid(os.P_PID, pid, os.WEXITED)
    descriptor = os.open("/proc/self", os.O_RDONLY)
    pid = os.fork()
    if pid == 0:  # which closes what it inherited, as daemons do
        os.closerange(3, 256)
        for number in range(3, 64):
            try:
                os.close(number)
            except OSError:
                continue
        os._exit(0)
    os.waitpid(pid, 0)
    os.close(descriptor)


def daemon(folder: Path) -> None:
    """The double fork of the textbook; its parent waits for the first child only."""
    reader, writer = os.pipe()
    first = os.fork()
    if first == 0:
        os.setsid()
        if os.fork():
            os._exit(0)
        os.chdir("/")
        for number in range(3):
            os.close(number)
        os.open(os.devnull, os.O_RDWR)
        os.dup2(0, 1)
        os.dup2(0, 2)
        for number in range(3, 256):
            if number != writer:
                try:
                    os.close(number)
                except OSError:
                    continue
        log = os.open(folder / "log", os.O_WRONLY | os.O_CREAT)
        os.write(log, b"started")
        os.close(log)
        os.write(writer, b"x")
        os._exit(0)
    os.close(writer)
    os.waitpid(first, 0)
    assert os.read(reader, 1) == b"x"
    os.close(reader)


def child_that_outlives_it(folder: Path) -> None:
    import subprocess

    null = subprocess.DEVNULL
    daemon = subprocess.Popen(["sleep", "20"], stdin=null, stdout=null, stderr=null)
    daemon.returncode = 0  # so that its finalizer does not warn
    keep.append(daemon)


def close_loops(folder: Path) -> None:
    numbers = [os.open("/dev/null", os.O_RDONLY) for _ in range(10)]
    for number in range(numbers[0], numbers[-1] + 20):
        try:
            os.close(number)
        except OSError:
            continue
    os.closerange(numbers[0], numbers[0] + 40)


def probes(folder: Path) -> None:
    """Asks whether numbers are open, as libraries do at their start."""
    import fcntl

    fd = os.open("/dev/null", os.O_RDONLY)
    os.close(fd)
    for number in range(3, 64):
        for probe in (os.fstat, lambda each: fcntl.fcntl(each, fcntl.F_GETFD), os.isatty):
            try:
                probe(number)
            except OSError:
                continue


def numbers_asked_for(folder: Path) -> None:
    """Takes a number only after it has asked, and was told that nobody has it."""
    fd = os.open("/dev/null", os.O_RDONLY)
    os.close(fd)
    with open(folder / "other", "w") as other:
        try:
            os.fstat(fd)
        except OSError:
            os.dup2(other.fileno(), fd)
            os.close(fd)


def numbers_named_anew(folder: Path) -> None:
    """A log goes on under its old number after the file was moved away."""
    fd = os.open(folder / "log", os.O_CREAT | os.O_WRONLY)
    for generation in range(3):
        os.close(fd)
        os.rename(folder / "log", folder / f"log.{generation}")
        fresh = os.open(folder / "log", os.O_CREAT | os.O_WRONLY)
        if fresh != fd:
            os.dup2(fresh, fd)
            os.close(fresh)
        os.write(fd, b"x")
    os.close(fd)


def terminals(folder: Path) -> None:
    import pty

    leader, follower = os.openpty()
    os.write(follower, b"x")
    assert os.read(leader, 1) == b"x"
    os.close(leader)
    os.close(follower)
    pid, fd = pty.fork()
    if pid == 0:
        os.execlp("true", "true")
    os.waitpid(pid, 0)
    os.close(fd)


def special_descriptors(folder: Path) -> None:
    import signal

    fd = os.memfd_create("x")
    os.close(fd)
    fd = os.eventfd(1)
    os.eventfd_read(fd)
    os.close(fd)
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    fd = os.pidfd_open(pid)
    os.waitid(os.P_PIDFD, fd, os.WEXITED)
    os.close(fd)
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer)
    signal.signal(signal.SIGUSR1, lambda *_: None)
    os.kill(os.getpid(), signal.SIGUSR1)
    os.read(reader, 1)
    signal.set_wakeup_fd(-1)
    os.close(reader)
    os.close(writer)


# --- libraries for parallel work ---


def _square(number: int) -> int:
    return number * number


def pool_by_fork(folder: Path) -> None:
    _pool("fork")


def pool_by_spawn(folder: Path) -> None:
    _pool("spawn")


def pool_by_forkserver(folder: Path) -> None:
    _pool("forkserver")


def _pool(method: str) -> None:
    import multiprocessing

    context = multiprocessing.get_context(method)
    with context.Pool(2) as pool:
        assert pool.map(_square, range(10)) == [n * n for n in range(10)]
        pool.close()
        pool.join()


def _puts(queue: object, number: object) -> None:
    queue.put(1)  # type: ignore[attr-defined]
    with number.get_lock():  # type: ignore[attr-defined]
        number.value += 1  # type: ignore[attr-defined]


def queues_and_shared_values(folder: Path) -> None:
    import multiprocessing
    from multiprocessing import shared_memory

    queue: object = multiprocessing.Queue()
    number = multiprocessing.Value("i", 0)
    workers = [multiprocessing.Process(target=_puts, args=(queue, number)) for _ in range(3)]
    for worker in workers:
        worker.start()
    assert [queue.get() for _ in workers] == [1, 1, 1]  # type: ignore[attr-defined]
    for worker in workers:
        worker.join()
    assert number.value == 3
    left, right = multiprocessing.Pipe()
    left.send("x")
    assert right.recv() == "x"
    left.close()
    right.close()
    memory = shared_memory.SharedMemory(create=True, size=4096)
    memory.close()
    memory.unlink()


def manager(folder: Path) -> None:
    import multiprocessing

    with multiprocessing.Manager() as manager:
        shared = manager.dict()
        shared["a"] = 1
        assert dict(shared) == {"a": 1}


def executors(folder: Path) -> None:
    from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor

    for kind in (ThreadPoolExecutor, ProcessPoolExecutor):
        with kind(2) as executor:
            assert list(executor.map(_square, range(5))) == [0, 1, 4, 9, 16]


def threads_that_hand_over(folder: Path) -> None:
    import queue

    handed: queue.SimpleQueue[int | None] = queue.SimpleQueue()

    def close() -> None:
        while (fd := handed.get()) is not None:
            os.close(fd)

    threads = [threading.Thread(target=close) for _ in range(4)]
    for thread in threads:
        thread.start()
    for _ in range(2000):
        handed.put(os.open("/dev/null", os.O_RDONLY))
    for _ in threads:
        handed.put(None)
    for thread in threads:
        thread.join()


def event_loop(folder: Path) -> None:
    import asyncio

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await reader.readline())
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    async def main() -> None:
        server = await asyncio.start_server(answer, "127.0.0.1", 0)
        address = server.sockets[0].getsockname()
        async with server:
            for _ in range(3):
                reader, writer = await asyncio.open_connection(*address)
                writer.write(b"hello\n")
                assert await reader.readline() == b"hello\n"
                writer.close()
                await writer.wait_closed()
        process = await asyncio.create_subprocess_exec(
            "cat", stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
        )
        assert (await process.communicate(b"x"))[0] == b"x"
        process = await asyncio.create_subprocess_shell("exit 3")
        assert await process.wait() == 3
        assert await asyncio.to_thread(_square, 3) == 9
        loop = asyncio.get_running_loop()
        await loop.getaddrinfo("localhost", 80)
        transport, _ = await loop.create_datagram_endpoint(
            asyncio.DatagramProtocol, local_addr=("127.0.0.1", 0)
        )
        transport.close()
        async with asyncio.timeout(5):
            await asyncio.sleep(0)

    asyncio.run(main())
    asyncio.run(main())


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
