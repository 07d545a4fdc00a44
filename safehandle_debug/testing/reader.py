"""What this process's own recording tells, in the order of its misuse."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from safehandle_debug import _native
from safehandle_debug.findings import Finding, find, findings_of
from safehandle_debug.ledger import Event, History, Ledger
from safehandle_debug.ledger.watched import Watch
from safehandle_debug.recording import open_recording
from safehandle_debug.recording.format import Ending, EventKind

MOST_WHOLE: Final = 100

_PROBLEMS: Final = frozenset(
    {
        EventKind.DISPOSE,  # by a finalizer, with references out
        EventKind.DOUBLE_OWNER,
        EventKind.DOUBLE_RELEASE,
        EventKind.RELEASE_FAILED,
        EventKind.SET_VALUE,
        EventKind.CLOSED_BEHIND,
        EventKind.RECYCLED,
        EventKind.USE_CLOSED,
    }
)
# Which event proves a finding.
_PROOF: Final = {
    "closed-behind-owner": "closed-behind",
    "double-owner": "double-owner",
    "double-release": "double-release",
    "recycled": "recycled",
    "use-after-close": "use-closed",
    "leak": "set-value",
    "release-failed": "release-failed",
    "unbalanced": "dispose",
}


@dataclass(frozen=True, slots=True)
class Misuse:
    """A finding that one event proves, and that event."""

    finding: Finding
    act: Event


class Reader:
    """Reads the recording of the process that it is called in.

    A forked child that goes on running tests thereby reads its own.

    Args:
        folder: absolute path that shown paths are relative to.
        since_ns: misuse before this time, in ns since 1970, is not told.
        is_judged: of all handles those that the others are; by default each.
    """

    def __init__(
        self,
        folder: str,
        since_ns: int,
        is_judged: Callable[[History], bool] = lambda history: True,
    ) -> None:
        self._folder = folder
        self._is_judged = is_judged
        self._since_ns = since_ns
        self._ledger: Ledger | None = None
        self._read_to = 0  # seq: misuses up to here have been told
        self._told: set[int] = set()  # watched handles whose one bug was told

    def close(self) -> None:
        """Closes the recording; the next question opens it again."""
        if self._ledger is not None:
            self._ledger.close()
            self._ledger = None

    def ledger(self) -> Ledger | None:
        """What was recorded up to now; None when recording has stopped.

        Raises:
            RecordingError: the recording cannot be read.
        """
        path = _native.recording_path()
        if path is None:
            return None
        # What is opened to look at the others is none of them.
        _native.watch_pause()
        try:
            ledger = self._ledger
            if ledger is None or ledger.recording.path != Path(path):
                self.close()
                ledger = self._ledger = Ledger(open_recording(path))
            ledger.refresh()
        finally:
            _native.watch_resume()
        return ledger

    def histories(self, serials: Collection[int]) -> list[History]:
        """The recorded histories of some handles, oldest first.

        Beyond the first MOST_WHOLE only of those that are open, without events.
        """
        ledger = self.ledger() if serials else None
        if ledger is None:
            return []
        ordered = sorted(serials)
        found = [ledger.history(serial) for serial in ordered[:MOST_WHOLE]]
        rest = set(ordered[MOST_WHOLE:])
        if rest:
            found += [history for history in ledger.open() if history.serial in rest]
        return [each for each in found if each is not None and self._is_judged(each)]

    def opened_since(self, mark: int, kind: str | None = None) -> list[History]:
        """The handles opened after serial `mark`, oldest first; with `kind`
        those of one kind.  Borrowed ones were not opened."""
        ledger = self.ledger()
        if ledger is None:
            return []
        found = [
            history
            for history in ledger.histories()
            if history.serial > mark
            and not history.borrowed
            and not history.inherited
            and kind in (None, history.kind)
            and self._is_judged(history)
        ]
        if len(found) <= MOST_WHOLE:
            return self.histories([history.serial for history in found])
        return sorted(found, key=lambda history: history.serial)

    def count_since(self, mark: int) -> int:
        """How many handles were opened after serial `mark`."""
        ledger = self.ledger()
        if ledger is None:
            return _native.newest_serial() - mark
        return sum(
            history.serial > mark and self._is_judged(history) for history in ledger.histories()
        )

    def events_since(self, seq: int) -> list[Event]:
        """The events after `seq`, oldest first."""
        ledger = self.ledger()
        if ledger is None:
            return []
        serials = {raw.serial for raw in ledger.recording.events(after=seq)}
        events = (event for h in self.histories(serials) for event in h.events if event.seq > seq)
        return sorted(events, key=lambda event: event.seq)

    def newest_seq(self) -> int:
        """The seq of the newest event; 0 when there is none."""
        ledger = self.ledger()
        return 0 if ledger is None else ledger.recording.header.next_seq - 1

    def finalized_since(self, seq: int) -> list[History]:
        """The handles that finalizers closed after `seq`, oldest first."""
        ledger = self.ledger()
        if ledger is None:
            return []
        watch = Watch(ledger.recording)
        serials = {
            raw.serial
            for raw in ledger.recording.events(after=seq)
            if raw.kind == EventKind.CLOSE
            and (
                raw.ending in (Ending.DROPPED, Ending.COLLECTED)
                or watch.may_be_finalized(raw.stack, raw.type)
            )
        }
        return [
            each for each in self.histories(serials) if each.ending in ("dropped", "collected")
        ]

    def abandoned(self) -> list[Finding]:
        """The handles that finalizers closed so far, alike ones grouped."""
        ledger = self.ledger()
        if ledger is None or ledger.counts.abandoned == 0:
            return []
        return [finding for finding in find(ledger) if finding.kind == "abandoned"]

    def skip_misuses(self) -> None:
        """Does not tell what went wrong up to now."""
        self._read_to = self.newest_seq()

    def new_misuses(self) -> list[Misuse]:
        """What went wrong since the last call, in order."""
        ledger = self.ledger()
        if ledger is None:
            return []
        since = newest = self._read_to
        serials: set[int] = set()
        for raw in ledger.recording.events(after=since):
            newest = max(newest, raw.seq)
            if raw.kind in _PROBLEMS:
                serials.add(raw.serial)
        found: list[Misuse] = []
        for history in self.histories(serials - self._told):
            for finding in findings_of(
                history,
                over=False,
                cwd=self._folder,
                look_up=ledger.history,
                before=ledger.life_before,
            ):
                proof = _proof(finding)
                if proof is not None and proof.seq > since and proof.at_ns >= self._since_ns:
                    found.append(Misuse(self._with_victim(finding, proof), proof))
                    if history.watched:
                        self._told.add(history.serial)
        self._read_to = newest
        return sorted(found, key=lambda misuse: misuse.act.seq)

    def _with_victim(self, finding: Finding, proof: Event) -> Finding:
        if finding.kind != "double-owner" or finding.victim is not None:
            return finding
        other = next(iter(self.histories([proof.value])), None)
        return replace(finding, victim=other)


def _proof(finding: Finding) -> Event | None:
    """The wrong act; None when the finding is not of an act."""
    kind = _PROOF.get(finding.kind)
    acts = [event for event in finding.events if event.kind == kind]
    if not acts:
        return None
    # Once the count is broken, the next release too many is its consequence.
    return acts[0] if finding.kind == "double-release" else acts[-1]
