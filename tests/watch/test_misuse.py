"""Every kind of descriptor that is leaked, closed twice or used when it is dead is told of,
at the line that did it.

One program does all of it, one function an act, so that each finding can be
told from the others by the function at its end.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from support_descriptors import PRELUDE
from support_interpose import needs_interposition
from support_programs import Run, run_program
from support_watch import findings_of

pytestmark = needs_interposition

# What makes a raw descriptor: kind, expression.
RAW = {
    "os_open": ("file", "os.open(PATH, os.O_RDWR)"),
    "directory": ("directory", "os.open('.', os.O_RDONLY | os.O_DIRECTORY)"),
    "ctypes_open": ("file", "libc.open(PATH.encode(), os.O_RDWR)"),
    "ctypes_openat": ("file", "libc.openat(-100, PATH.encode(), os.O_RDWR)"),
    "mkstemp": ("file", "tempfile.mkstemp(dir='.')[0]"),
    "dup": ("file", "os.dup(kept)"),
    "fcntl_dup": ("file", "fcntl.fcntl(kept, fcntl.F_DUPFD_CLOEXEC, 3)"),
    "dup2": ("file", "os.dup2(kept, fresh())"),
    "detached_socket": ("socket", "socket.socket(socket.AF_UNIX).detach()"),
    "ctypes_socket": ("socket", "libc.socket(socket.AF_UNIX, socket.SOCK_STREAM, 0)"),
    "epoll_create": ("epoll", "libc.epoll_create1(0)"),
    "eventfd": ("eventfd", "os.eventfd(0, os.EFD_NONBLOCK)"),
    "timerfd": ("timerfd", "libc.timerfd_create(1, os.O_NONBLOCK)"),
    "signalfd": ("signalfd", "libc.signalfd(-1, bytes(128), os.O_NONBLOCK)"),
    "inotify": ("inotify", "libc.inotify_init1(os.O_NONBLOCK)"),
    "memfd": ("memfd", "os.memfd_create('memory')"),
    "pidfd": ("pidfd", "os.pidfd_open(os.getpid())"),
    "terminal": ("terminal", "libc.posix_openpt(os.O_RDWR | os.O_NOCTTY)"),
}

# What makes an object that is left open: kind, owner, expression.
OBJECTS = {
    "open": ("file", "FileIO", "open(PATH)"),
    "temporary": ("file", "FileIO", "tempfile.TemporaryFile(dir='.')"),
    "socket": ("socket", "socket", "socket.socket()"),
    "epoll": ("epoll", "epoll", "select.epoll()"),
    "scandir": ("directory", "scandir", "os.scandir('.')"),
    "sqlite": ("file", "sqlite3", "sqlite3.connect('base')"),
    "fopen": ("file", "FILE", "libc.fopen(PATH.encode(), b'r')"),
    "opendir": ("directory", "DIR", "libc.opendir(b'.')"),
}

OURS = re.compile("(leak|twice|stale|stranger)_")

ACTS = """
def leak_{name}():
    holding.append({expression})

def twice_{name}():
    fd = good({expression})
    os.close(fd)
    with contextlib.suppress(OSError):
        os.close(fd)

def stale_{name}():
    fd = good({expression})
    os.close(fd)
    with contextlib.suppress(OSError):
        os.read(fd, 8)

def stranger_{name}():
    fd = good({expression})
    assert libc.close(fd) == 0
    with contextlib.suppress(OSError):
        os.dup(fd)
"""

START = """
holding = []
kept = os.open(PATH, os.O_RDWR)


def fresh():
    fd = os.open(NULL, os.O_RDONLY)
    os.close(fd)
    return fd
"""


def source() -> str:
    parts = [PRELUDE, START]
    calls = []
    for name, (_, expression) in RAW.items():
        parts.append(ACTS.format(name=name, expression=expression))
        calls += [f"{act}_{name}()" for act in ("leak", "twice", "stale", "stranger")]
    for name, (_, _, expression) in OBJECTS.items():
        parts.append(f"def leak_{name}():\n    holding.append({expression})\n")
        calls.append(f"leak_{name}()")
    return "\n".join([*parts, *calls, "os.close(kept)", ""])


Found = dict[tuple[str, str], list[dict[str, Any]]]


@pytest.fixture(scope="module", params=["quarantine=0", "quarantine=256"])
def found(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Found:
    """The findings by kind and by the function that they lead to."""
    run: Run = run_program(
        source(),
        tmp_path_factory.mktemp("misuse"),
        level=f"full,fds=on,{request.param}",
        options=["-W", "ignore"],
    ).ok()
    by_place: Found = {}
    for each in findings_of(run):
        ours = [frame["function"] for frame in each["culprit"] if OURS.match(frame["function"])]
        by_place.setdefault((each["kind"], ours[0] if ours else ""), []).append(each)
    return by_place


def one(found: Found, kind: str, function: str) -> dict[str, Any]:
    here = {each: len(they) for (each, place), they in found.items() if place == function}
    assert here == {kind: 1}
    return found[kind, function][0]


@pytest.mark.parametrize("name", RAW)
def test_leaked(found: Found, name: str) -> None:
    handle = one(found, "leak", f"leak_{name}")["handle"]
    assert (handle["kind"], handle["owner"]) == (RAW[name][0], "raw")


@pytest.mark.parametrize("name", OBJECTS)
def test_left_open(found: Found, name: str) -> None:
    handle = one(found, "leak", f"leak_{name}")["handle"]
    assert (handle["kind"], handle["owner"]) == OBJECTS[name][:2]


@pytest.mark.parametrize("name", RAW)
def test_closed_twice(found: Found, name: str) -> None:
    handle = one(found, "double-release", f"twice_{name}")["handle"]
    assert handle["kind"] == RAW[name][0]


@pytest.mark.parametrize("act", ["stale", "stranger"])
@pytest.mark.parametrize("name", RAW)
def test_used_after_close(found: Found, name: str, act: str) -> None:
    handle = one(found, "use-after-close", f"{act}_{name}")["handle"]
    assert handle["kind"] == RAW[name][0]


def test_nothing_else_is_told(found: Found) -> None:
    acts = {f"{act}_{name}" for name in RAW for act in ("leak", "twice", "stale", "stranger")} | {
        f"leak_{name}" for name in OBJECTS
    }
    assert {place for _, place in found} == acts


STALE = """
def close_{name}():
    fd = good({expression})
    os.close(fd)
    victim = os.open(PATH, os.O_RDWR)
    with contextlib.suppress(OSError):
        os.close(fd)
    os.close(victim)

def write_{name}():
    fd = good({expression})
    os.close(fd)
    victim = socket.socket(socket.AF_UNIX)
    with contextlib.suppress(OSError):
        os.write(fd, b"text")
    victim.close()
"""


@pytest.fixture(scope="module")
def recycled(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """The findings by the function at whose end they are."""
    parts = [PRELUDE, START]
    parts += [STALE.format(name=name, expression=RAW[name][1]) for name in RAW]
    parts += [f"close_{name}()\nwrite_{name}()" for name in RAW]
    folder = tmp_path_factory.mktemp("recycled")
    run = run_program("\n".join([*parts, "os.close(kept)", ""]), folder, level="full,fds=on").ok()
    return {each["culprit"][0]["function"]: each for each in findings_of(run)}


@pytest.mark.parametrize("act", ["close", "write"])
@pytest.mark.parametrize("name", RAW)
def test_what_would_have_hit_another(
    recycled: dict[str, dict[str, Any]], name: str, act: str
) -> None:
    """Culprit and victim, although the number was kept from being used again."""
    found = recycled[f"{act}_{name}"]
    assert (found["kind"], found["prevented"]) == ("recycled", True)
    assert found["handle"]["kind"] == RAW[name][0]
    assert any(frame["function"] == f"{act}_{name}" for frame in found["victim"]["opened"])
    assert found["victim"]["serial"] > found["handle"]["serial"]


def test_nothing_else_is_called_recycled(recycled: dict[str, dict[str, Any]]) -> None:
    assert set(recycled) == {f"{act}_{name}" for name in RAW for act in ("close", "write")}


LOOP = """
import os

numbers = [os.open("/dev/null", os.O_RDONLY) for _ in range(5)]
for fd in numbers:
    os.close(fd)
for fd in range(min(numbers), 1024):
    try:
        os.close(fd)
    except OSError:
        pass
"""

TWICE = """
import os

ends = os.pipe()
for _ in range(2):
    for fd in ends:
        try:
            os.close(fd)
        except OSError:
            pass
"""


@pytest.mark.parametrize("quarantine", ["0", "256"])
@pytest.mark.parametrize(("program", "expected"), [(LOOP, []), (TWICE, ["double-release"])])
def test_a_loop_over_all_numbers_is_no_second_close(
    tmp_path: Path, program: str, expected: list[str], quarantine: str
) -> None:
    """It begins with dead ones, and its first close is made like all others."""
    run = run_program(program, tmp_path, level=f"full,fds=on,quarantine={quarantine}").ok()
    assert [each["kind"] for each in findings_of(run)] == expected
