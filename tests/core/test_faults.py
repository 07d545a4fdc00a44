"""What can go wrong around a program goes wrong in the recording alone."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support_programs import Run

from safehandle_debug.ledger import Ledger
from safehandle_debug.recording import open_recording

# Makes enough events of enough different stacks to fill a few MB.
BUSY = """
import os, sys
from safehandle_debug import SafeFileHandle, _native

def busy(rounds):
    for number in range(rounds):
        namespace = {}
        source = f"def made_{number}(use):\\n    use()\\n"
        exec(compile(source, f"<made {number}>", "exec"), namespace)
        namespace[f"made_{number}"](use)

def use():
    with SafeFileHandle.open("/dev/null", os.O_RDONLY) as handle:
        for _ in range(20):
            with handle.hold():
                pass

kept = SafeFileHandle.open("/dev/null", os.O_RDONLY)
fds = len(os.listdir("/proc/self/fd"))
"""

AFTERWARDS = """
assert len(os.listdir("/proc/self/fd")) == fds
assert _native.live_count() == 1, _native.live_count()
kept.fileno()
print("unharmed")
"""


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 2 MB."""
    folder = tmp_path / "disk"
    folder.mkdir(mode=0o700)
    options = ["-t", "tmpfs", "-o", "size=2m,mode=0700", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(["mount", *options], check=False).returncode != 0:
        pytest.skip("cannot mount a tmpfs here")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk(run: Callable[..., Run], small_disk: Path) -> None:
    """The recording stops growing and says why; no SIGBUS, nothing lost but events."""
    result = run(BUSY + "busy(3000)" + AFTERWARDS, env={"SAFEHANDLE_DEBUG_DIR": str(small_disk)})
    assert result.ok().lines == ["unharmed"]
    (path,) = small_disk.glob("*/*.shd")
    with Ledger(open_recording(path)) as ledger:
        ledger.refresh()
        assert ledger.process.dropped > 0
        assert "space" in (ledger.process.error or "")
        assert ledger.process.ended == "exit"
        kept = ledger.history(1)
        assert kept is not None
        assert [frame.function for frame in kept.opened] == ["<module>"]


def test_a_disk_that_is_full_from_the_start(run: Callable[..., Run], small_disk: Path) -> None:
    """One line says that nothing can be recorded; the program runs on."""
    (small_disk / "filler").write_bytes(bytes(2 * 1024 * 1024 - 4096 * 3))
    result = run(BUSY + "busy(100)" + AFTERWARDS, env={"SAFEHANDLE_DEBUG_DIR": str(small_disk)})
    assert result.ok().lines == ["unharmed"]
    assert len(result.err.splitlines()) <= 1
    assert "Traceback" not in result.err


def test_a_file_size_limit(run: Callable[..., Run]) -> None:
    """RLIMIT_FSIZE sends no SIGXFSZ to the program."""
    result = run(
        "import resource\nresource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))\n"
        + BUSY
        + "busy(3000)"
        + AFTERWARDS
    )
    assert result.ok().lines == ["unharmed"]


def test_a_file_size_limit_from_the_start(run: Callable[..., Run]) -> None:
    result = run(
        """
        import os, resource, subprocess, sys
        limit = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (8192, 8192))
        environment = {**os.environ, "SAFEHANDLE_DEBUG": "full,fds=off"}
        source = (
            "from safehandle_debug import SafeFileHandle; import os\\n"
            "SafeFileHandle.open('/dev/null', os.O_RDONLY).close(); print('unharmed')"
        )
        done = subprocess.run([sys.executable, "-c", source], preexec_fn=limit, env=environment,
                              capture_output=True, text=True)
        print(done.returncode, done.stdout, len(done.stderr.splitlines()), end="")
        """,
        level=None,
    ).ok()
    assert result.out == "0 unharmed\n 1"


@pytest.mark.skipif(
    "SAFEHANDLE_SANITIZED" in os.environ, reason="a sanitizer needs address space of its own"
)
def test_out_of_address_space(run: Callable[..., Run]) -> None:
    """RLIMIT_AS leaves no room to grow: events are dropped, the program goes on."""
    result = run(
        BUSY
        + """
import resource
pages = int(open("/proc/self/statm").read().split()[0])
limit = pages * 4096 + (8 << 20)
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
busy(1500)
"""
        + AFTERWARDS
    )
    assert result.ok().lines == ["unharmed"]


@pytest.mark.skipif(
    "SAFEHANDLE_SANITIZED" in os.environ, reason="a sanitizer needs address space of its own"
)
def test_too_little_address_space_from_the_start(run: Callable[..., Run]) -> None:
    """Less than the recording's bound: recorded all the same or one line; unharmed."""
    result = run(
        """
        import os, resource, subprocess, sys
        limit = lambda: resource.setrlimit(resource.RLIMIT_AS, (192 << 20, 192 << 20))
        environment = {**os.environ, "SAFEHANDLE_DEBUG": "full,fds=off"}
        source = (
            "from safehandle_debug import SafeFileHandle; import os\\n"
            "SafeFileHandle.open('/dev/null', os.O_RDONLY).close(); print('unharmed')"
        )
        done = subprocess.run([sys.executable, "-c", source], preexec_fn=limit, env=environment,
                              capture_output=True, text=True)
        assert "Traceback" not in done.stderr, done.stderr
        assert len(done.stderr.splitlines()) <= 1, done.stderr
        print(done.returncode, done.stdout, end="")
        """,
        level=None,
    ).ok()
    assert result.out == "0 unharmed\n"


def test_out_of_descriptors(run: Callable[..., Run]) -> None:
    """EMFILE is the program's own error, with no handle and no descriptor lost."""
    result = run(
        """
        import errno, os, resource
        from safehandle_debug import SafeFileHandle, SafePipeHandle, _native

        resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
        for attempt in range(3):
            kept = []
            try:
                while True:
                    kept.append(SafeFileHandle.open("/dev/null", os.O_RDONLY))
            except OSError as error:
                assert error.errno == errno.EMFILE, error
                assert error.filename == "/dev/null", error.filename
            count = len(kept)
            for acquire in (SafePipeHandle.pair, kept[0].duplicate,
                            lambda: SafeFileHandle.memfd("none")):
                try:
                    acquire()
                except OSError as error:
                    assert error.errno == errno.EMFILE, error
                else:
                    raise AssertionError("no descriptor was left")
            assert _native.live_count() == count
            kept.pop().close()
            try:
                SafePipeHandle.pair()
            except OSError as error:
                assert error.errno == errno.EMFILE, error
            else:
                raise AssertionError("one descriptor is no pair")
            assert _native.live_count() == count - 1
            for handle in kept:
                handle.close()
            assert _native.live_count() == 0
        print(count)
        """
    ).ok()
    assert 50 < int(result.lines[0]) < 62
    assert all(history.ending == "closed" for history in result.first().handles)


def test_a_small_recording_drops_and_counts(run: Callable[..., Run]) -> None:
    """Every open handle keeps its acquire stack, however much was dropped."""
    result = run(
        BUSY
        + """
handles = []
def keep():
    handles.append(SafeFileHandle.open("/dev/null", os.O_RDONLY))

for _ in range(50):
    busy(60)
    keep()
    for handle in handles:
        with handle.hold():
            pass
os.kill(os.getpid(), 9)
""",
        level="full,fds=off,size=1M",
    )
    assert result.code == -9
    (path,) = result.recordings
    assert path.stat().st_size <= 1 << 20
    with Ledger(open_recording(path)) as ledger:
        ledger.refresh()
        process = ledger.process
        assert process.dropped > 0
        assert process.live == 51
        held = ledger.open()
        assert len(held) == 51
        assert [history.ending for history in held] == ["lost"] * 51
        assert [frame.function for frame in held[0].opened] == ["<module>"]
        for history in held[1:]:
            assert [frame.function for frame in history.opened] == ["keep", "<module>"]


def test_details_leave_room_for_names(run: Callable[..., Run]) -> None:
    """However many paths there were: code that runs for the first time is named."""
    result = run(
        """
        import os
        from safehandle_debug import SafeFileHandle

        for number in range(60_000):
            SafeFileHandle.memfd(f"a name of its own for number {number}").close()
        kept = []
        source = "def later():\\n    kept.append(SafeFileHandle.memfd('later'))\\n"
        exec(compile(source, "<later>", "exec"))
        later()
        os.kill(os.getpid(), 9)
        """,
        level="full,fds=off,size=2M",
    )
    assert result.code == -9, result.err
    (path,) = result.recordings
    with Ledger(open_recording(path)) as ledger:
        ledger.refresh()
        (held,) = ledger.open()
        frame = held.opened[0]
        assert (frame.file, frame.function) == ("<later>", "later")
        assert ledger.recording.header.dropped_data > 0


@pytest.mark.slow
@pytest.mark.parametrize("round_", range(20))
def test_killed_in_the_middle(run: Callable[..., Run], round_: int, tmp_path: Path) -> None:
    """SIGKILL at some moment of a storm: what was committed is all there."""
    result = run(
        f"""
        import mmap, os, random, signal, struct, threading
        from safehandle_debug import SafeFileHandle, _native

        counter = os.open("counter", os.O_RDWR | os.O_CREAT)
        os.ftruncate(counter, 4096)
        shared = mmap.mmap(counter, 4096)
        go = threading.Event()

        def kill():
            go.wait()
            # A thread of its own, so that any instruction of the storm can be the last.
            for _ in range(random.Random({round_}).randrange(100, 200_000)):
                pass
            os.kill(os.getpid(), signal.SIGKILL)

        threading.Thread(target=kill).start()
        go.set()
        while True:
            handle = SafeFileHandle.open("/dev/null", os.O_RDONLY)
            with handle.hold():
                shared[:8] = struct.pack("Q", _native.newest_serial())
        """,
    )
    assert result.code == -9, result.err
    (serial,) = memoryview((tmp_path / "program" / "counter").read_bytes())[:8].cast("Q")
    (path,) = result.recordings
    with open_recording(path) as recording:
        assert recording.header.newest_serial in {serial, serial + 1}
        assert recording.header.dropped_events == 0
        events = list(recording.events())
        numbers = [event.seq for event in events]
        assert numbers == list(range(1, len(events) + 1))
        assert recording.header.next_seq - 1 - len(events) in {0, 1}
        acquired = {event.serial for event in events if event.kind == 1}
        assert set(range(1, serial + 1)) <= acquired
        live = recording.live()
        assert len(live) <= 2
        for slot in live:
            assert [frame.function for frame in recording.stack(slot.stack)] == ["<module>"]


@pytest.mark.slow
@pytest.mark.parametrize("round_", range(5))
def test_killed_with_many_threads(run: Callable[..., Run], round_: int) -> None:
    """Torn tails of several writers are seen as such; every event read is sound."""
    result = run(
        f"""
        import os, random, signal, sys, threading
        from safehandle_debug import SafeFileHandle

        sys.setswitchinterval(1e-5)
        ready = threading.Barrier(4)

        def storm():
            ready.wait()
            while True:
                with SafeFileHandle.open("/dev/null", os.O_RDONLY) as handle:
                    with handle.hold():
                        pass

        for _ in range(3):
            threading.Thread(target=storm, daemon=True).start()
        ready.wait()
        for _ in range(random.Random({round_}).randrange(1000, 300_000)):
            pass
        os.kill(os.getpid(), signal.SIGKILL)
        """,
        level="full,fds=off,size=4M",
    )
    assert result.code == -9, result.err
    (path,) = result.recordings
    with open_recording(path) as recording:
        last: dict[int, int] = {}
        seen = set()
        for event in recording.events():
            assert event.seq not in seen
            seen.add(event.seq)
            assert 1 <= event.kind <= 12
            assert 0 < event.serial <= recording.header.newest_serial
            assert recording.type(event.type).name == "SafeFileHandle"
            assert recording.thread(event.thread).name != "?"
            assert event.seq > last.get(event.thread, 0)
            last[event.thread] = event.seq
            functions = [frame.function for frame in recording.stack(event.stack)]
            assert functions[0] == "storm"


def test_the_mapping_is_not_inherited_by_exec(run: Callable[..., Run]) -> None:
    """The recording's descriptor is closed on exec and costs the program none."""
    result = run(
        """
        import os, subprocess
        print(*sorted(int(fd) for fd in os.listdir("/proc/self/fd")))
        print(subprocess.check_output(["ls", "/proc/self/fd"], close_fds=False, text=True))
        """
    ).ok()
    plain = run(
        """
        import os, subprocess
        print(*sorted(int(fd) for fd in os.listdir("/proc/self/fd")))
        print(subprocess.check_output(["ls", "/proc/self/fd"], close_fds=False, text=True))
        """,
        level=None,
    ).ok()
    assert result.out == plain.out


def test_pages_are_there_before_they_are_written(run: Callable[..., Run]) -> None:
    """Blocks in use are allocated, so that a later full disk cannot fault."""
    result = run(BUSY + "busy(500)" + AFTERWARDS).ok()
    (path,) = result.recordings
    with open_recording(path) as recording:
        used = recording.header.header_size + recording.header.blocks * 65536
    assert path.stat().st_blocks * 512 >= used


def test_a_session_folder_that_vanishes(run: Callable[..., Run]) -> None:
    """Deleted under the program: it goes on, and so do its children."""
    result = run(
        BUSY
        + """
import shutil
shutil.rmtree(os.environ["SAFEHANDLE_DEBUG_SESSION"])
busy(200)
pid = os.fork()
if pid == 0:
    busy(200)
    os._exit(0)
assert os.waitpid(pid, 0)[1] == 0
"""
        + AFTERWARDS
    )
    assert result.ok().lines == ["unharmed"]


def test_a_folder_without_room_for_a_child(run: Callable[..., Run]) -> None:
    """A child whose recording cannot be made runs on unrecorded."""
    result = run(
        BUSY
        + """
import resource
pid = os.fork()
if pid == 0:
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    busy(50)
    assert _native.recording_error() is not None
    os._exit(0)
assert os.waitpid(pid, 0)[1] == 0
"""
        + AFTERWARDS
    )
    assert result.ok().lines == ["unharmed"]


def test_closed_by_number_all_over(run: Callable[..., Run]) -> None:
    """A daemon's close loop takes nothing of the recording's away."""
    result = run(
        """
        import os
        from safehandle_debug import SafeFileHandle

        os.closerange(3, 4096)
        with SafeFileHandle.open("/dev/null", os.O_RDONLY) as handle:
            assert handle.handle == 3
        pid = os.fork()
        if pid == 0:
            os.setsid()
            os.closerange(0, 4096)
            os.open("/dev/null", os.O_RDWR)
            SafeFileHandle.memfd("daemon").close()
            os._exit(0)
        assert os.waitpid(pid, 0)[1] == 0
        """
    ).ok()
    told = result.told()
    assert [history.ending for history in told[0].handles] == ["exited"]
    daemon = [history for history in told[1].handles if history.detail == "memfd:daemon"]
    assert [history.ending for history in daemon] == ["closed"]


def test_between_fork_and_exec(run: Callable[..., Run]) -> None:
    """A preexec_fn runs in the child of subprocess: what it does is the child's."""
    result = run(
        """
        import os, subprocess
        from safehandle_debug import SafeFileHandle

        kept = SafeFileHandle.open("/dev/null", os.O_RDONLY)

        def prepare():
            with SafeFileHandle.memfd("between"):
                pass
            kept.fileno()

        for _ in range(3):
            subprocess.run(["true"], preexec_fn=prepare, check=True)
        subprocess.run(["true"], check=True)
        kept.close()
        """
    ).ok()
    told = result.told()
    assert [history.detail for history in told[0].handles] == ["/dev/null"]
    assert told[0].handles[0].ending == "closed"
    between = [
        history.ending
        for child in told[1:]
        for history in child.handles
        if history.detail == "memfd:between"
    ]
    assert between == ["exited"] * 3
