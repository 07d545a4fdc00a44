"""Mixed churn of descriptors under watch, with an exact account all along.

    python benchmarks/soak.py [SECONDS]

Threads open, copy, send, replace and close all sorts of descriptors, fork and
start programs, for ten minutes unless told otherwise.  Now and then they all
stand still, and what the watch counts as open is compared with /proc/self/fd:
exit code 1 when it ever differs, or when anything is found in this correct
program.  Run it where safehandle-debug is installed.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import io
import json
import mmap
import os
import random
import resource
import select
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from safehandle_debug import SafeFileHandle, _native

MINUTES = 10
THREADS = 6
STEPS = 250  # of a thread between two checkpoints
MOST_HELD = 30

Held = list[Callable[[], object]]  # each closes one thing


def held_file(held: Held) -> None:
    held.append(io.FileIO(__file__).close)


def held_temporary(held: Held) -> None:
    fd, path = tempfile.mkstemp()
    os.remove(path)
    held.append(os.fdopen(fd, "w+b").close)


def held_number(held: Held) -> None:
    held.append(functools.partial(os.close, os.open(os.devnull, os.O_RDWR)))


def held_copies(held: Held) -> None:
    with open(__file__, "rb") as file:
        copies = [os.dup(file.fileno()), os.dup(file.fileno())]
        os.dup2(file.fileno(), copies[0])
    for each in copies:
        held.append(functools.partial(os.close, each))


def held_pair(held: Held) -> None:
    held.extend(end.close for end in socket.socketpair())


def held_mapping(held: Held) -> None:
    with open(__file__, "rb") as file:
        held.append(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ).close)


def held_epoll(held: Held) -> None:
    held.append(select.epoll().close)


def held_handle(held: Held) -> None:
    held.append(SafeFileHandle.open(__file__, os.O_RDONLY).close)


def held_database(held: Held) -> None:
    held.append(sqlite3.connect(f"file:{threading.get_ident()}?mode=memory", uri=True).close)


def held_listing(held: Held) -> None:
    entries = os.scandir("/proc/self")
    next(entries)
    held.append(entries.close)


def passed_pipe(held: Held) -> None:
    for fd in os.pipe():
        os.close(fd)


def passed_event(held: Held) -> None:
    fd = os.memfd_create("soak")
    with os.fdopen(fd, "r+b") as file:
        file.write(b"x")


def passed_descriptor(held: Held) -> None:
    one, other = socket.socketpair()
    with one, other, open(__file__, "rb") as file:
        socket.send_fds(one, [b"x"], [file.fileno()])
        _, received, _, _ = socket.recv_fds(other, 1, 1)
        for fd in received:
            os.close(fd)


def passed_accept(held: Held) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        client = socket.create_connection(server.getsockname())
        with client, server.accept()[0]:
            pass


def passed_syscall(held: Held) -> None:
    libc = ctypes.CDLL(None)
    fd = libc.syscall(3 if os.uname().machine == "x86_64" else 57, os.dup(0))
    assert fd == 0


def rare_program(held: Held) -> None:
    subprocess.run(["/bin/true"], check=True)


def rare_pipeline(held: Held) -> None:
    done = subprocess.run(["cat"], input=b"text", stdout=subprocess.PIPE, check=True)
    assert done.stdout == b"text"


def rare_spawn(held: Held) -> None:
    pid = os.posix_spawn("/bin/true", ["true"], {})
    os.waitpid(pid, 0)


def rare_fork(held: Held) -> None:
    pid = os.fork()
    if pid == 0:
        with contextlib.suppress(BaseException):
            os.close(os.open(os.devnull, os.O_RDONLY))
        os._exit(0)
    os.waitpid(pid, 0)


OFTEN = [
    *(held_file, held_temporary, held_number, held_copies, held_pair, held_mapping, held_epoll),
    *(held_handle, held_database, held_listing, passed_pipe, passed_event, passed_descriptor),
    *(passed_accept, passed_syscall),
]
RARE = [rare_program, rare_pipeline, rare_spawn, rare_fork]


class Soak:
    """The threads, and what was found whenever they stood still."""

    def __init__(self, seconds: float) -> None:
        self.end = time.monotonic() + seconds
        self.over = threading.Event()
        self.still = threading.Barrier(THREADS + 1)
        self.steps = [0] * THREADS
        self.checks = 0
        self.wrong: list[tuple[int, dict[str, Any], int]] = []
        self.errors: list[str] = []

    def churn(self, which: int) -> None:
        rnd = random.Random(which)
        held: Held = []
        try:
            while not self.over.is_set():
                for _ in range(STEPS):
                    self.step(rnd, held)
                self.steps[which] += STEPS
                self.still.wait()  # all stand still ...
                self.still.wait()  # ... while the account is compared
        except threading.BrokenBarrierError:
            pass
        except BaseException as error:
            self.errors.append(f"{type(error).__name__}: {error}")
            self.still.abort()
        finally:
            for close in held:
                close()

    def step(self, rnd: random.Random, held: Held) -> None:
        if rnd.random() < 0.003:
            rnd.choice(RARE)(held)
        elif held and (len(held) > MOST_HELD or rnd.random() < 0.4):
            held.pop(rnd.randrange(len(held)))()
        else:
            rnd.choice(OFTEN)(held)

    def compare(self) -> None:
        differences = _native.watch_reconcile()
        status = _native.watch_status()
        listed = len(os.listdir("/proc/self/fd")) - 1  # the one that lists
        if differences or status["open"] != listed:
            self.wrong.append((differences, dict(status), listed))
        self.checks += 1

    def run(self) -> int:
        threads = [threading.Thread(target=self.churn, args=(n,)) for n in range(THREADS)]
        for thread in threads:
            thread.start()
        with contextlib.suppress(threading.BrokenBarrierError):
            while not self.over.is_set():
                self.still.wait()
                self.compare()
                if time.monotonic() > self.end:
                    self.over.set()
                self.still.wait()
        for thread in threads:
            thread.join()
        used = resource.getrusage(resource.RUSAGE_SELF)
        print(
            json.dumps(
                {
                    "steps": sum(self.steps),
                    "checkpoints": self.checks,
                    "different": self.wrong[:3],
                    "errors": self.errors,
                    "peak memory MB": used.ru_maxrss // 1024,
                }
            )
        )
        return 1 if self.wrong or self.errors else 0


def findings(folder: Path) -> dict[str, Any]:
    command = [sys.executable, "-m", "safehandle_debug", "report", "--format=json", str(folder)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    report: dict[str, Any] = json.loads(done.stdout)
    return report


def main(arguments: list[str]) -> int:
    try:
        seconds = float(arguments[0]) if arguments else MINUTES * 60.0
    except ValueError:
        print(f"soak: {arguments[0]!r} is no number of seconds", file=sys.stderr)
        return 2
    if _native.watch_status()["on"]:
        return Soak(seconds).run()
    with tempfile.TemporaryDirectory(prefix="safehandle-soak-") as name:
        watched = os.environ | {"SAFEHANDLE_DEBUG": "full", "SAFEHANDLE_DEBUG_DIR": name}
        done = subprocess.run(
            [sys.executable, __file__, str(seconds)],
            env=watched,
            stdout=subprocess.PIPE,
            text=True,
            check=False,
        )
        print(done.stdout, end="")
        if done.returncode < 0:
            print(f"soak: died of {signal.Signals(-done.returncode).name}", file=sys.stderr)
        sessions = [path for path in Path(name).iterdir() if path.is_dir()]
        report = findings(sessions[0])
    events, dropped = (
        sum(process[what] for process in report["processes"]) for what in ("events", "dropped")
    )
    print(f"processes {len(report['processes'])}, events {events} (to stay within the size,")
    print(f"{dropped} dropped), found {len(report['findings'])}")
    for finding in report["findings"]:
        print(f"  {finding['message']}")
    return 1 if done.returncode or report["findings"] else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
