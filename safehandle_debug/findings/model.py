"""A finding: something wrong, with the handle and all the stacks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from safehandle_debug.ledger import Event, Frame, History

FindingKind = Literal[
    "leak",
    "abandoned",
    "double-release",
    "recycled",
    "use-after-close",
    "closed-behind-owner",
    "double-owner",
    "unbalanced",
    "release-failed",
]

Severity = Literal["error", "warning"]


@dataclass(frozen=True, slots=True)
class Finding:
    """What is wrong with one handle, or with `count` handles alike."""

    kind: FindingKind
    severity: Severity  # "warning" for `abandoned` only
    fingerprint: str  # 16 hexadecimal digits, stable between runs
    count: int  # handles alike, at least 1
    pid: int
    thread: str
    task: str | None
    test: str | None
    message: str  # one sentence, without a full stop
    handle: History  # with its events; an example when count > 1
    culprit: tuple[Frame, ...]  # stack of the wrong act, innermost first
    victim: History | None = None
    prevented: bool = False
    events: tuple[Event, ...] = ()  # those that prove it, oldest first
    serials: tuple[int, ...] = ()  # of the first few handles alike
    cwd: str = ""  # of the process: paths below it are shown relative
    sample: int = 1  # its process recorded one handle in so many
    holders: tuple[str, ...] = ()  # what kept its owner alive to the end, a line each
