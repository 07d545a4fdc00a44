"""Forked children, multiprocessing workers, subinterpreters: who releases what."""

from __future__ import annotations

import signal
from collections.abc import Callable

import pytest
from support_programs import Run, Told

RELEASED = {"dropped", "collected", "swept"}


def child_of(run: Run) -> Told:
    """What the only child recorded."""
    parent, child = run.told()
    assert child.process.parent_pid == parent.process.pid
    return child


@pytest.mark.parametrize("end", ["", "sys.exit(0)", "os._exit(0)"])
def test_inherited_hooks_belong_to_the_parent(run: Callable[..., Run], end: str) -> None:
    """Implicit finalization in the child runs no inherited Python hook."""
    result = run(
        f"""
        import os, sys
        from holding import both

        kept = both(5)
        pid = os.fork()
        if pid == 0:
            dropped = kept
            del dropped, kept
            {end}
        else:
            print(pid, os.waitpid(pid, 0)[1])
        """
    ).ok()
    pid, status = map(int, result.lines[0].split())
    assert status == 0
    assert result.released == [5]
    assert pid not in [by for by, _ in result.released_by]
    inherited = child_of(result).owned_by("Hooked")
    for history in inherited:
        assert history.ending == "inherited"
    assert {history.ending for history in result.first().handles} <= RELEASED


def test_an_explicit_close_in_the_child_runs_the_hook(run: Callable[..., Run]) -> None:
    """Who asks for it gets it: close() is not implicit."""
    result = run(
        """
        import os
        from holding import both

        kept = both(5)
        pid = os.fork()
        if pid == 0:
            for handle in kept:
                handle.close()
            assert all(handle.is_closed for handle in kept)
            os._exit(0)
        print(pid, os.waitpid(pid, 0)[1])
        """
    ).ok()
    pid, status = map(int, result.lines[0].split())
    assert status == 0
    assert [by == pid for by, _ in result.released_by] == [True, False]


def test_inherited_descriptors_are_closed_in_the_child(run: Callable[..., Run]) -> None:
    """close(2) is the child's own affair: its copy goes, the parent's stays."""
    result = run(
        """
        import os, signal
        from safehandle_debug import SafePipeHandle

        reader, writer = SafePipeHandle.pair()
        pid = os.fork()
        if pid == 0:
            signal.alarm(60)
            fd = writer.handle
            del writer
            try:
                os.fstat(fd)
            except OSError:
                os._exit(0)
            os._exit(1)
        assert os.waitpid(pid, 0)[1] == 0
        os.write(writer.fileno(), b"x")
        assert os.read(reader.fileno(), 1) == b"x"
        print("ok")
        """
    ).ok()
    assert result.lines == ["ok"]


def test_what_a_child_acquires_it_releases(run: Callable[..., Run]) -> None:
    result = run(
        """
        import os
        from holding import both

        kept = both(5)
        pid = os.fork()
        if pid == 0:
            own = both(6)
        else:
            print(pid, os.waitpid(pid, 0)[1])
        """
    ).ok()
    pid, status = map(int, result.lines[0].split())
    assert status == 0
    assert [value for by, value in result.released_by if by == pid] == [6]
    assert [value for by, value in result.released_by if by != pid] == [5]
    own = [history for history in child_of(result).handles if history.ending in RELEASED]
    assert 6 in [history.value for history in own]


def test_fork_from_a_thread(run: Callable[..., Run]) -> None:
    """The forking thread is the child's main thread; its handles live on there."""
    result = run(
        """
        import os, threading
        from holding import both

        kept = both(5)

        def fork():
            local = both(6)
            pid = os.fork()
            if pid == 0:
                own = both(7)
                own[0].fileno(), local[0].fileno(), kept[0].fileno()
                for handle in own:
                    handle.close()
                os._exit(0)
            statuses.append(os.waitpid(pid, 0)[1])

        statuses = []
        threads = [threading.Thread(target=fork) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert statuses == [0] * 4, statuses
        """
    ).ok()
    assert sorted(result.released) == [5] + [6] * 4 + [7] * 4
    told = result.told()
    assert len(told) == 5
    for child in told[1:]:
        assert child.process.parent_pid == told[0].process.pid
        own = [history for history in child.handles if history.ending == "closed"]
        assert sorted(history.owner for history in own) == ["Hooked", "SafeFileHandle"]


def test_fork_while_other_threads_record(run: Callable[..., Run]) -> None:
    """Ten children of a busy process: none hangs, each has a readable recording."""
    result = run(
        """
        import os, signal, threading
        from holding import SafeFileHandle

        stop = threading.Event()

        def work():
            while not stop.is_set():
                with SafeFileHandle.open("/dev/null", os.O_RDONLY) as handle:
                    with handle.hold():
                        pass

        threads = [threading.Thread(target=work) for _ in range(3)]
        for thread in threads:
            thread.start()
        for _ in range(10):
            pid = os.fork()
            if pid == 0:
                signal.alarm(60)
                with SafeFileHandle.memfd("child"):
                    pass
                os._exit(0)
            assert os.waitpid(pid, 0)[1] == 0
        stop.set()
        for thread in threads:
            thread.join()
        """,
        level="full,size=4M",
    ).ok()
    told = result.told()
    assert len(told) == 11
    for child in told[1:]:
        mine = [history for history in child.handles if history.detail == "memfd:child"]
        assert [history.ending for history in mine] == ["exited"]


def test_grandchildren_join_the_session(run: Callable[..., Run]) -> None:
    result = run(
        """
        import os
        from holding import both

        depth = 0
        while depth < 3:
            pid = os.fork()
            if pid:
                assert os.waitpid(pid, 0)[1] == 0
                break
            depth += 1
        kept = both(depth)
        """
    ).ok()
    assert len(result.sessions) == 1
    told = result.told()
    assert len(told) == 4
    assert sorted(result.released) == [0, 1, 2, 3]
    chain = [told[0].process.pid]
    children = {one.process.parent_pid: one.process.pid for one in told}
    while chain[-1] in children:
        chain.append(children[chain[-1]])
    assert sorted(chain) == sorted(one.process.pid for one in told)


def test_children_can_be_left_out(run: Callable[..., Run]) -> None:
    result = run(
        """
        import os, subprocess, sys
        from holding import both

        pid = os.fork()
        kept = both(5)
        if pid:
            assert os.waitpid(pid, 0)[1] == 0
            subprocess.run([sys.executable, "-c", "import safehandle_debug"], check=True)
        """,
        level="full,children=off",
    ).ok()
    assert result.released == [5, 5]
    assert len(result.recordings) == 1


def test_spawned_python_joins_the_session(run: Callable[..., Run]) -> None:
    result = run(
        """
        import subprocess, sys
        from holding import both

        if len(sys.argv) == 1:
            subprocess.run([sys.executable, __file__, "child"], check=True)
        kept = both(len(sys.argv))
        """
    ).ok()
    assert len(result.sessions) == 1
    child = child_of(result)
    assert result.released == [2, 1]
    assert {history.ending for history in child.handles} <= RELEASED


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_multiprocessing_workers_release(run: Callable[..., Run], method: str) -> None:
    """They end in os._exit, which runs no finalizer of the interpreter."""
    result = run(
        f"""
        import multiprocessing
        from holding import both

        def work():
            kept.append(both(6))

        kept = []
        if __name__ == "__main__":
            kept.append(both(5))
            context = multiprocessing.get_context({method!r})
            workers = [context.Process(target=work) for _ in range(2)]
            for worker in workers:
                worker.start()
            for worker in workers:
                worker.join()
                assert worker.exitcode == 0
        """
    ).ok()
    assert sorted(result.released) == [5, 6, 6]
    workers = [
        told for told in result.told() if any(history.value == 6 for history in told.handles)
    ]
    assert len(workers) == 2
    for worker in workers:
        own = [history for history in worker.handles if history.ending != "inherited"]
        assert {history.ending for history in own} <= RELEASED


def test_a_pool_of_workers_releases(run: Callable[..., Run]) -> None:
    result = run(
        """
        import multiprocessing
        from holding import both

        kept = []

        def work(value):
            kept.append(both(value))
            return value

        if __name__ == "__main__":
            pool = multiprocessing.get_context("fork").Pool(2)
            assert pool.map(work, range(10, 20)) == list(range(10, 20))
            pool.close()
            pool.join()
        """
    ).ok()
    assert sorted(result.released) == list(range(10, 20))


def test_a_killed_worker_is_told(run: Callable[..., Run]) -> None:
    result = run(
        """
        import multiprocessing, os, signal
        from holding import both

        def work():
            kept = both(6)
            os.kill(os.getpid(), signal.SIGKILL)

        if __name__ == "__main__":
            worker = multiprocessing.get_context("fork").Process(target=work)
            worker.start()
            worker.join()
            assert worker.exitcode == -signal.SIGKILL
        """
    ).ok()
    assert result.released == []
    child = child_of(result)
    assert [history.ending for history in child.handles] == ["lost", "lost"]
    for history in child.handles:
        assert "work" in [frame.function for frame in history.opened]


INTERPRETERS = """
import os
from holding import both
from sharing import create, destroy, run_in

kept = both(5)
inner = create()
run_in(inner, '''if True:
    import builtins, gc
    from holding import both
    kept = both(6)
    builtins.kept = both(7)
    cycle = both(8)
    cycle.append(cycle)
    frozen = both(9)
    frozen.append(frozen)
    del frozen
    gc.freeze()
''')
"""


def test_a_destroyed_subinterpreter_releases(run: Callable[..., Run]) -> None:
    result = run(
        INTERPRETERS
        + """
destroy(inner)
log = open(os.environ["PROGRAM_RELEASED"]).read().split()[1::2]
print(*sorted(log))
assert not kept[0].is_closed
kept[0].fileno()
"""
    ).ok()
    assert result.lines == ["6 7 8 9"]
    assert sorted(result.released) == [5, 6, 7, 8, 9]
    told = result.first()
    assert len(told.handles) == 10
    assert {history.ending for history in told.handles} <= RELEASED


def test_a_forgotten_subinterpreter(run: Callable[..., Run]) -> None:
    """It ends with the process, where CPython lets no other interpreter give up
    the GIL: native handles are closed, a hook that did not run is not said to have."""
    result = run(INTERPRETERS + "print('buffered')\nraise SystemExit(3)\n")
    assert result.code == 3
    assert result.lines == ["buffered"]
    told = result.first()
    assert len(told.handles) == 10
    assert {history.ending for history in told.owned_by("SafeFileHandle")} <= RELEASED
    assert 5 in result.released
    for history in told.owned_by("Hooked"):
        failed = "release-failed" in [event.kind for event in history.events]
        if history.value in result.released:
            assert history.ending in RELEASED
            assert not failed
        else:
            assert history.ending == "lost" or failed


def test_a_forgotten_subinterpreter_with_native_handles(run: Callable[..., Run]) -> None:
    """The exit code and what is buffered survive it."""
    result = run(
        """
        import sys
        from sharing import create, destroy, run_in

        inner = create()
        run_in(inner, '''if True:
            import builtins, os
            from safehandle_debug import SafeFileHandle
            kept = SafeFileHandle.open("/dev/null", os.O_RDONLY)
            builtins.kept = SafeFileHandle.open("/dev/null", os.O_RDONLY)
            cycle = [SafeFileHandle.open("/dev/null", os.O_RDONLY)]
            cycle.append(cycle)
        ''')
        print("buffered")
        sys.exit(3)
        """
    )
    assert result.code == 3
    assert result.lines == ["buffered"]
    told = result.first()
    assert len(told.handles) == 3
    assert {history.ending for history in told.handles} <= RELEASED


def test_many_subinterpreters(run: Callable[..., Run]) -> None:
    """Created and destroyed one after the other, half with handles left."""
    result = run(
        """
        import os
        from sharing import create, destroy, run_in
        from safehandle_debug import _native

        before = len(os.listdir("/proc/self/fd"))
        for number in range(12):
            inner = create()
            run_in(inner, '''if True:
                from holding import both
                kept = both(6)
                for handle in both(7):
                    handle.close()
            ''')
            destroy(inner)
        assert len(os.listdir("/proc/self/fd")) == before
        print(_native.live_count())
        """,
    ).ok()
    assert result.lines == ["0"]
    assert sorted(result.released) == [6] * 12 + [7] * 12


def test_a_subinterpreter_when_the_process_is_killed(run: Callable[..., Run]) -> None:
    result = run(INTERPRETERS + "os.kill(os.getpid(), 9)\n")
    assert result.code == -signal.SIGKILL
    told = result.first()
    assert {history.ending for history in told.handles} == {"lost"}
    assert len(told.handles) == 10
