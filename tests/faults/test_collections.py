"""A collection at nearly every allocation, while threads share handles.

Whatever a collection may run at any moment (hooks that allocate, drop handles,
collect themselves), nothing deadlocks and everything is released once.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from support_faults import PROGRAM, SCENARIOS, preloaded
from support_programs import Run

# A collection of the youngest objects at each allocation of a container, and one
# of all of them at every few of those.
EAGER = """
gc.collect()
gc.freeze()  # what the program itself is made of
gc.enable()
gc.set_threshold(1, 3, 3)
"""

SCENARIO = """
for _ in range(200):
    attempt(lambda: arm(b"", 0, 0), disarm, None, "collecting")
assert unraisable == [], unraisable
assert gc.get_stats()[2]["collections"] > 100
print("well")
"""

THREADS = """
import threading

THREADS, ROUNDS = 4, 150
released, lock = [], threading.Lock()


class Node(SafeHandle):
    # Drops others in its hook, allocates, and now and then collects.
    def __init__(self, value, *others):
        super().__init__(-1)
        self.others = list(others)
        self.set_handle(value)

    @property
    def is_invalid(self):
        return self.handle == -1

    def release_handle(self):
        released.append(self.handle)
        self.others.clear()
        if self.handle % 50 == 0:
            gc.collect()
        return True


class Wrapper:
    def __init__(self, handle):
        self.handle, self.itself = handle, self

    def __del__(self):
        assert not self.handle.is_closed
        with self.handle.hold() as fd:
            os.write(fd, b"x")


def work(number):
    barrier.wait()
    for round_ in range(ROUNDS):
        base = (number * ROUNDS + round_) * 4
        first = Node(base)
        second = Node(base + 1, first)
        third = Node(base + 2, second)
        third.others.append(third)
        Wrapper(SafeFileHandle.open("/dev/null", os.O_WRONLY))
        reader, writer = SafePipeHandle.pair()
        with shared.hold(), Node(base + 3):
            writer.close()
        one, other = SafeSocketHandle.pair()
        kept = [SafePipeHandle.from_socket(one), one, other]
        kept.append(kept)
        hold = shared.hold()
        hold.__enter__()
        hold.__exit__(None, None, None)
        racing[round_].close()


before = standing()
racing = [SafeFileHandle.memfd("racing") for _ in range(ROUNDS)]
barrier = threading.Barrier(THREADS)
sys.setswitchinterval(1e-5)
threads = [threading.Thread(target=work, args=(number,)) for number in range(THREADS)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
gc.disable()
del racing[:], thread, threads
for _ in range(3):
    gc.collect()
assert standing() == before, (before, standing())
assert sorted(released) == list(range(THREADS * ROUNDS * 4)), len(released)
assert unraisable == [], unraisable
shared.close()
print("well")
"""


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_each_scenario(run: Callable[..., Run], failing: Path, scenario: str) -> None:
    result = run(
        PROGRAM + EAGER + SCENARIO,
        scenario,
        str(failing),
        env=preloaded(failing),
    ).ok()
    assert result.lines == ["well"]


@pytest.mark.parametrize("level", ["off", "full"])
def test_threads(run: Callable[..., Run], failing: Path, level: str) -> None:
    result = run(
        PROGRAM + EAGER + THREADS,
        "held",
        str(failing),
        level=level,
        env=preloaded(failing),
    ).ok()
    assert result.lines == ["well"]
    if level == "full":
        for history in result.first().handles:
            assert not {"release-failed", "double-release"} & {
                event.kind for event in history.events
            }
