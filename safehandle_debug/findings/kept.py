"""What an installed package keeps open on purpose, by how it keeps it.

A package serves the program for its whole life with one reserve, one event
loop, one connection: what it opened once and keeps itself is no leak.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Final

from safehandle_debug.findings.accepted import Accepted, accepted
from safehandle_debug.findings.model import Finding
from safehandle_debug.ledger import Frame, History, site_of

_Call = tuple[tuple[str, int], ...]

_WHY_KEPT: Final = "the package keeps it in a variable of its own, for as long as the program runs"
_WHY_RUNTIME: Final = "a runtime in the package's native code polls with it until the process ends"
_POLLERS: Final = 4  # of one runtime: tokio has three, more are of a second
_PACKAGE: Final = re.compile(r"[/\\](?:site|dist)-packages[/\\](\w+)(?:[/\\]|\.py$)")


def sort_out(
    findings: Iterable[Finding],
) -> tuple[list[Finding], list[tuple[Finding, Accepted]]]:
    """One process' findings: what is to be reported, and what is accepted, by which rule."""
    findings = list(findings)
    calls = Counter[_Call]()
    pollers = Counter[str | None]()
    for each in findings:
        if each.kind == "leak":
            calls[_call(each)] += 1 if _is_pair(each) else each.count
            pollers[_poller_of(each)] += each.count
    reported, left_out = [], []
    for each in findings:
        rule = accepted(each)
        if rule is None and each.kind == "leak" and _is_descriptor(each.handle):
            why: str | None = None
            # Those of an object, a messaging context for example, come from several calls.
            if _is_of_runtime(each) and pollers[_poller_of(each)] <= _POLLERS:
                why = _WHY_RUNTIME
            elif calls[_call(each)] == 1 and _is_kept(each):
                why = _WHY_KEPT
            if why is not None:
                rule = Accepted(_short(each), re.compile(".*"), why, with_child=False)
        if rule is None:
            reported.append(each)
        else:
            left_out.append((each, rule))
    return reported, left_out


def _call(finding: Finding) -> _Call:
    """The frames down from the package's own: an event loop is opened in one
    call of it, but in three of the library."""
    site = site_of(finding.handle.opened)
    frames = []
    for frame in finding.handle.opened:
        frames.append((frame.file, frame.instruction))
        if frame is site:
            break
    return tuple(frames)


def _package_of(frame: Frame | None) -> re.Match[str] | None:
    return None if frame is None else _PACKAGE.search(frame.file)


def _short(finding: Finding) -> str:
    site = site_of(finding.handle.opened)
    package = _package_of(site)
    return "?" if site is None or package is None else site.file[package.start(1) :]


def _is_descriptor(handle: History) -> bool:
    """A dead child that a package keeps is still one that nobody waited for."""
    return handle.watched and handle.space != "pid"


def _is_pair(finding: Finding) -> bool:
    """True for the two ends of one pipe or socketpair."""
    return (
        finding.count == 2
        and finding.handle.kind in ("pipe", "socket")
        and _are_neighbours(finding.serials)
    )


def _are_neighbours(serials: Sequence[int]) -> bool:
    return max(serials) - min(serials) == len(serials) - 1


def _is_kept(finding: Finding) -> bool:
    """True for what only variables of the package hold which opened it, by what
    the process said at its end."""
    package = _package_of(site_of(finding.handle.opened))
    # A search that was cut says so in a line of its own.
    chains = [line for line in finding.holders if not line.startswith("(")]
    return (
        package is not None
        and bool(chains)
        and all(line.startswith(package[1] + ".") for line in chains)
    )


def _poller_of(finding: Finding) -> str | None:
    """The package in whose native code something is opened to poll with.

    Python's own have owners."""
    history = finding.handle
    if (
        history.ending not in (None, "lost")
        or history.kind not in ("epoll", "eventfd")
        or history.owner != "raw"
        or not history.opened
    ):
        return None
    package = _package_of(history.opened[0])
    return None if package is None else package[1]


def _is_of_runtime(finding: Finding) -> bool:
    """True for the pollers of a runtime in a package's native code (tokio, ...),
    which starts at the first call that needs it and never ends."""
    return (
        _poller_of(finding) is not None
        and finding.count == len(finding.serials) <= _POLLERS
        and _are_neighbours(finding.serials)
    )
