"""Handles whose whole life is recorded.

General layout:

- `_native`     the C core: handle types, stacks, the recorder
- `errors`      what the core raises
- `children`    what a forked child needs from Python
- `handles`     what is built upon handles, one resource a file;
                loaded when they are asked for
- `recording`   reads recordings, `ledger` replays them, `findings` judges;
                none of these is imported here: a program that only uses
                handles pays for nothing else
- `activate`    switches recording on by SAFEHANDLE_DEBUG
- `cli`         the command `safehandle`
"""

from __future__ import annotations

import atexit
import os

from safehandle_debug import _native, children
from safehandle_debug._native import (
    CriticalFinalizer,
    CriticalHandle,
    CriticalHandleMinusOneIsInvalid,
    CriticalHandleZeroOrMinusOneIsInvalid,
    Hold,
    SafeBuffer,
    SafeFileHandle,
    SafeHandle,
    SafeHandleMinusOneIsInvalid,
    SafeHandleZeroOrMinusOneIsInvalid,
    SafeInotifyHandle,
    SafeKeyringHandle,
    SafeMemoryMappedFileHandle,
    SafeMemoryMappedViewHandle,
    SafeNCryptHandle,
    SafeNCryptKeyHandle,
    SafeNCryptProviderHandle,
    SafeNCryptSecretHandle,
    SafePipeHandle,
    SafePollHandle,
    SafeProcessHandle,
    SafeSocketHandle,
    SafeWaitHandle,
)
from safehandle_debug.errors import (
    HandleClosedError,
    HandleNotSupportedError,
    HandleOverflowError,
    HandleStateError,
    NullHandleError,
    RecordingError,
    SafeHandleError,
)

TYPE_CHECKING = False  # `typing` would cost every start milliseconds
if TYPE_CHECKING:
    from safehandle_debug.handles.file_stream import FileStream
    from safehandle_debug.handles.registry import SafeRegistryHandle
    from safehandle_debug.handles.wait import (
        AutoResetEvent,
        ManualResetEvent,
        Semaphore,
        WaitHandle,
        wait_all,
        wait_any,
    )
    from safehandle_debug.ledger import History

__all__ = [
    "AutoResetEvent",
    "CriticalFinalizer",
    "CriticalHandle",
    "CriticalHandleMinusOneIsInvalid",
    "CriticalHandleZeroOrMinusOneIsInvalid",
    "FileStream",
    "HandleClosedError",
    "HandleNotSupportedError",
    "HandleOverflowError",
    "HandleStateError",
    "Hold",
    "ManualResetEvent",
    "NullHandleError",
    "RecordingError",
    "SafeBuffer",
    "SafeFileHandle",
    "SafeHandle",
    "SafeHandleError",
    "SafeHandleMinusOneIsInvalid",
    "SafeHandleZeroOrMinusOneIsInvalid",
    "SafeInotifyHandle",
    "SafeKeyringHandle",
    "SafeMemoryMappedFileHandle",
    "SafeMemoryMappedViewHandle",
    "SafeNCryptHandle",
    "SafeNCryptKeyHandle",
    "SafeNCryptProviderHandle",
    "SafeNCryptSecretHandle",
    "SafePipeHandle",
    "SafePollHandle",
    "SafeProcessHandle",
    "SafeRegistryHandle",
    "SafeSocketHandle",
    "SafeWaitHandle",
    "Semaphore",
    "WaitHandle",
    "wait_all",
    "wait_any",
]

# What few programs need is loaded when it is asked for: name -> module.
_LAZY = {
    "AutoResetEvent": "safehandle_debug.handles.wait",
    "FileStream": "safehandle_debug.handles.file_stream",
    "ManualResetEvent": "safehandle_debug.handles.wait",
    "SafeRegistryHandle": "safehandle_debug.handles.registry",
    "Semaphore": "safehandle_debug.handles.wait",
    "WaitHandle": "safehandle_debug.handles.wait",
    "wait_all": "safehandle_debug.handles.wait",
    "wait_any": "safehandle_debug.handles.wait",
}

if not TYPE_CHECKING:  # checkers would take any name to be here

    def __getattr__(name: str) -> object:
        if name not in _LAZY:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from importlib import import_module

        value = getattr(import_module(_LAZY[name]), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_LAZY})


def _read_provenance(handle: SafeHandle | CriticalHandle, serial: int) -> History:
    from safehandle_debug.ledger import History, provenance

    history = provenance(serial) if serial else None
    if history is not None:
        return history
    # Not recorded: what the object itself knows.
    return History(
        pid=os.getpid(),
        serial=serial,
        kind=handle.handle_kind,
        owner=type(handle).__name__,
        space=handle.handle_space,
        value=handle.handle,
        detail=None,
        opened_at_ns=0,
        opened=(),
        thread="",
        task=None,
        test=None,
        ending="closed" if handle.is_closed else None,
    )


_native.set_provenance_reader(_read_provenance)
# Registered at import, so called after the program's own exit functions: what
# it prepares must not be disturbed by what they do.
atexit.register(_native.guard_exit)
children.watch_forks()
