"""Who keeps a handle alive, in all the places where Python can keep something."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import gc
import io
import json
import os
import shutil
import subprocess
import sys
import threading
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support_house import run
from support_programs import run_program

from safehandle_debug import SafeFileHandle, _native
from safehandle_debug.findings import find, render_finding
from safehandle_debug.findings.holders import (
    Chain,
    Holders,
    Link,
    PictureError,
    Root,
    Target,
    backrefs,
    holders_of,
    search,
    to_dot,
    to_svg,
)
from safehandle_debug.findings.holders.roots import roots
from safehandle_debug.ledger import Ledger
from safehandle_debug.recording import open_recording

PLENTY_S = 60.0  # these tests are about what is found, not how soon


@pytest.fixture
def app(monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    """An empty module of a program, `app`."""
    module = types.ModuleType("app")
    monkeypatch.setitem(sys.modules, "app", module)
    return module


class Store:
    """Something of the program's."""

    pool: dict[str, Any]
    __slots__ = ("__dict__", "__weakref__", "slot")


def opened() -> SafeFileHandle:
    return SafeFileHandle.open("/dev/null")


def target(handle: SafeFileHandle) -> Target:
    return Target(1, "SafeFileHandle", handle.handle)


def chains(wanted: Target) -> list[str]:
    """Who holds it, shortest first."""
    return [chain.text for chain in search([wanted], seconds=PLENTY_S)[1].chains]


def in_global(app: Any) -> str:
    app.handle = opened()
    return "app.handle"


def in_dict(app: Any) -> str:
    app.CACHE = {"main": [None, opened()]}
    return "app.CACHE['main'][1]"


def in_attribute(app: Any) -> str:
    app.store = Store()
    app.store.index = opened()
    return "app.store.index"


def in_slot(app: Any) -> str:
    app.store = Store()
    app.store.slot = opened()
    return "app.store.slot"


def in_class(app: Any) -> str:
    app.Pool = type("Pool", (), {"__module__": "app", "kept": (opened(),)})
    return "app.Pool.kept[0]"


def in_closure(app: Any) -> str:
    handle = opened()
    app.give = lambda: handle
    app.give.__module__ = "app"
    return "app.give, closure handle"


def in_default(app: Any) -> str:
    def give(handle: SafeFileHandle = opened()) -> SafeFileHandle:  # noqa: B008
        return handle

    give.__module__ = "app"
    app.give = give
    return "app.give.__defaults__[0]"


def in_set(app: Any) -> str:
    app.OPEN = {opened()}
    return "app.OPEN, a member"


def in_partial(app: Any) -> str:
    app.callback = functools.partial(print, opened())
    return "app.callback.args[0]"


def in_method(app: Any) -> str:
    app.callback = opened().close
    return "app.callback.__self__"


def in_cache(app: Any) -> str:
    app.cached = functools.lru_cache(lambda number: opened())
    app.cached(1)
    return "app.cached, its cache"


def in_generator(app: Any) -> str:
    def lines() -> Iterator[int]:
        handle = opened()
        yield handle.handle

    app.lines = lines()
    next(app.lines)
    return "app.lines, local handle of in_generator.<locals>.lines"


def in_key(app: Any) -> str:
    app.NAMES = {opened(): "x"}
    return "app.NAMES, a key"


def in_exception(app: Any) -> str:
    app.error = ValueError("no", opened())
    return "app.error.args[1]"


@pytest.mark.parametrize(
    "keep",
    [
        in_global,
        in_dict,
        in_attribute,
        in_slot,
        in_class,
        in_closure,
        in_default,
        in_set,
        in_partial,
        in_method,
        in_cache,
        in_generator,
        in_key,
        in_exception,
    ],
)
def test_the_chain_from_a_module(app: Any, keep: Callable[[Any], str]) -> None:
    before = _native.newest_serial()
    expected = keep(app)
    (serial,) = _native.open_since(before)
    value = next(
        thing.handle
        for thing in referents_of(vars(app))
        if isinstance(thing, SafeFileHandle) and serial
    )

    assert chains(Target(1, "SafeFileHandle", value)) == [expected]


def referents_of(thing: object) -> Iterator[object]:
    """Everything below an object, without the modules it leads to."""
    seen, layer = {id(thing)}, [thing]
    while layer:
        nexts = []
        for each in gc.get_referents(*layer):
            if id(each) not in seen and not isinstance(each, types.ModuleType):
                seen.add(id(each))
                nexts.append(each)
                yield each
        layer = nexts


def test_a_local_of_another_thread_is_named_with_function_and_line() -> None:
    holding, done = threading.Event(), threading.Event()
    found: list[Target] = []

    def poll() -> None:
        handle = opened()
        found.append(target(handle))
        holding.set()
        done.wait()

    thread = threading.Thread(target=poll, name="poller")
    thread.start()
    holding.wait()
    try:
        (text,) = chains(found[0])
    finally:
        done.set()
        thread.join()

    assert text.startswith("thread 'poller', local handle of ")
    assert "poll (test_holders.py:" in text


def test_a_look_leaves_nothing_in_the_frames_of_others() -> None:
    """A local that its function has let go of is gone at once, though it was looked at."""
    holding, looked, dropped, done = (threading.Event() for _ in range(4))
    found: list[Target] = []
    open_after: list[int] = []

    def poll(mark: int) -> None:
        handle = opened()
        found.append(target(handle))
        holding.set()
        looked.wait()
        del handle
        open_after.extend(_native.open_since(mark))
        dropped.set()
        done.wait()

    thread = threading.Thread(target=poll, args=(_native.newest_serial(),))
    thread.start()
    holding.wait()
    try:
        assert chains(found[0])
        looked.set()
        dropped.wait()
    finally:
        done.set()
        thread.join()

    assert open_after == []


def test_a_local_of_a_suspended_task_is_named_with_the_task() -> None:
    async def fetch(ready: asyncio.Event, found: list[Target]) -> None:
        handle = opened()
        found.append(target(handle))
        ready.set()
        await asyncio.Event().wait()

    async def main() -> list[str]:
        ready = asyncio.Event()
        found: list[Target] = []
        task = asyncio.create_task(fetch(ready, found), name="fetcher")
        await ready.wait()
        try:
            return chains(found[0])
        finally:
            task.cancel()

    assert asyncio.run(main()) == [f"task 'fetcher', local handle of {main_name()}"]


def main_name() -> str:
    outer = test_a_local_of_a_suspended_task_is_named_with_the_task.__name__
    return f"{outer}.<locals>.fetch"


def test_a_context_variable_is_named() -> None:
    request: contextvars.ContextVar[SafeFileHandle] = contextvars.ContextVar("request")
    handle = opened()
    wanted = target(handle)
    token = request.set(handle)
    del handle

    try:
        assert chains(wanted)[0] == "contextvar 'request'"
    finally:
        request.reset(token)


def test_garbage_in_a_cycle_says_so() -> None:
    class Left:
        other: object

    class Right:
        other: object

    def drop() -> Target:
        left, right = Left(), Right()
        left.other, right.other = right, left
        handle = opened()
        left.handle = handle  # type: ignore[attr-defined]
        return target(handle)

    gc.collect()
    gc.disable()
    try:
        found = search([drop()], seconds=PLENTY_S)[1]
    finally:
        gc.enable()
        gc.collect()

    assert found.chains == ()
    assert len(found.cycle) == 3
    assert {name.rpartition(".")[2] for name in found.cycle} == {"Left", "Right"}
    assert next(found.lines()).startswith("in a cycle: ")


def test_what_asks_is_no_holder() -> None:
    """The locals of the test are the program's; those of ours and the runner's are not."""
    handle = opened()

    found = holders_of(handle, seconds=PLENTY_S)

    assert [chain.text.partition(" (")[0] for chain in found.chains] == [
        f"local handle of {test_what_asks_is_no_holder.__name__}"
    ]


def test_no_root_is_ours_or_the_runners() -> None:
    texts = [root.text for root in roots()]
    foreign = ("safehandle_debug.", "_pytest.", "pluggy.", "pytest_safehandle.")
    assert [text for text in texts if text.startswith(foreign)] == []
    assert len(texts) > 1000


def test_bounds_are_said_and_held(app: Any) -> None:
    handle = opened()
    app.deep = [[object() for _ in range(10_000)], [[[[[[handle]]]]]]]
    wanted = target(handle)
    del handle

    few = search([wanted], seconds=PLENTY_S, most=50)[1]
    soon = search([wanted], seconds=0)[1]

    assert (few.cut, soon.cut) == ("after 50 objects", "after 0 s")
    assert list(soon.lines()) == ["(the search was cut after 0 s: nothing found yet)"]


def test_no_code_of_the_program_runs(app: Any) -> None:
    """Neither of objects that watch their attributes, nor of classes that are odd."""

    class Meta(type):
        def __hash__(cls) -> int:
            raise AssertionError("hashed")

        def __instancecheck__(cls, instance: object) -> bool:
            raise AssertionError("asked")

    class Proxy(metaclass=Meta):
        def __getattribute__(self, name: str) -> Any:
            raise AssertionError(name)

        def __eq__(self, other: object) -> bool:
            raise AssertionError("compared")

        def __hash__(self) -> int:
            return 1

        def __repr__(self) -> str:
            raise AssertionError("shown")

    handle = opened()
    proxy = Proxy()
    object.__setattr__(proxy, "kept", {proxy: handle})
    app.proxy = proxy
    wanted = target(handle)
    del handle, proxy

    assert chains(wanted) == ["app.proxy.kept[<test_no_code_of_the_program_runs.<locals>.Proxy>]"]


def test_a_file_is_an_owner_too(app: Any, tmp_path: Path) -> None:
    app.log = (tmp_path / "log").open("w")
    try:
        wanted = Target(1, "FileIO", app.log.fileno())
        assert chains(wanted) == ["app.log.buffer.raw"]
    finally:
        app.log.close()


def test_an_extra_root_comes_first() -> None:
    handle = opened()
    found = search([target(handle)], seconds=PLENTY_S, extra=[Root("TestCase self", handle)])
    assert found[1].chains[0].text == "TestCase self"


def test_what_is_closed_has_no_holders() -> None:
    handle = opened()
    handle.close()
    assert list(holders_of(handle).lines()) == ["it is closed, or no owner of a handle"]
    assert list(holders_of(3).lines()) == ["it is closed, or no owner of a handle"]


def test_a_frame_is_wanted_for_its_locals() -> None:
    with pytest.raises(TypeError, match="frame expected, got int"):
        _native.frame_locals(3)  # type: ignore[arg-type]


# --- pictures ---


def example() -> Holders:
    links = (Link("app.CACHE", "dict"), Link("['a \"b\" \\\\']", "SafeFileHandle"))
    return Holders(1, (Chain(links),), ("Left", "Right", "Left"))


def test_dot_has_each_step_once() -> None:
    dot = to_dot([("fd 3", example()), ("fd 4", example())])
    assert dot.count("app.CACHE") == 1
    assert dot.count("->") == 2 + 2 * 3


@pytest.mark.skipif(shutil.which("dot") is None, reason="graphviz is not installed")
def test_graphviz_draws_it() -> None:
    assert "<svg" in to_svg(to_dot([("fd 3", example())]))


def test_no_graphviz_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(PictureError, match=r"graphviz is not installed: apt install graphviz"):
        to_svg("digraph {}")


def test_no_objgraph_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "objgraph", None)
    with pytest.raises(PictureError, match=r"pip install 'safehandle-debug\[holders\]'"):
        backrefs([], io.StringIO())


def test_objgraph_draws_what_refers_to_a_handle(app: Any) -> None:
    pytest.importorskip("objgraph")
    app.CACHE = {"main": opened()}
    output = io.StringIO()
    backrefs([app.CACHE["main"]], output, depth=3)
    assert "SafeFileHandle" in output.getvalue()


# --- at the end of a process ---

PROGRAM = """
    import os, safehandle_debug, gc
    class Cache:
        def __init__(self):
            self.files = {}
        def get(self, path):
            self.files[path] = safehandle_debug.SafeFileHandle.open(path, os.O_RDONLY)
    cache = None
    def main():
        global cache
        cache = Cache()
        cache.get("/dev/null")
    main()
"""


def test_a_program_leaves_word_who_held_what_it_leaked(tmp_path: Path) -> None:
    run = run_program(PROGRAM, tmp_path).ok()
    (path,) = run.recordings
    with Ledger(open_recording(path)) as ledger:
        ledger.refresh()
        (finding,) = find(ledger)

    assert finding.holders == ("__main__.cache.files['/dev/null']",)
    assert "held by  __main__.cache.files['/dev/null']" in render_finding(finding)


def test_a_program_that_closed_everything_loads_nothing(tmp_path: Path) -> None:
    run = run_program(
        """
        import atexit, sys
        from safehandle_debug import SafeFileHandle
        def main():
            with SafeFileHandle.open("/dev/null"):
                pass
        main()
        from safehandle_debug.activate import start
        tell = start._tell_holders
        def last():
            print([name for name in sys.modules if "findings" in name])
        atexit.unregister(tell)
        atexit._clear()
        atexit.register(last)
        atexit.register(tell)
        """,
        tmp_path,
    ).ok()
    assert run.lines == ["[]"]


def test_what_the_meta_says_is_there_for_readers_that_are_open(tmp_path: Path) -> None:
    path = tmp_path / "1-1.shd"
    _native.start_recording(str(path), children=False, meta='{"cwd": "/a"}')
    try:
        with open_recording(path) as recording:
            assert recording.meta == {"cwd": "/a"}
            assert _native.set_meta('{"cwd": "/b"}')
            recording.refresh()
            assert recording.meta == {"cwd": "/b"}
    finally:
        _native.stop_recording()
    assert not _native.set_meta("{}")
    with pytest.raises(TypeError, match="must be str"):
        _native.set_meta(None)  # type: ignore[arg-type]


def test_the_command_says_and_draws_them(tmp_path: Path) -> None:
    run_program(PROGRAM, tmp_path).ok()
    env = {"SAFEHANDLE_DEBUG_DIR": str(tmp_path / "sessions")}

    def told(*options: str) -> str:
        command = [sys.executable, "-m", "safehandle_debug", "holders", *options]
        done = run(command, cwd=tmp_path, env=env)
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert "SafeFileHandle #1, fd " in told()
    assert "\n  __main__.cache.files['/dev/null']\n" in told()
    assert json.loads(told("--format=json"))["handles"][0]["chains"][0][0][0] == "__main__.cache"
    assert told("--format=dot").startswith("digraph holders {")
    if shutil.which("dot"):
        assert told("--format=svg").rstrip().endswith("</svg>")


def test_the_command_without_graphviz_says_what_to_do(tmp_path: Path) -> None:
    run_program(PROGRAM, tmp_path).ok()
    env = {**os.environ, "SAFEHANDLE_DEBUG_DIR": str(tmp_path / "sessions"), "PATH": "/nowhere"}
    command = [sys.executable, "-m", "safehandle_debug", "holders", "--format=svg"]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "graphviz is not installed: apt install graphviz, or ask for DOT" in done.stderr


def test_files_and_sockets_of_any_code_have_holders(tmp_path: Path) -> None:
    """Owners that know nothing of SafeHandle, under the descriptor watch."""
    run = run_program(
        """
        import multiprocessing, socket, warnings
        warnings.simplefilter("ignore")
        KEPT = {}
        def main():
            KEPT["pipe"] = multiprocessing.Pipe(duplex=False)
            KEPT["pipe"][0].close()
            KEPT["file"] = open("/dev/null")
            KEPT["socket"] = socket.socket()
        main()
        """,
        tmp_path,
        level="full,fds=on",
    ).ok()
    (path,) = run.recordings
    with Ledger(open_recording(path)) as ledger:
        ledger.refresh()
        held = {finding.handle.owner: finding.holders for finding in find(ledger)}

    assert held == {
        "FileIO": ("__main__.KEPT['file'].buffer.raw",),
        "socket": ("__main__.KEPT['socket']",),
        "Connection": ("__main__.KEPT['pipe'][1]",),
    }


def test_child_processes_have_holders(tmp_path: Path) -> None:
    """As their Popen, or as nothing but a number."""
    done = run_program(
        """
        import os, subprocess
        KEPT = {}
        def main():
            KEPT["popen"] = subprocess.Popen(["true"])
            pid = os.fork()
            if pid == 0:
                os._exit(0)
            KEPT["pid"] = pid
            for each in KEPT["popen"].pid, pid:
                os.waitid(os.P_PID, each, os.WEXITED | os.WNOWAIT)
            print(KEPT["popen"].pid, pid)
        main()
        """,
        tmp_path,
        level="full,fds=on",
    ).ok()
    popen, pid = map(int, done.lines[0].split())
    with Ledger(open_recording(done.recordings[0])) as ledger:
        ledger.refresh()
        held = {finding.handle.value: finding.holders for finding in find(ledger)}

    assert held[popen] == ("__main__.KEPT['popen']",)
    assert held[pid] == (f"nothing; the number {pid} stands in __main__.KEPT['pid']",)


@pytest.mark.parametrize(
    ("links", "text"),
    [
        (["app.CACHE", "['x']", ".index"], "app.CACHE['x'].index"),
        (["local pool of main (app.py:3)"], "local pool of main (app.py:3)"),
        (["local pool of main (app.py:3)", "['x']"], "local pool['x'] of main (app.py:3)"),
        (
            ["task 'a'", ", local file of read", ".buffer", ".raw"],
            "task 'a', local file.buffer.raw of read",
        ),
        (
            ["local give of main (app.py:3)", ", closure pool", "[0]"],
            "local give of main (app.py:3), closure pool[0]",
        ),
        (["thread 'local a of b', local c of d (e.py:1)", ".f"], None),
    ],
)
def test_where_a_local_is_comes_after_what_is_in_it(links: list[str], text: str | None) -> None:
    chain = Chain(tuple(Link(each, "object") for each in links))
    assert chain.text == (text or "thread 'local a of b', local c.f of d (e.py:1)")
