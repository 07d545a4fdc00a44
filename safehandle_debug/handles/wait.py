"""Waiting: events and semaphores over SafeWaitHandle, and waiting for several.

They work between threads and between processes, since each is a descriptor
underneath: a forked child has them, a process that multiprocessing starts
borrows them as arguments for its lifetime, and any other program adopts the
number that it was given:

    event = ManualResetEvent()
    SafeProcessHandle.spawn([..., str(event.fileno())], pass_fds=[event])

    event = ManualResetEvent(handle=SafeWaitHandle(int(sys.argv[1])))

Every wait holds a reference: a `close()` meanwhile takes effect when the wait
ends. `await event` waits in asyncio, as `await process` does for the exit
status of a SafeProcessHandle.
"""

from __future__ import annotations

import os
import weakref
from collections.abc import Generator, Iterable
from types import TracebackType
from typing import TYPE_CHECKING, Any, ClassVar, Self

from safehandle_debug._native import SafeHandle, SafeProcessHandle, SafeWaitHandle, wait_on
from safehandle_debug.errors import NullHandleError

if TYPE_CHECKING:
    import asyncio

__all__ = [
    "AutoResetEvent",
    "ManualResetEvent",
    "Semaphore",
    "WaitHandle",
    "await_process",
    "wait_all",
    "wait_any",
]


class WaitHandle:
    """Waits for a handle: signalled while its descriptor is readable.

    For a SafeProcessHandle that is when the process has ended, for a timer
    when it has ticked. A plain WaitHandle takes nothing: who waits next finds
    the same signal."""

    __slots__ = ("__weakref__", "_handle")

    _takes: ClassVar[bool] = False

    def __init__(self, handle: SafeHandle) -> None:
        self._handle = _checked(handle)

    @property
    def safe_wait_handle(self) -> SafeHandle:
        """The handle underneath. Setting another one does not close the old
        one, and waits that have begun go on with the old one.

        Raises NullHandleError for None, TypeError for what is no handle."""
        return self._handle

    @safe_wait_handle.setter
    def safe_wait_handle(self, handle: SafeHandle) -> None:
        self._handle = _checked(handle)

    @property
    def is_closed(self) -> bool:
        """True once the handle underneath is closed."""
        return self._handle.is_closed

    def wait(self, timeout: float | None = None) -> bool:
        """Waits until it is signalled; False when `timeout` seconds passed first.

        Raises HandleClosedError when it is closed already."""
        return wait_on((self._handle,), (self._takes,), timeout, False) == 0

    def fileno(self) -> int:
        """The descriptor; raises HandleClosedError when closed."""
        with self._handle.hold() as fd:
            return fd

    def close(self) -> None:
        """Closes the handle underneath, at the end of the waits that are on."""
        self._handle.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._handle.__exit__(exc_type, exc, traceback)

    def __await__(self) -> Generator[Any, None, bool]:
        return self._signalled(self._handle).__await__()

    async def _signalled(self, handle: SafeHandle) -> bool:
        with handle.hold():
            while wait_on((handle,), (self._takes,), 0, False) != 0:
                await _readable(handle)
        return True

    def __reduce__(self) -> tuple[Any, ...]:
        # As for multiprocessing's own locks: only as an argument of a process.
        from multiprocessing.context import get_spawning_popen
        from multiprocessing.reduction import DupFd

        if get_spawning_popen() is None:
            raise TypeError(
                f"cannot pickle {type(self).__name__}: it can be given to a process "
                "only when that is started"
            )
        return _rebuild, (type(self), type(self._handle), DupFd(self.fileno()))

    def __repr__(self) -> str:
        return f"<{type(self).__name__} on {self._handle!r}>"


class _Event(WaitHandle):
    __slots__ = ()

    _handle: SafeWaitHandle

    def __init__(self, initial: bool = False, *, handle: SafeWaitHandle | None = None) -> None:
        super().__init__(SafeWaitHandle.event(int(initial)) if handle is None else handle)

    def set(self) -> None:
        """Signals. Setting what is set already changes nothing.

        Raises HandleClosedError when it is closed."""
        self._handle.set()

    def reset(self) -> None:
        """Takes the signal back, if there is one.

        Raises HandleClosedError when it is closed."""
        self._handle.take()


class ManualResetEvent(_Event):
    """Once set, lets every wait pass until it is reset.

    `initial`: it is set from the start. `handle`: an event counter to adopt in
    place of a new one."""

    __slots__ = ()

    def is_set(self) -> bool:
        """Whether a wait would pass now."""
        return self._handle.wait(0)


class AutoResetEvent(_Event):
    """Once set, lets one wait pass, which resets it.

    `initial`: it is set from the start. `handle`: an event counter to adopt in
    place of a new one."""

    __slots__ = ()

    _takes = True


class Semaphore(WaitHandle):
    """A count: release() adds to it, every wait takes one.

    `initial`: the count at the start, 0 to 2**32-1. `handle`: an event counter
    in semaphore mode to adopt in place of a new one."""

    __slots__ = ()

    _handle: SafeWaitHandle
    _takes = True

    def __init__(self, initial: int = 0, *, handle: SafeWaitHandle | None = None) -> None:
        if handle is None:
            handle = SafeWaitHandle.event(initial, semaphore=True)
        super().__init__(handle)

    def release(self, count: int = 1) -> None:
        """Lets `count` waits pass.

        Raises ValueError below 1, HandleClosedError when it is closed."""
        self._handle.set(count)


def wait_any(
    handles: Iterable[WaitHandle | SafeHandle], timeout: float | None = None
) -> int | None:
    """Waits for one of several: the index of the first that is signalled, None
    when `timeout` seconds passed first. Only that one is taken from.

    Raises ValueError without handles, HandleClosedError when one is closed."""
    objects, takes = _taken_apart(handles)
    index = wait_on(objects, takes, timeout, False)
    return None if index < 0 else index


def wait_all(handles: Iterable[WaitHandle | SafeHandle], timeout: float | None = None) -> bool:
    """Waits until all are signalled at once, then takes from all of them; False,
    with nothing taken, when `timeout` seconds passed first.

    What it takes while another one turns out to be missing is given back in the
    same step; other waits may see it missing for that moment.

    Raises ValueError without handles and for the same one twice,
    HandleClosedError when one is closed."""
    objects, takes = _taken_apart(handles)
    return wait_on(objects, takes, timeout, True) == 0


def await_process(process: SafeProcessHandle) -> Generator[Any, None, int]:
    """What `await process` runs: gives the exit status, as `poll()` does."""
    return _exit_status(process).__await__()


async def _exit_status(process: SafeProcessHandle) -> int:
    status = process.returncode
    if status is not None:
        return status
    with process.hold():
        while (status := process.poll()) is None:
            await _readable(process)
    return status


def _checked(handle: SafeHandle) -> SafeHandle:
    if handle is None:
        raise NullHandleError("a handle to wait for is needed, not None")
    if not isinstance(handle, SafeHandle):
        raise TypeError(f"a SafeHandle is needed, not {type(handle).__name__}")
    return handle


def _taken_apart(
    handles: Iterable[WaitHandle | SafeHandle],
) -> tuple[tuple[SafeHandle, ...], tuple[bool, ...]]:
    given = tuple(handles)
    objects = tuple(_checked(h._handle if isinstance(h, WaitHandle) else h) for h in given)
    return objects, tuple(isinstance(h, WaitHandle) and h._takes for h in given)


def _rebuild(kind: type[WaitHandle], handle_type: type[SafeWaitHandle], passed: Any) -> WaitHandle:
    fd: int = passed.detach()
    os.set_inheritable(fd, False)
    made = kind.__new__(kind)
    # Nobody closes an argument: like a forked child's, it lives as long as the
    # process.
    made._handle = handle_type(fd, owns_handle=False)
    return made


# --- asyncio ---

# An event loop has one reader for a descriptor: it wakes all who wait for it.
_waiters: weakref.WeakKeyDictionary[
    asyncio.AbstractEventLoop, dict[int, list[asyncio.Future[None]]]
] = weakref.WeakKeyDictionary()


async def _readable(handle: SafeHandle) -> None:
    """Returns some time after the descriptor became readable; takes nothing."""
    import asyncio

    loop = asyncio.get_running_loop()
    future = loop.create_future()
    with handle.hold() as fd:
        waiting = _waiters.setdefault(loop, {})
        if fd not in waiting:
            loop.add_reader(fd, _wake, loop, fd)
            waiting[fd] = []
        waiting[fd].append(future)
        try:
            await future
        finally:
            rest = waiting.get(fd, [])
            if future in rest:
                rest.remove(future)
                if not rest:
                    del waiting[fd]
                    loop.remove_reader(fd)


def _wake(loop: asyncio.AbstractEventLoop, fd: int) -> None:
    loop.remove_reader(fd)
    for future in _waiters[loop].pop(fd, []):
        if not future.done():
            future.set_result(None)
