"""What real programs did wrong or saw wrong under the watch, each reduced to a few lines."""

from __future__ import annotations

from pathlib import Path

from support_loads import found, run_watched, said

LISTED = """
# What is open is listed, and the list is the same as ever: nothing of ours is in it.
import os

def look(folder="/proc/self/fd"):
    return sorted(map(int, os.listdir(folder)))

before = look()
for _ in range(10):
    os.close(os.open(os.devnull, os.O_RDONLY))
assert look() == before, (look(), before)
for _ in range(300):
    os.close(os.open(os.devnull, os.O_RDONLY))
assert look(f"/proc/{os.getpid()}/fd") == before
with os.scandir("/proc/self/fd") as entries:
    assert len(list(entries)) == len(before)
print(len(before))
"""

LISTED_MEANWHILE = """
# One thread lists what is open while others close: no closed number stays occupied.
import os, sys, threading

sys.setswitchinterval(1e-5)

def churn():
    for _ in range(1500):
        one, other = os.pipe()
        os.close(one)
        os.close(other)

def look():
    for _ in range(100):
        os.listdir("/proc/self/fd")

before = len(os.listdir("/proc/self/fd"))
threads = [threading.Thread(target=churn) for _ in range(6)]
threads += [threading.Thread(target=look) for _ in range(2)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print(len(os.listdir("/proc/self/fd")) - before)
"""

CLOSED_AGAIN_LATE = """
# The number is nobody's: it has left the quarantine, and nobody opened anything.
import os

def opened_and_closed():
    fd = os.open(__file__, os.O_RDONLY)
    os.close(fd)
    return fd

low = os.open(os.devnull, os.O_RDONLY)
fd = opened_and_closed()
os.close(low)
os.listdir("/proc/self/fd")  # under the lower of the two numbers
try:
    os.close(fd)
except OSError as error:
    print(error.errno)
"""

KEPT_BY_A_DAEMON = """
# The daemon closes what it has from its parent, objects that own some of it included.
import os, sys

kept = open(__file__)
if os.fork() == 0:
    for fd in range(3, 1024):
        try:
            os.close(fd)
        except OSError:
            pass
    import socket  # opens and closes files, under the numbers that are free now
    sys.exit(0)
print(os.wait()[1])
kept.close()
"""

PROBED = """
# A program that asks of every number whether it is open sees what it opened itself.
import os

def probe():
    numbers = []
    for fd in range(2000):
        try:
            os.fstat(fd)
        except OSError:
            continue
        numbers.append(fd)
    return numbers

before = probe()
fd = os.open(__file__, os.O_RDONLY)
assert sorted([*before, fd]) == probe()
os.close(fd)
assert probe() == before
for function in (os.dup, os.get_inheritable, os.fpathconf, os.fstatvfs, os.isatty):
    arguments = ["PC_NAME_MAX"] if function is os.fpathconf else []
    try:
        print(function(fd, *arguments))
    except OSError as error:
        print(error.errno)
print(len(before))
"""


def test_a_list_of_what_is_open(tmp_path: Path) -> None:
    assert said(run_watched(LISTED, tmp_path)) == []


def test_a_list_while_others_close(tmp_path: Path) -> None:
    run = run_watched(LISTED_MEANWHILE, tmp_path)
    assert run.lines == ["0"]
    assert said(run) == []


def test_a_second_close_after_the_quarantine(tmp_path: Path) -> None:
    run = run_watched(CLOSED_AGAIN_LATE, tmp_path)
    (finding,) = found(run)
    assert (finding.kind, finding.culprit[0].line) == ("double-release", 15)


def test_a_daemon_that_kept_an_object(tmp_path: Path) -> None:
    assert said(run_watched(KEPT_BY_A_DAEMON, tmp_path)) == []


def test_numbers_that_are_probed(tmp_path: Path) -> None:
    """dup() of a closed number is a use of it; asking whether it is open is none."""
    run = run_watched(PROBED, tmp_path)
    assert all(finding.kind == "use-after-close" for finding in found(run))


CLOSES_WHAT_IT_LISTS = """
# A child closes all that it finds open; the list's own number is one of them.
import os

def close_all():
    for name in os.listdir("/proc/self/fd"):
        if int(name) > 2:
            try:
                os.close(int(name))
            except OSError:
                pass

held = os.pipe()
pid = os.fork()
if pid == 0:
    close_all()
    os.execv("/bin/true", ["true"])
print(os.waitpid(pid, 0)[1])
for end in held:
    os.close(end)
for _ in range(3):
    numbers = [os.open(os.devnull, os.O_RDONLY) for _ in range(5)]
    close_all()
"""


def test_closing_all_that_a_list_names(tmp_path: Path) -> None:
    assert said(run_watched(CLOSES_WHAT_IT_LISTS, tmp_path)) == []
