"""A program ends while something still keeps its handles: whatever it is, each
handle is released, once."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from textwrap import dedent

import pytest
from support_programs import Run, Told

# Each program keeps both(5); "swept" where the interpreter alone would not
# finalize them.
KEPT = {
    "main_global": ("kept = both(5)", None),
    "module_global": ("import types; m = types.ModuleType('m'); m.kept = both(5)", None),
    "imported_module": (
        "import sys, types; m = sys.modules['m'] = types.ModuleType('m'); m.kept = both(5); del m",
        None,
    ),
    "stdlib_module": ("import json; json.kept = both(5)", None),
    "builtins": ("import builtins; builtins.kept = both(5)", None),
    "sys_attribute": ("import sys; sys.kept = both(5)", None),
    "class_attribute": ("class Keeper: kept = both(5)", None),
    "builtin_subclass": ("class Keeper(dict): pass\nkeeper = Keeper(kept=both(5))", None),
    "cycle": ("cycle = both(5); cycle.append(cycle)", None),
    "cycle_dropped": ("cycle = both(5); cycle.append(cycle); del cycle", None),
    "cycle_gc_disabled": (
        "import gc; gc.disable(); cycle = both(5); cycle.append(cycle); del cycle",
        None,
    ),
    "thread_local": (
        "import threading; local = threading.local(); local.kept = both(5)",
        None,
    ),
    "thread_local_of_ended_thread": (
        """
        import threading
        local = threading.local()
        def work():
            local.kept = both(5)
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        """,
        None,
    ),
    "context_variable": (
        "import contextvars; variable = contextvars.ContextVar('v'); variable.set(both(5))",
        None,
    ),
    "lru_cache": (
        """
        import functools
        @functools.lru_cache
        def cached():
            return both(5)
        cached()
        """,
        None,
    ),
    "default_argument": ("def function(kept=both(5)): pass", None),
    "closure": (
        """
        def make():
            kept = both(5)
            return lambda: kept
        function = make()
        """,
        None,
    ),
    "suspended_generator": (
        """
        def generate():
            kept = both(5)
            yield
            print(kept)
        generator = generate()
        next(generator)
        """,
        None,
    ),
    "suspended_coroutine": (
        """
        import warnings
        warnings.simplefilter('ignore')
        async def run():
            kept = both(5)
            await Forever()
        class Forever:
            def __await__(self):
                yield
        coroutine = run()
        coroutine.send(None)
        """,
        None,
    ),
    "pending_task": (
        """
        import asyncio
        async def wait():
            kept = both(5)
            await asyncio.get_running_loop().create_future()
        async def main():
            global task
            task = asyncio.create_task(wait())
            task._log_destroy_pending = False
            await asyncio.sleep(0)
        loop = asyncio.new_event_loop()
        loop.run_until_complete(main())
        """,
        None,
    ),
    "kept_traceback": (
        """
        def fail():
            kept = both(5)
            raise LookupError
        try:
            fail()
        except LookupError as error:
            saved = error
        """,
        None,
    ),
    "sys_last_value": (
        """
        import sys
        def fail():
            kept = both(5)
            raise LookupError
        try:
            fail()
        except LookupError:
            sys.last_value = sys.exc_info()[1]
        """,
        None,
    ),
    "atexit_argument": ("import atexit; atexit.register(lambda kept: None, both(5))", None),
    "atexit_bound": (
        """
        import atexit
        class Keeper:
            def __init__(self):
                self.kept = both(5)
            def end(self):
                print("at exit", self.kept[0].is_closed)
        atexit.register(Keeper().end)
        """,
        None,
    ),
    "weakref_finalize": (
        """
        import weakref
        class Keeper: pass
        keeper = Keeper()
        weakref.finalize(keeper, lambda kept: None, both(5))
        """,
        None,
    ),
    "non_daemon_thread": (
        """
        import threading
        def work():
            kept = both(5)
            threading.main_thread().join()
        threading.Thread(target=work).start()
        """,
        None,
    ),
    "daemon_thread_in_stdlib": (
        """
        import threading
        kept = both(5)
        threading.Thread(target=threading.Event().wait, daemon=True).start()
        """,
        None,
    ),
    "wrapper_with_finalizer": (
        """
        class Wrapper:
            def __init__(self):
                self.kept = both(5)
            def __del__(self):
                self.kept[0].fileno()
                self.kept[1].dangerous_add_ref()
                self.kept[1].dangerous_release()
        wrapper = Wrapper()
        """,
        None,
    ),
    # The rows that tp_dealloc alone misses: the sweep has to come.
    "gc_freeze_garbage": (
        "import gc; gc.disable(); c = both(5); c.append(c); del c; gc.freeze()",
        "swept",
    ),
    "gc_freeze_cycle": (
        """
        import gc, types
        module = types.ModuleType('m')
        module.cycle = both(5)
        module.cycle.append(module)
        del module
        gc.freeze()
        """,
        "swept",
    ),
    "leaked_reference": (
        """
        import ctypes
        for handle in both(5):
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(handle))
        """,
        "swept",
    ),
    "leaked_container": (
        """
        import ctypes
        kept = both(5)
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(kept))
        """,
        "swept",
    ),
    "leaked_instance_keeps_globals": (
        """
        import ctypes
        class Class: pass
        instance = Class()
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(instance))
        kept = both(5)
        """,
        None,
    ),
    "daemon_thread_local": (
        """
        import threading
        ready = threading.Event()
        def work():
            kept = both(5)
            ready.set()
            threading.Event().wait()
        threading.Thread(target=work, daemon=True).start()
        ready.wait()
        """,
        "swept",
    ),
    "daemon_thread_keeps_globals": (
        """
        import threading
        ready = threading.Event()
        def work():
            ready.set()
            threading.Event().wait()
        kept = both(5)
        threading.Thread(target=work, daemon=True).start()
        ready.wait()
        """,
        "swept",
    ),
    "daemon_thread_busy": (
        """
        import threading
        ready = threading.Event()
        def work():
            kept = both(5)
            ready.set()
            while True:
                kept[0].dangerous_add_ref()
                kept[0].dangerous_release()
        threading.Thread(target=work, daemon=True).start()
        ready.wait()
        """,
        None,
    ),
    "daemon_thread_threading_local": (
        """
        import threading
        ready = threading.Event()
        local = threading.local()
        def work():
            local.kept = both(5)
            ready.set()
            threading.Event().wait()
        threading.Thread(target=work, daemon=True).start()
        ready.wait()
        """,
        None,
    ),
}


def program(keeping: str) -> str:
    """Source of a program that keeps handles in one way and ends."""
    return "from holding import both\n" + dedent(keeping)


def assert_all_released(run: Run, values: list[int]) -> Told:
    """Each hook ran exactly once, and the recording says so of every handle."""
    assert sorted(run.released) == sorted(values), run.err
    told = run.first()
    assert len(told.owned_by("Hooked")) == len(values)
    assert len(told.owned_by("SafeFileHandle")) == len(values)
    for history in told.handles:
        assert history.ending in {"dropped", "collected", "swept"}, history
        closes = [event for event in history.events if event.kind == "close"]
        assert len(closes) == 1
        assert "<module>" in [frame.function for frame in history.opened] or history.thread != (
            "MainThread"
        )
    assert told.process.live == 0
    assert told.process.ended == "exit"
    return told


@pytest.mark.parametrize(("keeping", "ending"), KEPT.values(), ids=KEPT)
def test_released_at_the_end(run: Callable[..., Run], keeping: str, ending: str | None) -> None:
    result = run(program(keeping)).ok()
    told = assert_all_released(result, [5])
    assert result.err == ""
    if ending is not None:
        assert {history.ending for history in told.handles} == {ending}


@pytest.mark.parametrize(
    "where",
    [
        "main_global",
        "cycle_gc_disabled",
        "suspended_generator",
        "thread_local",
        "gc_freeze_garbage",
        "leaked_container",
        "daemon_thread_local",
        "daemon_thread_keeps_globals",
    ],
)
def test_reported_as_leaks(run: Callable[..., Run], where: str) -> None:
    """Whoever released it at the end: nobody had closed it."""
    result = run(program(KEPT[where][0])).ok()
    (session,) = result.sessions
    report = subprocess.run(
        [sys.executable, "-P", "-m", "safehandle_debug", "report", "--format", "json", session],
        capture_output=True,
        text=True,
        check=False,
    )
    assert report.returncode == 1, report.stderr
    findings = json.loads(report.stdout)["findings"]
    assert sorted(
        (finding["kind"], finding["severity"], finding["handle"]["owner"]) for finding in findings
    ) == [("leak", "error", "Hooked"), ("leak", "error", "SafeFileHandle")]
    for finding in findings:
        files = [frame["file"].rpartition("/")[2] for frame in finding["culprit"]]
        assert "program.py" in files


@pytest.mark.parametrize("level", ["off", "sampled"])
@pytest.mark.parametrize("where", ["main_global", "leaked_container", "daemon_thread_local"])
def test_released_at_every_level(run: Callable[..., Run], where: str, level: str) -> None:
    result = run(program(KEPT[where][0]), level=level).ok()
    assert result.released == [5]
    assert result.err == ""


@pytest.mark.parametrize("where", ["main_global", "leaked_container", "daemon_thread_local"])
def test_released_without_the_variable(run: Callable[..., Run], where: str) -> None:
    result = run(program(KEPT[where][0]), level=None).ok()
    assert result.released == [5]
    assert result.sessions == []
    assert result.err == ""


@pytest.mark.parametrize(
    "where", ["main_global", "leaked_container", "daemon_thread_keeps_globals", "gc_freeze_cycle"]
)
def test_closed_descriptors_are_really_closed(
    run: Callable[..., Run], last_look: dict[str, str], where: str
) -> None:
    """What the recording says is so: the last code of the process looks."""
    source = program(KEPT[where][0]).replace("both(5)", "watched(both(5))")
    result = run(LOOKING + source, env=last_look).ok()
    assert result.lines == ["looked at 1 descriptors, 0 open"]


@pytest.mark.parametrize("status", [0, 7])
def test_c_exit_closes_native_handles(
    run: Callable[..., Run], last_look: dict[str, str], status: int
) -> None:
    """Only what the C library runs is left: native handles are closed, and a
    hook is not claimed to have run when it has not."""
    result = run(
        LOOKING
        + f"""
from holding import both
kept = watched(both(5))
ctypes.CDLL(None).exit({status})
""",
        env=last_look,
    )
    assert result.code == status, result.err
    assert result.lines == ["looked at 1 descriptors, 0 open"]
    (native,) = result.first().owned_by("SafeFileHandle")
    assert native.ending == "swept"
    (hooked,) = result.first().owned_by("Hooked")
    kinds = [event.kind for event in hooked.events]
    if result.released == [5]:
        assert hooked.ending == "swept"
        assert "release-failed" not in kinds
    else:
        assert result.released == []
        assert hooked.ending == "lost" or "release-failed" in kinds


LOOKING = """
import ctypes

shim = ctypes.CDLL(None)
descriptors = (ctypes.c_int * 64).in_dll(shim, "looked_at")
count = ctypes.c_int.in_dll(shim, "looked_at_count")


def watched(handles):
    descriptors[count.value] = handles[0].handle
    count.value += 1
    return handles

"""
