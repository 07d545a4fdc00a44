"""Numbers with a second owner or with none: cases 207, 211 and 212."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from support_programs import Run, recorded

from safehandle_debug import SafeFileHandle, SafePipeHandle


@pytest.mark.parametrize("way", ["closed", "dropped"])
def test_closed_behind_the_handles_back(
    tmp_path: Path, unraisable: list[BaseException | None], way: str
) -> None:
    """Case 207: EBADF is recorded; nobody gets an exception, no finalizer either."""
    with recorded(tmp_path) as told:
        handle = SafeFileHandle.memfd("name")
        os.close(handle.handle)
        if way == "closed":
            handle.close()
        del handle
    (history,) = told[0].handles
    assert history.ending == way
    (failed,) = [event for event in history.events if event.kind == "release-failed"]
    assert failed.value == errno.EBADF
    assert unraisable == []


def test_wrapped_twice(tmp_path: Path) -> None:
    """Case 211: told where the second owner was made, with the first one's serial,
    whose stack is known."""

    def first_owner() -> SafeFileHandle:
        return SafeFileHandle.memfd("name")

    with recorded(tmp_path) as told:
        one = first_owner()
        other = SafePipeHandle(one.handle)
        other.detach()
        one.close()
    first, second = told[0].handles
    (event,) = [event for event in second.events if event.kind == "double-owner"]
    assert event.value == first.serial
    assert event.stack[0].function == "test_wrapped_twice"
    assert first.opened[0].function.endswith("first_owner")


def test_passed_to_a_subprocess(run: Callable[..., Run]) -> None:
    """Case 212: the child has a descriptor of its own; nothing was leaked or
    closed twice, here or there."""
    result = run(
        """
        import os, subprocess, sys
        from safehandle_debug import SafePipeHandle

        child = "import os, sys; os.write(int(sys.argv[1]), b'from the child')"
        reader, writer = SafePipeHandle.pair()
        with reader:
            with writer:
                fd = writer.fileno()
                subprocess.run([sys.executable, "-c", child, str(fd)], pass_fds=[fd], check=True)
            print(os.read(reader.fileno(), 100).decode(), os.read(reader.fileno(), 1))
        """
    ).ok()
    assert result.lines == ["from the child b''"]
    told = result.told()
    assert [history.ending for history in told[0].handles] == ["exited", "exited"]
    for process in told:
        for history in process.handles:
            assert {event.kind for event in history.events} <= {"acquire", "close"}
    report = subprocess.run(
        [sys.executable, "-m", "safehandle_debug", "report", *map(str, result.sessions)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert report.returncode == 0, report.stdout + report.stderr
