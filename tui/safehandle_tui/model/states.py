"""What can be said of a session as a whole, and the words for it."""

from __future__ import annotations

import signal
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Final, Literal

from safehandle_debug.ledger import ProcessInfo
from safehandle_debug.recording.sessions import refusal
from safehandle_tui.model.rows import MANY, Bunch, SiteKey
from safehandle_tui.model.text import Line, Span, count, plural
from safehandle_tui.model.tracks import ProcessRow

__all__ = [
    "State",
    "badge",
    "headline",
    "killed",
    "process_state",
    "state_of",
    "tally",
    "waiting_lines",
]

# waiting: no recording yet.  live: a process runs.  ended: all are gone.
# died: all are gone, and the first, or one that held handles, did not end by
# itself.  disconnected: no recording can be read any more.
State = Literal["waiting", "live", "ended", "died", "disconnected"]

_BADGES: Final[dict[State, Span]] = {
    "waiting": ("○ WAITING", "muted"),
    "live": ("● LIVE", "good"),
    "ended": ("○ ENDED", "strong"),
    "died": ("✗ DIED", "bad"),
    "disconnected": ("✗ DISCONNECTED", "bad"),
}


def state_of(processes: Sequence[ProcessRow]) -> State:
    """The state of a session from those of its processes."""
    if not processes:
        return "waiting"
    readable = [each for each in processes if each.info is not None and each.error is None]
    if not readable:
        return "disconnected"
    if any(_ended(each) == "running" for each in readable):
        return "live"
    # Children that leave by os._exit or exec are as good as killed for us,
    # and nothing to be alarmed about when they hold nothing.
    died = [each for each in readable if _ended(each) == "signal"]
    return "died" if readable[0] in died or any(each.open for each in died) else "ended"


def _ended(process: ProcessRow) -> str:
    return process.info.ended if process.info is not None else ""


def badge(state: State, *, paused: bool, past: bool = False) -> Span:
    """The one word at the right of the top line."""
    if past:
        return "◄ REPLAY", "warn"
    if paused:
        return "‖ PAUSED", "warn"
    return _BADGES[state]


def process_state(process: ProcessRow) -> Span:
    """One process's state: "● running", "○ exit 0", "✗ killed by SIGKILL"."""
    info = process.info
    if info is None:
        return "✗ unreadable", "bad"
    if process.error is not None:
        return "✗ disconnected", "bad"
    if info.ended == "running":
        return "● running", "good"
    if info.ended == "signal":
        if info.exit_code is None and process.depth and not process.open:
            return "○ gone", "muted"
        return f"✗ {killed(info)}", "bad"
    if info.exit_code in (0, None):
        return "○ exited" + (" 0" if info.exit_code == 0 else ""), "text"
    return f"○ exited {info.exit_code}", "warn"


def killed(info: ProcessInfo) -> str:
    """ "killed by SIGSEGV", or "killed" when nobody noted the signal."""
    if info.exit_code is None:
        return "killed"
    try:
        return f"killed by {signal.Signals(abs(info.exit_code)).name}"
    except ValueError:
        return f"killed by signal {abs(info.exit_code)}"


def waiting_lines(place: str) -> list[Line]:
    """What to do when there is no recording yet; `place` is the folder."""
    return [
        (("Waiting for the first process", "title"),),
        (),
        (("Run:  ", "muted"), ("SAFEHANDLE_DEBUG=full python app.py", "key")),
        (),
        _watching(place),
    ]


def _watching(place: str) -> Line:
    refused = refusal(Path(place))
    return ((refused, "bad"),) if refused is not None else ((f"watching {place}", "muted"),)


def _top_site(bunches: Sequence[Bunch]) -> tuple[str, int]:
    """The site with most handles, and how many; ("", 0) for none."""
    sites: Counter[SiteKey] = Counter()
    for bunch in bunches:
        sites[bunch.site_key] += bunch.count
    if not sites:
        return "", 0
    key, number = sites.most_common(1)[0]
    return next(bunch.site for bunch in bunches if bunch.site_key == key), number


def headline(
    state: State,
    processes: Sequence[ProcessRow],
    bunches: Sequence[Bunch],
    *,
    past: bool = False,
) -> Line:
    """The one sentence that says how things stand.

    Args:
        state: of the processes in view.
        processes: those in view.
        bunches: all their handles, before any filter.
        past: they are those of an earlier moment.
    """
    alive = [bunch for bunch in bunches if bunch.is_open and not bunch.importing]
    imported = sum(bunch.count for bunch in bunches if bunch.is_open and bunch.importing)
    number = sum(bunch.count for bunch in alive)
    site, most = _top_site(alive)
    opening = _opening("live" if past else state, processes, alive)
    line: list[Span] = [("then: ", "accent")] if past else []
    line += opening
    if most >= MANY and most * 2 >= number:
        share = "all" if most == number else count(most)
        line += [(f"; {share} come from " if alive else "", "text"), (site, "own")]
    elif number > 1:
        sites = len({bunch.site_key for bunch in alive})
        line.append((f" at {plural(sites, 'site')}", "text"))
    if imported:
        line.append((f"  (+{count(imported)} kept since an import)", "muted"))
    return tuple(line)


def _opening(
    state: State, processes: Sequence[ProcessRow], alive: Sequence[Bunch]
) -> tuple[Span, ...]:
    number = sum(bunch.count for bunch in alive)
    if state == "disconnected":
        reason = next((each.error for each in processes if each.error), "")
        return (("disconnected: ", "bad"), (f"{reason}; showing the last view", "text"))
    counted = sum(each.info.bare for each in processes if each.info is not None)
    if counted and not number:
        text = f"{plural(counted, 'descriptor')} open, counted only"
        return ((text, "warn"), (": where they come from is not recorded", "text"))
    if state == "live":
        gone = sum(bunch.count for bunch in alive if bunch.life != "open")
        if not number:
            return (("no handles open", "good"),)
        if not gone:
            return ((plural(number, "handle"), "strong"), (" open", "text"))
        return (
            (f"{plural(number - gone, 'handle')} open, ", "text"),
            (count(gone), "warn"),
            (" left by processes that ended", "text"),
        )
    if state == "died":
        if not number:
            return (("post-mortem: ", "bad"), ("died holding no handles", "text"))
        return (
            ("post-mortem: ", "bad"),
            ("died holding ", "text"),
            (plural(number, "handle"), "warn"),
        )
    if not number:
        return (("ended: ", "text"), ("every handle was closed", "good"))
    were = "was" if number == 1 else "were"
    return (
        ("ended: ", "text"),
        (plural(number, "handle"), "bad"),
        (f" {were} never closed", "text"),
    )


def tally(
    findings: Sequence[tuple[str, int]], abandoned: int, lost: int, reading: int = 0
) -> Line:
    """What else is to be known: findings by kind, abandoned handles, losses.

    Args:
        findings: kind and number of each error other than leaks.
        abandoned: handles that were closed by a finalizer.
        lost: events that were dropped to stay inside the recording's bound.
        reading: events that are just being read for the first time.
    """
    line: list[Span] = []
    if reading:
        line += [("  ", "text"), (f"reading {plural(reading, 'event')} …", "accent")]
    for kind, number in findings:
        line += [("  ", "text"), (f"✗ {count(number)} {kind}", "bad")]
    if abandoned:
        line += [("  ", "text"), (f"! {count(abandoned)} abandoned", "warn")]
    if lost:
        line += [("  ", "text"), (f"! {plural(lost, 'event')} lost", "warn")]
    return tuple(line[1:])
