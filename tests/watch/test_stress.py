"""Many threads, children and signals at once: the account of descriptors stays exact,
nothing is found in programs that are right, and they run as they would unwatched.

Each program checks its own results and ends by comparing the watch's account with
/proc/self/fd."""

from __future__ import annotations

import textwrap
from pathlib import Path

import pytest
from support_hooks import Hooks
from support_interpose import needs_interposition
from support_programs import Run, run_program
from support_watch import findings_of

import safehandle_debug

pytestmark = needs_interposition

ROOT = str(Path(safehandle_debug.__file__).parents[1])

PRELUDE = """
import os, random, resource, signal, socket, subprocess, sys, threading
from safehandle_debug import _native

NULL = os.devnull
begun = threading.Event()


def together(*workers):
    threads = [threading.Thread(target=each) for each in workers]
    for each in threads:
        each.start()
    for each in threads:
        each.join()


def exact():
    "Nothing went round the watch, and it counts what /proc does."
    listed = {int(name) for name in os.listdir("/proc/self/fd")}
    open_now = sum(1 for fd in listed if is_open(fd))
    assert _native.watch_reconcile() == 0
    assert _native.watch_status()["open"] == open_now, (_native.watch_status(), listed)


def is_open(fd):  # the listing itself is not
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True
"""

PROGRAMS = {
    "threads": """
        def churn(seed):
            choose, held = random.Random(seed), []
            for _ in range(150):
                what = choose.randrange(6)
                if what == 0:
                    held.append(os.open(NULL, os.O_RDONLY))
                elif what == 1:
                    held += os.pipe()
                elif what == 2:
                    ours, theirs = socket.socketpair()
                    with ours, theirs:
                        ours.send(b"x")
                        assert theirs.recv(1) == b"x"
                elif what == 3:
                    open(NULL).close()
                elif held and what == 4:
                    held.append(os.dup(held[0]))
                elif held:
                    os.close(held.pop(choose.randrange(len(held))))
            for fd in held:
                os.close(fd)

        exact()
        together(*[lambda seed=seed: churn(seed) for seed in range(64)])
        """,
    "subprocesses": """
        def run():
            for number in range(12):
                subprocess.run(["true"], check=True)
                try:
                    subprocess.run(["/nonexistent"])
                except FileNotFoundError:
                    pass
                else:
                    raise AssertionError("it ran")
                with subprocess.Popen(
                    ["cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
                ) as cat:
                    assert cat.communicate(b"hello")[0] == b"hello"
                reader, writer = os.pipe()
                subprocess.run(
                    ["sh", "-c", f"echo $0 >/proc/self/fd/{writer}", str(number)],
                    pass_fds=(writer,),
                    preexec_fn=os.getpid if number % 2 else None,
                )
                os.close(writer)
                assert os.read(reader, 100) == b"%d\\n" % number
                os.close(reader)
                killed = subprocess.Popen(["cat"], stdin=subprocess.PIPE)
                killed.kill()
                assert killed.wait() == -signal.SIGKILL
                killed.stdin.close()
            os.system("true")

        together(*[run] * 4)
        """,
    "forks": """
        over = False

        def churn():
            while not over:
                for fd in os.pipe():
                    os.close(fd)
                open(NULL).close()
                begun.set()

        def fork():
            begun.wait()
            for _ in range(25):
                pid = os.fork()
                if pid == 0:
                    failed = 1
                    try:
                        held = [os.open(NULL, os.O_RDONLY) for _ in range(5)]
                        for fd in held:
                            os.close(fd)
                        with open(NULL) as file:
                            os.fstat(file.fileno())
                        failed = 0
                    finally:
                        os._exit(failed)
                assert os.waitpid(pid, 0)[1] == 0

        def forks():
            global over
            together(*[fork] * 3)
            over = True

        together(forks, *[churn] * 4)
        """,
    "signals": """
        hits = 0

        def on_signal(number, frame):
            global hits
            hits += 1
            os.close(os.open(NULL, os.O_RDONLY))

        def churn():
            while hits < 60:
                for fd in os.pipe():
                    os.close(fd)
                open(NULL).close()

        reader, writer = socket.socketpair()
        reader.setblocking(False)
        writer.setblocking(False)
        signal.signal(signal.SIGPROF, on_signal)
        signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
        signal.setitimer(signal.ITIMER_PROF, 0.0002, 0.0002)
        others = [threading.Thread(target=churn) for _ in range(3)]
        for each in others:
            each.start()
        churn()
        for each in others:
            each.join()
        for _ in range(5):
            subprocess.run(["true"], check=True)
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.set_wakeup_fd(-1)
        reader.close()
        writer.close()
        """,
    "few_numbers": """
        resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
        exact()

        def churn():
            for _ in range(300):
                for fd in os.pipe():
                    os.close(fd)
                with open(NULL), socket.socket():
                    pass

        together(*[churn] * 8)
        subprocess.run(["true"], check=True)
        held = []
        while len(held) < 50:  # more than a quarantine of them would leave free
            held.append(os.open(NULL, os.O_RDONLY))
        for fd in held:
            os.close(fd)
        """,
}


def run(source: str, folder: Path, level: str | None) -> Run:
    program = textwrap.dedent(PRELUDE) + textwrap.dedent(source)
    if level is not None:
        program += "\nexact()\n"
    # What each program forks ends before it does, and warns of nothing.
    options = ["-W", "ignore::DeprecationWarning"]
    done = run_program(program, folder, level=level, options=options, env={"PYTHONPATH": ROOT})
    assert done.err == ""
    return done.ok()


@pytest.mark.parametrize("quarantine", [0, 256])
@pytest.mark.parametrize("name", PROGRAMS)
def test_the_account_is_exact_and_nothing_is_found(
    tmp_path: Path, name: str, quarantine: int
) -> None:
    done = run(PROGRAMS[name], tmp_path, f"full,fds=on,quarantine={quarantine}")
    found = findings_of(done)
    assert found == []


@pytest.mark.parametrize("name", [name for name in PROGRAMS if "exact" not in PROGRAMS[name]])
def test_the_same_programs_run_unwatched(tmp_path: Path, name: str) -> None:
    run(PROGRAMS[name], tmp_path, None)


USES = {
    "read": "os.read(fd, 1)",
    "write": "os.write(fd, b'x')",
    "fcntl": "os.dup(fd)",
    "dup2": "os.dup2(fd, 100)",
    "lseek": "os.lseek(fd, 0, os.SEEK_SET)",
    "fsync": "os.fsync(fd)",
    "ftruncate": "os.ftruncate(fd, 0)",
    "fchdir": "os.fchdir(fd)",
    "fchmod": "os.fchmod(fd, 0o600)",
    "fchown": "os.fchown(fd, -1, -1)",
    "fstatvfs": "os.statvfs(fd)",
    "open": "open(fd)",
    "openat": "os.open('file', os.O_RDONLY, dir_fd=fd)",
    "fpathconf": "os.fpathconf(fd, 'PC_LINK_MAX')",
    "linkat": "os.link('file', 'other', src_dir_fd=fd)",
    "mkfifoat": "os.mkfifo('file', dir_fd=fd)",
    "renameat": "os.rename('file', 'other', dst_dir_fd=fd)",
    "unlinkat": "os.unlink('file', dir_fd=fd)",
    "mkdirat": "os.mkdir('folder', dir_fd=fd)",
    "flock": "fcntl.flock(fd, fcntl.LOCK_SH)",
    "ioctl": "fcntl.ioctl(fd, 0x541B, bytes(4))",
    "select": "select.select([fd], [], [], 0)",
    "epoll_ctl": "poll.register(fd)",
    "sendfile": "os.sendfile(1, fd, 0, 1)",
    "splice": "os.splice(fd, 1, 1)",
    "pread": "os.pread(fd, 1, 0)",
    "pwrite": "os.pwrite(fd, b'x', 0)",
    "readv": "os.readv(fd, [bytearray(1)])",
    "writev": "os.writev(fd, [b'x'])",
    "sendmsg": "socket.send_fds(ours, [b'x'], [fd])",
    "posix_fallocate": "os.posix_fallocate(fd, 0, 1)",
    "eventfd_read": "os.eventfd_read(fd)",
}
PROBES = {
    "fstat": "os.fstat(fd)",
    "get_inheritable": "os.get_inheritable(fd)",
    "getfl": "fcntl.fcntl(fd, fcntl.F_GETFL)",
    "unregister": "poll.unregister(fd)",
    "onto_itself": "os.dup2(fd, fd)",
}

STALE = """
    import fcntl, os, select, socket

    poll = select.epoll()
    ours, theirs = socket.socketpair()

    def stale():
        fd = os.open("/tmp", os.O_RDONLY)
        os.close(fd)
        return fd

    def refused(call):
        fd = stale()
        try:
            eval(call)
        except OSError as error:
            assert error.errno == 9, (call, error)
        else:
            raise AssertionError(call)
"""


def stale_uses(calls: dict[str, str]) -> str:
    lines = [f"def use_{name}(): refused({call!r})\nuse_{name}()" for name, call in calls.items()]
    # Other numbers are closed when the interpreter ends.
    return (
        textwrap.dedent(STALE)
        + "\n".join(lines)
        + "\nfor each in poll, ours, theirs: each.close()\n"
    )


@pytest.mark.parametrize("quarantine", [0, 256])
def test_stale_uses_are_told_by_function_and_line(tmp_path: Path, quarantine: int) -> None:
    """A parked number answers as a closed one; questions are no uses."""
    done = run_program(
        stale_uses({**USES, **PROBES}),
        tmp_path,
        level=f"full,fds=on,quarantine={quarantine}",
        env={"PYTHONPATH": ROOT},
    ).ok()
    found = findings_of(done)
    told = sorted(each["message"].split("()")[0].rsplit(" ", 1)[1] for each in found)
    assert told == sorted(USES)
    assert {each["kind"] for each in found} == {"use-after-close"}


def test_uses_are_refused_unwatched_too(tmp_path: Path) -> None:
    run_program(stale_uses({**USES, **PROBES}), tmp_path, level=None).ok()


@pytest.mark.parametrize("quarantine", [0, 8])
def test_a_second_close_is_told_when_nobody_has_the_number(
    tmp_path: Path, quarantine: int
) -> None:
    """Be it parked still, or long given back; a loop over all numbers is not told."""
    source = """
        import os

        def twice(between):
            fd = os.open(os.devnull, os.O_RDONLY)
            os.close(fd)
            between()
            try:
                os.close(fd)
            except OSError as error:
                assert error.errno == 9
            else:
                raise AssertionError("closed again")

        def at_once():
            twice(lambda: None)

        def later():
            twice(lambda: [os.close(os.open(os.devnull, os.O_RDONLY)) for _ in range(20)])

        def sweep():
            for fd in range(3, 300):
                try:
                    os.close(fd)
                except OSError:
                    pass

        at_once()
        later()
        sweep()
    """
    level = f"full,fds=on,quarantine={quarantine}"
    done = run_program(source, tmp_path, level=level, env={"PYTHONPATH": ROOT}).ok()
    found = findings_of(done)
    assert [each["kind"] for each in found] == ["double-release"] * 2
    assert all("twice" in each["message"] for each in found)


def test_a_child_without_handlers_is_left_alone(tmp_path: Path) -> None:
    """What it opens and closes is none of its parent's, whose recording it shares."""
    source = """
        import ctypes, os, platform
        libc = ctypes.CDLL(None)
        libc.syscall.restype = ctypes.c_long
        clone = {"x86_64": 56, "aarch64": 220}[platform.machine()]
        kept = os.open(os.devnull, os.O_RDONLY)
        for make in (libc._Fork, lambda: libc.syscall(clone, 17, 0, 0, 0, 0)):
            pid = make()
            if pid == 0:
                lost = [os.open(os.devnull, os.O_RDONLY) for _ in range(5)]
                os.close(kept)
                file = open(os.devnull)
                os._exit(0)
            assert os.waitpid(pid, 0)[1] == 0
        os.close(kept)
        pid = os.fork()
        if pid == 0:
            def leak():
                os.open(os.devnull, os.O_RDONLY)
            leak()
            raise SystemExit
        assert os.waitpid(pid, 0)[1] == 0
    """
    if not Hooks().exists("_Fork"):
        pytest.skip("this libc has no _Fork")
    options = ["-W", "ignore::DeprecationWarning"]
    done = run_program(
        source, tmp_path, level="full,fds=on", options=options, env={"PYTHONPATH": ROOT}
    ).ok()
    (found,) = findings_of(done)
    assert found["kind"] == "leak"
    assert "in leak" in found["message"]
