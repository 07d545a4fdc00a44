"""Critical finalization: what runs before what, in one collection."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from support_programs import Run

PROBES = """
import gc, os, random, sys, weakref
from safehandle_debug import CriticalFinalizer, SafeFileHandle, SafeHandle, _native

log = []
unraisable = []
sys.unraisablehook = lambda args: unraisable.append(repr(args.exc_value))
gc.disable()

class Ordinary:
    def __init__(self, *held):
        self.held = held
        self.others = []
    def __del__(self):
        log.append("ordinary")
        for handle in self.held:
            if handle.is_closed:
                log.append("too late")

class Critical(SafeHandle):
    def __init__(self):
        super().__init__(-1)
        self.word = "critical"
        self.others = []
        self.set_handle(5)
    @property
    def is_invalid(self):
        return self.handle == -1
    def release_handle(self):
        log.append(self.word)
        return True

class Slotted(SafeHandle):
    __slots__ = ("word", "others")
    def __init__(self):
        super().__init__(-1)
        self.word = "critical"
        self.others = []
        self.set_handle(6)
    @property
    def is_invalid(self):
        return self.handle == -1
    def release_handle(self):
        log.append(self.word)
        return True
"""


@pytest.mark.parametrize("seed", range(3))
def test_random_graphs(run: Callable[..., Run], seed: int) -> None:
    """1,000 ordinary and 1,000 critical objects that refer to each other at random."""
    result = run(
        PROBES
        + f"""
dice = random.Random({seed})
criticals = [dice.choice([Critical, Slotted])() for _ in range(1000)]
ordinaries = [Ordinary(*dice.sample(criticals, dice.randrange(4))) for _ in range(1000)]
everything = criticals + ordinaries
dice.shuffle(everything)
for one, other in zip(everything, everything[1:] + everything[:1]):
    one.others.append(other)
    one.others.append(dice.choice(everything))
before = _native.live_count()
assert before == 1000
del one, other, everything, criticals, ordinaries
gc.collect()
assert log == ["ordinary"] * 1000 + ["critical"] * 1000, (
    log[:5], log.count("ordinary"), log.count("critical"), log.count("too late"))
assert _native.live_count() == 0
gc.collect()
assert len(log) == 2000
assert unraisable == [], unraisable
""",
        level="off",
    ).ok()
    assert result.err == ""


def test_classes_that_die_in_the_same_pass(run: Callable[..., Run]) -> None:
    """Handles whose classes are garbage too still find hook and attributes."""
    run(
        PROBES
        + """
def make():
    class Dying(Critical):
        def release_handle(self):
            log.append(self.word + " " + type(self).__name__)
            return super().release_handle()
    class DyingSlotted(Slotted):
        __slots__ = ("more",)
        def release_handle(self):
            log.append(self.more + " " + type(self).__name__)
            return super().release_handle()
    class DyingOrdinary(Ordinary):
        pass
    one, two, three = Dying(), DyingSlotted(), DyingOrdinary()
    two.more = "more"
    one.others.append(two)
    two.others.append(three)
    three.others.append(one)
    return weakref.ref(Dying), weakref.ref(DyingSlotted)

classes = [reference for _ in range(100) for reference in make()]
gc.collect()
assert log[:100] == ["ordinary"] * 100
assert sorted(set(log[100:])) == ["critical", "critical Dying", "more DyingSlotted"]
assert len(log) == 100 + 4 * 100
gc.collect()
assert [reference() for reference in classes] == [None] * 200
assert unraisable == [], unraisable
""",
        level="off",
    ).ok()


def test_refcount_death_is_in_order_too(run: Callable[..., Run]) -> None:
    """Outside a pass the wrapper's finalizer runs before its handle's release."""
    run(
        PROBES
        + """
for _ in range(100):
    Ordinary(Critical(), Slotted())
assert log == ["ordinary", "critical", "critical"] * 100
""",
        level="off",
    ).ok()


def test_every_generation_is_in_order(run: Callable[..., Run]) -> None:
    """Automatic collections of young garbage keep the order as well."""
    run(
        PROBES
        + """
gc.set_threshold(50, 5, 5)
passes = []
def note(phase, info):
    if phase == "start":
        passes.append(len(log))
gc.callbacks.append(note)
gc.enable()
for _ in range(20_000):
    cycle = [Ordinary(), Critical()]
    cycle.append(cycle)
    del cycle
gc.disable()
gc.collect()
assert len(passes) > 50
assert log.count("ordinary") == log.count("critical") == 20_000
for start, end in zip(passes, passes[1:] + [len(log)]):
    of_pass = log[start:end]
    assert of_pass == sorted(of_pass, reverse=True), of_pass
""",
        level="off",
    ).ok()


def test_resurrected_by_a_wrapper(run: Callable[..., Run]) -> None:
    """A handle that a wrapper saves is released in the pass; its second death is
    silent, and the wrapper's other handles go with it."""
    run(
        PROBES
        + """
saved = []
class Saving(Ordinary):
    def __del__(self):
        super().__del__()
        saved.append(self.held[0])

for held in [Critical(), Slotted()]:
    wrapper = Saving(held, Critical())
    wrapper.others.append(wrapper)
    held = None
del wrapper, held
gc.collect()
assert log == ["ordinary"] * 2 + ["critical"] * 4, log
assert [handle.is_closed for handle in saved] == [True] * 2
del saved[:]
gc.collect()
assert len(log) == 6
assert _native.live_count() == 0
assert unraisable == [], unraisable
""",
        level="full,fds=off",
    ).ok()


def test_a_native_handle_resurrected_by_a_wrapper(run: Callable[..., Run]) -> None:
    """It has no finalizer of its own: it lives on, and closes when it really dies."""
    run(
        PROBES
        + """
saved = []
class Saving(Ordinary):
    def __del__(self):
        super().__del__()
        saved.append(self.held[0])

class Subclass(SafeFileHandle):
    pass

for kind in (SafeFileHandle, Subclass):
    wrapper = Saving(kind.open("/dev/null", os.O_RDONLY))
    fd = wrapper.held[0].handle
    wrapper.others.append(wrapper)
    del wrapper
    gc.collect()
    assert not saved[0].is_closed
    with saved[0].hold() as number:
        os.fstat(number)
    del saved[:]
    gc.collect()
    assert not os.path.exists(f"/proc/self/fd/{fd}")
    assert _native.live_count() == 0
""",
        level="full,fds=off",
    ).ok()


def test_resurrected_by_its_own_hook(run: Callable[..., Run]) -> None:
    """A hook that stores its handle: released once, for ever closed."""
    run(
        PROBES
        + """
saved = []
class Saving(Critical):
    def release_handle(self):
        saved.append(self)
        return super().release_handle()

Saving()
handle = Saving()
handle.others.append(handle)
del handle
gc.collect()
assert log == ["critical"] * 2
assert [handle.is_closed for handle in saved] == [True, True]
del saved[:]
gc.collect()
gc.collect()
assert log == ["critical"] * 2, log
assert saved == []
""",
        level="off",
    ).ok()


def test_nested_collections(run: Callable[..., Run]) -> None:
    """Finalizers and hooks that collect, in a pass and outside one."""
    run(
        PROBES
        + """
class CollectingOrdinary(Ordinary):
    def __del__(self):
        super().__del__()
        cycle = [Ordinary(), Critical()]
        cycle.append(cycle)
        del cycle
        gc.collect()

class CollectingCritical(Critical):
    def release_handle(self):
        cycle = [Critical()]
        cycle.append(cycle)
        del cycle
        gc.collect()
        return super().release_handle()

for _ in range(30):
    one, other = CollectingOrdinary(), CollectingCritical()
    one.others.append(other)
    other.others.append(one)
del one, other
gc.collect()
gc.collect()
gc.collect()
assert log.count("ordinary") == 60, log.count("ordinary")
assert log.count("critical") == 90, log.count("critical")
assert log[:30] == ["ordinary"] * 30
assert _native.live_count() == 0
CollectingCritical()
gc.collect()
assert log.count("critical") == 92
assert unraisable == [], unraisable
""",
        level="off",
    ).ok()


@pytest.mark.parametrize("kind", ["Critical", "Slotted", "SafeFileHandle"])
@pytest.mark.parametrize("how", ["dropped", "collected", "exit"])
def test_a_chain_of_handles(run: Callable[..., Run], kind: str, how: str) -> None:
    """100,000 handles, each the only one that holds the next."""
    result = run(
        PROBES
        + f"""
class Link({kind}):
    __slots__ = ("following",)

first = None
for _ in range(100_000):
    link = Link() if {kind!r} != "SafeFileHandle" else Link(-1)
    link.following = first
    first = link
del link
how = {how!r}
if how != "exit":
    if how == "collected":
        last = first
        while last.following is not None:
            last = last.following
        last.following = first
        del last
    del first
    gc.collect()
    if {kind!r} != "SafeFileHandle":
        assert len(log) == 100_000, len(log)
    assert _native.live_count() == 0
    assert unraisable == [], unraisable[:3]
print("ok")
""",
        level="off",
    ).ok()
    assert result.lines == ["ok"]
    assert result.err == ""


def test_critical_finalizers_that_are_no_handles(run: Callable[..., Run]) -> None:
    """The public base, mixed with handles: all after the ordinary ones."""
    run(
        PROBES
        + """
class Plain(CriticalFinalizer):
    def __init__(self):
        self.word = "critical"
    def finalize(self):
        log.append(self.word)

for number in range(500):
    cycle = [Ordinary(), Plain(), Critical()]
    random.Random(number).shuffle(cycle)
    cycle.append(cycle)
    del cycle
gc.collect()
assert log == ["ordinary"] * 500 + ["critical"] * 1000
assert unraisable == [], unraisable
""",
        level="off",
    ).ok()


def test_finalizers_with_every_kind_of_error(run: Callable[..., Run]) -> None:
    """Hooks that raise, even SystemExit, stop nobody else and end nothing."""
    run(
        PROBES
        + """
class Raising(Critical):
    def release_handle(self):
        super().release_handle()
        raise self.error

errors = [LookupError("x"), SystemExit(9), RecursionError(), MemoryError(), GeneratorExit()]
for error in errors * 10:
    handle = Raising()
    handle.error = error
    handle.others.append(handle)
    cycle = [Ordinary(), Critical()]
    cycle.append(cycle)
    del handle, cycle
gc.collect()
assert log == ["ordinary"] * 50 + ["critical"] * 100, len(log)
assert len(unraisable) == 50, len(unraisable)
print("ok")
""",
        level="off",
    ).ok()


def test_an_interrupt_in_a_hook_is_not_swallowed(run: Callable[..., Run]) -> None:
    """KeyboardInterrupt belongs to the program: it is raised once the hooks are through."""
    run(
        PROBES
        + """
class Interrupted(Critical):
    def release_handle(self):
        super().release_handle()
        raise KeyboardInterrupt

for collect in (False, True):
    caught = 0
    try:
        cycle = [Interrupted(), Critical()]
        if collect:
            cycle.append(cycle)
        del cycle
        gc.collect()
        for _ in range(100):
            pass
    except KeyboardInterrupt:
        caught += 1
    gc.collect()
    assert caught == 1, collect
assert log == ["critical"] * 4, log
assert unraisable == [], unraisable
""",
        level="off",
    ).ok()


def test_buffered_data_survives_a_collection(run: Callable[..., Run]) -> None:
    """The wrapper that buffers flushes through the handle that dies with it."""
    run(
        PROBES
        + """
import io

class Raw(io.RawIOBase):
    def __init__(self, handle):
        self.handle = handle
    def writable(self):
        return True
    def write(self, data):
        with self.handle.hold() as fd:
            return os.write(fd, data)
    def __del__(self):
        pass

for number in range(50):
    path = f"file{number}"
    raw = Raw(SafeFileHandle.open(path, os.O_WRONLY | os.O_CREAT))
    buffered = io.BufferedWriter(raw)
    buffered.write(b"data")
    cycle = [buffered, raw]
    raw.cycle = cycle
    cycle.append(cycle)
    del raw, buffered, cycle
gc.collect()
sizes = [os.path.getsize(f"file{number}") for number in range(50)]
assert sizes == [4] * 50, sizes
assert _native.live_count() == 0
""",
        level="off",
    ).ok()
