"""Each event says where it happened: stack, thread, asyncio task, import."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from pathlib import Path

from support_handles import Probe
from support_programs import Run, recorded

from safehandle_debug.recording.format import Flag


def test_threads_are_named(tmp_path: Path) -> None:
    """Named as they were called when they recorded first; each by its own."""
    with recorded(tmp_path) as told:
        handles: list[Probe] = []

        def make(value: int) -> None:
            handles.append(Probe([], value))

        for number in range(3):
            thread = threading.Thread(target=make, args=(number,), name=f"worker {number}")
            thread.start()
            thread.join()
        for handle in handles:
            handle.close()
    for number, history in enumerate(told[0].handles):
        assert [event.thread for event in history.events] == [f"worker {number}", "MainThread"]
        assert history.thread == f"worker {number}"


def test_tasks_are_named(tmp_path: Path) -> None:
    async def work(value: int) -> None:
        handle = Probe([], value)
        await asyncio.sleep(0)
        with handle.hold():
            await asyncio.sleep(0)
        handle.close()

    async def main() -> None:
        await asyncio.gather(
            *(asyncio.create_task(work(number), name=f"task {number}") for number in range(3))
        )

    with recorded(tmp_path) as told:
        asyncio.run(main())
        Probe([], 9).close()
    *of_tasks, outside = told[0].handles
    for number, history in enumerate(of_tasks):
        assert {event.task for event in history.events} == {f"task {number}"}
    assert {event.task for event in outside.events} == {None}


def test_a_callback_of_the_loop_is_no_task(tmp_path: Path) -> None:
    async def main() -> None:
        done = asyncio.get_running_loop().create_future()

        def callback() -> None:
            Probe([], 1).close()
            done.set_result(None)

        asyncio.get_running_loop().call_soon(callback)
        await done

    with recorded(tmp_path) as told:
        asyncio.run(main())
    (history,) = told[0].handles
    assert history.task is None


def test_every_event_has_its_own_stack(tmp_path: Path) -> None:
    def acquire() -> Probe:
        return Probe([])

    def use(handle: Probe) -> None:
        handle.dangerous_add_ref()

    def unuse(handle: Probe) -> None:
        handle.dangerous_release()

    def finish(handle: Probe) -> None:
        handle.close()

    with recorded(tmp_path) as told:
        handle = acquire()
        use(handle)
        unuse(handle)
        finish(handle)
    (history,) = told[0].handles
    assert [event.kind for event in history.events] == ["acquire", "add-ref", "release", "close"]
    for event, function in zip(history.events, (acquire, use, unuse, finish), strict=True):
        assert function.__qualname__ in [frame.function for frame in event.stack]
        assert event.stack[-1].line > 0
    times = [event.at_ns for event in history.events]
    assert times == sorted(times)
    assert [event.seq for event in history.events] == sorted(event.seq for event in history.events)


def test_handles_of_a_module_being_imported(run: Callable[..., Run]) -> None:
    """Flagged while the module runs, also from functions that it calls; not when
    one of its functions is called later, and not in __main__."""
    result = run(
        """
        import pathlib
        from holding import SafeFileHandle

        pathlib.Path("module.py").write_text(
            "from holding import SafeFileHandle\\n"
            "def make(name):\\n"
            "    return SafeFileHandle.memfd(name)\\n"
            "direct = SafeFileHandle.memfd('importing')\\n"
            "called = make('importing')\\n"
        )
        import module
        later = module.make("later")
        own = SafeFileHandle.memfd("later")
        """
    ).ok()
    flagged = [
        (history.detail, bool(history.events[0].flags & Flag.IMPORTING), history.importing)
        for history in result.first().handles
    ]
    assert flagged == [
        ("memfd:importing", True, True),
        ("memfd:importing", True, True),
        ("memfd:later", False, False),
        ("memfd:later", False, False),
    ]


def test_a_thread_that_python_did_not_start(run: Callable[..., Run]) -> None:
    """A thread of the C library calls back: its handles are recorded like others'."""
    result = run(
        """
        import ctypes
        from holding import both

        ROUTINE = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p)

        @ROUTINE
        def routine(_):
            native, hooked = both(5)
            with native.hold():
                pass
            native.close()
            kept.append(hooked)
            return None

        kept = []
        libc = ctypes.CDLL(None)
        for _ in range(20):
            thread = ctypes.c_ulong()
            assert libc.pthread_create(ctypes.byref(thread), None, routine, None) == 0
            assert libc.pthread_join(thread, None) == 0
        """
    ).ok()
    assert result.released == [5] * 20
    told = result.first()
    assert len(told.handles) == 40
    for history in told.handles:
        assert history.thread not in {"", "?", "MainThread"}
        assert "routine" in [frame.function for frame in history.opened]
    assert {history.ending for history in told.owned_by("SafeFileHandle")} == {"closed"}
