"""A number that is closed again when it has long left the quarantine: by whom, and whose."""

from __future__ import annotations

from pathlib import Path

import pytest
from support_interpose import needs_interposition
from support_programs import run_program

from safehandle_debug.findings import find
from safehandle_debug.ledger import Ledger
from safehandle_debug.recording import open_recording

pytestmark = needs_interposition

STALE = """
import os, socket

def reuse(number, make, until=10_000):
    for _ in range(until):
        fresh = make()
        if fresh.fileno() == number:
            return fresh
        fresh.close()
    raise AssertionError("the number did not come back")

class Log:
    def __init__(self):
        self.number = os.open("/etc/passwd", os.O_RDONLY)
    def close(self):
        os.close(self.number)
    def __exit__(self):
        os.close(self.number)  # CULPRIT
"""

# A program, and what is told of it: kind, the culprit's line, the victim's.
PROGRAMS = {
    "a file has the number": (
        """
log = Log()
log.close()
victim = reuse(log.number, lambda: open("/etc/group"))  # OPENED
log.__exit__()
try:
    victim.read()
except OSError:
    pass
""",
        "recycled",
    ),
    "a socket has the number": (
        """
log = Log()
log.close()
victim = reuse(log.number, socket.socket)  # OPENED
log.__exit__()
try:
    victim.close()
except OSError:
    pass
""",
        "recycled",
    ),
    "nothing owns the number": (
        """
log = Log()
log.close()
def group():
    return os.open("/etc/group", os.O_RDONLY)  # OPENED
while (number := group()) != log.number:
    os.close(number)
log.__exit__()
try:
    os.close(number)
except OSError:
    pass
""",
        "recycled",
    ),
    "it opens what it takes from its owner": (
        """
class Other(Log):
    def close(self):
        os.close(self.number)
    def again(self):
        file = reuse(self.number, lambda: open("/etc/group"))  # OPENED
        os.close(file.fileno())  # CULPRIT
        try:
            file.close()
        except OSError:
            pass
log = Log()
log.close()
other = Other()
other.close()
other.again()
""",
        "closed-behind-owner",
    ),
    "one function closes for all": (
        """
def give_back(number):
    os.close(number)  # CULPRIT
def take():
    return os.open("/etc/passwd", os.O_RDONLY)
number = take()
give_back(number)
victim = reuse(number, lambda: open("/etc/group"))  # OPENED
give_back(victim.fileno())
try:
    victim.close()
except OSError:
    pass
""",
        "closed-behind-owner",
    ),
    "the opener itself closes twice": (
        """
def work():
    number = os.open("/etc/passwd", os.O_RDONLY)  # OPENED
    os.close(number)
    try:
        os.close(number)  # CULPRIT
    except OSError:
        pass
for _ in range(300):
    os.close(os.open("/etc/group", os.O_RDONLY))
work()
""",
        "double-release",
    ),
}


@pytest.mark.parametrize("quarantine", [0, 8])
@pytest.mark.parametrize(("text", "kind"), PROGRAMS.values(), ids=PROGRAMS)
def test_second_close_after_the_quarantine(
    text: str, kind: str, quarantine: int, tmp_path: Path
) -> None:
    text = STALE + text
    run = run_program(text, tmp_path, level=f"full,fds=on,quarantine={quarantine}").ok()
    (path,) = run.recordings
    with Ledger(open_recording(path)) as ledger:
        ledger.refresh()
        (finding,) = find(ledger)
    assert finding.kind == kind, finding.message
    lines = text.splitlines()
    assert "# CULPRIT" in lines[finding.culprit[0].line - 1]
    hit = finding.handle if finding.victim is None else finding.victim
    own = [frame.line for frame in hit.opened if frame.file.endswith("program.py")]
    assert any("# OPENED" in lines[line - 1] for line in own), hit.opened
    assert (finding.victim is not None) == (kind == "recycled")
