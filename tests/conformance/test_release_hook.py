"""The release hook: cases 67 to 83."""

from __future__ import annotations

import ctypes
import gc
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from support_handles import Probe, State, state
from support_programs import Run, recorded

from safehandle_debug import HandleClosedError, SafeHandle, _native

LIBC = ctypes.CDLL(None)
LIBC.__errno_location.restype = ctypes.POINTER(ctypes.c_int)
LIBC_SWAPPING = ctypes.CDLL(None, use_errno=True)


def test_the_hook_sees_a_closed_handle(released: list[int]) -> None:
    """Case 67: closed is True and the value is its own."""
    seen: list[object] = []
    handle = Probe(released)
    handle.during = lambda inner: seen.append((inner.is_closed, inner.handle, state(inner)))
    handle.dispose()
    assert seen == [(True, 5, State(0, disposed=True, closed=True))]


def test_the_hook_cannot_reference_its_handle(released: list[int]) -> None:
    """Case 68: add_ref, release and hold raise HandleClosedError."""
    refused: list[str] = []

    def during(inner: Probe) -> None:
        for name in ("dangerous_add_ref", "dangerous_release", "hold"):
            with pytest.raises(HandleClosedError):
                getattr(inner, name)()
            refused.append(name)

    handle = Probe(released)
    handle.during = during
    handle.dispose()
    assert refused == ["dangerous_add_ref", "dangerous_release", "hold"]
    assert released == [5]


def test_dispose_within_the_hook_of_dispose(released: list[int]) -> None:
    """Case 69: silent."""
    handle = Probe(released)
    handle.during = lambda inner: inner.dispose()
    handle.dispose()
    assert released == [5]


def test_dispose_within_the_hook_of_the_last_release(released: list[int]) -> None:
    """Case 70: silent."""
    handle = Probe(released)
    handle.during = lambda inner: inner.dispose()
    handle.dangerous_release()
    assert released == [5]
    assert handle.is_closed


@pytest.mark.parametrize("last", ["dispose", "close", "dangerous_release"])
def test_an_error_of_the_hook_reaches_the_caller(released: list[int], last: str) -> None:
    """Case 71: closed, not tried again."""
    handle = Probe(released)
    handle.during = _fail
    before = _native.problem_count()
    if last == "dangerous_release":
        handle.dangerous_add_ref()
        handle.dispose()
    with pytest.raises(LookupError, match="hook failed"):
        getattr(handle, last)()
    assert handle.is_closed
    assert _native.problem_count() == before + 1
    handle.dispose()
    del handle
    gc.collect()
    assert released == [5]


def test_an_error_of_the_hook_does_not_hide_another(released: list[int]) -> None:
    """Case 72: the body's error is its context, and other handles are released."""
    failing, other = Probe(released, 5), Probe(released, 6)
    failing.during = _fail
    with pytest.raises(LookupError, match="hook failed") as caught:  # noqa: PT012, SIM117
        with other, failing.hold():
            failing.dispose()
            raise ValueError("body failed")
    assert isinstance(caught.value.__context__, ValueError)
    assert released == [5, 6]


def test_an_error_of_the_hook_in_a_finalizer(
    released: list[int],
    unraisable: list[BaseException | None],
    tmp_path: Path,
    no_automatic_gc: None,
) -> None:
    """Case 73: to the unraisable hook, and recorded as a failed release."""
    with recorded(tmp_path) as told:
        handle = Probe(released, 5)
        handle.during = _fail
        del handle
        assert [str(error) for error in unraisable] == ["hook failed"]
        cycle: list[object] = [Probe(released, 6)]
        cycle[0].during = _fail  # type: ignore[attr-defined]
        cycle.append(cycle)
        del cycle
        gc.collect()
    assert [str(error) for error in unraisable] == ["hook failed"] * 2
    assert released == [5, 6]
    for history in told[0].owned_by("Probe"):
        kinds = [event.kind for event in history.events]
        assert kinds.count("release-failed") == 1


def test_a_hook_that_returns_false(released: list[int], tmp_path: Path) -> None:
    """Case 74: no error; an event with the stacks of both sides."""
    with recorded(tmp_path) as told:
        handle = Probe(released)
        handle.answer = False
        handle.dispose()
        assert handle.is_closed
    assert released == [5]
    (history,) = told[0].owned_by("Probe")
    (event,) = [event for event in history.events if event.kind == "release-failed"]
    here = "test_a_hook_that_returns_false"
    assert event.stack[0].function == here
    assert any(frame.function == here for frame in history.opened)


def test_a_hook_that_returns_none_succeeded(released: list[int]) -> None:
    """Case 75: a hook without return statement is no failure."""
    before = _native.problem_count()
    handle = Probe(released)
    handle.answer = None
    handle.dispose()
    assert handle.is_closed
    assert released == [5]
    assert _native.problem_count() == before


def test_errno_is_the_same_after_a_release(released: list[int]) -> None:
    """Case 76: C errno and the copy of ctypes, whatever the hook does."""
    errno = LIBC.__errno_location()
    for act in (_dispose, _drop):
        handles = [Probe(released)]
        handles[0].during = _fail_a_syscall
        ctypes.set_errno(7)
        errno[0] = 7
        act(handles)
        assert errno[0] == 7
        assert ctypes.get_errno() == 7
    assert released == [5, 5]


def test_errno_of_a_call_survives_the_release_after_it(released: list[int]) -> None:
    """Case 77: the handle goes in the call's cleanup, its error stays readable."""
    errno = LIBC.__errno_location()
    handle = Probe(released)
    handle.during = _fail_a_syscall
    with handle.hold():
        handle.dispose()
        ctypes.set_errno(9)
        errno[0] = 9
    assert released == [5]
    assert errno[0] == 9
    assert ctypes.get_errno() == 9


def test_errno_is_the_same_after_a_failing_hook(
    released: list[int], unraisable: list[BaseException | None]
) -> None:
    """Case 78: restored although the hook raises."""
    errno = LIBC.__errno_location()

    def during(inner: Probe) -> None:
        _fail_a_syscall(inner)
        _fail(inner)

    handle = Probe(released)
    handle.during = during
    ctypes.set_errno(7)
    errno[0] = 7
    with pytest.raises(LookupError):
        handle.dispose()
    assert ctypes.get_errno() == 7
    handles = [Probe(released)]
    handles[0].during = during
    ctypes.set_errno(7)
    errno[0] = 7
    _drop(handles)
    assert errno[0] == 7
    assert ctypes.get_errno() == 7
    assert len(unraisable) == 1


def test_the_current_exception_is_the_same_after_a_release(
    released: list[int], unraisable: list[BaseException | None]
) -> None:
    """Case 79: while one is handled, failing hooks do not disturb it."""
    current = ValueError("current")
    try:
        raise current
    except ValueError:
        handles = [Probe(released)]
        handles[0].during = _fail
        _drop(handles)
        assert sys.exc_info()[1] is current
        handle = Probe(released)
        handle.during = _fail
        with pytest.raises(LookupError):
            handle.dispose()
        assert sys.exc_info()[1] is current
    assert current.__context__ is None

    def leave_with_an_error() -> None:
        handle = Probe(released)
        handle.during = _fail
        raise current

    with pytest.raises(ValueError, match="current") as caught:
        leave_with_an_error()
    assert caught.value is current
    del caught
    current.__traceback__ = None
    assert len(released) == 3
    assert len(unraisable) == 2


def test_an_interrupted_close_is_not_tried_again(run: Callable[..., Run], tmp_path: Path) -> None:
    """Case 80: after EINTR the number may be somebody else's already."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("needs a C compiler")
    source = tmp_path / "interrupted.c"
    source.write_text(
        """
        #define _GNU_SOURCE
        #include <dlfcn.h>
        #include <errno.h>

        int interrupted_fd = -1;
        int interrupted_times = 0;

        int close(int fd)
        {
            int (*next)(int) = (int (*)(int))dlsym(RTLD_NEXT, "close");
            int result = next(fd);
            if (fd == interrupted_fd) {
                interrupted_times++;
                errno = EINTR;
                return -1;
            }
            return result;
        }
        """
    )
    library = tmp_path / "interrupted.so"
    subprocess.run(
        [compiler, "-shared", "-fPIC", "-o", str(library), str(source), "-ldl"], check=True
    )
    result = run(
        """
        import ctypes, os
        from safehandle_debug import SafeFileHandle

        shim = ctypes.CDLL(None)
        fd_of = ctypes.c_int.in_dll(shim, "interrupted_fd")
        times = ctypes.c_int.in_dll(shim, "interrupted_times")
        handle = SafeFileHandle.open("/dev/null", os.O_RDONLY)
        fd_of.value = handle.handle
        handle.close()
        print(times.value, handle.is_closed)
        handle.close()
        del handle
        print(times.value)
        """,
        env={"LD_PRELOAD": str(library)},
    ).ok()
    assert result.lines == ["1 True", "1"]


class Link(SafeHandle):
    """A handle whose hook drops the next handle of its chain."""

    count = 0
    deepest = 0
    depth = 0

    def __init__(self, following: Link | None) -> None:
        super().__init__(-1)
        self.following = following
        self.set_handle(5)

    @property
    def is_invalid(self) -> bool:
        return False

    def release_handle(self) -> bool:
        Link.count += 1
        Link.depth += 1
        Link.deepest = max(Link.deepest, Link.depth)
        self.following = None
        Link.depth -= 1
        return True


def test_a_chain_of_hooks_that_drop_the_next() -> None:
    """Case 81: 100,000 nested releases without deep recursion."""
    for ending in (lambda first: first.pop().dispose(), lambda first: first.clear()):
        Link.count = Link.deepest = 0
        chain: Link | None = None
        for _ in range(100_000):
            chain = Link(chain)
        first = [chain]
        chain = None
        ending(first)
        assert Link.count == 100_000
        assert Link.deepest < 1000


def test_a_hook_that_works_hard_at_the_end(run: Callable[..., Run]) -> None:
    """Case 82: starts a thread, allocates and imports while the interpreter ends."""
    result = run(
        """
        import _thread, builtins
        from safehandle_debug import SafeHandle

        class Busy(SafeHandle):
            def __init__(self, act):
                super().__init__(-1)
                self.act = act
                self.set_handle(5)
            @property
            def is_invalid(self):
                return False
            def release_handle(self):
                self.act()
                return True

        # Waiting for a thread that may not run any more would hang by itself.
        def thread(start=_thread.start_new_thread):
            start(print, ())

        def allocate():
            bytearray(10_000_000)
            [object() for _ in range(100_000)]

        def load():
            import wave

        builtins.kept = [Busy(thread), Busy(allocate), Busy(load)]
        kept_too = [Busy(thread), Busy(allocate), Busy(load)]
        print("end", flush=True)
        """
    )
    assert result.code == 0, result.err
    assert result.lines[0] == "end"
    histories = result.first().owned_by("Busy")
    assert len(histories) == 6
    for history in histories:
        assert history.ending in {"dropped", "collected", "swept"}


SHAPES = """
class WithDict(SafeHandle):
    def __init__(self, seen):
        super().__init__(-1)
        self.seen = seen
        self.word = "attribute"
        self.set_handle(5)
    @property
    def is_invalid(self):
        return self.handle == -1 and self.word is not None
    def release_handle(self):
        self.seen.append(self.word)
        return True

class WithSlots(SafeHandle):
    __slots__ = ("seen", "word", "cycle")
    def __init__(self, seen):
        super().__init__(-1)
        self.seen = seen
        self.word = "slot"
        self.set_handle(5)
    @property
    def is_invalid(self):
        return self.handle == -1 and self.word is not None
    def release_handle(self):
        self.seen.append(self.word)
        return True
"""


@pytest.mark.parametrize(("kind", "word"), [("WithDict", "attribute"), ("WithSlots", "slot")])
def test_a_hook_finds_its_attributes(
    kind: str,
    word: str,
    unraisable: list[BaseException | None],
    no_automatic_gc: None,
) -> None:
    """Case 83: dropped, in a cycle, and with its class in the same garbage."""
    seen: list[str] = []
    namespace: dict[str, object] = {"SafeHandle": SafeHandle}
    exec(SHAPES, namespace)
    make: Callable[[list[str]], SafeHandle] = namespace[kind]  # type: ignore[assignment]
    make(seen)
    assert seen == [word]
    handle = make(seen)
    handle.cycle = handle  # type: ignore[attr-defined]
    del handle
    gc.collect()
    assert seen == [word] * 2
    handle = make(seen)
    handle.cycle = handle  # type: ignore[attr-defined]
    del handle, make
    namespace.clear()
    gc.collect()
    assert seen == [word] * 3
    assert unraisable == []


def _fail(_: Probe) -> None:
    raise LookupError("hook failed")


def _fail_a_syscall(_: Probe) -> None:
    LIBC_SWAPPING.close(-1)
    LIBC.__errno_location()[0] = 42
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.close(-1)


def _dispose(handles: list[Probe]) -> None:
    handles[0].dispose()


def _drop(handles: list[Probe]) -> None:
    handles.clear()
