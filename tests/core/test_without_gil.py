"""Events of threads that do not hold the GIL, and of threads unknown to Python."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import pytest
from support_programs import Run

from safehandle_debug.recording import Recording, open_recording
from safehandle_debug.recording.format import EventKind

# `bare(n)` and `held(n)` record an acquire and a close of the number n; the
# second one has the GIL, and asks for the names of thread and task.
PROBE = """
import ctypes, gc, os, sys, threading
from safehandle_debug import SafeFileHandle, _native

bare = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p)(_native.PROBE_ADDRESS)
held = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p)(_native.ASKING_PROBE_ADDRESS)
"""

# Every number has a function of its own that dies soon after; the main thread
# makes, drops and collects code all the time, so that addresses are reused.
CHURN = (
    PROBE
    + """
THREADS, EACH = int(sys.argv[1]), int(sys.argv[2])
sys.setswitchinterval(1e-5)
refused = []

def make(number):
    namespace = {"probe": bare}
    source = f"def leaf_{number}():\\n    return probe({number})\\n"
    exec(compile(source, f"<made {number}>", "exec"), namespace)
    return namespace[f"leaf_{number}"]

def work(first):
    for number in range(first, first + EACH):
        if make(number)() is not None:
            refused.append(number)

threads = [
    threading.Thread(target=work, args=[1 + n * EACH], name=f"worker {n}") for n in range(THREADS)
]
for thread in threads:
    thread.start()
while any(thread.is_alive() for thread in threads):
    for number in range(50):
        exec(compile(f"def other_{number}(): pass", f"<other {number}>", "exec"), {})
    gc.collect()
for thread in threads:
    thread.join()
assert not refused, refused[:5]
assert _native.live_count() == 0
print("done")
"""
)


def the_recording(run: Run) -> Recording:
    """Of the one process of a run."""
    (session,) = run.sessions
    (path,) = session.glob("*.shd")
    return open_recording(path)


def test_every_stack_is_its_own(run: Callable[..., Run]) -> None:
    """Eight threads record at once while code objects die: nothing is lost,
    nothing twice, and every event has the function that made it."""
    threads, each = 8, 400
    result = run(CHURN, str(threads), str(each))
    assert result.ok().lines == ["done"]
    with the_recording(result) as recording:
        events = list(recording.events())
        assert len(events) == 2 * threads * each
        assert len({event.seq for event in events}) == len(events)
        assert Counter(event.kind for event in events) == {
            EventKind.ACQUIRE: threads * each,
            EventKind.CLOSE: threads * each,
        }
        assert len({event.serial for event in events}) == threads * each
        for event in events:
            leaf = recording.stack(event.stack)[0]
            assert leaf.function == f"leaf_{event.value}"
            assert leaf.file == f"<made {event.value}>"
            assert leaf.line == 2
            assert recording.thread(event.thread).name == f"worker {(event.value - 1) // each}"
        assert recording.header.dropped_events == 0
        assert recording.header.live == 0
        assert recording.live() == []


def test_a_name_that_comes_later(run: Callable[..., Run]) -> None:
    """A thread gets the name that it has, though nothing is ever recorded with
    the GIL; readers see it as soon as it is there."""
    result = run(
        PROBE
        + """
import time
from safehandle_debug.recording import open_recording

recorded, end = threading.Event(), threading.Event()

def work():
    bare(1)
    recorded.set()
    end.wait()

thread = threading.Thread(target=work, name="k\u00f6ttbullar")
thread.start()
recorded.wait()
deadline = time.monotonic() + 60
with open_recording(_native.recording_path()) as recording:
    (event, _) = recording.events()
    while not (name := recording.thread(event.thread).name).startswith("k"):
        assert time.monotonic() < deadline, name
end.set()
thread.join()
print(ascii(name))
"""
    ).ok()
    assert result.lines == [ascii("k\u00f6ttbullar")]


def test_threads_that_are_named_at_once(run: Callable[..., Run]) -> None:
    """One event with the GIL, in any thread, names all that still run."""
    result = run(
        PROBE
        + """
recorded, end = threading.Barrier(4), threading.Event()

def work(number):
    bare(number)
    recorded.wait()
    end.wait()

threads = [threading.Thread(target=work, args=[n], name=f"name {n}") for n in range(3)]
for thread in threads:
    thread.start()
recorded.wait()
held(10)
end.set()
for thread in threads:
    thread.join()
"""
    ).ok()
    with the_recording(result) as recording:
        names = {event.value: recording.thread(event.thread).name for event in recording.events()}
    assert names == {0: "name 0", 1: "name 1", 2: "name 2", 10: "MainThread"}


def test_a_thread_that_python_does_not_know(run: Callable[..., Run]) -> None:
    """It has no stack and a number for a name; its events are there."""
    result = run(
        PROBE
        + """
libc = ctypes.CDLL(None)
made = (ctypes.c_ulong * 20)()
for number in range(20):
    start = ctypes.cast(bare, ctypes.c_void_p)
    assert libc.pthread_create(
        ctypes.byref(made, 8 * number), None, start, ctypes.c_void_p(number)
    ) == 0
for thread in made:
    assert libc.pthread_join(ctypes.c_ulong(thread), None) == 0
"""
    ).ok()
    with the_recording(result) as recording:
        events = list(recording.events())
        assert sorted(event.value for event in events) == sorted([*range(20), *range(20)])
        for event in events:
            assert event.stack == 0
            info = recording.thread(event.thread)
            assert info.name == f"thread {info.native}"


TASKS = (
    PROBE
    + """
import asyncio

async def work(number):
    bare(100 + number)
    held(number)
    bare(200 + number)
    await asyncio.sleep(0)
    bare(300 + number)
    await asyncio.sleep(0)
    held(400 + number)

async def main():
    tasks = [asyncio.create_task(work(n), name=f"task {n}") for n in range(3)]
    await asyncio.gather(*tasks)

asyncio.run(main())
bare(500)
"""
)


def test_the_task_is_the_right_one_or_none(run: Callable[..., Run]) -> None:
    """An event without the GIL has the task that one with it, in the same step,
    tells of, before or after; no other."""
    result = run(TASKS).ok()
    with the_recording(result) as recording:
        events = list(recording.events())
        tasks = {(event.value, event.kind): recording.string(event.task) for event in events}
    for number in range(3):
        own = f"task {number}"
        for kind in (EventKind.ACQUIRE, EventKind.CLOSE):
            assert [tasks[step + number, kind] for step in (0, 100, 200, 300, 400)] == [
                *[own] * 3, "", own,
            ]  # fmt: skip
    assert tasks[500, EventKind.ACQUIRE] == ""


def test_a_child_that_nobody_told_of(run: Callable[..., Run]) -> None:
    """A fork that goes round libc leaves its parent's recording alone."""
    result = run(
        PROBE
        + """
bare(1)
FORK = {"x86_64": 57}.get(os.uname().machine)
if FORK is None:
    sys.exit("no fork system call")
pid = ctypes.CDLL(None).syscall(FORK)
if pid == 0:
    bare(2)
    os._exit(0 if bare(3) == 3 else 1)
assert os.waitpid(pid, 0)[1] == 0
bare(4)
"""
    )
    if "no fork system call" in result.err:
        pytest.skip("no fork system call on this machine")
    with the_recording(result.ok()) as recording:
        assert [event.value for event in recording.events()] == [1, 1, 4, 4]


def test_recording_ends_while_threads_record(run: Callable[..., Run], tmp_path: object) -> None:
    """Starting and stopping beneath eight busy threads."""
    result = run(
        PROBE
        + """
import pathlib

end = threading.Event()

def work(number):
    while not end.is_set():
        bare(number)

threads = [threading.Thread(target=work, args=[n]) for n in range(8)]
for thread in threads:
    thread.start()
_native.stop_recording()
for number in range(60):
    path = pathlib.Path(sys.argv[1], f"{number}.shd")
    _native.start_recording(path, size=2 << 20)
    held(100)
    _native.stop_recording()
end.set()
for thread in threads:
    thread.join()
print(len(pathlib.Path("/proc/self/maps").read_text().split(".shd")) - 1)
""",
        str(tmp_path),
    ).ok()
    assert result.lines == ["0"]  # nothing of them is left mapped


def test_signal_handlers_in_the_middle_of_it(run: Callable[..., Run]) -> None:
    """A handler written in C that records interrupts the interpreter and the
    recorder wherever they are: what it cannot record, it leaves."""
    result = run(
        PROBE
        + """
import time

libc = ctypes.CDLL(None)
libc.signal.argtypes = [ctypes.c_int, ctypes.c_void_p]
libc.signal(14, _native.PROBE_ADDRESS)
every = (ctypes.c_long * 4)(0, 50, 0, 50)
libc.setitimer(0, ctypes.byref(every), None)
end = threading.Event()

def work():
    while not end.is_set():
        bare(1)

def leaf(number):
    return bare(number)

threads = [threading.Thread(target=work) for _ in range(3)]
for thread in threads:
    thread.start()
for number in range(3000):
    [leaf(2 + round) for round in range(3)]
    SafeFileHandle(0, False).close()
end.set()
for thread in threads:
    thread.join()
libc.setitimer(0, ctypes.byref((ctypes.c_long * 4)()), None)
assert _native.live_count() == 0
"""
    ).ok()
    with the_recording(result) as recording:
        events = list(recording.events())
        values = Counter(event.value for event in events if event.kind == EventKind.ACQUIRE)
        assert values[14] > 0
        assert len({event.seq for event in events}) == len(events)
        assert recording.live() == []
        assert recording.header.live == 0
        for event in events:
            if event.value in (2, 3, 4):
                assert recording.stack(event.stack)[0].function == "leaf"


def test_forks_while_threads_record(run: Callable[..., Run]) -> None:
    """Each child goes on in a file of its own, whatever the others were at."""
    result = run(
        PROBE
        + """
end = threading.Event()

def work():
    while not end.is_set():
        bare(1)

threads = [threading.Thread(target=work) for _ in range(4)]
for thread in threads:
    thread.start()
for number in range(20):
    pid = os.fork()
    if pid == 0:
        for each in range(200):
            bare(100 + number)
        held(200)
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0
end.set()
for thread in threads:
    thread.join()
assert _native.live_count() == 0
"""
    ).ok()
    (session,) = result.sessions
    children = set()
    for path in session.glob("*.shd"):
        with open_recording(path) as recording:
            values = Counter(event.value for event in recording.events())
        if 1 in values:
            assert set(values) == {1}
        else:
            (own,) = set(values) - {200}
            assert values == {own: 400, 200: 2}
            children.add(own)
    assert children == set(range(100, 120))


def test_stacks_while_the_interpreter_ends(run: Callable[..., Run]) -> None:
    """The thread that ends it keeps its stacks; daemon threads, whose frames
    are freed then, keep recording."""
    result = run(
        PROBE
        + """
class Last:
    def __del__(self, bare=bare):
        bare(1)

def daemon(bare=bare):
    while True:
        bare(2)

sys.kept = Last()  # __main__ is not torn down while a thread is in it
for _ in range(4):
    threading.Thread(target=daemon, daemon=True).start()
"""
    ).ok()
    with the_recording(result) as recording:
        events = list(recording.events())
        last = [event for event in events if event.value == 1]
        assert len(last) == 2
        for event in last:
            assert recording.stack(event.stack)[0].function == "Last.__del__"
        functions = {
            recording.stack(event.stack)[0].function
            for event in events
            if event.value == 2 and event.stack
        }
        assert functions == {"daemon"}
