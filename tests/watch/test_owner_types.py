"""The watched types of the standard library look and behave as before."""

from __future__ import annotations

import json
import pathlib
import textwrap

import pytest
from support_owners import Watched, watch
from support_programs import run_program

import safehandle_debug
from safehandle_debug.ledger import Event

# What can be asked of the types, as text: the same with and without the watch.
LOOK = """
import inspect, io, json, mmap, os, pickle, select, socket, sqlite3, _socket, _io

os.chdir(os.path.dirname(__file__))
looks = []


def look(thing):
    looks.append(thing if isinstance(thing, str) else repr(thing))


def signature(thing):
    try:
        return str(inspect.signature(thing))
    except ValueError as error:
        return str(error).partition(" at 0x")[0]


def refusal(function, *args, **options):
    try:
        function(*args, **options)
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return "accepted"


class Sub(io.FileIO):
    pass


TYPES = [io.FileIO, _socket.socket, socket.socket, mmap.mmap, select.epoll, sqlite3.Connection,
         type(os.scandir(".")), io.TextIOWrapper, io.BufferedReader, io.IOBase, _io._IOBase, Sub]
for type_ in TYPES:
    look(type_)
    look(type_.__mro__)
    look(type_.__doc__ or "")
    look(sorted(type_.__dict__))
    look(signature(type_))
    look(str(type_.__basicsize__))
    look(hex(type_.__flags__ & ~(1 << 19)))  # but for the version tag
    look(refusal(pickle.dumps, type_))
    for name in ("__init__", "__new__", "__del__", "close", "detach", "fromfd"):
        found = inspect.getattr_static(type_, name, None)
        look(f"{name} {type(found).__name__} {getattr(found, '__qualname__', None)}")
        look(getattr(found, "__doc__", None) or "")
        look(getattr(found, "__text_signature__", None) or "")

with open(__file__) as f:
    look(isinstance(f.buffer.raw, io.FileIO))
    look(type(f.buffer.raw) is io.FileIO)
    look(refusal(pickle.dumps, f.buffer.raw))
    look(repr(f).replace(__file__, "FILE"))
    look(f.buffer.raw.mode)
with socket.socket() as s:
    look(type(s) is socket.socket)
    look(isinstance(s, _socket.socket))
    look(refusal(pickle.dumps, s))
    look(repr(s).partition("fd=")[0])
look(refusal(io.FileIO))
look(refusal(io.FileIO, "/nowhere/at/all"))
look(refusal(io.FileIO, -1))
look(refusal(io.FileIO, "x", "rr"))
look(refusal(io.FileIO, "x", closefd=False))
look(refusal(io.FileIO, ".", "r"))
look(refusal(io.FileIO, 0, "r", True, None, None))
look(refusal(socket.socket, 99, 99, 99))
look(refusal(socket.socket, fileno=-1))
look(refusal(socket.socket, fileno="x"))
look(refusal(mmap.mmap))
look(refusal(mmap.mmap, -1, -1))
look(refusal(select.epoll, -2))
look(refusal(select.epoll.fromfd))
look(refusal(select.epoll.fromfd, "x"))
print(json.dumps(looks))
"""

WATCHED = """
import os
from safehandle_debug import _native

_native.start_recording(os.path.join(os.path.dirname(__file__), "watched.shd"))
_native.watch_start(quarantine=16)
"""

STOPPED = WATCHED + "_native.watch_stop()\n"
AGAIN = STOPPED + "_native.watch_start(quarantine=16)\n"


def looks(prelude: str, folder: pathlib.Path) -> list[str]:
    path = {"PYTHONPATH": str(pathlib.Path(safehandle_debug.__file__).parents[1])}
    run = run_program(prelude + textwrap.dedent(LOOK), folder, level=None, env=path)
    return json.loads(run.ok().out)  # type: ignore[no-any-return]


@pytest.mark.parametrize("prelude", [WATCHED, STOPPED, AGAIN], ids=["on", "off", "on again"])
def test_types_look_as_before(prelude: str, tmp_path: pathlib.Path) -> None:
    plain = looks("", tmp_path / "plain")
    assert len(plain) > 200
    assert looks(prelude, tmp_path / "watched") == plain


def test_subclasses_made_while_watched_outlive_the_watch(tmp_path: pathlib.Path) -> None:
    """A class that was made in between works after the watch has stopped."""
    source = WATCHED + (
        "import io, socket\n"
        "class Between(io.FileIO):\n    pass\n"
        "class BetweenSocket(socket.socket):\n    pass\n"
        "_native.watch_stop()\n"
        "with Between(__file__) as f:\n    assert f.read(1)\n"
        "Between(__file__)\n"
        "with BetweenSocket() as s:\n    assert s.fileno() > 0\n"
        "print(len(os.listdir('/proc/self/fd')))\n"
    )
    path = {"PYTHONPATH": str(pathlib.Path(safehandle_debug.__file__).parents[1])}
    run = run_program(source, tmp_path, level=None, env=path).ok()
    plain = "import os\nprint(len(os.listdir('/proc/self/fd')))\n"
    assert run.out == run_program(plain, tmp_path / "plain", level=None).ok().out
    assert run.err == ""


EARLY = """
import io, mmap, socket

class File(io.FileIO):
    pass

class FileOfFile(File):
    def __init__(self, path):
        super().__init__(path)

class Socket(socket.socket):
    pass

class Mapping(mmap.mmap):
    pass
"""

OF_EARLY = {
    "file": ("early.File(__file__)", "FileIO dropped"),
    "file_of_file": ("early.FileOfFile(__file__).close()", "FileIO closed"),
    "sock": ("early.Socket(fileno=socket.socket().detach())", "socket dropped"),
    "mapping": (
        "with open(__file__) as f:\n    early.Mapping(f.fileno(), 0, access=mmap.ACCESS_READ)",
        "FileIO closed, mmap dropped",
    ),
}


def test_subclasses_made_before_the_watch_are_owners(tmp_path: pathlib.Path) -> None:
    bodies = {name: body for name, (body, _) in OF_EARLY.items()}
    seen = watch(bodies, tmp_path, prelude="import early, mmap, socket\n", early=EARLY)
    for name, (_, expected) in OF_EARLY.items():
        handles = seen.opened_in(name)
        assert ", ".join(f"{handle.owner} {handle.ending}" for handle in handles) == expected


def test_the_status_names_the_owners(tmp_path: pathlib.Path) -> None:
    bodies = {"ask": "print(_native.watch_status()['owners'])"}
    prelude = "from safehandle_debug import _native\n"
    seen = watch(bodies, tmp_path, prelude=prelude)
    assert seen.out.strip() == "['FileIO', 'socket', 'mmap', 'epoll']"


def test_threads_and_tasks_are_named(tmp_path: pathlib.Path) -> None:
    """An adoption is an event that knows its thread and its asyncio task."""
    prelude = "import asyncio, os, socket, threading\n"
    bodies = {
        "in_thread": """
            def work():
                os.fdopen(os.open(__file__, os.O_RDONLY)).close()
            thread = threading.Thread(target=work, name="worker")
            thread.start()
            thread.join()
            """,
        "in_task": """
            async def in_task_main():
                asyncio.current_task().set_name("the task")
                os.fdopen(os.open(__file__, os.O_RDONLY)).close()
            asyncio.run(in_task_main())
            """,
    }
    seen = watch(bodies, tmp_path, prelude=prelude)
    assert adopted(seen, "in_thread.<locals>.work").thread == "worker"
    assert adopted(seen, "in_task.<locals>.in_task_main").task == "the task"


def adopted(seen: Watched, function: str) -> Event:
    (handle,) = seen.opened_in(function)
    assert handle.owner == "FileIO"
    (event,) = [event for event in handle.events if event.kind == "owned"]
    return event
