"""Everything that looks like a mistake and is none.

Wrong: nothing.  Each function is a correct use of handles that a careless
checker would report: owners that change, references taken and given back on
other threads, handles closed twice, kept for the life of the program and
closed at its very end, borrowed, inherited by children.

Look for: nothing found.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import importlib
import multiprocessing
import os
import pathlib
import subprocess
import sys
import tempfile
import threading
import weakref
from collections.abc import Generator

from safehandle_debug import (
    SafeFileHandle,
    SafeHandleMinusOneIsInvalid,
    SafePipeHandle,
)


def closed_by_with() -> None:
    with SafeFileHandle.memfd("with") as handle:
        os.write(handle.fileno(), b"x")


def closed_twice() -> None:
    handle = SafeFileHandle.memfd("twice")
    with handle:
        handle.close()
    handle.close()


def closed_on_the_error_path() -> None:
    handle = SafeFileHandle.memfd("error")
    try:
        os.write(handle.fileno(), "text")  # type: ignore[arg-type]
    except TypeError:
        pass
    finally:
        handle.close()


def never_opened() -> None:
    with contextlib.suppress(FileNotFoundError):
        SafeFileHandle.open("/nonexistent/file", os.O_RDONLY)


def closed_while_in_use() -> None:
    """The close waits for the last reference; that is what they are for."""
    handle = SafeFileHandle.memfd("in use")
    with handle.hold() as fd:
        handle.close()
        os.write(fd, b"still open")


def referenced_on_another_thread() -> None:
    reader, writer = SafePipeHandle.pair()
    writer.dangerous_add_ref()

    def answer() -> None:
        try:
            os.write(writer.fileno(), b"pong")
        finally:
            writer.dangerous_release()

    thread = threading.Thread(target=answer)
    thread.start()
    with reader, writer:
        os.read(reader.fileno(), 4)
        thread.join()


def ownership_moves_to_a_file_object() -> None:
    handle = SafeFileHandle.memfd("moves")
    with os.fdopen(handle.detach(), "wb") as stream:
        stream.write(b"x")


def ownership_moves_back() -> None:
    with SafeFileHandle(os.open(os.devnull, os.O_RDONLY)):
        pass


def two_descriptors_of_one_file() -> None:
    with SafeFileHandle.memfd("one") as one, one.duplicate() as two:
        os.write(two.fileno(), b"x")


def the_number_is_used_again() -> None:
    """The kernel gives the lowest free number: the same one each time."""
    for _ in range(100):
        SafeFileHandle.open(os.devnull, os.O_RDONLY).close()


def borrowed() -> None:
    """Standard output belongs to the interpreter."""
    SafeFileHandle(1, owns_handle=False)
    with SafeFileHandle(1, owns_handle=False) as handle:
        os.fstat(handle.fileno())


def closed_in_a_generator() -> None:
    def chunks() -> Generator[bytes, None, None]:
        with SafeFileHandle.memfd("generator") as handle:
            yield os.read(handle.fileno(), 1)
            yield b""

    with contextlib.closing(chunks()) as stream:
        next(stream)


def closed_by_a_stack() -> None:
    with contextlib.ExitStack() as stack:
        for name in ("a", "b", "c"):
            stack.enter_context(SafeFileHandle.memfd(name))


def closed_by_weakref_finalize() -> None:
    class Owner:
        pass

    owner = Owner()
    handle = SafeFileHandle.memfd("finalize")
    weakref.finalize(owner, handle.close)
    del owner


def closed_by_tasks() -> None:
    async def task(name: str) -> None:
        with SafeFileHandle.memfd(name):
            await asyncio.sleep(0)

    async def main() -> None:
        await asyncio.gather(*(task(f"task {number}") for number in range(5)))

    asyncio.run(main())


def closed_by_whoever_is_first() -> None:
    handle = SafeFileHandle.memfd("race")
    threads = [threading.Thread(target=handle.close) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def inherited_by_a_child() -> None:
    """The child of a fork owes nothing for its parent's handles."""
    with SafeFileHandle.memfd("parent's"):
        pid = os.fork()
        if pid == 0:
            os._exit(0)
        os.waitpid(pid, 0)


def given_to_a_program() -> None:
    with SafeFileHandle.memfd("for a program") as handle:
        subprocess.run(
            [sys.executable, "-c", "pass"],
            pass_fds=[handle.fileno()],
            check=True,
        )


class DeviceHandle(SafeHandleMinusOneIsInvalid):
    """A type of one's own, whose hook succeeds."""

    def release_handle(self) -> bool:
        os.close(self.handle)
        return True


def own_type() -> None:
    with DeviceHandle() as handle:
        handle.set_handle(os.open(os.devnull, os.O_RDONLY))
    DeviceHandle().close()


class Cache:
    """Closed when the program ends, because it is used until then."""

    def __init__(self) -> None:
        self.handle = SafeFileHandle.memfd("cache")
        atexit.register(self.handle.close)


CACHE: list[Cache] = []


def kept_to_the_end() -> None:
    CACHE.append(Cache())


def kept_by_a_module() -> None:
    """What a module opens when it is imported is its own for good."""
    with tempfile.TemporaryDirectory() as folder:
        source = "from safehandle_debug import SafeFileHandle\nLOG = SafeFileHandle.memfd('log')\n"
        pathlib.Path(folder, "keeps_a_log.py").write_text(source)
        sys.path.insert(0, folder)
        importlib.import_module("keeps_a_log")
        sys.path.remove(folder)


def opened_by_a_child() -> None:
    """A process of multiprocessing ends without the usual clean-up."""
    process = multiprocessing.get_context("fork").Process(target=closed_by_with)
    process.start()
    process.join()


USES = [
    inherited_by_a_child,  # before there are threads that a fork would lose
    opened_by_a_child,
    closed_by_with,
    closed_twice,
    closed_on_the_error_path,
    never_opened,
    closed_while_in_use,
    referenced_on_another_thread,
    ownership_moves_to_a_file_object,
    ownership_moves_back,
    two_descriptors_of_one_file,
    the_number_is_used_again,
    borrowed,
    closed_in_a_generator,
    closed_by_a_stack,
    closed_by_weakref_finalize,
    closed_by_tasks,
    closed_by_whoever_is_first,
    given_to_a_program,
    own_type,
    kept_to_the_end,
    kept_by_a_module,
]


def main() -> None:
    for use in USES:
        use()
    print(len(USES), "correct uses")


if __name__ == "__main__":
    main()
