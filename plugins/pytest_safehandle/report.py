"""What is said about handles, in pytest's manner.

Frames are `path:line: in function`, outermost first, as in `--tb=short`: editors
link them.  The first line of each text says how many, what and where, because
the short summary shows no more.  Plain text in, plain text out: nothing here
asks pytest or the core for anything.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from pytest_safehandle.words import DONE, count
from safehandle_debug.findings.source import excerpt
from safehandle_debug.ledger import is_library, is_ours, site_of

if TYPE_CHECKING:
    from safehandle_debug.findings import Finding
    from safehandle_debug.ledger import Event, Frame, History

__all__ = ["Leak", "Writer"]

MOST_REFERENCES: Final = 6  # add-refs and releases shown unless asked for all
MOST_OTHERS: Final = 20  # further handles listed
MOST_ITERATIONS: Final = 40  # of a repeated body, each with its growth
MOST_COLUMNS: Final = 100  # of a line of source
_INDENT: Final = "    "

_RUNNERS: Final = tuple(
    f"{os.sep}{name}{os.sep}" for name in ("_pytest", "pluggy", "xdist", "execnet", "unittest")
)
_REFERENCES: Final = ("add-ref", "release")


@dataclass(frozen=True, slots=True)
class Leak:
    """A handle that outlived its scope, and whose it was."""

    finding: Finding  # `leak` or `unbalanced`
    fixture: str | None = None  # "'db' (module)" when a fixture's
    during: str | None = None  # the test during which it was opened, if another
    holder: str | None = None  # what holds it, if known; a line each

    @property
    def handle(self) -> History:
        return self.finding.handle


class Writer:
    """Writes reports with paths relative to a folder.

    Args:
        folder: absolute path that shown paths are relative to.
        verbosity: below 0 first lines only, 0 one whole record and a list, 1
            all records, 2 also every add-ref and release.
        now_ns: wall clock, ns since 1970.
    """

    def __init__(self, folder: str, verbosity: int, now_ns: Callable[[], int]) -> None:
        self._folder = folder
        self._verbosity = verbosity
        self._now_ns = now_ns

    def leaks(self, leaks: Sequence[Leak]) -> str:
        """The message of a test or fixture that left handles open."""
        first = leaks[0]
        kinds = {leak.finding.kind for leak in leaks}
        done = DONE[first.finding.kind] if len(kinds) == 1 else "leaked or unbalanced"
        fixtures = {leak.fixture for leak in leaks}
        by = f" by fixture {first.fixture}" if first.fixture and len(fixtures) == 1 else ""
        more = f" and {len(leaks) - 1} more" if len(leaks) > 1 else ""
        head = f"{count(len(leaks), 'handle')} {done}{by}: {self.headline(first.finding)}{more}"
        if self._verbosity < 0:
            return head
        whole = leaks if self._verbosity >= 1 else leaks[:1]
        blocks = [head, *(self._leak(leak) for leak in whole)]
        others = [self.listed(leak.handle, leak.fixture) for leak in leaks[len(whole) :]]
        if others:
            blocks.append("\n".join(_bounded(others)))
        blocks.append(self._advice(first))
        return "\n\n".join(blocks)

    def growth(self, leaks: Sequence[Leak], counts: Sequence[int]) -> str:
        """The message of a body that leaves more handles open each time it runs.

        Args:
            leaks: those of one site.
            counts: how many each iteration left open.
        """
        first = leaks[0]
        rate = f"{sum(counts) / len(counts):.3g}"
        head = (
            f"open handles grow by {rate} per iteration ({sum(counts)} in {len(counts)}):"
            f" {self.headline(first.finding)}"
        )
        if self._verbosity < 0:
            return head
        each = " ".join(f"+{number}" for number in counts[:MOST_ITERATIONS])
        if len(counts) > MOST_ITERATIONS:
            each += f" ... and {len(counts) - MOST_ITERATIONS} more iterations"
        return "\n\n".join([head, _row("growth", each), self._leak(first), self._advice(first)])

    def misuses(self, findings: Sequence[Finding]) -> str:
        """The message of a phase in which handles were released wrongly."""
        more = f" and {len(findings) - 1} more" if len(findings) > 1 else ""
        head = f"{self.misuse_line(findings[0])}{more}"
        if self._verbosity < 0:
            return head
        blocks = [head]
        for number, finding in enumerate(findings):
            if number and self._verbosity < 1:
                blocks.append("\n".join(_bounded([self.misuse_line(f) for f in findings[1:]])))
                break
            line = [self.misuse_line(finding)] if number else []
            blocks.append("\n".join([*line, *self._life(finding), *self._source(finding)]))
        return "\n\n".join(blocks)

    def misuse_line(self, finding: Finding) -> str:
        """What is wrong and where, in one line."""
        handle = finding.handle
        where = self.place(site_of(finding.culprit))
        name = f"{_name(handle)} #{handle.serial}"
        value = _value(handle)
        if finding.kind == "recycled":
            return f"{name} {self._recycled(finding, value, where)}"
        if finding.kind == "use-after-close":
            return f"{name} used after close: {value}{where}"
        if finding.kind == "closed-behind-owner":
            return f"{name} closed behind its owner: {value}{where}"
        if finding.kind == "double-release":
            return f"{name} released twice: {value}{where}"
        if finding.kind == "release-failed":
            reason = next((e.detail for e in reversed(finding.events) if e.detail), None)
            return f"{name} not released: {value}{where}{f': {reason}' if reason else ''}"
        if finding.kind == "double-owner":
            return f"{name} owned twice: {value}{where}"
        if finding.kind == "unbalanced":
            return f"{name} unbalanced: {value}, an add-ref was never released{where}"
        if finding.kind == "leak":
            return f"{name} leaked: {value}, another value was set over it{where}"
        return f"{name} {DONE[finding.kind]}: {value}{where}"

    def _recycled(self, finding: Finding, value: str, where: str) -> str:
        act = next((e for e in reversed(finding.events) if e.kind == "recycled"), None)
        done = f"{act.detail}()" if act is not None and act.detail else "the act"
        reached = "would have reached" if finding.prevented else "reached"
        victim = finding.victim
        whose = self._short(victim, victim.site) if victim is not None else "another handle"
        return f"used after its {value} was recycled{where}: {done} {reached} {whose}"

    def abandoned(self, handles: Sequence[History]) -> str:
        """The message of a test that left closing to finalizers."""
        first = handles[0]
        more = f" and {len(handles) - 1} more" if len(handles) > 1 else ""
        head = f"{count(len(handles), 'handle')} abandoned: {self._short(first, first.site)}{more}"
        if self._verbosity < 0:
            return head
        block = [f"{_title(first)}, {first.ending}", *self._events(first.events, first.opened)]
        others = [self.listed(handle) for handle in handles[1:]]
        return "\n\n".join(
            [head, "\n".join(block), *(["\n".join(_bounded(others))] if others else [])]
        )

    def still_open(self, handles: Sequence[History]) -> str:
        """The section of a test that failed for its own reason."""
        return "\n".join(_bounded([self.listed(handle) for handle in handles]))

    def headline(self, finding: Finding) -> str:
        """Class, value, detail and the place of the wrong act."""
        return self._short(finding.handle, site_of(finding.culprit))

    def _short(self, handle: History, site: Frame | None) -> str:
        detail = f" {handle.detail!r}" if handle.detail else ""
        return f"{_name(handle)} {_value(handle)}{detail}{self.place(site)}"

    def listed(self, handle: History, fixture: str | None = None) -> str:
        """One handle of many, in one line."""
        detail = f" {handle.detail!r}" if handle.detail else ""
        site = self.site(handle.opened)
        at = f", opened at {site}" if site else ""
        by = f" by fixture {fixture}" if fixture else ""
        return f"{_name(handle)} #{handle.serial}, {_value(handle)}{detail}{at}{by}"

    def site(self, stack: tuple[Frame, ...]) -> str:
        """The site of a stack as a line, for grouping; "" when there is none."""
        frame = site_of(stack)
        return "" if frame is None else self.frame(frame)

    def stable_site(self, stack: tuple[Frame, ...]) -> str:
        """`path:function` of a stack's site, which other changes do not move."""
        frame = site_of(stack)
        return "" if frame is None else f"{self._path(frame.file)}:{frame.function}"

    def place(self, frame: Frame | None) -> str:
        """` (path:line)`, or nothing."""
        return "" if frame is None else f" ({self._path(frame.file)}:{frame.line})"

    def frame(self, frame: Frame) -> str:
        """`path:line: in function`."""
        return f"{self._path(frame.file)}:{frame.line}: in {frame.function}"

    def _path(self, file: str) -> str:
        if file.startswith("<"):
            return file
        relative = os.path.relpath(file, self._folder)
        return file if relative.startswith(os.pardir) else relative

    def _leak(self, leak: Leak) -> str:
        handle = leak.handle
        age_s = max(0.0, (self._now_ns() - handle.opened_at_ns) / 1e9)
        # Others than SafeHandles are not counted references to.
        refs = "" if handle.watched else f", refcount {handle.refs}"
        title = f"{_title(handle)}{refs}, open for {age_s:.2f} s"
        lines = [title, *self._life(leak.finding)]
        if leak.during:
            lines.append(_row("during", leak.during))
        if leak.holder:
            first, *others = leak.holder.splitlines()
            lines.append(_row("still held", first))
            lines += [_row("", other) for other in others]
        lines += self._source(leak.finding)
        return "\n".join(lines)

    def _advice(self, leak: Leak) -> str:
        if leak.finding.kind == "unbalanced":
            return "Release each reference that was added; `with handle.hold():` does so."
        site = site_of(leak.handle.opened)
        if site is None:
            return "Close it, best in a `with` block."
        name = site.function.rpartition(".")[2]
        return (
            "Close it, or allow the site:\n"
            f'  @pytest.mark.handles(allow="{self._path(site.file)}:{name}", reason="...")'
        )

    def _life(self, finding: Finding) -> list[str]:
        handle = finding.handle
        lines = self._events(handle.events, handle.opened)
        if finding.victim is not None:
            word = "victim" if finding.kind == "recycled" else "other owner"
            lines.append(_row(word, self._short(finding.victim, finding.victim.site)))
            if finding.kind == "recycled":
                lines += self._stack("victim opened", finding.victim.opened)
        if handle.task:
            lines.append(_row("task", handle.task))
        if handle.thread not in ("MainThread", ""):
            lines.append(_row("thread", handle.thread))
        return lines

    def _source(self, finding: Finding) -> list[str]:
        """The line of the wrong act, and what of it is meant."""
        frame = site_of(finding.culprit) or finding.handle.site
        if frame is None:
            return []
        events = finding.events
        last_ns = events[-1].at_ns if events else finding.handle.opened_at_ns
        line = excerpt(frame, self._folder, as_of_ns=last_ns)
        if line is None:
            return []
        room = MOST_COLUMNS - len(_INDENT)
        # One column a character, so that the mark stays below what it marks.
        text = "".join(each if each.isprintable() else " " for each in line.text)
        if len(text) > room:
            text = text[: room - 3] + "..."
        lines = ["", _INDENT + text]
        end = min(line.end, len(text))
        if line.start < end:
            lines.append(_INDENT + " " * line.start + "^" * (end - line.start))
        return lines

    def _events(self, events: Iterable[Event], opened: tuple[Frame, ...]) -> list[str]:
        lines = self._stack("opened", opened)
        events = list(events)
        history = [event for event in events if event.kind in _REFERENCES]
        hidden: set[int] = set()
        if self._verbosity < 2 and len(history) > MOST_REFERENCES:
            half = MOST_REFERENCES // 2
            hidden = {event.seq for event in history[half:-half]}
        told = False
        for number, event in enumerate(events):
            before = events[number - 1] if number else None
            after = events[number + 1] if number + 1 < len(events) else None
            if event.kind == "acquire":
                continue
            if event.kind == "close" and before is not None and before.kind == "double-release":
                continue  # the release that nobody owed closed it, as its row says
            if event.seq in hidden:
                if not told:
                    lines.append(_row("...", f"{len(hidden)} more add-refs and releases"))
                told = True
                continue
            lines += self._event(event, closes=after is not None and after.kind == "close")
        return lines

    def _event(self, event: Event, *, closes: bool) -> list[str]:
        after = ""
        word: str = event.kind
        if event.kind == "add-ref":
            after = f" (refcount {event.refs - 1} -> {event.refs})"
        elif event.kind == "release":
            after = f" (refcount {event.refs + 1} -> {event.refs})"
        elif event.kind == "close":
            word = _CLOSED.get(event.ending or "", "closed")
        elif event.kind == "dispose":
            word, after = "closed", f" ({count(event.refs, 'reference')} still out)"
        elif event.kind == "double-release":
            word, after = "released again", " (closed it)" if closes else ""
        elif event.kind == "release-failed":
            word, after = "not released", f" ({event.detail})" if event.detail else ""
        elif event.kind == "double-owner":
            word = "owned again"
        elif event.kind == "use-closed":
            word, after = "used closed", f" ({event.detail})" if event.detail else ""
        elif event.kind == "recycled":
            word, after = "used stale", f" ({event.detail})" if event.detail else ""
        elif event.kind == "closed-behind":
            word, after = "closed behind", f" ({event.detail})" if event.detail else ""
        elif event.kind == "owned":
            word = "owner"
        elif event.kind == "disowned":
            word = "let go"
        elif event.kind == "set-value":
            word = "overwritten"
        whole = event.kind not in _REFERENCES or self._verbosity >= 2
        return self._stack(word, event.stack, after, whole=whole)

    def _stack(
        self, word: str, stack: tuple[Frame, ...], after: str = "", *, whole: bool = True
    ) -> list[str]:
        frames = [self.frame(frame) for frame in self._user_frames(stack)]
        if not frames:
            return [_row(word, f"without Python code{after}")]
        if not whole:
            frames = frames[-1:]
        frames[-1] += after
        return [_row(word, frames[0]), *(_row("", frame) for frame in frames[1:])]

    def _user_frames(self, stack: tuple[Frame, ...]) -> list[Frame]:
        """The program's part of a stack, outermost first.

        What ran the test is left out, and libraries between two of the
        program's own frames; a library that it called to open the handle stays.
        """
        frames = [frame for frame in reversed(stack) if not is_ours(frame.file)]
        runners = [n for n, f in enumerate(frames) if any(part in f.file for part in _RUNNERS)]
        if runners and runners[-1] + 1 < len(frames):
            frames = frames[runners[-1] + 1 :]
        own = [n for n, frame in enumerate(frames) if not is_library(frame.file)]
        if not own:
            return frames
        return [frames[n] for n in own] + frames[own[-1] + 1 :]


_CLOSED: Final = {
    "closed": "closed",
    "exited": "closed",
    "dropped": "dropped",
    "collected": "collected",
    "swept": "swept",
    "transferred": "detached",
}


def _row(word: str, text: str) -> str:
    return f"  {word:<14} {text}"


def _title(handle: History) -> str:
    detail = f" {handle.detail!r}" if handle.detail else ""
    return f"{_name(handle)} #{handle.serial}, {_value(handle)}{detail}"


def _name(handle: History) -> str:
    return handle.owner if handle.owner not in ("", "raw") else handle.kind


def _value(handle: History) -> str:
    return f"{handle.space} {handle.value}" if handle.space else f"value {handle.value}"


def _bounded(lines: Sequence[str]) -> list[str]:
    if len(lines) <= MOST_OTHERS:
        return list(lines)
    return [*lines[:MOST_OTHERS], f"... and {len(lines) - MOST_OTHERS} more"]
