"""Children that are made without libc's handlers: _Fork(), clone(), and the system calls.

A library in C makes them, each in one way, under a full watch.  The child says
by its exit status whether it is as it would be unwatched.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from support_interpose import compile_c, needs_interposition
from support_programs import Run, run_program
from support_watch import findings_of

pytestmark = needs_interposition

LIBRARY = r"""
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

pid_t _Fork(void);

#define SIZE 65536
static int parked, kept, seen[8];

/* Bits tell what is wrong. */
static int child(void *unused)
{
    (void)unused;
    int wrong = (fcntl(parked, F_GETFD) != -1) << 1;
    for (int i = 0; i < 8; i++) {
        seen[i] = open("/dev/null", O_RDONLY);
        wrong |= (seen[i] < 3) << 0;
    }
    wrong |= (close(kept) != 0) << 2;
    wrong |= (close(kept) != -1 || errno != EBADF) << 3;
    return wrong;
}

static int ended(long pid)
{
    if (pid == 0) {
        _exit(child(NULL));
    }
    return (int)pid;
}

static char *stack(void)
{
    char *low = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return low + SIZE;
}

static int pidfd = -1;
int get_pidfd(void) { return pidfd; }

int make(const char *how, int a, int b)
{
    parked = a;
    kept = b;
    if (strcmp(how, "_Fork") == 0) {
        return ended(_Fork());
    }
    if (strcmp(how, "clone") == 0) {
        return clone(child, stack(), SIGCHLD, NULL);
    }
    if (strcmp(how, "clone_silent") == 0) { /* tells its parent nothing */
        return clone(child, stack(), 0, NULL);
    }
    if (strcmp(how, "clone_vfork") == 0) {
        return clone(child, stack(), CLONE_VM | CLONE_VFORK | SIGCHLD, NULL);
    }
    if (strcmp(how, "clone_pidfd") == 0) {
        return clone(child, stack(), CLONE_PIDFD | SIGCHLD, NULL, &pidfd);
    }
    if (strcmp(how, "SYS_clone") == 0) {
        return ended(syscall(SYS_clone, (long)SIGCHLD, 0L, 0L, 0L, 0L));
    }
    if (strcmp(how, "SYS_clone3") == 0) {
        uint64_t arguments[8] = {[4] = SIGCHLD};
        return ended(syscall(SYS_clone3, arguments, sizeof(arguments)));
    }
#ifdef SYS_fork
    if (strcmp(how, "SYS_fork") == 0) {
        return ended(syscall(SYS_fork));
    }
#endif
    return -1;
}

/* What no child comes of, and what shares all. */
int refused(void)
{
    long one = clone(NULL, stack(), SIGCHLD, NULL);
    int error = errno;
    long two = syscall(SYS_clone, (long)CLONE_THREAD, 0L, 0L, 0L, 0L);
    long three = syscall(SYS_clone3, NULL, 0L);
    return one == -1 && error == EINVAL && two == -1 && errno == EINVAL && three == -1;
}

static int in_thread(void *number)
{
    *(volatile int *)number = (int)syscall(SYS_gettid);
    syscall(SYS_exit, 0);
    return 0;
}

int thread(void)
{
    static volatile int number;
    int made = clone(in_thread, stack(),
                     CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD,
                     (void *)&number);
    while (made > 0 && number == 0) {
        sched_yield();
    }
    return made == number;
}
"""

PROGRAM = """
import ctypes, os, sys

library = ctypes.PyDLL(sys.argv[1])
how = sys.argv[2].encode()
parked = os.open(os.devnull, os.O_RDONLY)
kept = os.open(os.devnull, os.O_RDONLY)
later = os.open(os.devnull, os.O_RDONLY)
os.close(parked)


def make():
    return library.make(how, parked, kept)


pid = make()
assert pid > 0, pid
"""
WALL = 0x40000000
REAP = f"""
_, status = os.waitpid(pid, {WALL})
print(os.waitstatus_to_exitcode(status))
"""
ALONE = ["_Fork", "clone", "clone_silent", "clone_pidfd", "SYS_clone", "SYS_clone3", "SYS_fork"]


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clones")
    source = folder / "clones.c"
    source.write_text(LIBRARY)
    return compile_c(folder / "clones.so", "-shared", "-fPIC", source)


def play(library: Path, folder: Path, how: str, rest: str, level: str) -> Run:
    return run_program(PROGRAM + rest, folder, str(library), how, level=level)


@pytest.mark.parametrize("quarantine", ["0", "256"])
@pytest.mark.parametrize("how", [*ALONE, "clone_vfork"])
def test_a_child_is_told_and_left_alone(
    library: Path, tmp_path: Path, how: str, quarantine: str
) -> None:
    """A handle of its parent's until it is waited for; and nothing else is."""
    rest = REAP + "os.close(kept)\nos.close(later)\n"
    if how == "clone_pidfd":
        rest += "os.close(library.get_pidfd())\n"
    if how == "clone_vfork":
        # It has its parent's memory, and of the numbers, which it has for
        # itself, those that are parked are taken.
        rest = rest.replace("print(", "print(~2 & ")
    run = play(library, tmp_path, how, rest, f"full,fds=on,quarantine={quarantine}")
    if how == "SYS_fork" and run.code != 0:
        pytest.skip("this processor has no such call")
    assert run.ok().lines == ["0"]
    (told,) = run.told()
    name = "_Fork" if how == "_Fork" else "clone"
    assert [
        (each.kind, each.detail, each.ending, each.opened[0].function)
        for each in told.handles
        if each.kind == "child"
    ] == [("child", name, "closed", "make")]
    assert sum(each.detail == "/dev/null" for each in told.handles) == 3
    assert findings_of(run) == []


@pytest.mark.parametrize("how", ALONE)
def test_a_zombie_is_a_leak(library: Path, tmp_path: Path, how: str) -> None:
    rest = f"os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT | {WALL})\n"
    rest += "os.close(kept)\nos.close(later)\n"
    if how == "clone_pidfd":
        rest += "os.close(library.get_pidfd())\n"
    run = play(library, tmp_path, how, rest, "full,fds=on")
    if how == "SYS_fork" and run.code != 0:
        pytest.skip("this processor has no such call")
    (found,) = findings_of(run.ok())
    assert (found["kind"], found["handle"]["kind"]) == ("leak", "child")
    assert found["culprit"][0]["function"] == "make"


def test_what_is_no_child_is_none(library: Path, tmp_path: Path) -> None:
    """A thread, and calls that fail."""
    source = """
        import ctypes, sys

        library = ctypes.PyDLL(sys.argv[1])
        print(library.refused(), library.thread())
    """
    run = run_program(source, tmp_path, str(library), level="full,fds=on").ok()
    assert run.lines == ["1 1"]
    assert [each for each in run.first().handles if each.kind == "child"] == []
    assert findings_of(run) == []


def test_it_may_go_on_in_python(library: Path, tmp_path: Path) -> None:
    """And end as a program does: its parent's recording is none of its business."""
    source = """
        import ctypes, os, sys

        from safehandle_debug import SafeFileHandle

        libc = ctypes.PyDLL(None)
        held = SafeFileHandle.open(os.devnull, os.O_RDONLY)
        pid = libc._Fork()
        if pid == 0:
            held.close()
            more = SafeFileHandle.open(os.devnull, os.O_RDONLY)
            lost = os.open(os.devnull, os.O_RDONLY)
            sys.exit(7)
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
        held.close()
    """
    run = run_program(source, tmp_path, level="full,fds=on").ok()
    assert run.lines == ["7"]
    (told,) = run.told()
    assert told.process.ended == "exit"
    assert [each.ending for each in told.handles if each.owner == "SafeFileHandle"] == ["closed"]
    assert findings_of(run) == []
