"""What libraries keep open on purpose: found, and not reported.

Only frames of the library itself count, and only these few places.
`safehandle report --verbose` lists what was left out here and why.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from safehandle_debug.findings.model import Finding, FindingKind
from safehandle_debug.ledger import Frame, History, is_standard
from safehandle_debug.ledger.watched import after_finalizer


@dataclass(frozen=True, slots=True)
class Accepted:
    """A place of a library, and why what it opens may stay open."""

    module: str  # path below the library's folder
    function: re.Pattern[str]  # of the qualified name
    reason: str
    with_child: bool = False  # the process that it starts may stay unwaited for, too


def _rule(module: str, function: str, reason: str, *, with_child: bool = False) -> Accepted:
    return Accepted(module, re.compile(function), reason, with_child)


RULES: Final = (
    _rule(
        "multiprocessing/resource_tracker.py",
        r"ResourceTracker\..*",
        "one tracker process and its pipe serve the program for its whole life",
        with_child=True,
    ),
    _rule(
        "multiprocessing/forkserver.py",
        r"ForkServer\..*",
        "one server process and its socket serve the program for its whole life",
        with_child=True,
    ),
    _rule(
        "multiprocessing/forkserver.py",
        r"main|_serve_one",
        "the server process keeps its pipes as long as it serves",
    ),
    _rule(
        "multiprocessing/spawn.py",
        r"spawn_main",
        "a child keeps the pipe that tells it of its parent's end",
    ),
    _rule(
        "multiprocessing/util.py",
        r"_close_stdin",
        "a child's standard input is the null device for its whole life",
    ),
    _rule(
        "multiprocessing/popen_fork.py",
        r"Popen\._launch",
        "a process object keeps the pipe that tells of its child's end until it goes itself",
    ),
    _rule(
        "multiprocessing/popen_spawn_posix.py",
        r"Popen\._launch",
        "a process object keeps the pipe that tells of its child's end until it goes itself",
    ),
    _rule(
        "multiprocessing/popen_forkserver.py",
        r"Popen\._launch",
        "a process object keeps the pipe that tells of its child's end until it goes itself",
    ),
    _rule(
        "multiprocessing/queues.py",
        r"(?:Simple|Joinable)?Queue\.__init__",
        "queues have no need of close(): their pipe goes with the last reference",
    ),
    _rule(
        "multiprocessing/managers.py",
        r"BaseProxy\._connect",
        "a proxy keeps one connection to its manager for each thread",
    ),
    _rule(
        "multiprocessing/managers.py",
        r"BaseManager\._run_server|Server\..*",
        "a manager's process listens and serves until it is ended",
    ),
    _rule(
        "multiprocessing/heap.py",
        r"Arena\.__init__",
        "shared values keep their memory, and its file, for the life of the program",
    ),
)
_INSTALLED: Final = (
    _rule(
        "billiard/heap.py",
        r"Arena\.__init__",
        "shared values keep their memory, and its file, for the life of the program",
    ),
    _rule(
        "loky/backend/resource_tracker.py",
        r"ResourceTracker\..*",
        "one tracker process and its pipe serve the program for its whole life",
        with_child=True,
    ),
    _rule(
        "gunicorn/workers/base.py",
        r"Worker\.init_process",
        "a worker keeps the pipe that wakes it until it goes itself",
    ),
    _rule(
        "gevent/hub.py",
        r"Hub\..*",
        "a hub and its event loop live as long as their thread",
    ),
    _rule(
        "uvloop/__init__.py",
        r".*new_event_loop",
        "libuv keeps a pipe for signals until its library is unloaded, after the end",
    ),
)
_SYSTEM: Final = ("/dev/", "/etc/", "/lib", "/proc/", "/run/", "/sys/", "/usr/", "/var/run/")
_KINDS: Final[frozenset[FindingKind]] = frozenset({"leak", "abandoned"})


def accepted(finding: Finding) -> Accepted | None:
    """The rule that accepts a finding; None when it is to be reported."""
    if finding.kind not in _KINDS or not finding.handle.watched:
        return None
    is_child = finding.handle.space == "pid"
    for frame in finding.handle.opened:
        path = frame.file.replace("\\", "/")
        for rule in RULES if is_standard(frame.file) else _INSTALLED:
            if (
                (rule.with_child or not is_child)
                and path.endswith("/" + rule.module)
                and rule.function.fullmatch(frame.function)
            ):
                return rule
    return None


def is_of_libc(history: History) -> bool:
    """True for what libc and runtimes like it may have opened for themselves:
    all that is not a file or folder of somebody's data."""
    path = history.detail or ""
    return (
        history.kind not in ("file", "directory")
        or not path.startswith("/")
        or path.startswith(_SYSTEM)
        or ".so" in path.rpartition("/")[2]
    )


def is_internal(history: History) -> bool:
    """True when one call of the standard library opened the handle and dropped
    it again: the program never had it, and could not have closed it."""
    close = next((each for each in reversed(history.events) if each.kind == "close"), None)
    if close is None or history.space != "fd":
        return False
    opened_in, opened_by = _split(history.opened)
    _, dropped_by = _split(after_finalizer(close.stack))
    return bool(opened_in) and opened_by == dropped_by


def _split(stack: Sequence[Frame]) -> tuple[Sequence[Frame], Sequence[tuple[str, str, int]]]:
    """The innermost frames that are the standard library's, and where the
    others stand.

    What a function of the library had in its variables goes as it returns: then
    the instruction that called it is still the one that runs, while what it
    gave back is dropped by a later one of the same line."""
    count = next(
        (number for number, frame in enumerate(stack) if not is_standard(frame.file)), len(stack)
    )
    others = [(frame.file, frame.function, frame.instruction) for frame in stack[count:]]
    return stack[:count], others
