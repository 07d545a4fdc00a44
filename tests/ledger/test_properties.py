"""Any life of any handles: the ledger says what a simple model says."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support_recording import RecordingBuilder

from safehandle_debug.findings import find
from safehandle_debug.ledger import Ledger
from safehandle_debug.recording import open_recording
from safehandle_debug.recording.format import BlockType, Ending, Flag

ENDINGS = [
    Ending.CLOSED,
    Ending.EXITED,
    Ending.DROPPED,
    Ending.COLLECTED,
    Ending.SWEPT,
    Ending.TRANSFERRED,
]


@dataclass
class Model:
    """What is true of a handle."""

    add_refs: int = 0  # outstanding
    disposed: bool = False
    ending: Ending | None = None
    flags: int = 0
    events: list[str] = field(default_factory=list)


steps = st.lists(
    st.tuples(
        st.sampled_from(["acquire", "add", "release", "close", "refresh"]),
        st.integers(0, 7),
        st.integers(0, 2),
        st.sampled_from(ENDINGS),
        st.sampled_from([0, 0, 0, Flag.BORROWED, Flag.IMPORTING]),
    ),
    max_size=120,
)


@settings(
    max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(steps=steps, ended=st.booleans())
def test_replay(
    tmp_path: Path, steps: list[tuple[str, int, int, Ending, int]], ended: bool
) -> None:
    for old in tmp_path.iterdir():
        old.unlink()
    book = RecordingBuilder(alive=not ended)
    threads = [book.main, book.thread("a"), book.thread("b")]
    stack = book.stack_here()
    models: dict[int, Model] = {}
    ledger = Ledger(open_recording(book.write(tmp_path)))
    for what, which, who, ending, flags in steps:
        thread = threads[who]
        still_open = [serial for serial, model in models.items() if model.ending is None]
        if what == "refresh":
            book.write(ledger.recording.path)
            ledger.refresh()
            assert [each.serial for each in ledger.open()] == still_open
            continue
        if what == "acquire" or not still_open:
            serial = book.acquire(stack=stack, thread=thread, flags=flags)
            models[serial] = Model(flags=flags, events=["acquire"])
            continue
        serial = still_open[which % len(still_open)]
        model = models[serial]
        if what == "add":
            book.add_ref(serial, thread=thread)
            model.add_refs += 1
            model.events.append("add-ref")
        elif what == "release" and model.add_refs:
            model.add_refs -= 1
            book.release(serial, thread=thread)
            model.events.append("release")
            if model.disposed and not model.add_refs:
                book.close(serial, thread=thread)
                model.ending = Ending.CLOSED
                model.events.append("close")
        elif what == "close" and not model.disposed:
            if model.add_refs:
                book.dispose(serial, thread=thread)
                model.disposed = True
                model.events.append("dispose")
            else:
                finalizer = Flag.FINALIZER if ending not in ENDINGS[:2] else 0
                book.close(serial, ending, thread=thread, flags=finalizer)
                model.ending = ending
                model.events.append("close")
    if ended:
        book.end()
    book.write(ledger.recording.path)
    ledger.refresh()

    with ledger:
        still_open = [serial for serial, model in models.items() if model.ending is None]
        assert [each.serial for each in ledger.open()] == still_open
        for serial, model in models.items():
            history = ledger.history(serial)
            assert history is not None
            assert [event.kind for event in history.events] == model.events
            expected = "lost" if model.ending is None and ended else None
            assert history.ending == (model.ending.name.lower() if model.ending else expected)
        assert {each.serial for each in ledger.histories()} == set(models)

        wanted: dict[str, int] = {}
        for model in models.values():
            if model.flags & Flag.BORROWED:
                continue
            importing = bool(model.flags & Flag.IMPORTING)
            kind = None
            if model.ending in (Ending.DROPPED, Ending.COLLECTED):
                kind = "abandoned"
            elif model.ending is None and ended:
                kind = "unbalanced" if model.disposed else None if importing else "leak"
            elif model.ending == Ending.SWEPT:
                kind = None if importing else "leak"
            if kind:
                wanted[kind] = wanted.get(kind, 0) + 1
        found: dict[str, int] = {}
        for finding in find(ledger):
            found[finding.kind] = found.get(finding.kind, 0) + finding.count
        assert found == wanted


@settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_replay_of_damage(tmp_path: Path, data: st.DataObject) -> None:
    """Events with any content make some ledger, never an error."""
    for old in tmp_path.iterdir():
        old.unlink()
    book = RecordingBuilder()
    for number in range(20):
        handle = book.acquire(stack=book.stack_here())
        book.add_ref(handle)
        if number % 2:
            book.close(handle, Ending.DROPPED)
    for type in (BlockType.EVENTS, BlockType.LIVE):
        (block,) = book.blocks_of(type)
        start = book.block_offset(block) + 64
        for _ in range(data.draw(st.integers(1, 10))):
            at = start + data.draw(st.integers(0, 40 * 64))
            book.data[at] = data.draw(st.integers(0, 255))
    with Ledger(open_recording(book.end().write(tmp_path))) as ledger:
        ledger.refresh()
        ledger.open()
        list(ledger.histories())
        for finding in find(ledger):
            assert finding.count > 0
