"""The whole way, from a real process's recording to findings."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from support_programs import Run, recorded, run_program

from safehandle_debug import SafeFileHandle, _native
from safehandle_debug.findings import Finding, find, findings_of, render_process_death, to_json
from safehandle_debug.ledger import Ledger, provenance
from safehandle_debug.recording import open_recording
from safehandle_debug.recording.reader import Cursor

START = """
import gc, os, sys, threading
from safehandle_debug import SafeFileHandle, SafeHandleMinusOneIsInvalid, HandleClosedError

def opened():
    return SafeFileHandle.open("/dev/null", os.O_RDONLY)
"""


def judged(run: Run) -> list[Finding]:
    """The findings of all processes of a program."""
    with ExitStack() as stack:
        ledgers = [
            stack.enter_context(Ledger(open_recording(path))) for path in run.ok().recordings
        ]
        for ledger in ledgers:
            ledger.refresh()
        return [finding for ledger in ledgers for finding in find(ledger)]


WRONG = {
    "leak": """
        kept = opened()  # at the end of the program
        """,
    "leak at once": """
        def main():
            sys.kept = opened()
        main()
        """,
    "leak in a cycle": """
        gc.disable()
        def main():
            cycle = [opened()]
            cycle.append(cycle)
        main()
        """,
    "leak by overwriting": """
        class Twice(SafeHandleMinusOneIsInvalid):
            def release_handle(self):
                return True
        with Twice() as handle:
            handle.set_handle(5)
            handle.set_handle(6)
        """,
    "abandoned": """
        def main():
            opened()
        main()
        """,
    "abandoned to the collector": """
        def main():
            cycle = [opened()]
            cycle.append(cycle)
        main()
        gc.collect()
        """,
    "double-release": """
        handle = opened()
        handle.close()
        try:
            handle.dangerous_release()
        except HandleClosedError:
            pass
        """,
    "double-release of the owner's": """
        handle = opened()
        handle.dangerous_release()
        handle.close()
        """,
    "double-owner": """
        handle = opened()
        other = SafeFileHandle(handle.fileno())
        other.close()
        handle.set_handle_as_invalid()
        """,
    "unbalanced": """
        handle = opened()
        handle.dangerous_add_ref()
        handle.close()
        """,
    "unbalanced when dropped": """
        def main():
            opened().dangerous_add_ref()
        main()
        """,
    "release-failed": """
        handle = opened()
        os.close(handle.fileno())
        handle.close()
        """,
    "release-failed in a hook": """
        class Failing(SafeHandleMinusOneIsInvalid):
            def release_handle(self):
                return False
        handle = Failing()
        handle.set_handle(5)
        handle.close()
        """,
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong(name: str, tmp_path: Path) -> None:
    """Exactly what is wrong, once, with a line of the program's."""
    source = START + textwrap.dedent(WRONG[name])
    (finding,) = judged(run_program(source, tmp_path))
    kind = name.split()[0]
    assert finding.kind == kind
    assert finding.count == 1
    assert finding.culprit[0].file == str(tmp_path / "program.py")
    line = source.splitlines()[finding.culprit[0].line - 1]
    assert any(
        word in line for word in ("open", "release", "add_ref", "handle.close", "set_handle(", "(")
    )
    assert finding.handle.opened


def test_forked_child_has_findings_of_its_own(tmp_path: Path) -> None:
    """The parent's handles are not the child's; its own are."""
    source = START + textwrap.dedent(
        """
        sys.kept = opened()
        pid = os.fork()
        if pid == 0:
            def child():
                sys.kept_too = opened()
            child()
            sys.exit()
        os.waitpid(pid, 0)
        sys.kept.close()
        """
    )
    (finding,) = judged(run_program(source, tmp_path))
    assert finding.kind == "leak"
    assert "child" in [frame.function for frame in finding.culprit]


def test_daemon_thread_inside_a_read(tmp_path: Path) -> None:
    """Closed at exit while a thread reads: its reference is in use."""
    source = START + textwrap.dedent(
        """
        from safehandle_debug import SafePipeHandle
        reader, writer = SafePipeHandle.pair()
        inside = threading.Event()
        def serve():
            with reader.hold() as fd:
                inside.set()
                os.read(fd, 1)
        threading.Thread(target=serve, daemon=True).start()
        inside.wait()
        reader.close()
        writer.detach()
        """
    )
    assert judged(run_program(source, tmp_path)) == []


def test_thread_that_ended_forgot_its_reference(tmp_path: Path) -> None:
    """Nobody can release it any more."""
    source = START + textwrap.dedent(
        """
        handle = opened()
        def forgets():
            handle.dangerous_add_ref()
        def later():
            opened().close()
        for work in forgets, later:
            thread = threading.Thread(target=work)
            thread.start()
            thread.join()
            # Joined is not gone: the system's thread ends a little later.
            for _ in range(10_000):
                if not os.path.exists(f"/proc/self/task/{thread.native_id}"):
                    break
                threading.Event().wait(0.001)
        handle.close()
        """
    )
    (finding,) = judged(run_program(source, tmp_path))
    assert finding.kind == "unbalanced"
    assert finding.culprit[0].function == "forgets"


def test_import_keeps_its_handle(tmp_path: Path) -> None:
    """A module's handle for life is no finding, in whatever way it ends."""
    (tmp_path / "logs.py").write_text(START + "LOG = opened()\n")
    assert judged(run_program("import logs", tmp_path)) == []


def test_killed_process(tmp_path: Path) -> None:
    """It is told what it held, with stacks; nothing is a finding."""
    source = START + textwrap.dedent(
        """
        def hold():
            return [opened() for _ in range(3)]
        held = hold()
        os.kill(os.getpid(), 9)
        """
    )
    run = run_program(source, tmp_path)
    assert run.code == -signal.SIGKILL
    with Ledger(open_recording(run.recordings[0])) as ledger:
        ledger.refresh()
        assert find(ledger) == []
        text = render_process_death(ledger)
        report = to_json([ledger], [])
    assert "died holding 3 handles" in text.splitlines()[0]
    assert "program.py:6 in opened (3 times)" in text
    (process,) = report["processes"]
    assert (process["ended"], process["live"], len(process["held"])) == ("signal", 3, 3)


def test_own_running_process(tmp_path: Path) -> None:
    """A process can ask for the history of its own handle while it runs."""
    with recorded(tmp_path):
        with SafeFileHandle.open(os.devnull, os.O_RDONLY) as handle:
            with handle.hold():
                during = provenance(_native.newest_serial())
            assert during is not None
        after = provenance(during.serial)
        nothing = provenance(during.serial + 1)
    assert [event.kind for event in during.events] == ["acquire", "add-ref"]
    assert during.is_open
    assert during.refs == 2
    assert after is not None
    assert (after.ending, after.refs) == ("exited", 0)
    assert nothing is None
    assert findings_of(after, over=True) == []
    (finding,) = findings_of(during, over=True)
    assert finding.kind == "leak"
    assert finding.culprit[0].function == "test_own_running_process"


def test_provenance_without_recording() -> None:
    """Nothing is known when nothing was recorded."""
    if _native.recording_path() is None:
        assert provenance(1) is None


BUSY = """
import os, sys, threading
from safehandle_debug import SafeFileHandle, _native

_native.start_recording(sys.argv[1], size=1 << 20)
stop = threading.Event()

def churn():
    while not stop.is_set():
        kept = [SafeFileHandle(900 + number, owns_handle=False) for number in range(40)]
        for handle in kept:
            handle.dangerous_add_ref()
            handle.dangerous_release()
            handle.close()

kept = [SafeFileHandle.open(os.devnull, os.O_RDONLY) for _ in range(50)]
threads = [threading.Thread(target=churn) for _ in range(3)]
for thread in threads:
    thread.start()
print("started", flush=True)
sys.stdin.readline()
stop.set()
for thread in threads:
    thread.join()
for handle in kept:
    handle.close()
"""


@pytest.fixture
def busy(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[str], Path]]:
    """A process whose threads fill a small recording over and over."""
    path = tmp_path / "busy.shd"
    with subprocess.Popen(
        [sys.executable, "-c", BUSY, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={key: value for key, value in os.environ.items() if key != "SAFEHANDLE_DEBUG"},
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "started\n"
        yield process, path
        process.kill()


def test_reading_while_it_is_written(busy: tuple[subprocess.Popen[str], Path]) -> None:
    """Blocks are recycled under the reader: never a torn event, an event read
    twice, or a lost open handle."""
    process, path = busy
    cursor = Cursor()
    seen: Counter[int] = Counter()
    with Ledger(open_recording(path)) as ledger:
        recording = ledger.recording
        dropped = recording.header.dropped_events
        looks = 0
        while looks < 10 or recording.header.dropped_events < dropped + 50_000:
            looks += 1
            assert process.poll() is None
            ledger.refresh()
            for _, data in recording.read_new(cursor):
                seqs = memoryview(data).cast("Q")[::8].tolist()
                assert seqs == sorted(seqs)
                seen.update(seqs)
            for event in recording.events():
                assert 1 <= event.kind <= 12
                assert recording.thread(event.thread).name != "?"
                assert recording.type(event.type).name == "SafeFileHandle"
            open_now = {history.serial for history in ledger.open()}
            assert set(range(1, 51)) <= open_now
            assert len(open_now) <= 50 + 3 * 40
        assert find(ledger) == []
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.close()
        assert process.wait(60) == 0
        ledger.refresh()
        assert ledger.open() == []
        assert ledger.process.ended == "exit"
        assert find(ledger) == []
    assert seen.total() == len(seen) > 1000


def test_killed_while_it_writes(busy: tuple[subprocess.Popen[str], Path]) -> None:
    """Whatever was being written when it died: what it held is there."""
    process, path = busy
    process.kill()
    process.wait(60)
    with Ledger(open_recording(path)) as ledger:
        ledger.refresh()
        assert ledger.process.ended == "signal"
        held = ledger.open()
        assert {history.serial for history in held} >= set(range(1, 51))
        assert all(history.ending == "lost" and history.opened for history in held)
        assert find(ledger) == []
        assert len(list(ledger.histories())) >= len(held)
