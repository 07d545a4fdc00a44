"""Correct programs, some of which look like the misbehaving ones: nothing is found."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from textwrap import dedent

import pytest
from support_programs import Run

CORRECT = {
    "closed": """
        for handle in both(5):
            handle.close()
        """,
    "with_block": """
        native, hooked = both(5)
        with native, hooked:
            pass
        """,
    "closed_many_times": """
        native, hooked = both(5)
        for _ in range(3):
            native.close()
            hooked.dispose()
        """,
    "closed_in_its_with_block": """
        with SafeFileHandle.open("/dev/null", os.O_RDONLY) as handle:
            handle.close()
        """,
    "with_block_left_by_error": """
        try:
            with SafeFileHandle.open("/dev/null", os.O_RDONLY):
                raise LookupError
        except LookupError:
            pass
        """,
    "nested_holds": """
        with SafeFileHandle.open("/dev/null", os.O_RDONLY) as handle:
            with handle.hold() as one, handle.hold() as other:
                assert one == other
                with handle.hold():
                    pass
        """,
    "dispose_while_held": """
        handle = SafeFileHandle.open("/dev/zero", os.O_RDONLY)
        with handle.hold() as fd:
            handle.close()
            os.read(fd, 1)
        """,
    "balanced_by_hand": """
        native, hooked = both(5)
        for handle in (native, hooked):
            handle.dangerous_add_ref()
            handle.dangerous_add_ref()
            handle.dangerous_release()
            handle.close()
            handle.dangerous_release()
        """,
    "hold_never_entered": """
        native, hooked = both(5)
        native.hold()
        hooked.hold()
        native.close()
        hooked.close()
        """,
    "released_on_another_thread": """
        handle = SafeFileHandle.open("/dev/null", os.O_RDONLY)
        handle.dangerous_add_ref()
        thread = threading.Thread(target=handle.dangerous_release)
        thread.start()
        thread.join()
        handle.close()
        """,
    "borrowed": """
        with SafeFileHandle.open("/dev/null", os.O_RDONLY) as owner:
            borrowed = SafeFileHandle(owner.handle, owns_handle=False)
            with borrowed.hold() as fd:
                os.fstat(fd)
        forgotten = SafeFileHandle(0, owns_handle=False)
        """,
    "borrowed_and_kept": """
        import builtins
        builtins.kept = [SafeFileHandle(fd, owns_handle=False) for fd in range(3)]
        """,
    "detached": """
        handle = SafeFileHandle.open("/dev/null", os.O_RDONLY)
        with os.fdopen(handle.detach(), "rb") as file:
            file.read()
        handle.close()
        """,
    "detached_in_its_with_block": """
        with SafeFileHandle.open("/dev/null", os.O_RDONLY) as handle:
            fd = handle.detach()
        os.close(fd)
        """,
    "adopted": """
        with SafeFileHandle(os.open("/dev/null", os.O_RDONLY)) as handle:
            handle.fileno()
        """,
    "numbers_are_used_again": """
        seen = set()
        for _ in range(200):
            with SafeFileHandle.open("/dev/null", os.O_RDONLY) as handle:
                seen.add(handle.handle)
        assert len(seen) == 1, seen
        """,
    "same_value_of_other_spaces": """
        native, hooked = both(0)
        twin = Hooked(native.handle)
        for handle in (native, hooked, twin):
            handle.close()
        """,
    "failed_opens": """
        for path in ("/missing", "/", "/dev/null/x"):
            try:
                SafeFileHandle.open(path, os.O_WRONLY)
            except OSError:
                pass
        """,
    "failed_constructor": """
        class Failing(SafeFileHandle):
            def __init__(self, *arguments):
                raise LookupError
        try:
            Failing(5)
        except LookupError:
            pass
        """,
    "invalid_handles": """
        handles = [SafeFileHandle() for _ in range(10)]
        handles[0].close()
        """,
    "pipes": """
        from safehandle_debug import SafePipeHandle
        reader, writer = SafePipeHandle.pair()
        with reader, writer:
            os.write(writer.fileno(), b"x")
            os.read(reader.fileno(), 1)
        """,
    "duplicates": """
        with SafeFileHandle.open("/dev/null", os.O_RDONLY) as handle:
            with handle.duplicate() as twin:
                assert twin.handle != handle.handle
        """,
    "module_keeps_it_for_life": """
        import pathlib
        pathlib.Path("keeper.py").write_text(
            "import os\\nfrom holding import *\\nkept = both(5)\\n"
        )
        import keeper
        """,
    "child_closes_its_own": """
        with SafeFileHandle.open("/dev/null", os.O_RDONLY) as handle:
            pid = os.fork()
            if pid == 0:
                with SafeFileHandle.memfd("own"):
                    pass
                os._exit(0)
            os.waitpid(pid, 0)
        """,
    "child_inherits_and_ends": """
        native, hooked = both(5)
        pid = os.fork()
        if pid:
            os.waitpid(pid, 0)
            native.close()
            hooked.close()
        """,
    "child_closes_what_it_inherited": """
        handle = SafeFileHandle.open("/dev/null", os.O_RDONLY)
        pid = os.fork()
        handle.close()
        if pid:
            os.waitpid(pid, 0)
        """,
    "worker_processes": """
        import multiprocessing
        def work(value):
            with SafeFileHandle.open("/dev/null", os.O_RDONLY) as handle:
                return value
        native, hooked = both(5)
        with native, hooked, multiprocessing.get_context("fork").Pool(2) as pool:
            pool.map(work, range(20))
            pool.close()
            pool.join()
        """,
    "exec_of_another_program": """
        with SafeFileHandle.open("/dev/null", os.O_RDONLY):
            pass
        os.execv("/bin/true", ["true"])
        """,
    "threads": """
        def work():
            for _ in range(200):
                with SafeFileHandle.open("/dev/null", os.O_RDONLY) as handle:
                    with handle.hold():
                        pass
        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        """,
    "tasks": """
        import asyncio
        async def work():
            with SafeFileHandle.open("/dev/null", os.O_RDONLY) as handle:
                await asyncio.sleep(0)
                with handle.hold():
                    await asyncio.sleep(0)
        async def main():
            await asyncio.gather(*(work() for _ in range(50)))
        asyncio.run(main())
        """,
    "exit_stack_and_atexit": """
        import atexit, contextlib
        stack = contextlib.ExitStack()
        for handle in both(5):
            stack.enter_context(handle)
        atexit.register(stack.close)
        """,
    "set_over_an_invalid_value": """
        handle = SafeFileHandle()
        handle.set_handle(os.open("/dev/null", os.O_RDONLY))
        handle.close()
        """,
    "hook_without_answer": """
        class Silent(Hooked):
            def release_handle(self):
                super().release_handle()
        Silent(5).close()
        """,
    "interrupted": """
        try:
            with SafeFileHandle.open("/dev/null", os.O_RDONLY):
                raise KeyboardInterrupt
        except KeyboardInterrupt:
            pass
        """,
}


@pytest.mark.parametrize("source", CORRECT.values(), ids=CORRECT)
def test_nothing_is_found(run: Callable[..., Run], source: str) -> None:
    prelude = "import os, sys, threading\nfrom holding import Hooked, SafeFileHandle, both\n"
    result = run(prelude + dedent(source)).ok()
    assert result.err == ""
    (session,) = result.sessions
    report = subprocess.run(
        [
            sys.executable,
            "-P",
            "-m",
            "safehandle_debug",
            "report",
            "--format",
            "json",
            str(session),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert report.stderr == ""
    said = json.loads(report.stdout)
    assert said["findings"] == []
    assert said["processes"]
    assert report.returncode == 0
