"""fds=on in real programs: what is watched, and what is said at once."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

from safehandle_debug.findings import find
from safehandle_debug.ledger import Ledger
from safehandle_debug.recording import open_recording

Launch = Callable[..., subprocess.CompletedProcess[str]]
Recordings = Callable[[], list[Path]]

RUNS_OUT = """
import os, resource
resource.setrlimit(resource.RLIMIT_NOFILE, (64, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
held = []
def hoard():
    while True:
        held.append(os.open(os.devnull, os.O_RDONLY))
try:
    hoard()
except OSError:
    print("ran")
for fd in held:
    os.close(fd)
"""


def test_descriptors_are_watched_where_asked_for(launch: Launch, recordings: Recordings) -> None:
    for value in ("full,fds=off", "full,fds=on", "sampled,fds=on,quarantine=0"):
        done = launch("-c", "import os; os.open(os.devnull, 0)", value=value)
        assert (done.returncode, done.stderr) == (0, "")
    watched = []
    for path in sorted(recordings(), key=lambda path: path.stat().st_mtime_ns):
        with Ledger(open_recording(path)) as ledger:
            ledger.refresh()
            watched.append((ledger.process.watched, [each.kind for each in find(ledger)]))
    assert watched[:2] == [(False, []), (True, ["leak"])]
    assert watched[2][0]


def test_a_second_close_is_found(launch: Launch, recordings: Recordings) -> None:
    launch(
        "-c", "import os; fd = os.open('/', 0); os.close(fd); os.close(fd)", value="full,fds=on"
    )
    (path,) = recordings()
    with Ledger(open_recording(path)) as ledger:
        ledger.refresh()
        assert [each.kind for each in find(ledger)] == ["double-release"]


def test_running_out_of_descriptors_is_said_at_once(launch: Launch) -> None:
    done = launch("-c", RUNS_OUT, value="full,fds=on")
    assert (done.returncode, done.stdout) == (0, "ran\n")
    first, second = done.stderr.splitlines()[:2]
    assert first.startswith(
        "safehandle-debug: EMFILE: descriptors exhausted at <string>:7 in hoard"
    )
    assert "the limit is 64" in first
    assert "opened at <string>:7 in hoard" in second


def test_the_recorder_is_no_part_of_what_it_records(
    launch: Launch, recordings: Recordings
) -> None:
    """Our own descriptors are not the program's."""
    launch("-c", "pass", value="full,fds=on")
    (path,) = recordings()
    with Ledger(open_recording(path)) as ledger:
        ledger.refresh()
        assert find(ledger) == []
        assert ledger.open() == []
