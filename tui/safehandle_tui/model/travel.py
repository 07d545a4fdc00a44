"""Time travel: how things stood right after any event of a recording."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from safehandle_tui.model.generations import Mark, name_of
from safehandle_tui.model.spec import Moment
from safehandle_tui.model.text import Line, Span, clock, count
from safehandle_tui.model.tracks import Track

__all__ = ["Timeline", "timeline", "timeline_line", "travelled"]

_HUNDREDTH: Final = 100


@dataclass(frozen=True, slots=True)
class Timeline:
    """Where in the life of the process the screen is."""

    at_ns: int  # wall clock
    started_ns: int
    until_ns: int
    seq: int
    last_seq: int
    seqs: dict[Path, int]  # of each process in scope
    alarms_ns: tuple[int, ...]
    marks: tuple[tuple[str, int], ...]  # name, wall clock


def travelled(tracks: Sequence[Track], moment: Moment, steps: Sequence[str]) -> Moment | None:
    """Where steps lead from a moment; None when nothing can be read.

    Args:
        steps: "+1" and "-1" one event, "+%" and "-%" a hundredth of all, "+!"
            and "-!" to the next alarm or the one before, "@NS" on to a wall clock
            time.
    """
    path, seq = moment
    track = next((each for each in tracks if str(each.path) == path), None)
    track = track or next((each for each in tracks if each.numbers is not None), None)
    if track is None or track.numbers is None:
        return None
    last = track.numbers.last_seq
    if str(track.path) != path or seq < 0:
        seq = last
    for step in steps:
        seq = max(1, min(_moved(track, seq, last, step), last))
    return (str(track.path), seq)


def _moved(track: Track, seq: int, last: int, step: str) -> int:
    forward, kind = step[0] == "+", step[1:]
    if step[0] == "@" and track.numbers is not None:
        return max(seq, track.numbers.seq_at(int(kind)))
    if kind == "!":
        alarms = track.alarms()
        at = bisect_right(alarms, seq) if forward else bisect_left(alarms, seq) - 1
        return alarms[at] if 0 <= at < len(alarms) else seq
    far = max(1, last // _HUNDREDTH) if kind == "%" else 1
    return seq + far if forward else seq - far


def timeline(tracks: Sequence[Track], moment: Moment, marks: Sequence[Mark]) -> Timeline | None:
    """The place of a moment among all that is recorded."""
    path, seq = moment
    track = next((each for each in tracks if str(each.path) == path), None)
    if track is None or track.numbers is None:
        return None
    numbers = track.numbers
    at_ns = numbers.time_of(seq)
    seqs = {track.path: seq}
    for other in tracks:
        if other is not track and other.numbers is not None:
            seqs[other.path] = other.numbers.seq_at(at_ns)
    started = track.started_ns or at_ns
    return Timeline(
        at_ns=at_ns,
        started_ns=started,
        until_ns=max(numbers.time_of(numbers.last_seq), at_ns),
        seq=seq,
        last_seq=numbers.last_seq,
        seqs=seqs,
        alarms_ns=tuple(numbers.time_of(each) for each in track.alarms()[:200]),
        marks=tuple((name_of(at), mark.at_ns) for at, mark in enumerate(marks, 1)),
    )


def timeline_line(line: Timeline, cells: int, playing: str = "") -> Line:
    """The time bar: alarms, marks and where we are; `playing`: how fast."""
    left = f" {clock(line.at_ns - line.started_ns, fine=True)} "
    right = f" {clock(line.until_ns - line.started_ns)}  event {count(line.seq)} of"
    right += f" {count(line.last_seq)} "
    if playing:
        right = f" {playing} {right}"
    room = max(4, cells - len(left) - len(right) - 2)
    length = max(1, line.until_ns - line.started_ns)

    def cell(at_ns: int) -> int:
        return min(room - 1, max(0, (at_ns - line.started_ns) * room // length))

    signs: dict[int, Span] = {}
    for at_ns in line.alarms_ns:
        signs[cell(at_ns)] = ("✗", "bad")
    for name, at_ns in line.marks:
        signs[cell(at_ns)] = (name[0], "accent")
    signs[cell(line.at_ns)] = ("●", "key")
    spans: list[Span] = [(left, "key"), ("├", "rule")]
    for at in range(room):
        spans.append(signs.get(at, ("─", "rule")))
    spans += [("┤", "rule"), (right, "muted")]
    joined: list[Span] = []
    for text, role in spans:
        if joined and joined[-1][1] == role:
            joined[-1] = (joined[-1][0] + text, role)
        else:
            joined.append((text, role))
    return tuple(joined)
