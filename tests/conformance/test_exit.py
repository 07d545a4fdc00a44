"""The end of interpreters and processes: cases 166 to 176."""

from __future__ import annotations

import signal
from collections.abc import Callable

import pytest
from support_programs import Run

ENDED_WELL = {"dropped", "collected", "swept"}


def test_a_subinterpreter_releases_what_it_holds(run: Callable[..., Run]) -> None:
    """Case 166: when it is destroyed; ordinary finalizers come first."""
    result = run(
        """
        import os
        from sharing import create, destroy, run_in

        inner = create()
        run_in(inner, '''if True:
            import os
            from holding import SafeFileHandle, both

            class Ordinary:
                def __init__(self, handle):
                    self.handle = handle
                def __del__(self, write=os.write, fstat=os.fstat):
                    fstat(self.handle.handle)
                    write(1, b"ordinary\\\\n")

            native, hooked = both(5)
            wrapper = Ordinary(native)
            cycle = [Ordinary(native)]
            cycle.append(cycle)
            open("number", "w").write(str(native.handle))
        ''')
        path = "/proc/self/fd/" + open("number").read()
        os.write(1, b"open\\n" if os.path.exists(path) else b"closed\\n")
        destroy(inner)
        os.write(1, b"open\\n" if os.path.exists(path) else b"closed\\n")
        """
    ).ok()
    assert result.lines == ["open", "ordinary", "ordinary", "closed"]
    assert result.released == [5]
    told = result.first()
    assert {history.ending for history in told.handles} <= ENDED_WELL


@pytest.mark.parametrize("end", ["", "sys.exit(0)", "os.kill(os.getpid(), 0)"])
def test_the_end_releases_what_is_reachable(run: Callable[..., Run], end: str) -> None:
    """Case 167: ordinary finalizers first, then handles."""
    result = run(
        f"""
        import os, sys
        from holding import SafeFileHandle, both

        class Ordinary:
            def __init__(self, handle):
                self.handle = handle
                self.cycle = self
            def __del__(self, write=os.write, fstat=os.fstat):
                fstat(self.handle.handle)
                write(1, b"ordinary\\n")

        native, hooked = both(5)
        wrapper = Ordinary(native)
        {end}
        """
    ).ok()
    assert result.lines == ["ordinary"]
    assert result.released == [5]
    assert {history.ending for history in result.first().handles} <= ENDED_WELL


def test_a_leaked_reference_does_not_keep_a_handle(run: Callable[..., Run]) -> None:
    """Case 168: the module's globals are never torn down, the sweep releases."""
    result = run(
        """
        import ctypes
        from holding import both

        native, hooked = both(5)

        class Kept:
            pass

        kept = Kept()
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(kept))
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(native))
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(hooked))
        """
    ).ok()
    assert result.released == [5]
    assert {history.ending for history in result.first().handles} == {"swept"}


def test_a_handle_of_a_daemon_thread(run: Callable[..., Run]) -> None:
    """Case 169: released by the sweep; no crash."""
    result = run(
        """
        import threading
        from holding import both

        ready = threading.Event()

        def park():
            native, hooked = both(5)
            ready.set()
            threading.Event().wait()

        threading.Thread(target=park, daemon=True).start()
        ready.wait()
        """
    ).ok()
    assert result.released == [5]
    assert {history.ending for history in result.first().handles} == {"swept"}


@pytest.mark.parametrize(
    ("end", "code"),
    [("raise LookupError('uncaught')", 1), ("raise SystemExit(3)", 3), ("sys.exit('text')", 1)],
)
def test_an_error_at_the_end(run: Callable[..., Run], end: str, code: int) -> None:
    """Case 170: as a normal end."""
    result = run(
        f"""
        import sys
        from holding import both

        def main():
            native, hooked = both(5)
            {end}

        kept = both(6)
        main()
        """
    )
    assert result.code == code
    assert sorted(result.released) == [5, 6]
    told = result.first()
    assert {history.ending for history in told.handles} <= ENDED_WELL
    assert told.process.ended == "exit"
    assert told.process.exit_code in {code, None}


SUDDEN = {
    "_exit": ("os._exit(0)", 0),
    "kill": ("os.kill(os.getpid(), 9)", -signal.SIGKILL),
    "term": ("os.kill(os.getpid(), 15)", -signal.SIGTERM),
    "abort": ("os.abort()", -signal.SIGABRT),
    "segv": ("import ctypes; ctypes.string_at(0)", -signal.SIGSEGV),
    "exec": ("os.execv('/bin/true', ['true'])", 0),
}


@pytest.mark.parametrize(("end", "code"), SUDDEN.values(), ids=SUDDEN)
def test_a_sudden_end_is_told_by_the_recording(
    run: Callable[..., Run], end: str, code: int
) -> None:
    """Case 171: nothing runs; the recording names what was held, with stacks."""
    result = run(
        f"""
        import os
        from holding import both

        def hold():
            return both(5)

        kept = hold()
        {end}
        """
    )
    assert result.code == code
    assert result.released == []
    told = result.first()
    assert told.process.live == 2
    assert [history.ending for history in told.handles] == ["lost", "lost"]
    for history in told.handles:
        assert "hold" in [frame.function for frame in history.opened]


def test_hooks_do_not_run_twice_after_a_fork(run: Callable[..., Run]) -> None:
    """Case 172: the child's normal end leaves outside effects to the owner."""
    result = run(
        """
        import os
        from holding import both

        kept = both(5)
        pid = os.fork()
        if pid:
            status = os.waitpid(pid, 0)[1]
            assert status == 0, status
            print(pid)
        else:
            own = both(6)
        """
    ).ok()
    child = int(result.lines[0])
    assert [value for pid, value in result.released_by if pid == child] == [6]
    assert [value for pid, value in result.released_by if pid != child] == [5]


def test_descriptors_do_not_survive_exec(run: Callable[..., Run]) -> None:
    """Case 173: close-on-exec, unless inheritable is asked for."""
    result = run(
        """
        import os, subprocess, sys
        from safehandle_debug import SafeFileHandle, SafePipeHandle

        handles = [
            SafeFileHandle.open("/dev/null", os.O_RDONLY),
            SafeFileHandle.memfd("name"),
            *SafePipeHandle.pair(),
        ]
        handles.append(handles[0].duplicate())
        assert not any(os.get_inheritable(handle.handle) for handle in handles)
        probe = "import os; print(*os.listdir('/proc/self/fd'))"
        seen = subprocess.check_output(
            [sys.executable, "-S", "-c", probe], close_fds=False, text=True,
            env={"SAFEHANDLE_DEBUG": "off"},
        ).split()
        inherited = SafeFileHandle.open("/dev/null", os.O_RDONLY)
        os.set_inheritable(inherited.handle, True)
        fds = [str(handle.handle) for handle in handles]
        target = os.readlink("/proc/self/fd/%d" % handles[1].handle)
        probe = "import os; print(*[os.readlink('/proc/self/fd/%s' % n) for n in NUMBERS " \\
            "if os.path.lexists('/proc/self/fd/%s' % n)])".replace("NUMBERS", repr(fds))
        seen = subprocess.check_output(
            [sys.executable, "-S", "-c", probe], close_fds=False, text=True,
            env={"SAFEHANDLE_DEBUG": "off"},
        )
        assert "memfd" not in seen and "pipe" not in seen, seen
        probe = "import os; print(os.fstat(%d).st_rdev)" % inherited.handle
        subprocess.check_call(
            [sys.executable, "-S", "-c", probe], close_fds=False, stdout=subprocess.DEVNULL,
            env={"SAFEHANDLE_DEBUG": "off"},
        )
        print("ok")
        """
    ).ok()
    assert result.lines == ["ok"]


@pytest.mark.parametrize("how", ["disable", "freeze"])
def test_a_cycle_that_is_never_collected(run: Callable[..., Run], how: str) -> None:
    """Case 174: released at the end, and told with its acquire stack."""
    result = run(
        f"""
        import gc
        from holding import both

        def make():
            cycle = both(5)
            cycle.append(cycle)

        gc.disable()
        make()
        gc.{how}()
        """
    ).ok()
    assert result.released == [5]
    for history in result.first().handles:
        assert history.ending in ({"swept"} if how == "freeze" else ENDED_WELL)
        assert "make" in [frame.function for frame in history.opened]


def test_threads_killed_while_they_open_and_dispose(run: Callable[..., Run]) -> None:
    """Case 175: 400 asynchronous exceptions, no handle left."""
    result = run(
        """
        import ctypes, os, sys, threading
        from safehandle_debug import SafeFileHandle, _native

        class Killed(BaseException):
            pass

        def work(ready):
            try:
                while True:
                    ready.set()
                    handle = SafeFileHandle.open("/dev/null", os.O_RDONLY)
                    try:
                        handle.fileno()
                    finally:
                        handle.dispose()
            except Killed:
                pass

        sys.setswitchinterval(1e-5)
        threading.excepthook = lambda args: None
        before = len(os.listdir("/proc/self/fd"))
        for _ in range(400):
            ready = threading.Event()
            thread = threading.Thread(target=work, args=(ready,))
            thread.start()
            ready.wait()
            while thread.is_alive():
                ctypes.pythonapi.PyThreadState_SetAsyncExc(
                    ctypes.c_ulong(thread.ident), ctypes.py_object(Killed)
                )
                thread.join(0.01)
        assert len(os.listdir("/proc/self/fd")) == before
        print(_native.live_count())
        """,
        level="off",
    ).ok()
    assert result.lines == ["0"]


def test_a_hook_whose_modules_are_torn_down(run: Callable[..., Run]) -> None:
    """Case 176: what it finds still works; what is gone is reported, no crash."""
    result = run(
        """
        import os, sys
        from safehandle_debug import SafeHandle

        class NeedsGlobals(SafeHandle):
            def __init__(self):
                super().__init__(-1)
                self.set_handle(5)
            @property
            def is_invalid(self):
                return False
            def release_handle(self):
                os.write(1, b"released\\n")
                return True

        in_globals = NeedsGlobals()
        sys.kept_elsewhere = NeedsGlobals()
        """
    )
    assert result.code == 0
    told = result.first()
    assert len(told.handles) == 2
    for history in told.handles:
        assert history.ending in ENDED_WELL
    failed = [
        event
        for history in told.handles
        for event in history.events
        if event.kind == "release-failed"
    ]
    assert result.lines.count("released") + len(failed) == 2
    assert bool(failed) == ("Exception ignored" in result.err)
