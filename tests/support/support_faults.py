"""Scenarios of faults: each acquires, uses and releases one kind of handle.

`PROGRAM` is source: a program that is told a scenario on its command line. Its
function `attempt` calls the scenario once, under whatever fault is armed, and
checks that the process is as it was before.
"""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["PROGRAM", "SCENARIOS", "preloaded"]


def preloaded(library: Path) -> dict[str, str]:
    """The environment with which a program has the library's functions, after a
    sanitizer's own."""
    return {"LD_PRELOAD": f"{os.environ.get('LD_PRELOAD', '')} {library}".strip()}


SCENARIOS = [
    "file",
    "file_locked_and_deleted",
    "file_locked_later",
    "file_dropped",
    "memfd",
    "duplicate",
    "adopted",
    "pipe",
    "fifo",
    "pipe_on_socket",
    "socket",
    "socket_pair",
    "accept",
    "key",
    "mapped_memory",
    "mapped_file",
    "mapped_shared",
    "view",
    "view_exported",
    "stream",
    "event",
    "timer",
    "poll",
    "inotify",
    "process",
    "process_opened",
    "waiting",
    "held",
    "python_hook",
    "cycle",
    "provider",
    "provider_key",
    "crypto_key",
    "signature",
    "secret",
    "native_result",
    "native_pair",
    "native_changed",
    "native_structure",
]

PROGRAM = """
import ctypes, errno, gc, json, os, shutil, socket, sys, types
from safehandle_debug import *
from safehandle_debug import _native

FLAGS = os.O_RDWR | os.O_CREAT

def file():
    with SafeFileHandle.open("a file", FLAGS) as handle:
        handle.fileno()

def file_locked_and_deleted():
    with SafeFileHandle.open("b file", FLAGS, lock="exclusive", delete_on_close=True):
        pass

def file_locked_later():
    with SafeFileHandle.open("c file", FLAGS) as handle:
        handle.lock(blocking=False)
        handle.unlock()
        handle.lock(shared=True)

def file_dropped():
    SafeFileHandle.open("d file", FLAGS, lock="shared", delete_on_close=True)

def memfd():
    SafeFileHandle.memfd("name").close()

def duplicate():
    with SafeFileHandle.memfd("name") as handle:
        handle.duplicate().close()

def adopted():
    handle = SafeFileHandle.memfd("name")
    other = SafeFileHandle()
    try:
        other.set_handle(handle.detach())
    except BaseException:
        os.close(handle.handle)
        raise
    other.close()

def pipe():
    reader, writer = SafePipeHandle.pair()
    with reader, writer:
        pass

def fifo():
    with SafePipeHandle.fifo("a fifo", os.O_RDONLY | os.O_NONBLOCK):
        pass

def pipe_on_socket():
    one, other = SafeSocketHandle.pair()
    with one, other, SafePipeHandle.from_socket(one):
        pass

def socket_():
    SafeSocketHandle.create(socket.AF_INET).close()

def socket_pair():
    one, other = SafeSocketHandle.pair()
    other.close()
    one.close()

def accept():
    with SafeSocketHandle.accept(listener)[0]:
        pass

def key():
    with SafeKeyringHandle.add("user", f"safehandle faults {os.getpid()}", b"x") as handle:
        handle.read()
        handle.revoke()

def mapped_memory():
    SafeMemoryMappedFileHandle.create(4096).close()

def mapped_file():
    with SafeMemoryMappedFileHandle.open("a mapping", FLAGS, size=4096):
        pass

def mapped_shared():
    with SafeMemoryMappedFileHandle.shm(f"/safehandle-faults-{os.getpid()}", 4096):
        pass

def view():
    with SafeMemoryMappedFileHandle.create(8192) as file:
        with SafeMemoryMappedViewHandle.map(file, 4096, offset=4096) as handle:
            handle.write(0, "I", 7)
            handle.read(0, "I")
            handle.flush()

def view_exported():
    with SafeMemoryMappedFileHandle.create(4096) as file:
        handle = SafeMemoryMappedViewHandle.map(file)
    with memoryview(handle) as bytes_:
        handle.close()
        bytes_[0]

def stream():
    with FileStream(SafeFileHandle.memfd("name")) as raw:
        raw.write(b"text")
        raw.seek(0)
        raw.readall()

def event():
    with SafeWaitHandle.event() as handle:
        handle.set()
        handle.wait(0)

def timer():
    with SafeWaitHandle.timer(1000) as handle:
        handle.wait(0)
        handle.arm(None)

def poll():
    with SafePollHandle.create() as handle, SafeWaitHandle.event(1) as target:
        handle.register(target)
        handle.poll(0)
        handle.unregister(target)

def inotify():
    with SafeInotifyHandle.create() as handle:
        handle.add_watch(".", handle.MODIFY)

def process():
    with SafeProcessHandle.spawn([true], env={}) as handle:
        handle.wait()

def process_opened():
    with SafeProcessHandle.open(os.getppid()) as handle:
        SafeProcessHandle(handle.fileno(), owns_handle=False).pid

def waiting():
    one, other = ManualResetEvent(), AutoResetEvent(True)
    try:
        wait_any([one, other], 0)
        one.set()
        other.set()
        wait_all([one, other], 0)
    finally:
        one.close()
        other.close()

def held():
    with shared.hold(), shared.hold() as fd:
        shared.dangerous_add_ref()
        shared.dangerous_release()

class Hooked(SafeHandleMinusOneIsInvalid):
    def __init__(self):
        super().__init__()
        self.set_handle(next(numbers))

    def release_handle(self):
        # As a hook must be that may not fail: what it needs is made already.
        numbers_out.append(self.handle)
        return True

def python_hook():
    with Hooked():
        pass

def cycle():
    handle = Hooked()
    handle.itself = [handle, SafeFileHandle.memfd("name")]
    del handle
    gc.collect()

def provider():
    SafeNCryptProviderHandle.load("legacy").close()

def provider_key():
    with SafeNCryptProviderHandle.load("default") as handle:
        one = SafeNCryptKeyHandle.generate("X25519", handle)
        other = one.duplicate()
    one.close()
    other.close()

def crypto_key():
    with SafeNCryptKeyHandle.generate("EC") as one, one.duplicate() as other:
        other.public_key()

def signature():
    with SafeNCryptKeyHandle.generate("ED25519") as one:
        assert one.verify(one.sign(b"text"), b"text")

def secret():
    with SafeNCryptKeyHandle.generate("X25519") as one:
        with SafeNCryptSecretHandle.derive(one, one.public_key()) as handle:
            assert handle.byte_length == len(handle.read())

def native_result():
    native.memfd_create(b"name", os.MFD_CLOEXEC).close()

def native_pair():
    ends = Out()
    native.pipe2(ends, os.O_CLOEXEC)
    reader, writer = ends.value
    writer.close()
    reader.close()

def native_changed():
    with SafeFileHandle.memfd("name") as one:
        cell = Ref(one)
        native.failing_reopen(cell)
        cell.value.close()

def native_structure():
    with SafeFileHandle.memfd("name") as one:
        native.failing_flags(native.Request(one, 1))

def declare_native():
    # The functions that are called, and the structure that one takes.
    from safehandle_debug.marshal import (
        ByRef, Out, Ref, Structure, c_int, c_uint, extern, library_import)

    class Request(Structure):
        file: SafeFileHandle
        command: c_int

    @library_import(None, check_errno=True)
    def memfd_create(name: bytes, flags: c_uint) -> SafeFileHandle:
        extern()

    @library_import(None, check_errno=True)
    def pipe2(ends: Out[tuple[SafePipeHandle, SafePipeHandle]], flags: c_int) -> c_int:
        extern()

    @library_import(sys.argv[2], check_errno=True)
    def failing_reopen(file: Ref[SafeFileHandle]) -> c_int:
        extern()

    @library_import(sys.argv[2], check_errno=True)
    def failing_flags(request: ByRef[Request]) -> c_int:
        extern()

    globals().update(Out=Out, Ref=Ref)
    return types.SimpleNamespace(**locals())

def faulty_two_steps():
    # A number that nobody owns until the object is made.
    SafeFileHandle(os.open("a file", FLAGS)).close()

def faulty_closed_twice():
    fd = os.open("a file", FLAGS)
    for _ in range(2):
        try:
            os.close(fd)
        except OSError:
            pass

# By its path: os.environ, which a search would ask, has SystemErrors of its own
# when memory is out.
true = shutil.which("true")
numbers, numbers_out = iter(range(5, 1 << 30)), []
scenario = globals().get(sys.argv[1] + "_") or globals()[sys.argv[1]]
shared = SafeFileHandle.memfd("shared")
gc.disable()
if scenario is fifo:
    os.mkfifo("a fifo")
if scenario.__name__.startswith("native_"):
    native = declare_native()
if scenario is accept:
    listener = SafeSocketHandle.create(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    twin = socket.socket(fileno=os.dup(listener.fileno()))
    twin.bind(b"\\0safehandle faults %d" % os.getpid())
    twin.listen(128)
    address = twin.getsockname()

unraisable = []
sys.unraisablehook = lambda args: unraisable.append(repr(args.exc_value))
library = ctypes.CDLL(sys.argv[2])
arm, disarm, strays = library.failing_arm, library.failing_disarm, library.failing_strays
EXPECTED = (OSError, MemoryError, SafeHandleError)


def prepare():
    if scenario is accept:
        client = socket.socket(socket.AF_UNIX)
        client.connect(address)
        client.close()


def settle():
    if scenario is accept:
        while True:  # nobody is left in the queue
            try:
                twin.accept()[0].close()
            except BlockingIOError:
                break
    gc.collect()
    gc.collect()  # what the first one's critical finalizers let go of


def standing():
    # What every descriptor leads to, and how many handles are open.
    fds = {}
    for fd in os.listdir("/proc/self/fd"):
        try:
            fds[fd] = os.readlink(f"/proc/self/fd/{fd}")
        except FileNotFoundError:
            pass  # the one that listed them
    return fds, _native.live_count()


def call():
    # The name of the error that came, "" for none.
    try:
        scenario()
    except EXPECTED as error:
        return type(error).__name__
    return ""


def attempt(before, during, after, what):
    # One run of the scenario; what has to hold afterwards, held.
    prepare()
    settled = standing()
    outcome = "MemoryError"
    before()
    try:
        outcome = call()
    except MemoryError:
        pass
    finally:
        during_result = during()
    settle()
    now = standing()
    assert now == settled, (what, outcome, settled, now)
    stray = strays()
    assert stray == 0, (what, outcome, stray)
    assert _native.level() == LEVEL, what
    assert len(set(numbers_out)) == len(numbers_out), (what, numbers_out)
    with shared.hold() as fd:
        os.fstat(fd)
    word = ctypes.c_uint32.from_address(id(shared) + _native.STATE_OFFSET).value
    assert word == 4, (what, outcome, word)
    if after:
        after(outcome)
    return outcome, during_result


LEVEL = _native.level()
for _ in range(3):  # what is made once is made now
    prepare()
    scenario()
    settle()
    standing()
"""
