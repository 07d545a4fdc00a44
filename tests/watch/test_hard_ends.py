"""Processes that end by os._exit(): what nobody would have closed is told, and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest
from support_interpose import needs_interposition
from support_programs import run_program

from safehandle_debug.findings import find
from safehandle_debug.ledger import Ledger
from safehandle_debug.recording import open_recording

pytestmark = needs_interposition

PRELUDE = """
import os
import subprocess
import threading


def opened(name="open"):
    return os.open(name, os.O_CREAT | os.O_RDWR)


def dead_child():
    child = subprocess.Popen(["true"])
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    return child


def leave():
    os._exit(0)

"""

BUGS = {
    "number": ("opened", "fd = opened()\nleave()"),
    "number_in_a_list": ("opened", "keep = []\nkeep.append(opened())\nos._exit(0)"),
    "child": ("dead_child", "child = dead_child()\nleave()"),
    "forked_child": (
        "opened",
        "fd = opened()\nif os.fork() == 0:\n    leave()\nos.wait()\nleave()",
    ),
}

CORRECT = {
    "closed": "os.close(opened())\nleave()",
    "waited_for": "child = dead_child()\nchild.wait()\nleave()",
    "owned": "file = open('file', 'w')\nleave()",
    "function_that_still_runs": """
def main():
    fd = opened()
    if fd > 2:
        leave()
    os.close(fd)
main()
""",
    "inside_a_try": """
fd = opened()
try:
    leave()
finally:
    os.close(fd)
""",
    "inside_a_with": """
fds = []
class Closing:
    def __enter__(self):
        fds.append(opened())
    def __exit__(self, *exc):
        os.close(fds.pop())
with Closing():
    leave()
""",
    "a_thread_works_with_it": """
fds = []
done, go_on = threading.Event(), threading.Event()
def work():
    fds.append(opened())
    done.set()
    go_on.wait()
    os.close(fds.pop())
threading.Thread(target=work, daemon=True).start()
done.wait()
leave()
""",
    "another_thread_ends_it": """
fd = opened()
threading.Thread(target=leave).start()
threading.Event().wait(60)
os.close(fd)
""",
    "locked_for_life": "import fcntl\nfd = opened()\nfcntl.flock(fd, fcntl.LOCK_EX)\nleave()",
    "daemon": """
fd = opened()
reader, writer = os.pipe()
if os.fork() == 0:
    if os.fork() == 0:
        os.close(writer)
        os.read(reader, 1)
        os.close(fd)
    leave()
os.wait()
leave()
""",
    "child_of_a_fork": """
if os.fork() == 0:
    fd = opened()
    leave()
os.wait()
""",
    "other_program": "fd = opened()\nos.execlp('true', 'true')",
}


def findings(source: str, folder: Path) -> list[tuple[str, str]]:
    """Kind and function of each finding of all processes."""
    found = []
    run = run_program(PRELUDE + source, folder, level="full,fds=on").ok()
    for path in run.recordings:
        with Ledger(open_recording(path)) as ledger:
            ledger.refresh()
            found += [(each.kind, each.culprit) for each in find(ledger)]
    return [
        (kind, next(f.function for f in culprit if "program" in f.file)) for kind, culprit in found
    ]


@pytest.mark.parametrize("name", BUGS)
def test_what_nobody_would_have_closed(name: str, tmp_path: Path) -> None:
    function, source = BUGS[name]
    assert findings(source, tmp_path) == [("leak", function)]


@pytest.mark.parametrize("name", CORRECT)
def test_what_somebody_would_have_closed(name: str, tmp_path: Path) -> None:
    assert findings(CORRECT[name], tmp_path) == []
