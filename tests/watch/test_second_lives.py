"""A number that was closed under its owner, and is somebody else's when the owner closes it.

One program plays all of it, for every sort of first and second holder: the
first one's number is closed with `os.close()`, a second holder gets it, and both
give back what they take for theirs, in either order.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from support_interpose import needs_interposition
from support_programs import run_program
from support_watch import findings_of

pytestmark = needs_interposition

PRELUDE = """
import contextlib, gc, os, select, socket, sys

PATH = "/etc/passwd"
BUSY = int(sys.argv[1])  # numbers to close until the quarantine has let go


def let_go():
    for _ in range(BUSY):
        os.close(os.open(os.devnull, os.O_RDONLY))


def number(holder):
    return holder if isinstance(holder, int) else holder.fileno()


def give_back(holder):
    with contextlib.suppress(OSError):
        os.close(holder) if isinstance(holder, int) else holder.close()
"""

# The holders, as they are made.
HOLDERS = {
    "raw": "os.open(PATH, os.O_RDONLY)",
    "file": "open(PATH, 'rb', buffering=0)",
    "text": "open(PATH)",
    "socket": "socket.socket(socket.AF_UNIX)",
    "epoll": "select.epoll()",
}
OWNERS = {
    "raw": "raw",
    "file": "FileIO",
    "text": "FileIO",
    "socket": "socket",
    "epoll": "epoll",
}


class Case(NamedTuple):
    first: str
    second: str
    order: str  # who gives back first
    by: str  # how the first one goes: closed or dropped

    @property
    def name(self) -> str:
        return "_".join(self)


CASES = [
    Case(*each)
    for each in itertools.product(HOLDERS, HOLDERS, ("first", "second"), ("close", "drop"))
    if each[0] != "raw" or each[3] == "close"
]

PLAY = """
def take_away_{name}(fd):
    os.close(fd)

def second_{name}():
    return {second}

def late_{name}(holder):
    give_back(holder)

def play_{name}():
    first = {first}
    fd = number(first)
    take_away_{name}(fd)
    let_go()
    others = []
    while REUSED and (not others or number(others[-1]) != fd):
        others.append(second_{name}())
    second = others.pop() if others else second_{name}()
    assert (number(second) == fd) is REUSED
    for other in others:
        give_back(other)
    {acts}
"""
LATE = {"close": "late_{name}(first)", "drop": "del first; gc.collect()"}


def source(reused: bool) -> str:
    parts = [PRELUDE, f"REUSED = {reused}"]
    for case in CASES:
        acts = [LATE[case.by].format(name=case.name), "give_back(second)"]
        if case.order == "second":
            acts.reverse()
        parts.append(
            PLAY.format(
                name=case.name,
                first=HOLDERS[case.first],
                second=HOLDERS[case.second],
                acts="\n    ".join(acts),
            )
        )
    return "\n".join([*parts, *(f"play_{case.name}()" for case in CASES), ""])


# quarantine: numbers to close, whether the second holder gets the first one's number
SETTINGS = {"0": ("0", True), "256": ("0", False), "8": ("16", True)}
Found = Mapping[str, list[dict[str, Any]]]


@pytest.fixture(scope="module", params=SETTINGS)
def played(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, Found]:
    """The quarantine's size, and the findings by the case that they are about."""
    size: str = request.param
    busy, reused = SETTINGS[size]
    run = run_program(
        source(reused),
        tmp_path_factory.mktemp("second"),
        busy,
        level=f"full,fds=on,quarantine={size}",
        options=["-W", "ignore"],
    ).ok()
    found: dict[str, list[dict[str, Any]]] = {}
    for each in findings_of(run):
        stacks = [each["culprit"], each["handle"]["opened"]]
        functions = [frame["function"] for stack in stacks for frame in stack]
        name = next(f[5:] for f in functions if f.startswith("play_"))
        found.setdefault(name, []).append(each)
    return size, found


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_one_finding_and_none_against_the_second(played: tuple[str, Found], case: Case) -> None:
    """Who took the number away is to blame, and the second holder the victim."""
    size, found = played
    (told,) = found[case.name]
    culprit = told["culprit"][0]["function"]
    victims = [frame["function"] for frame in (told["victim"] or {}).get("opened", [])]
    owner = told["handle"]["owner"]
    hit = case.order == "first"
    if case.first != "raw":
        assert told["kind"] == ("recycled" if hit else "closed-behind-owner")
        assert culprit == f"take_away_{case.name}"
        assert owner == OWNERS[case.first]
        assert (f"second_{case.name}" in victims) is hit
        assert told["prevented"] is (hit and size == "256")
    elif size == "256":
        assert told["kind"] == ("recycled" if hit else "double-release")
        assert culprit == "give_back"
        assert (f"second_{case.name}" in victims) is hit
    else:
        # Nobody can tell which of its two holders a bare number meant: what is
        # told is about the one that has it now.
        behind = hit and case.second != "raw"
        assert told["kind"] == ("closed-behind-owner" if behind else "double-release")
        assert culprit == "give_back"
        assert owner == OWNERS[case.second]


CORRECT = """
def replaced():
    # What was put in its place by dup2() goes on as the file's.
    first = open(PATH)
    other = os.open(os.devnull, os.O_RDONLY)
    os.dup2(other, first.fileno())
    os.close(other)
    let_go()
    first.close()


def loop_in_child():
    # A child closes what it was left, and its parent's objects are dropped there.
    first, second = open(PATH), socket.socket()
    if os.fork() == 0:
        os.closerange(3, 256)
        let_go()
        mine = [open(PATH) for _ in range(8)]
        del first, second
        gc.collect()
        for each in mine:
            give_back(each)
        os._exit(0)
    os.wait()
    first.close()
    second.close()


def taken_back():
    # It says so, if late: it has nothing to close any more.
    first = socket.socket()
    os.close(first.fileno())
    first.detach()
    let_go()
    socket.socket().close()


def again():
    # The same object, and the same address, with other numbers.
    first = open(PATH, "rb", buffering=0)
    first.__init__(os.devnull)
    first.close()
    for _ in range(8):
        open(PATH).close()
        socket.socket().close()


def while_closing():
    # What a close() in Python closes besides is no business of the object's.
    class Pair(socket.socket):
        def close(self):
            os.close(self.other)
            super().close()

    for _ in range(4):
        pair = Pair()
        pair.other = os.open(PATH, os.O_RDONLY)
        pair.close()
"""


@pytest.mark.parametrize("size", SETTINGS)
def test_look_alikes_are_silent(tmp_path: Path, size: str) -> None:
    """Apart from the replacing of what an object has, of which it is told."""
    calls = "replaced()\nloop_in_child()\ntaken_back()\nagain()\nwhile_closing()\n"
    run = run_program(
        f"{PRELUDE}\n{CORRECT}\n{calls}",
        tmp_path,
        SETTINGS[size][0],
        level=f"full,fds=on,quarantine={size}",
    ).ok()
    told = [(each["kind"], each["culprit"][0]["function"]) for each in findings_of(run)]
    assert told == [("closed-behind-owner", "replaced")]
