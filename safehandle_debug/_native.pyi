"""The C core: handle types, stacks, recorder.  Checked by mypy's stubtest.

The public names are re-exported by `safehandle_debug`; the functions at the
end are the core's whole interface to the floors above it.
"""

import os
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from types import FrameType, GenericAlias, TracebackType
from typing import (
    Any,
    ClassVar,
    Final,
    Generic,
    Literal,
    ParamSpec,
    Self,
    SupportsIndex,
    TypeAlias,
    TypeVar,
    final,
)

from _typeshed import FileDescriptorLike, ReadableBuffer, WriteableBuffer
from typing_extensions import disjoint_base

STATE_OFFSET: Final[int]  # of the 32-bit state word in a handle object
PROBE_ADDRESS: Final[int]  # of a C function that records two events, for tests ...
ASKING_PROBE_ADDRESS: Final[int]  # ... and of one that asks the interpreter for names

@disjoint_base
class CriticalFinalizer:
    """Base of objects whose finalizer runs after all ordinary ones."""

    def __new__(cls, *args: Any, **kwargs: Any) -> Self: ...
    def finalize(self) -> None: ...

@final
class Hold:
    """One reference of a handle, dropped when the `with` block ends."""

    def __enter__(self) -> int: ...
    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
        /,
    ) -> None: ...

@disjoint_base
class _Handle(CriticalFinalizer):
    """What SafeHandle and CriticalHandle have in common."""

    handle_kind: ClassVar[str]  # names the resource in reports: "file"
    handle_space: ClassVar[str]  # handles of one space share numbers: "fd"
    handle: int
    @property
    def is_closed(self) -> bool: ...
    @property
    def is_invalid(self) -> bool: ...
    def release_handle(self) -> bool | None: ...
    def set_handle(self, value: SupportsIndex, /) -> None: ...
    def set_handle_as_invalid(self) -> None: ...
    def dispose(self, disposing: bool = True) -> None: ...
    def close(self) -> None: ...
    def provenance(self) -> Any: ...
    @classmethod
    def from_param(cls, handle: Self, /) -> Any: ...
    def __enter__(self) -> Self: ...
    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
        /,
    ) -> None: ...

class SafeHandle(_Handle):
    def __init__(self, invalid_handle_value: SupportsIndex, owns_handle: bool = True) -> None: ...
    def dangerous_get_handle(self) -> int: ...
    def dangerous_add_ref(self) -> None: ...
    def dangerous_release(self) -> None: ...
    def hold(self) -> Hold: ...
    def detach(self) -> int: ...

class SafeHandleZeroOrMinusOneIsInvalid(SafeHandle):
    def __init__(self, owns_handle: bool = True) -> None: ...

class SafeHandleMinusOneIsInvalid(SafeHandle):
    def __init__(self, owns_handle: bool = True) -> None: ...

class CriticalHandle(_Handle):
    def __init__(self, invalid_handle_value: SupportsIndex) -> None: ...

class CriticalHandleZeroOrMinusOneIsInvalid(CriticalHandle):
    def __init__(self) -> None: ...

class CriticalHandleMinusOneIsInvalid(CriticalHandle):
    def __init__(self) -> None: ...

class SafeFileHandle(SafeHandleZeroOrMinusOneIsInvalid):
    def __init__(self, value: SupportsIndex = -1, owns_handle: bool = True) -> None: ...
    @classmethod
    def open(
        cls,
        path: str | bytes | os.PathLike[str] | os.PathLike[bytes],
        flags: int = ...,
        mode: int = 0o666,
        *,
        dir_fd: int | None = None,
        lock: Literal["shared", "exclusive"] | None = None,
        delete_on_close: bool = False,
    ) -> Self: ...
    def lock(self, shared: bool = False, blocking: bool = True) -> None: ...
    def unlock(self) -> None: ...
    @classmethod
    def memfd(cls, name: str, flags: int = ...) -> Self: ...
    def duplicate(self) -> Self: ...
    def fileno(self) -> int: ...

class SafePipeHandle(SafeHandleZeroOrMinusOneIsInvalid):
    def __init__(self, value: SupportsIndex = -1, owns_handle: bool = True) -> None: ...
    @classmethod
    def pair(cls, flags: int = ...) -> tuple[Self, Self]: ...
    @classmethod
    def fifo(
        cls,
        path: str | bytes | os.PathLike[str] | os.PathLike[bytes],
        flags: int = ...,
    ) -> Self: ...
    @classmethod
    def from_socket(cls, socket: SafeSocketHandle, /) -> Self: ...
    def fileno(self) -> int: ...

class SafeSocketHandle(SafeHandleZeroOrMinusOneIsInvalid):
    def __init__(self, value: SupportsIndex = -1, owns_handle: bool = True) -> None: ...
    @classmethod
    def create(cls, family: int = ..., type: int = ..., proto: int = 0) -> Self: ...
    @classmethod
    def pair(cls, family: int = ..., type: int = ..., proto: int = 0) -> tuple[Self, Self]: ...
    @classmethod
    def accept(cls, listener: SafeSocketHandle, /) -> tuple[Self, Any]: ...
    def fileno(self) -> int: ...

class SafeKeyringHandle(SafeHandleZeroOrMinusOneIsInvalid):
    def __init__(self, value: SupportsIndex = 0, owns_handle: bool = True) -> None: ...
    @classmethod
    def add(
        cls, type: str, description: str, payload: ReadableBuffer, keyring: int = -3
    ) -> Self: ...
    def read(self) -> bytes: ...
    def revoke(self) -> None: ...
    def unlink(self, keyring: int, /) -> None: ...

class SafeNCryptHandle(SafeHandleZeroOrMinusOneIsInvalid):
    def __init__(self, value: SupportsIndex = 0, owns_handle: bool = True) -> None: ...

class SafeNCryptProviderHandle(SafeNCryptHandle):
    @classmethod
    def load(cls, name: str) -> Self: ...

class SafeNCryptKeyHandle(SafeNCryptHandle):
    def __init__(
        self,
        value: SupportsIndex = 0,
        owns_handle: bool = True,
        *,
        provider: SafeNCryptProviderHandle | None = None,
    ) -> None: ...
    @classmethod
    def generate(
        cls,
        algorithm: str,
        provider: SafeNCryptProviderHandle | None = None,
        *,
        group: str | None = None,
        bits: int = 0,
    ) -> Self: ...
    def duplicate(self) -> Self: ...
    def sign(self, data: ReadableBuffer, digest: str | None = None) -> bytes: ...
    def verify(
        self, signature: ReadableBuffer, data: ReadableBuffer, digest: str | None = None
    ) -> bool: ...
    def public_key(self) -> bytes: ...

class SafeNCryptSecretHandle(SafeNCryptHandle):
    @classmethod
    def derive(
        cls, key: SafeNCryptKeyHandle, peer: SafeNCryptKeyHandle | ReadableBuffer
    ) -> Self: ...
    @property
    def byte_length(self) -> int: ...
    def read(self) -> bytes: ...

@disjoint_base
class SafeBuffer(SafeHandleZeroOrMinusOneIsInvalid):
    def __init__(self, owns_handle: bool = True) -> None: ...
    @property
    def byte_length(self) -> int: ...
    @property
    def readonly(self) -> bool: ...
    def initialize(self, count: int, element_size: int = 1) -> None: ...
    def read(self, offset: SupportsIndex, format: str | bytes, /) -> Any: ...
    def write(self, offset: SupportsIndex, format: str | bytes, value: Any, /) -> None: ...
    def read_bytes(self, offset: SupportsIndex, size: int, /) -> bytes: ...
    def read_into(self, offset: SupportsIndex, target: WriteableBuffer, /) -> int: ...
    def write_bytes(self, offset: SupportsIndex, data: ReadableBuffer, /) -> int: ...
    def acquire_pointer(self) -> int: ...
    def release_pointer(self) -> None: ...
    def __buffer__(self, flags: int, /) -> memoryview: ...

class SafeMemoryMappedFileHandle(SafeHandleZeroOrMinusOneIsInvalid):
    def __init__(self, value: SupportsIndex = -1, owns_handle: bool = True) -> None: ...
    @classmethod
    def create(cls, size: int, name: str = "mapping") -> Self: ...
    @classmethod
    def open(
        cls,
        path: str | bytes | os.PathLike[str] | os.PathLike[bytes],
        flags: int = ...,
        mode: int = 0o666,
        *,
        dir_fd: int | None = None,
        size: int = 0,
    ) -> Self: ...
    @classmethod
    def shm(cls, name: str, size: int = 0, *, mode: int = 0o600, unlink: bool = True) -> Self: ...
    @staticmethod
    def shm_unlink(name: str, /) -> None: ...
    def fileno(self) -> int: ...

class SafeMemoryMappedViewHandle(SafeBuffer):
    def __init__(
        self,
        value: SupportsIndex = 0,
        owns_handle: bool = True,
        *,
        byte_length: int = 0,
        readonly: bool = False,
    ) -> None: ...
    @classmethod
    def map(
        cls, file: SafeHandle, size: int = 0, access: int | str = ..., offset: int = 0
    ) -> Self: ...
    def flush(self) -> None: ...

# --- native calls: used through safehandle_debug.marshal ---

_P = ParamSpec("_P")
_R = TypeVar("_R", covariant=True)
_T = TypeVar("_T")
_Field: TypeAlias = tuple[str, int, str, type | None]
_Parameter: TypeAlias = tuple[str, str, str, type | None, bool, int, tuple[_Field, ...]]

@final
class NativeFunction(Generic[_P, _R]):
    """A native function that holds the handles it is given while it runs."""

    def __new__(
        cls,
        name: str,
        address: int,
        parameters: tuple[_Parameter, ...],
        result: _Parameter,
        defaults: tuple[Any, ...],
        check: bool,
    ) -> Self: ...
    def __call__(self, *args: _P.args, **kwargs: _P.kwargs) -> _R: ...
    __name__: str
    def __class_getitem__(cls, item: Any, /) -> GenericAlias: ...
    @property
    def address(self) -> int: ...

@final
class Out(Generic[_T]):
    """A variable that a native function writes."""

    value: _T
    def __init__(self) -> None: ...
    def __class_getitem__(cls, item: Any, /) -> GenericAlias: ...

@final
class Ref(Generic[_T]):
    """A variable that a native function reads and may write."""

    value: _T
    def __init__(self, value: _T) -> None: ...
    def __class_getitem__(cls, item: Any, /) -> GenericAlias: ...

_C_API: Any

def last_errno() -> int:
    """errno of this thread's last native call."""

def native_address(library: str | os.PathLike[str] | None, name: str, /) -> int: ...
def native_code(handle_type: type[SafeHandle | CriticalHandle], /) -> str: ...

class SafeWaitHandle(SafeHandleZeroOrMinusOneIsInvalid):
    def __init__(self, value: SupportsIndex = -1, owns_handle: bool = True) -> None: ...
    @classmethod
    def event(cls, initial: int = 0, semaphore: bool = False) -> Self: ...
    @classmethod
    def timer(cls, seconds: float, interval: float = 0.0) -> Self: ...
    def duplicate(self) -> Self: ...
    def wait(self, timeout: float | None = None, take: bool = False) -> bool: ...
    def take(self) -> int: ...
    def set(self, count: int = 1) -> None: ...
    def arm(self, seconds: float | None, interval: float = 0.0) -> None: ...
    def fileno(self) -> int: ...

class SafePollHandle(SafeHandleZeroOrMinusOneIsInvalid):
    def __init__(self, value: SupportsIndex = -1, owns_handle: bool = True) -> None: ...
    @classmethod
    def create(cls) -> Self: ...
    def register(self, target: SafeHandle | FileDescriptorLike, events: int = ...) -> None: ...
    def modify(self, target: SafeHandle | FileDescriptorLike, events: int) -> None: ...
    def unregister(self, target: SafeHandle | FileDescriptorLike, /) -> None: ...
    def poll(
        self, timeout: float | None = None, max_events: int = 256
    ) -> list[tuple[int, int]]: ...
    def fileno(self) -> int: ...

class SafeInotifyHandle(SafeHandleZeroOrMinusOneIsInvalid):
    ACCESS: ClassVar[int]
    MODIFY: ClassVar[int]
    ATTRIB: ClassVar[int]
    CLOSE_WRITE: ClassVar[int]
    CLOSE_NOWRITE: ClassVar[int]
    OPEN: ClassVar[int]
    MOVED_FROM: ClassVar[int]
    MOVED_TO: ClassVar[int]
    CREATE: ClassVar[int]
    DELETE: ClassVar[int]
    DELETE_SELF: ClassVar[int]
    MOVE_SELF: ClassVar[int]
    UNMOUNT: ClassVar[int]
    Q_OVERFLOW: ClassVar[int]
    IGNORED: ClassVar[int]
    ONLYDIR: ClassVar[int]
    DONT_FOLLOW: ClassVar[int]
    EXCL_UNLINK: ClassVar[int]
    MASK_ADD: ClassVar[int]
    ISDIR: ClassVar[int]
    ONESHOT: ClassVar[int]
    def __init__(self, value: SupportsIndex = -1, owns_handle: bool = True) -> None: ...
    @classmethod
    def create(cls) -> Self: ...
    def add_watch(
        self, path: str | bytes | os.PathLike[str] | os.PathLike[bytes], mask: int
    ) -> int: ...
    def remove_watch(self, watch: int, /) -> None: ...
    def read_events(self, timeout: float | None = None) -> list[tuple[int, int, int, str]]: ...
    def fileno(self) -> int: ...

class SafeProcessHandle(SafeHandleZeroOrMinusOneIsInvalid):
    def __init__(self, value: SupportsIndex = -1, owns_handle: bool = True) -> None: ...
    @classmethod
    def open(cls, pid: int, *, reap: bool = False) -> Self: ...
    @classmethod
    def spawn(
        cls,
        args: Sequence[str | bytes | os.PathLike[str] | os.PathLike[bytes]],
        *,
        env: Mapping[str, str] | Mapping[bytes, bytes] | None = None,
        cwd: str | bytes | os.PathLike[str] | os.PathLike[bytes] | None = None,
        stdin: SafeHandle | FileDescriptorLike | None = None,
        stdout: SafeHandle | FileDescriptorLike | None = None,
        stderr: SafeHandle | FileDescriptorLike | None = None,
        pass_fds: Iterable[SafeHandle | FileDescriptorLike] = (),
        start_new_session: bool = False,
        executable: str | bytes | os.PathLike[str] | os.PathLike[bytes] | None = None,
    ) -> Self: ...
    @property
    def pid(self) -> int: ...
    @property
    def returncode(self) -> int | None: ...
    def poll(self) -> int | None: ...
    def wait(self, timeout: float | None = None) -> int | None: ...
    def send_signal(self, signal: int, /) -> None: ...
    def fileno(self) -> int: ...
    def __await__(self) -> Generator[Any, None, int]: ...

def wait_on(
    handles: tuple[SafeHandle, ...],
    takes: tuple[bool, ...],
    timeout: float | None,
    every: bool,
    /,
) -> int:
    """Waits for one of several handles: its index, -1 after `timeout` seconds.
    With `every`, for all at once: 0. `takes` says from which to take."""

# --- the interface to the floors above ---

def start_recording(
    path: str,
    *,
    level: str = "full",
    frames: int = 32,
    sample: int = 100,
    size: int = 268435456,
    meta: str = "{}",
    children: bool = True,
    on_error: str = "record",
    tracemalloc: bool = False,
) -> None:
    """Starts recording into the new file `path`; a forked child goes on in a
    file of its own beside it (`{pid}-{start_ticks}.shd`) when `children`.

    Raises RecordingError (a clear sentence) when it cannot be written."""

def stop_recording() -> None: ...
def recording_path() -> str | None: ...
def recording_error() -> str | None:
    """Why recording lost something, in one sentence; None when it did not."""

def level() -> str: ...
def newest_serial() -> int: ...
def open_since(mark: int, /) -> list[int]:
    """Serials above `mark` that are open and owned now, oldest first."""

def live_count() -> int:
    """Number of handles open now, recorded or not."""

def problem_count() -> int:
    """Number of events so far that are findings by themselves: double
    releases, failed releases, double owners, finalized with references out."""

def set_test(name: str | None, /) -> None:
    """Marks this process's events from now on with a test's name."""

def set_meta(json: str, /) -> bool:
    """Replaces what the recording says of its process, JSON; False when it is
    not recorded, or has no room for it."""

def set_provenance_reader(reader: Callable[[Any, int], Any] | None, /) -> None: ...
def sweep() -> int:
    """Releases all open handles that this process acquired; their ending is
    `swept`.  Returns how many."""

def guard_exit() -> None:
    """Prepares for the collections at interpreter end; called by atexit."""

def stack_source() -> str:
    """How stacks are walked: "frames" (internal) or "public" (slower API)."""

def capture_stack() -> int:
    """Records the caller's stack; returns its id, 0 when not recording."""

def frame_locals(frame: FrameType, /) -> dict[str, Any]:
    """A function's local variables by name; cells as they are.

    Unlike `f_locals` before 3.13 it leaves nothing behind in the frame.  Of a
    module's or a class's frame: what the interpreter keeps there, if anything."""

# --- the descriptor watch ---

def watch_start(quarantine: int = 0, arm: int = 0) -> None:
    """Watches the descriptors and child processes of all code in this process.

    quarantine: closed numbers to park at most; arm: descriptors that must be
    open before stacks are recorded, 0: from the start.  Raises OSError."""

def watch_stop() -> None: ...
def watch_pause() -> None:
    """What this thread opens and closes from now on goes unseen; nests."""

def watch_resume() -> None: ...
def watch_reconcile() -> int:
    """Compares with /proc/self/fd; returns how many differences were recorded."""

def watch_status() -> dict[str, Any]:
    """on: bool; objects: loaded objects seen; slots: calls redirected; open:
    descriptors open; parked: numbers in quarantine; owners: names of the types
    whose objects are known as owners; others: (function, library) of what other
    tools put before libc."""
