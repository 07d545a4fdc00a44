"""A stack is what the interpreter's own frames say, whatever the program does."""

from __future__ import annotations

import functools
import gc
import os
import sys
import sysconfig
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support_programs import Run, recorded

from safehandle_debug import SafeFileHandle, _native
from safehandle_debug.recording import open_recording
from safehandle_debug.recording.format import EventKind

SANITIZED = "SAFEHANDLE_SANITIZED" in os.environ

# (file, line, qualified name), innermost first
Plain = tuple[str, int, str]
Rest = Callable[[], Any]


def frames_of(frame: FrameType | None) -> list[Plain]:
    """What traceback would print, by the public frame objects."""
    found = []
    while frame is not None:
        code = frame.f_code
        found.append((code.co_filename, frame.f_lineno, code.co_qualname))
        frame = frame.f_back
    return found


class Shapes:
    """Ways of calling `rest`, each with its own kind of frame between."""

    @staticmethod
    def function(rest: Rest) -> Any:
        return rest()

    @staticmethod
    def lambda_(rest: Rest) -> Any:
        return (lambda: rest())()

    @staticmethod
    def generator(rest: Rest) -> Any:
        def generate() -> Iterator[Any]:
            yield 1
            yield rest()

        generator = generate()
        next(generator)
        return next(generator)

    @staticmethod
    def delegating(rest: Rest) -> Any:
        def inner() -> Iterator[Any]:
            yield rest()

        def outer() -> Iterator[Any]:
            yield from inner()

        return next(outer())

    @staticmethod
    def generator_expression(rest: Rest) -> Any:
        return next(rest() for _ in range(1))

    @staticmethod
    def comprehension(rest: Rest) -> Any:
        (value,) = [rest() for _ in range(1)]
        return value

    @staticmethod
    def coroutine(rest: Rest) -> Any:
        async def inner() -> Any:
            return rest()

        async def outer() -> Any:
            return await inner()

        coroutine = outer()
        try:
            coroutine.send(None)
        except StopIteration as stop:
            return stop.value
        raise AssertionError("the coroutine did not end")

    @staticmethod
    def async_generator(rest: Rest) -> Any:
        async def generate() -> Any:
            yield rest()

        async def run() -> Any:
            async for value in generate():
                return value
            return None

        coroutine = run()
        try:
            coroutine.send(None)
        except StopIteration as stop:
            return stop.value
        raise AssertionError("the coroutine did not end")

    @staticmethod
    def constructor(rest: Rest) -> Any:
        class Made:
            def __init__(self) -> None:
                self.value = rest()

        return Made().value

    @staticmethod
    def property_(rest: Rest) -> Any:
        class Made:
            @property
            def value(self) -> Any:
                return rest()

        return Made().value

    @staticmethod
    def class_body(rest: Rest) -> Any:
        class Made:
            value = rest()

        return Made.value

    @staticmethod
    def sort_key(rest: Rest) -> Any:
        found: list[Any] = []
        sorted([1], key=lambda _: found.append(rest()) or 0)
        return found[0]

    @staticmethod
    def mapped(rest: Rest) -> Any:
        return next(map(lambda _: rest(), [1]))  # noqa: C417

    @staticmethod
    def partial(rest: Rest) -> Any:
        return functools.partial(Shapes.function, rest)()

    @staticmethod
    def finally_(rest: Rest) -> Any:
        found: list[Any] = []
        try:
            raise LookupError
        except LookupError:
            found.append(rest())
        finally:
            found.append(None)
        return found[0]

    @staticmethod
    def executed(rest: Rest) -> Any:
        namespace: dict[str, Any] = {"rest": rest}
        exec("\n\n\nvalue = rest()", namespace)
        return namespace["value"]

    @staticmethod
    def evaluated(rest: Rest) -> Any:
        return eval("(1,\nrest())[1]", {"rest": rest})

    @staticmethod
    def finalizer(rest: Rest) -> Any:
        found: list[Any] = []

        class Dying:
            def __del__(self) -> None:
                found.append(rest())

        Dying()
        return found[0]

    @staticmethod
    def decorated(rest: Rest) -> Any:
        def decorate(function: Rest) -> Rest:
            @functools.wraps(function)
            def wrapper() -> Any:
                return function()

            return wrapper

        @decorate
        def decorated() -> Any:
            return rest()

        return decorated()

    @staticmethod
    def thread(rest: Rest) -> Any:
        found: list[Any] = []
        thread = threading.Thread(target=lambda: found.append(rest()))
        thread.start()
        thread.join()
        return found[0]

    @staticmethod
    def recursion(rest: Rest) -> Any:
        def dive(depth: int) -> Any:
            return dive(depth - 1) if depth else rest()

        return dive(7)


SHAPES = [
    function.__func__ for name, function in vars(Shapes).items() if not name.startswith("__")
]


def acquire() -> tuple[int, list[Plain]]:
    """Acquires a handle; both looks at the stack fall on one line."""
    mark = _native.newest_serial()
    _, seen = SafeFileHandle(0, owns_handle=False), frames_of(sys._getframe())
    return mark + 1, seen


def call(shapes: list[Callable[[Rest], Any]]) -> Any:
    """Calls acquire() through the shapes, the first outermost."""
    rest: Rest = acquire
    for shape in reversed(shapes):
        rest = functools.partial(shape, rest)
    return rest()


def stacks_told(path: Path) -> dict[int, list[Plain]]:
    """The acquire stack of every serial."""
    with open_recording(path) as recording:
        return {
            event.serial: [
                (frame.file, frame.line, frame.function) for frame in recording.stack(event.stack)
            ]
            for event in recording.events()
            if event.kind == EventKind.ACQUIRE
        }


def test_the_walk_is_the_fast_one() -> None:
    """On the versions whose frames are known the self-test does not fall back."""
    free_threaded = bool(sysconfig.get_config_var("Py_GIL_DISABLED"))
    assert _native.stack_source() == ("public" if free_threaded else "frames")


@settings(
    max_examples=100,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(shapes=st.lists(st.sampled_from(SHAPES), max_size=12))
def test_stacks_equal_the_interpreters(
    shapes: list[Callable[[Rest], Any]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("stacks") / "recording.shd"
    _native.start_recording(str(path), frames=400, children=False)
    try:
        serial, seen = call(shapes)
    finally:
        _native.stop_recording()
    told = stacks_told(path)[serial]
    assert told == seen[: len(told)]
    assert len(told) >= min(len(seen), 400)


@pytest.mark.parametrize("shape", SHAPES)
def test_each_shape(shape: Callable[[Rest], Any], tmp_path: Path) -> None:
    path = tmp_path / "recording.shd"
    _native.start_recording(str(path), frames=400, children=False)
    try:
        expected = dict(call([shape] * repeat) for repeat in range(1, 4))
    finally:
        _native.stop_recording()
    told = stacks_told(path)
    for serial, seen in expected.items():
        assert told[serial] == seen[: len(told[serial])]


def test_the_stack_changes_one_frame_at_a_time(tmp_path: Path) -> None:
    """Up and down a deep stack, and along a loop: nothing is remembered wrongly."""
    expected: dict[int, list[Plain]] = {}

    def note(found: tuple[int, list[Plain]]) -> None:
        expected[found[0]] = found[1]

    def dive(depth: int) -> None:
        note(acquire())
        if depth:
            dive(depth - 1)
            note(acquire())
            if depth % 3 == 0:
                dive(depth // 3)
        note(acquire())

    path = tmp_path / "recording.shd"
    _native.start_recording(str(path), frames=400, children=False)
    try:
        for depth in (20, 3, 30, 0, 12):
            dive(depth)
    finally:
        _native.stop_recording()
    told = stacks_told(path)
    for serial, seen in expected.items():
        assert told[serial] == seen[: len(told[serial])]
        assert len(told[serial]) == len(seen)


def test_a_stack_of_5000_frames(run: Callable[..., Run]) -> None:
    """The innermost frames are right, and none of the kept ones is wrong."""
    result = run(
        """
        import os, sys, threading
        from safehandle_debug import SafeFileHandle

        sys.setrecursionlimit(10_000)
        threading.stack_size(512 * 1024 * 1024)

        def dive(depth):
            if depth == 0:
                SafeFileHandle.open("/dev/null", os.O_RDONLY).close()
            elif depth % 2:
                dive(depth - 1)
            else:
                dive(depth - 1)

        thread = threading.Thread(target=dive, args=(5000,))
        thread.start()
        thread.join()
        """
    ).ok()
    (history,) = result.first().handles
    assert len(history.opened) >= 32
    lines = [frame.line for frame in history.opened]
    assert lines[0] == 10
    expected = [12 if depth % 2 else 14 for depth in range(1, len(lines))]
    below = [frame for frame in history.opened[1:] if frame.function == "dive"]
    assert [frame.line for frame in below] == expected[: len(below)]
    assert len(below) >= 31


def test_hot_constructors(run: Callable[..., Run]) -> None:
    """Specialized calls put frames of the interpreter's own between those of the
    program; they are neither shown nor touched."""
    result = run(
        """
        import os
        from safehandle_debug import SafeFileHandle

        class Made:
            def __init__(self):
                self.handle = SafeFileHandle(0, False)

        class Outer:
            def __init__(self):
                self.made = Made()

        def make():
            return Outer()

        for _ in range(3000):
            make()
        os.kill(os.getpid(), 9)
        """
    )
    assert result.code == -9, result.err
    for history in result.first().handles[::100]:
        assert [frame.function for frame in history.opened] == [
            "Made.__init__",
            "Outer.__init__",
            "make",
            "<module>",
        ]


def test_code_that_comes_and_goes(tmp_path: Path, fast_switching: None) -> None:
    """Four threads make, run and drop code objects: addresses are used again, and
    no stack names a function that was there before."""
    expected: dict[str, list[Plain]] = {}
    addresses: set[int] = set()
    made = 1500

    def work(number: int) -> None:
        for step in range(made):
            name = f"made_{number}_{step}"
            source = "\n" * (step % 50) + f"def {name}(look):\n    return look({name!r})\n"
            namespace: dict[str, Any] = {}
            exec(compile(source, f"<{name}>", "exec"), namespace)
            addresses.add(id(namespace[name].__code__))
            expected[name] = namespace[name](named)
            if step % 100 == 0:
                gc.collect()

    path = tmp_path / "recording.shd"
    _native.start_recording(str(path), children=False)
    try:
        threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        _native.stop_recording()
    # A sanitizer's allocator keeps addresses back; without it they must come again.
    assert SANITIZED or len(addresses) <= 4 * made - 100, "hardly an address was used twice"
    with open_recording(path) as recording:
        told = {
            recording.string(event.detail).removeprefix("memfd:"): [
                (frame.file, frame.line, frame.function) for frame in recording.stack(event.stack)
            ]
            for event in recording.events()
            if event.kind == EventKind.ACQUIRE
        }
    assert len(expected) == len(told) == 4 * made
    wrong = [name for name, seen in expected.items() if told[name] != seen]
    assert wrong == []


def named(name: str) -> list[Plain]:
    """Acquires a handle that can be told from those of other threads by its name."""
    handle, seen = SafeFileHandle.memfd(name), frames_of(sys._getframe())
    handle.close()
    return seen


def test_capture_by_hand(tmp_path: Path) -> None:
    """capture_stack() gives the id of the caller's stack, the same for the same."""
    assert _native.capture_stack() == 0
    with recorded(tmp_path):
        ids = {_native.capture_stack() for _ in range(3)}
        assert len(ids) == 1
        assert 0 not in ids
        assert _native.capture_stack() not in ids
    assert _native.capture_stack() == 0
