"""The rows of the tables, in batches of columns.

What is kept at a time is one batch, the handles that are open at that point of
the recording, and the numbers of the stacks met so far.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final

from safehandle_debug.exports.schema import TABLES
from safehandle_debug.findings import Finding
from safehandle_debug.ledger import Ledger, site_of
from safehandle_debug.ledger.histories import ENDINGS, KINDS
from safehandle_debug.recording import Frame, RawEvent, Recording
from safehandle_debug.recording import format as shd
from safehandle_debug.recording.format import EventKind, Flag
from safehandle_debug.recording.reader import Cursor

__all__ = ["Batch", "Source"]

BATCH: Final = 65_536  # rows
_ENDS: Final = (int(EventKind.CLOSE), int(EventKind.INVALIDATE))
_BORROWED: Final = int(Flag.BORROWED)
_IMPORTING: Final = int(Flag.IMPORTING)
_SECOND: Final = 10**9

Batch = dict[str, list[Any]]  # column -> values, all of one length
Progress = Callable[[int], None]  # called with numbers of events done


class Source:
    """What one process's recording gives to each table."""

    def __init__(self, ledger: Ledger, progress: Progress = lambda done: None) -> None:
        self._ledger = ledger
        self._recording: Recording = ledger.recording
        self._progress = progress
        self._stacks: set[int] = set()  # met in events
        self._threads: dict[int, str] = {}
        process = ledger.process
        self._key = (process.pid, process.started_at_ns)
        first = self._recording.header.first_ticks
        self._clock = (first, self._recording.to_ns(first), self._slope(first))

    def _slope(self, first: int) -> int:
        """Nanoseconds in a thousand million ticks."""
        return self._recording.to_ns(first + _SECOND) - self._recording.to_ns(first)

    def batches(self, table: str, findings: list[Finding]) -> Iterator[Batch]:
        """A table's rows of this process; `stacks` last, as it has what the
        other tables refer to."""
        if table == "processes":
            yield self._batch(table, [self._process()])
        elif table == "events":
            yield from self._events()
        elif table == "handles":
            yield from self._handles()
        elif table == "stacks":
            yield from self._in_batches(table, self._frames())
        elif table == "findings":
            yield from self._in_batches(table, map(_finding, findings))

    # --- rows ---

    def _process(self) -> tuple[Any, ...]:
        process = self._ledger.process
        return (
            process.parent_pid,
            " ".join(process.argv),
            process.cwd,
            process.python,
            process.level,
            process.ended,
            process.ended_at_ns,
            process.exit_code,
            process.events,
            process.dropped,
            process.live,
        )

    def _events(self) -> Iterator[Batch]:
        """Column by column: there are very many."""
        first, base, slope = self._clock
        rows: list[tuple[Any, ...]] = []
        for _, data in self._recording.read_new(Cursor()):
            rows += shd.EVENT.iter_unpack(data)
            if len(rows) >= BATCH:
                yield self._event_batch(rows, first, base, slope)
                rows = []
        if rows:
            yield self._event_batch(rows, first, base, slope)

    def _event_batch(
        self, rows: list[tuple[Any, ...]], first: int, base: int, slope: int
    ) -> Batch:
        columns = list(zip(*rows, strict=True))
        seq, ticks, serial, value, stack, thread, task, test, _, _, refs, kind, ending, _ = columns
        self._stacks.update(stack)
        count = len(rows)
        self._progress(count)
        return {
            "pid": [self._key[0]] * count,
            "started_ns": [self._key[1]] * count,
            "seq": list(seq),
            "at_ns": [base + (each - first) * slope // _SECOND for each in ticks],
            "serial": [_signed(each) for each in serial],
            "kind": [KINDS.get(each, "?") for each in kind],
            "ending": [ENDINGS.get(each) for each in ending],
            "refs": list(refs),
            "value": list(value),
            "stack": [each or None for each in stack],
            "thread": [self._thread(each) for each in thread],
            "task": [self._name(each) for each in task],
            "test": [self._name(each) for each in test],
        }

    def _handles(self) -> Iterator[Batch]:
        yield from self._in_batches("handles", self._handle_rows())

    def _handle_rows(self) -> Iterator[tuple[Any, ...]]:
        """Closed ones as they closed, then open ones."""
        begun: dict[int, RawEvent] = {}
        types: dict[int, int] = {}  # of handles whose owner changed
        inherited = self._recording.header.inherited_serials
        finalizing = self._recording.header.finalizing_seq
        done = 0
        for raw in self._recording.events():
            done += 1
            if done == BATCH:
                self._progress(done)
                done = 0
            if raw.serial <= inherited:
                continue
            if raw.kind == EventKind.ACQUIRE:
                begun[raw.serial] = raw
            elif raw.kind == EventKind.OWNED:
                types[raw.serial] = raw.type
            elif raw.kind in _ENDS:
                acquire = begun.pop(raw.serial, None)
                type = types.pop(raw.serial, 0)
                if acquire is not None:
                    late = bool(finalizing) and raw.seq >= finalizing
                    yield self._handle(acquire, type, raw, late)
        self._progress(done)
        for raw_live in self._recording.live():
            known = begun.pop(raw_live.serial, None)
            if known is None and raw_live.serial > inherited:
                known = RawEvent(
                    0, *raw_live[1:2], raw_live.serial, raw_live.value, raw_live.stack,
                    raw_live.thread, raw_live.task, raw_live.test, raw_live.detail,
                    raw_live.type, raw_live.refs, 1, 0, raw_live.flags,
                )  # fmt: skip
            if known is not None:
                yield self._handle(known, types.get(raw_live.serial, 0), None, False)

    def _handle(
        self, acquire: RawEvent, type: int, close: RawEvent | None, late: bool
    ) -> tuple[Any, ...]:
        recording = self._recording
        self._stacks.add(acquire.stack)
        info = recording.type(type or acquire.type)
        site = site_of(recording.stack(acquire.stack)) if acquire.stack else None
        place = (None, None, None) if site is None else (site.file, site.line, site.function)
        first, base, slope = self._clock
        return (
            acquire.serial,
            info.kind,
            info.name,
            acquire.value,
            recording.string(acquire.detail) or None,
            base + (acquire.ticks - first) * slope // _SECOND,
            None if close is None else base + (close.ticks - first) * slope // _SECOND,
            None if close is None else ENDINGS.get(close.ending, "transferred"),
            acquire.stack or None,
            *place,
            self._thread(acquire.thread),
            self._name(acquire.task),
            self._name(acquire.test),
            bool(acquire.flags & _BORROWED),
            bool(acquire.flags & _IMPORTING),
            late,
        )

    def _frames(self) -> Iterator[tuple[Any, ...]]:
        for stack in sorted(self._stacks - {0}):
            for depth, frame in enumerate(self._recording.stack(stack)):
                yield stack, depth, frame.file, frame.line, frame.function

    # --- helpers ---

    def _in_batches(self, table: str, rows: Iterator[tuple[Any, ...]]) -> Iterator[Batch]:
        pending: list[tuple[Any, ...]] = []
        for row in rows:
            pending.append(row)
            if len(pending) == BATCH:
                yield self._batch(table, pending)
                pending = []
        if pending:
            yield self._batch(table, pending)

    def _batch(self, table: str, rows: list[tuple[Any, ...]]) -> Batch:
        names = [column.name for column in TABLES[table]][len(self._key) :]
        batch: Batch = {
            "pid": [self._key[0]] * len(rows),
            "started_ns": [self._key[1]] * len(rows),
        }
        columns = zip(*rows, strict=True)
        batch.update(zip(names, map(list, columns), strict=True))
        return batch

    def _name(self, id: int) -> str | None:
        return self._recording.string(id) or None if id else None

    def _thread(self, id: int) -> str:
        if id not in self._threads:
            self._threads[id] = self._recording.thread(id).name
        return self._threads[id]


def _signed(number: int) -> int:
    """Serials fit in 63 bits; what a damaged file has in their place must too."""
    return number & ((1 << 63) - 1)


def _finding(finding: Finding) -> tuple[Any, ...]:
    site: Frame | None = site_of(finding.culprit) or finding.handle.site
    place = (None, None, None) if site is None else (site.file, site.line, site.function)
    return (
        finding.kind,
        finding.severity,
        finding.fingerprint,
        finding.count,
        finding.message,
        finding.handle.serial,
        finding.handle.owner,
        *place,
        finding.thread,
        finding.test,
        "\n".join(finding.holders) or None,
    )
