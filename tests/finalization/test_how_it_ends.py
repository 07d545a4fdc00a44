"""However a program ends: what can run releases, the recording tells the rest."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable

import pytest
from support_programs import Run

HOLD = """
import ctypes, os, signal, sys, threading
from holding import both

def hold():
    return both(5)

kept = hold()
"""

ENDS = {
    "normal": ("", 0),
    "sys_exit": ("sys.exit()", 0),
    "sys_exit_code": ("sys.exit(3)", 3),
    "sys_exit_text": ("sys.exit('why')", 1),
    "quit": ("raise SystemExit(4)", 4),
    "uncaught": ("raise LookupError('uncaught')", 1),
    "syntax": ("exec('1 +')", 1),
    "keyboard_interrupt": ("raise KeyboardInterrupt", -signal.SIGINT),
    "sigint": (
        "os.kill(os.getpid(), signal.SIGINT)\nthreading.Event().wait(60)",
        -signal.SIGINT,
    ),
    "sigterm_handled": (
        "signal.signal(15, lambda *_: sys.exit(5))\nos.kill(os.getpid(), 15)\n"
        "threading.Event().wait(60)",
        5,
    ),
    "error_in_hook": ("sys.excepthook = None\nraise LookupError", 1),
    "exit_in_atexit": ("import atexit\natexit.register(sys.exit, 6)", 0),
}


@pytest.mark.parametrize(("end", "code"), ENDS.values(), ids=ENDS)
def test_what_unwinds_releases(run: Callable[..., Run], end: str, code: int) -> None:
    result = run(HOLD + end)
    assert result.code == code, result.err
    assert result.released == [5]
    told = result.first()
    assert {history.ending for history in told.handles} <= {"dropped", "collected", "swept"}
    assert told.process.live == 0
    # An uncaught KeyboardInterrupt ends in the signal itself, after all else.
    assert told.process.ended == ("exit" if code >= 0 else "signal")


@pytest.mark.parametrize("where", ["local", "global"])
def test_released_when_an_uncaught_error_unwinds(run: Callable[..., Run], where: str) -> None:
    result = run(
        HOLD
        + f"""
def main():
    {"global held" if where == "global" else "held = None"}
    held = both(6)
    raise LookupError("uncaught")

main()
"""
    )
    assert result.code == 1
    assert "LookupError: uncaught" in result.err
    assert sorted(result.released) == [5, 6]


SUDDEN = {
    "os_exit": ("os._exit(0)", 0),
    "os_abort": ("os.abort()", -signal.SIGABRT),
    "sigterm": ("os.kill(os.getpid(), signal.SIGTERM)", -signal.SIGTERM),
    "sighup": ("os.kill(os.getpid(), signal.SIGHUP)", -signal.SIGHUP),
    "sigkill": ("os.kill(os.getpid(), signal.SIGKILL)", -signal.SIGKILL),
    "sigsegv": ("ctypes.string_at(0)", -signal.SIGSEGV),
    "c_quick_exit": ("ctypes.CDLL(None).quick_exit(0)", 0),
    "fatal_error": (
        "ctypes.pythonapi.Py_FatalError(b'on purpose')",
        -signal.SIGABRT,
    ),
    "exec": ("os.execv('/bin/true', ['true'])", 0),
}


@pytest.mark.parametrize("thread", ["main", "other"])
@pytest.mark.parametrize(("end", "code"), SUDDEN.values(), ids=SUDDEN)
def test_what_cannot_run_is_told(
    run: Callable[..., Run], end: str, code: int, thread: str
) -> None:
    source = HOLD + "def end():\n    " + end + "\n"
    if thread == "main":
        source += "end()\n"
    else:
        source += "other = threading.Thread(target=end)\nother.start()\nother.join()\n"
    result = run(source)
    assert result.code == code, result.err
    assert result.released == []
    told = result.first()
    assert told.process.live == 2
    assert [history.ending for history in told.handles] == ["lost", "lost"]
    for history in told.handles:
        functions = [frame.function for frame in history.opened]
        assert functions[-2:] == ["hold", "<module>"]
        assert history.opened[-1].file.endswith("program.py")
    native = told.owned_by("SafeFileHandle")[0]
    assert native.detail == "/dev/null"


@pytest.mark.parametrize("end", ["sigkill", "os_exit", "sigsegv", "exec"])
def test_the_report_says_what_it_died_holding(run: Callable[..., Run], end: str) -> None:
    """In words with the stacks, and as JSON; nothing of it is a finding."""
    result = run(HOLD + SUDDEN[end][0])
    (session,) = result.sessions
    command = [sys.executable, "-P", "-m", "safehandle_debug", "report", str(session)]
    text = subprocess.run(command, capture_output=True, text=True, check=False)
    assert text.returncode == 0, text.stderr
    assert "died holding 2 handles" in text.stdout
    assert "program.py" in text.stdout
    assert "hold" in text.stdout
    as_json = subprocess.run(
        [*command, "--format", "json"], capture_output=True, text=True, check=False
    )
    said = json.loads(as_json.stdout)
    assert said["findings"] == []
    (process,) = said["processes"]
    assert process["live"] == 2
    assert {handle["owner"] for handle in process["held"]} == {"SafeFileHandle", "Hooked"}
    for handle in process["held"]:
        assert "hold" in [frame["function"] for frame in handle["opened"]]


def test_a_held_handle_is_told_after_many_others(run: Callable[..., Run]) -> None:
    """The recording is full many times over; the open handle keeps its stack."""
    result = run(
        HOLD
        + """
for _ in range(60_000):
    with kept[0].hold():
        pass
os.kill(os.getpid(), signal.SIGKILL)
""",
        level="full,fds=off,size=1M",
    )
    assert result.code == -signal.SIGKILL
    told = result.first()
    assert told.process.dropped > 0
    assert [history.ending for history in told.handles] == ["lost", "lost"]
    for history in told.handles:
        assert [frame.function for frame in history.opened][-2:] == ["hold", "<module>"]
        assert history.events_dropped


def test_exec_into_python_joins_the_session(run: Callable[..., Run]) -> None:
    """The same process records again, in a file of its own; the first tells what
    it held when it was replaced."""
    result = run(
        HOLD
        + """
if len(sys.argv) == 1:
    os.execv(sys.executable, [sys.executable, __file__, "again"])
"""
    ).ok()
    assert len(result.sessions) == 1
    first, second = result.told()
    assert first.process.pid == second.process.pid
    assert {history.ending for history in first.handles} == {"lost"}
    assert {history.ending for history in second.handles} <= {"dropped", "collected", "swept"}
    assert result.released == [5]


def test_the_recording_is_complete_after_exit_handlers(run: Callable[..., Run]) -> None:
    """Handles acquired and closed by atexit callbacks are recorded too."""
    result = run(
        """
        import atexit
        from holding import both

        def end():
            for handle in both(5):
                handle.close()

        atexit.register(end)
        """
    ).ok()
    assert result.released == [5]
    assert [history.ending for history in result.first().handles] == ["closed", "closed"]


def test_handles_acquired_while_globals_die(run: Callable[..., Run]) -> None:
    """A finalizer that opens a handle at the very end loses nothing."""
    result = run(
        """
        import builtins
        from holding import both

        class Late:
            def __del__(self, both=both, builtins=builtins):
                builtins.late = both(6)

        late = Late()
        """
    ).ok()
    assert result.released == [6]
    assert {history.ending for history in result.first().handles} <= {
        "dropped",
        "collected",
        "swept",
    }
