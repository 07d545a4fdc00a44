"""Process handles: spawning, statuses, signals, and what a child gets."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support_handles import refs
from support_programs import recorded, run_program
from support_waiting import children, open_fds, process_state, until

from safehandle_debug import (
    HandleClosedError,
    NullHandleError,
    SafeFileHandle,
    SafePipeHandle,
    SafeProcessHandle,
    WaitHandle,
    _native,
)


@pytest.fixture(autouse=True)
def _nothing_is_left() -> Iterator[None]:
    """Every test closes what it opens, and leaves no zombie."""
    live, before = _native.live_count(), children()
    yield
    assert _native.live_count() == live
    assert children() - before == set()


def output_of(args: list[str], **options: object) -> str:
    """Runs a program to its end and returns what it wrote."""
    reader, writer = SafePipeHandle.pair()
    with reader:
        with writer:
            process = SafeProcessHandle.spawn(args, stdout=writer, **options)  # type: ignore[arg-type]
        with process, open(reader.fileno(), closefd=False) as stream:
            text = stream.read()
            assert process.wait(60) == 0
    return text


def python(source: str, *args: str) -> list[str]:
    """The command that runs `source`."""
    return [sys.executable, "-S", "-c", source, *args]


# --- spawning ---


@pytest.mark.parametrize("status", [0, 1, 7, 255])
def test_exit_status(status: int) -> None:
    with SafeProcessHandle.spawn(["sh", "-c", f"exit {status}"]) as process:
        assert process.wait(60) == status
        assert process.poll() == status
        assert process.returncode == status
    assert process.returncode == process.wait() == process.poll() == status


def test_a_running_process_has_no_status() -> None:
    with SafeProcessHandle.spawn(["sleep", "60"]) as process:
        assert process.poll() is None
        assert process.wait(0.01) is None
        assert process.returncode is None
        assert process.pid > 1
        assert process_state(process.pid) in {"R", "S"}
        process.send_signal(signal.SIGKILL)
        assert process.wait(60) == -signal.SIGKILL


def test_the_descriptor_is_not_inherited() -> None:
    with SafeProcessHandle.spawn(["true"]) as process:
        assert not os.get_inheritable(process.fileno())
        process.wait(60)


@pytest.mark.parametrize(
    ("args", "options", "error"),
    [
        (["no-such-program-anywhere"], {}, FileNotFoundError),
        (["/etc/passwd"], {}, PermissionError),
        (["/etc/hostname/x"], {}, NotADirectoryError),
        (["true"], {"cwd": "/no/such/folder"}, FileNotFoundError),
        ([b"no-such-program-anywhere"], {}, FileNotFoundError),
    ],
)
def test_it_fails_as_popen_does(
    args: list[str], options: dict[str, str], error: type[OSError]
) -> None:
    """The same error and filename, no handle, no child, no descriptor."""
    with pytest.raises(error) as expected:
        subprocess.Popen(args, **options)  # type: ignore[call-overload]
    fds, live, serial = open_fds(), _native.live_count(), _native.newest_serial()
    with pytest.raises(error) as caught:
        SafeProcessHandle.spawn(args, **options)  # type: ignore[arg-type]
    assert type(caught.value) is type(expected.value)
    assert caught.value.errno == expected.value.errno
    assert os.fsdecode(caught.value.filename) == os.fsdecode(expected.value.filename)
    assert (open_fds(), _native.live_count(), _native.newest_serial()) == (fds, live, serial)


@pytest.mark.parametrize(
    ("args", "options"),
    [
        ("true", {}),
        (b"true", {}),
        ([], {}),
        (["nul\0in"], {}),
        ([None], {}),
        ([1], {}),
        (None, {}),
        (["true"], {"env": {"A=B": "C"}}),
        (["true"], {"env": {"": "C"}}),
        (["true"], {"env": {"A": 1}}),
        (["true"], {"env": ["A=B"]}),
        (["true"], {"env": {"A": "nul\0in"}}),
        (["true"], {"cwd": 3}),
        (["true"], {"stdin": "file"}),
        (["true"], {"pass_fds": 3}),
        (["true"], {"pass_fds": [None]}),
        (["true"], {"unknown": 3}),
    ],
)
def test_what_makes_no_sense_is_refused(args: object, options: dict[str, object]) -> None:
    fds = open_fds()
    with pytest.raises((TypeError, ValueError, AttributeError)):
        SafeProcessHandle.spawn(args, **options)  # type: ignore[arg-type]
    assert open_fds() == fds


def test_a_bad_argument_drops_the_references_of_the_good_ones() -> None:
    reader, writer = SafePipeHandle.pair()
    closed = SafePipeHandle(0, owns_handle=False)
    closed.close()
    with reader, writer:
        with pytest.raises(HandleClosedError):
            SafeProcessHandle.spawn(["true"], stdin=reader, stdout=writer, stderr=closed)
        with pytest.raises(HandleClosedError):
            SafeProcessHandle.spawn(["true"], stdin=reader, pass_fds=[writer, closed])
        with pytest.raises(NullHandleError):
            SafeProcessHandle.spawn(["true"], pass_fds=[writer, None])  # type: ignore[list-item]
        with pytest.raises(FileNotFoundError):
            SafeProcessHandle.spawn(["no-such-program"], stdin=reader, stdout=writer)
        assert (refs(reader), refs(writer)) == (1, 1)


def test_environment_and_folder(tmp_path: Path) -> None:
    shell = ["sh", "-c", 'echo "$ONE$TWO"; pwd']
    path = {"PATH": os.environ["PATH"]}
    text = output_of(shell, env={"ONE": "1", "TWO": "ü", **path}, cwd=tmp_path)
    assert text == f"1ü\n{tmp_path}\n"
    text = output_of(
        shell, env={b"ONE": b"3", b"PATH": path["PATH"].encode()}, cwd=bytes(tmp_path)
    )
    assert text == f"3\n{tmp_path}\n"


def test_our_environment_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ONE", "1")
    monkeypatch.delenv("TWO", raising=False)
    assert output_of(["sh", "-c", 'echo "$ONE$TWO"']) == "1\n"


def test_programs_are_looked_for_in_path(tmp_path: Path) -> None:
    program = tmp_path / "two" / "program"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\necho found\n")
    program.chmod(0o755)
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "program").write_text("not executable")
    path = f"{tmp_path}/none:{tmp_path}/one:{tmp_path}/two"
    assert output_of(["program"], env={"PATH": path}) == "found\n"
    assert output_of(["program"], env={"PATH": ":"}, cwd=program.parent) == "found\n"
    assert output_of(["./program"], cwd=program.parent) == "found\n"
    with pytest.raises(PermissionError):
        SafeProcessHandle.spawn(["program"], env={"PATH": f"{tmp_path}/one:{tmp_path}/none"})


def test_another_name_for_the_program() -> None:
    assert output_of(["other", "-c", "echo $0"], executable="sh") == "other\n"


def test_standard_descriptors(tmp_path: Path) -> None:
    (tmp_path / "in").write_text("input")
    with (
        SafeFileHandle.open(tmp_path / "in") as given,
        SafeFileHandle.open(tmp_path / "out", os.O_WRONLY | os.O_CREAT) as out,
        open(tmp_path / "err", "w") as err,
        SafeProcessHandle.spawn(
            ["sh", "-c", "cat; echo wrong >&2"], stdin=given, stdout=out.fileno(), stderr=err
        ) as process,
    ):
        assert process.wait(60) == 0
    assert (tmp_path / "out").read_text() == "input"
    assert (tmp_path / "err").read_text() == "wrong\n"


def test_standard_descriptors_may_change_places(tmp_path: Path) -> None:
    """Sources among 0, 1 and 2 themselves: none is overwritten before its turn."""
    result = run_program(
        """
        import os
        from safehandle_debug import SafeProcessHandle

        for number, name in enumerate(("zero", "one", "two")):
            fd = os.open(name, os.O_RDWR | os.O_CREAT)
            os.dup2(fd, number)
            os.close(fd)
        with SafeProcessHandle.spawn(
            ["sh", "-c", "echo a >&0; echo b >&1; echo c >&2"], stdin=1, stdout=2, stderr=0
        ) as process:
            assert process.wait() == 0
        """,
        tmp_path,
        level=None,
    ).ok()
    folder = result.folder.parent
    texts = [(folder / name).read_text() for name in ("zero", "one", "two")]
    assert texts == ["c\n", "a\n", "b\n"]


def test_one_descriptor_for_two() -> None:
    assert output_of(["sh", "-c", "echo one; echo two >&2"], stderr=None).startswith("one")
    reader, writer = SafePipeHandle.pair()
    with reader:
        with writer:
            process = SafeProcessHandle.spawn(
                ["sh", "-c", "echo one; echo two >&2"], stdout=writer, stderr=writer
            )
        with process:
            assert process.wait(60) == 0
            assert os.read(reader.fileno(), 100) == b"one\ntwo\n"


LISTED = "import os; print(*sorted(int(n) for n in os.listdir('/proc/self/fd')))"


def test_nothing_else_is_inherited() -> None:
    """Not even what is inheritable; what is passed keeps its number."""
    one, two = os.pipe()
    os.set_inheritable(one, True)
    with SafeFileHandle(two) as passed:
        plain = [int(n) for n in output_of(python(LISTED)).split()]
        assert set(plain) <= {0, 1, 2, 3}
        text = output_of(python(LISTED), pass_fds=[passed, 0])
        assert {int(n) for n in text.split()} - {0, 1, 2, 3, 4} == {two} - {3, 4}
        assert not os.get_inheritable(two)
    os.close(one)


def test_signals_are_as_a_program_expects_them(tmp_path: Path) -> None:
    """Nothing blocked or ignored that we did not block or ignore."""
    result = run_program(
        """
        import os, signal
        from safehandle_debug import SafeProcessHandle

        signal.signal(signal.SIGUSR1, lambda *_: None)
        signal.signal(signal.SIGUSR2, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})
        SafeProcessHandle.spawn(["cat", "/proc/self/status"]).wait()
        assert signal.getsignal(signal.SIGPIPE) is signal.SIG_IGN
        assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == {signal.SIGHUP}
        """,
        tmp_path,
        level=None,
    ).ok()
    words = [line.split() for line in result.lines]
    masks = {
        # Signals with names: the C library has two of its own, however it found them.
        word[0].rstrip(":"): int(word[1], 16) & 0x7FFFFFFF
        for word in words
        if word[0] in {"SigBlk:", "SigIgn:"}
    }
    assert masks == {
        "SigBlk": 1 << (signal.SIGHUP - 1),
        "SigIgn": 1 << (signal.SIGUSR2 - 1),
    }


def test_a_session_of_its_own() -> None:
    source = "import os; print(os.getsid(0) == os.getpid())"
    assert output_of(python(source), start_new_session=True) == "True\n"
    assert output_of(python(source)) == "False\n"


def test_the_audit_event() -> None:
    """What watches subprocess sees our children as well."""
    seen: list[tuple[object, ...]] = []
    active = True

    def hook(event: str, args: tuple[object, ...]) -> None:
        if active and event == "subprocess.Popen":
            seen.append(args)

    sys.addaudithook(hook)
    with SafeProcessHandle.spawn(["true"], env={"PATH": os.environ["PATH"]}, cwd="/") as process:
        process.wait(60)
    active = False
    assert seen == [("true", ["true"], "/", {"PATH": os.environ["PATH"]})]


def test_many_threads_spawn() -> None:
    """Each child has its own status; nobody's descriptors leak into another's child."""
    results: list[int | None] = []

    def spawn(number: int) -> None:
        for _ in range(10):
            with SafeProcessHandle.spawn(["sh", "-c", f"exit {number}"]) as process:
                results.append(process.wait(60))

    fds = open_fds()
    threads = [threading.Thread(target=spawn, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted(results) == sorted(list(range(4)) * 10)  # type: ignore[type-var]
    assert open_fds() == fds


STORM = """
    import os, signal, sys
    from safehandle_debug import AutoResetEvent, SafeProcessHandle, Semaphore, _native, wait_all

    class Stop(Exception):
        pass

    hits = 0

    def stop(number, frame):
        global hits
        if frame.f_code is body.__code__:
            hits += 1
            raise Stop

    def storm(wanted):
        signal.signal(signal.SIGALRM, stop)
        signal.setitimer(signal.ITIMER_REAL, 0.0003, 0.0003)
        while hits < wanted:
            try:
                body()
            except Stop:
                pass
        signal.setitimer(signal.ITIMER_REAL, 0)
    """


def test_an_interrupt_loses_no_child(tmp_path: Path) -> None:
    """Interrupted again and again around its start and its end: no handle and no
    descriptor is left."""
    source = (
        STORM
        + """
    def body():
        while True:
            SafeProcessHandle.spawn(["true"]).wait()

    before = len(os.listdir("/proc/self/fd"))
    storm(300)
    assert len(os.listdir("/proc/self/fd")) == before
    assert _native.live_count() == 0
    while True:  # children whose wait() was interrupted end by themselves
        try:
            os.waitpid(-1, 0)
        except ChildProcessError:
            break
    print("nothing lost")
    """
    )
    assert run_program(source, tmp_path, level=None).ok().lines == ["nothing lost"]


# --- opening ---


def test_open_our_own_child_leaves_it_to_its_owner() -> None:
    """The status is read, not taken: Popen still gets it."""
    child = subprocess.Popen(["sh", "-c", "exit 3"])
    with SafeProcessHandle.open(child.pid) as process:
        assert process.pid == child.pid
        assert process.wait(60) == 3
    assert process_state(child.pid) == "Z"
    assert child.wait() == 3


def test_closing_what_was_opened_leaves_it_to_its_owner() -> None:
    child = subprocess.Popen(["sh", "-c", "exit 3"])
    with SafeProcessHandle.open(child.pid) as process:
        assert WaitHandle(process).wait(60)
    assert child.wait() == 3


def test_open_with_reap_answers_for_the_child() -> None:
    pid = os.posix_spawn("/bin/sh", ["sh", "-c", "exit 3"], os.environ)
    with SafeProcessHandle.open(pid, reap=True) as process:
        assert WaitHandle(process).wait(60)
    assert process_state(pid) == ""


def test_a_stranger_has_no_status_for_us() -> None:
    """Its end can be waited for, its status is its parent's."""
    with SafeProcessHandle.open(os.getppid()) as process:
        with pytest.raises(ChildProcessError, match="parent"):
            process.poll()
        with pytest.raises(ChildProcessError):
            process.wait()
        assert not WaitHandle(process).wait(0)
        assert refs(process) == 1


def test_somebody_else_was_faster() -> None:
    """The child was waited for behind the handle's back: an error, no made-up status."""
    with SafeProcessHandle.spawn(["true"]) as process:
        os.waitpid(process.pid, 0)
        with pytest.raises(ChildProcessError):
            process.wait()


@pytest.mark.parametrize(
    "ignore",
    [
        "signal.signal(signal.SIGCHLD, signal.SIG_IGN)",
        "os.execv(sys.executable, [sys.executable, __file__])",
    ],
    ids=["here", "by_who_ran_us"],
)
def test_where_statuses_are_discarded(tmp_path: Path, ignore: str) -> None:
    """The wait ends with the process, and says why there is no status."""
    source = f"""
        import os, signal, sys
        from safehandle_debug import SafeProcessHandle

        if signal.getsignal(signal.SIGCHLD) != signal.SIG_IGN:
            signal.signal(signal.SIGCHLD, signal.SIG_IGN)
            {ignore}
        with SafeProcessHandle.spawn(["sh", "-c", "read line; exit 3"]) as child:
            try:
                child.wait()
            except ChildProcessError as error:
                print(error)
        """
    assert run_program(source, tmp_path).ok().lines == [
        "the exit status is lost: this process ignores SIGCHLD, and the kernel keeps no "
        "status then"
    ]


def test_open_what_is_not_there() -> None:
    with SafeProcessHandle.spawn(["true"]) as process:
        process.wait(60)
        with pytest.raises(ProcessLookupError):
            SafeProcessHandle.open(process.pid)
    for wrong in ("1", None, 1.5, 2**40):
        with pytest.raises((TypeError, OverflowError)):
            SafeProcessHandle.open(wrong)  # type: ignore[arg-type]


def test_adopting_a_pidfd() -> None:
    child = subprocess.Popen(["sleep", "60"])
    with SafeProcessHandle(os.pidfd_open(child.pid)) as process:
        assert process.pid == child.pid
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == -signal.SIGTERM
    assert child.wait() == -signal.SIGTERM


def test_a_number_that_is_no_pidfd() -> None:
    with SafeFileHandle.open("/dev/null") as file:
        process = SafeProcessHandle(file.fileno(), owns_handle=False)
        with pytest.raises(OSError, match=r"Bad file|Invalid"):
            process.wait()
        with pytest.raises(ProcessLookupError, match="no pidfd"):
            _ = process.pid


# --- using ---


def test_signals() -> None:
    with SafeProcessHandle.spawn(["sleep", "60"]) as process:
        process.send_signal(0)
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == -signal.SIGTERM
        with pytest.raises(ProcessLookupError):
            process.send_signal(signal.SIGTERM)
        for wrong in (-1, 10**6):
            with pytest.raises(ValueError, match="no signal"):
                process.send_signal(wrong)


@pytest.mark.parametrize(
    "use",
    [
        lambda process: process.poll(),
        lambda process: process.wait(0),
        lambda process: process.send_signal(0),
        lambda process: process.fileno(),
    ],
)
def test_a_closed_handle_is_not_used(use: Callable[[SafeProcessHandle], object]) -> None:
    process = SafeProcessHandle.open(os.getpid())
    process.close()
    with pytest.raises(HandleClosedError):
        use(process)


def test_the_pid_stays_readable() -> None:
    with SafeProcessHandle.open(os.getpid()) as process:
        pass
    assert process.pid == os.getpid()


def test_dispose_during_a_wait() -> None:
    """The wait gets its status, then it closes."""
    reader, writer = SafePipeHandle.pair()
    process = SafeProcessHandle.spawn(["cat"], stdin=reader)
    reader.close()
    results: list[int | None] = []
    waiting = threading.Thread(target=lambda: results.append(process.wait(60)))
    waiting.start()
    until(lambda: refs(process) == 2)
    process.close()
    assert not process.is_closed
    writer.close()
    waiting.join(60)
    assert results == [0]
    assert process.is_closed


def test_closing_never_kills_and_never_blocks() -> None:
    reader, writer = SafePipeHandle.pair()
    process = SafeProcessHandle.spawn(["cat"], stdin=reader)
    reader.close()
    process.close()
    assert process_state(process.pid) in {"R", "S"}
    writer.close()
    assert os.waitpid(process.pid, 0) == (process.pid, 0)


def test_a_dropped_child_is_reaped() -> None:
    process = SafeProcessHandle.spawn(["true"])
    pid = process.pid
    assert WaitHandle(process).wait(60)
    cycle: list[object] = [process]
    cycle.append(cycle)
    del process, cycle
    gc.collect()
    assert process_state(pid) == ""


def test_a_forked_copy_does_not_reap() -> None:
    """Children of the parent are nobody's business in the child."""
    with SafeProcessHandle.spawn(["sh", "-c", "exit 3"]) as process:
        assert WaitHandle(process).wait(60)
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                process.poll()
            except ChildProcessError:
                status = 0
            process.close()
            os._exit(status)
        assert os.waitpid(pid, 0) == (pid, 0)
        assert process.wait(60) == 3


def test_detaching_gives_the_child_away() -> None:
    process = SafeProcessHandle.spawn(["true"])
    assert WaitHandle(process).wait(60)
    fd = process.detach()
    assert process_state(process.pid) == "Z"
    os.close(fd)
    os.waitpid(process.pid, 0)


def test_a_subclass_with_a_hook_of_its_own() -> None:
    """super().release_handle() reaps as the native release does."""

    class Mine(SafeProcessHandle):
        def release_handle(self) -> bool | None:
            return super().release_handle()

    process = Mine.spawn(["true"])
    assert type(process) is Mine
    assert WaitHandle(process).wait(60)
    process.close()
    assert process_state(process.pid) == ""


# --- recordings ---


def test_recorded_with_pid_and_program(tmp_path: Path) -> None:
    with recorded(tmp_path) as told, SafeProcessHandle.spawn(["true"]) as process:
        process.wait(60)
    (history,) = told[0].handles
    assert (history.kind, history.ending) == ("process", "exited")
    assert history.detail == f"pid {process.pid}: true"


def test_a_forgotten_child_is_reaped_and_reported_at_the_end(tmp_path: Path) -> None:
    run = run_program(
        """
        from safehandle_debug import SafeProcessHandle, WaitHandle

        process = SafeProcessHandle.spawn(["true"])
        WaitHandle(process).wait()
        print(process.pid)
        """,
        tmp_path,
    ).ok()
    (history,) = run.first().handles
    assert (history.kind, history.ending) == ("process", "dropped")
    assert process_state(int(run.lines[0])) == ""


def test_a_python_child_joins_the_session(tmp_path: Path) -> None:
    run = run_program(
        """
        import sys
        from safehandle_debug import SafeProcessHandle

        source = "from safehandle_debug import SafeFileHandle; SafeFileHandle.open('/dev/null')"
        with SafeProcessHandle.spawn([sys.executable, "-c", source]) as process:
            assert process.wait() == 0
        """,
        tmp_path,
    ).ok()
    parent, child = run.told()
    assert child.process.parent_pid == parent.process.pid
    assert [h.kind for h in child.handles] == ["file"]


# --- asyncio ---


def test_awaiting_a_process() -> None:
    async def main() -> list[int]:
        with SafeProcessHandle.spawn(["sh", "-c", "exit 5"]) as process:
            return [await process, await process]

    assert asyncio.run(main()) == [5, 5]


def test_awaiting_many() -> None:
    async def one(status: int) -> int:
        with SafeProcessHandle.spawn(["sh", "-c", f"exit {status}"]) as process:
            return await process

    async def main() -> list[int]:
        return await asyncio.gather(*map(one, range(8)))

    assert asyncio.run(main()) == list(range(8))


def test_a_timeout_over_an_await() -> None:
    async def main() -> None:
        with SafeProcessHandle.spawn(["sleep", "60"]) as process:
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(process, 0.01)
            assert refs(process) == 1
            process.send_signal(signal.SIGKILL)
            assert await process == -signal.SIGKILL

    asyncio.run(main())


def test_awaiting_a_stranger() -> None:
    async def main() -> None:
        with (
            SafeProcessHandle.open(os.getppid()) as process,
            pytest.raises(ChildProcessError),
        ):
            await process

    asyncio.run(main())
