"""What is written for tracemalloc tells of handles when the import is changed.

The programs below do with handles what the standard library's page on
tracemalloc shows: top places, differences, tracebacks, a pretty top, the peak.
"""

from __future__ import annotations

import fnmatch
import linecache
import os
import tracemalloc as memory
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
from support_programs import run_program

from safehandle_debug import SafeFileHandle, SafeMemoryMappedFileHandle, SafeMemoryMappedViewHandle
from safehandle_debug import tracemalloc_ext as tracemalloc


@pytest.fixture(autouse=True)
def stopped() -> Iterator[None]:
    yield
    tracemalloc.stop()


def opened(number: int) -> list[SafeFileHandle]:
    return [SafeFileHandle.open("/dev/null") for _ in range(number)]


LINE = opened.__code__.co_firstlineno + 1


def test_it_offers_all_that_tracemalloc_does() -> None:
    public = {name: each for name, each in vars(memory).items() if name[0] != "_"}
    home = ("tracemalloc", "_tracemalloc")
    theirs = {name for name, each in public.items() if getattr(each, "__module__", "") in home}
    assert "take_snapshot" in theirs
    assert [name for name in theirs if not hasattr(tracemalloc, name)] == []


def test_the_top_places() -> None:
    tracemalloc.start()
    kept = opened(3)

    snapshot = tracemalloc.take_snapshot()
    top = snapshot.statistics("lineno")

    assert len(kept) == 3
    assert str(top[0]) == f"{__file__}:{LINE}: size=3 B, count=3, average=1 B"
    assert isinstance(top[0], memory.Statistic)
    assert len(top) == 1


def test_the_differences_between_two_snapshots() -> None:
    tracemalloc.start()
    kept = opened(2)
    before = tracemalloc.take_snapshot()
    kept += opened(3)
    kept.pop(0).close()

    after = tracemalloc.take_snapshot()
    top = after.compare_to(before, "lineno")

    assert isinstance(top[0], memory.StatisticDiff)
    assert (top[0].count, top[0].count_diff) == (4, 2)
    assert str(top[0]).startswith(f"{__file__}:{LINE}: size=4 B (+2 B), count=4 (+2)")


def test_the_traceback_of_the_largest_place() -> None:
    tracemalloc.start(25)
    kept = opened(2)

    stat = tracemalloc.take_snapshot().statistics("traceback")[0]

    assert (stat.count, len(kept)) == (2, 2)
    assert isinstance(stat.traceback, memory.Traceback)
    text = stat.traceback.format()
    assert text[-1].strip() == linecache.getline(__file__, LINE).strip()
    assert len(stat.traceback) > 2


def pretty(module: ModuleType, limit: int = 3) -> list[str]:
    """The top places without the import machinery, with their source, as a page has it."""
    snapshot = module.take_snapshot().filter_traces(
        (
            module.Filter(False, "<frozen importlib._bootstrap>"),
            module.Filter(False, "<unknown>"),
        )
    )
    top = snapshot.statistics("lineno")
    lines = []
    for index, stat in enumerate(top[:limit], 1):
        frame = stat.traceback[0]
        lines.append(f"#{index}: {frame.filename}:{frame.lineno}: {stat.size / 1024:.1f} KiB")
        lines.append(f"    {linecache.getline(frame.filename, frame.lineno).strip()}")
    lines.append(f"Total: {sum(stat.size for stat in top) / 1024:.1f} KiB")
    return lines


def test_a_pretty_top_runs_with_either_module() -> None:
    tracemalloc.start()
    kept = opened(512)
    text = pretty(tracemalloc)
    memory.start()
    try:
        other = pretty(memory)
    finally:
        memory.stop()

    assert text[0] == f"#1: {__file__}:{LINE}: 0.5 KiB"
    assert text[-1] == "Total: 0.5 KiB"
    assert other[-1].startswith("Total: ")
    assert len(kept) == 512


def test_the_peak() -> None:
    tracemalloc.start()
    kept = opened(5)
    first = tracemalloc.get_traced_memory()
    for handle in kept[1:]:
        handle.close()
    second = tracemalloc.get_traced_memory()
    tracemalloc.reset_peak()

    assert (first, second, tracemalloc.get_traced_memory()) == ((5, 5), (1, 5), (1, 1))
    tracemalloc.clear_traces()
    assert tracemalloc.get_traced_memory() == (0, 0)


def test_filters_are_tracemallocs() -> None:
    tracemalloc.start()
    kept = opened(2)
    snapshot = tracemalloc.take_snapshot()

    assert len(kept) == 2
    here = tracemalloc.Filter(True, fnmatch.fnmatch(__file__, "*") and __file__)
    assert len(snapshot.filter_traces([here]).traces) == 2
    assert len(snapshot.filter_traces([tracemalloc.Filter(False, "*explain*")]).traces) == 0
    domain = tracemalloc.DomainFilter(True, tracemalloc.DOMAIN)
    assert len(snapshot.filter_traces([domain]).traces) == 2
    assert len(snapshot.filter_traces([tracemalloc.DomainFilter(True, 0)]).traces) == 0


def test_kinds_and_owners_and_bytes_of_mappings() -> None:
    tracemalloc.start()
    kept = opened(2)
    with (
        SafeMemoryMappedFileHandle.create(8192) as file,
        SafeMemoryMappedViewHandle.map(file, 8192),
    ):
        snapshot = tracemalloc.take_snapshot()

    assert len(kept) == 2
    owners = {stat.traceback[0].filename: stat for stat in snapshot.statistics("owner")}
    assert owners["SafeMemoryMappedViewHandle"].size == 8192
    assert owners["SafeMemoryMappedViewHandle"].count == 1
    assert owners["SafeFileHandle"].size == owners["SafeFileHandle"].count == 2
    kinds = [stat.traceback[0].filename for stat in snapshot.statistics("kind")]
    assert kinds[0] == "mapped-view"
    older = snapshot.filter_traces([tracemalloc.Filter(False, "*")])
    (first, *_) = snapshot.compare_to(older, "kind")
    assert (first.size, first.size_diff) == (8192, 8192)
    with pytest.raises(ValueError, match="key type 'kind'"):
        snapshot.statistics("kind", cumulative=True)
    with pytest.raises(ValueError, match="unknown key_type"):
        snapshot.statistics("colour")


def test_a_snapshot_is_kept_in_a_file(tmp_path: Path) -> None:
    tracemalloc.start()
    kept = opened(2)
    snapshot = tracemalloc.take_snapshot()
    snapshot.dump(str(tmp_path / "snapshot"))

    again = tracemalloc.Snapshot.load(str(tmp_path / "snapshot"))

    assert len(kept) == 2
    assert isinstance(again, tracemalloc.Snapshot)
    assert again.statistics("owner") == snapshot.statistics("owner")
    assert [str(trace) for trace in again.traces] == [str(trace) for trace in snapshot.traces]


def test_where_a_handle_was_opened() -> None:
    before = SafeFileHandle.open("/dev/null")
    tracemalloc.start()
    (handle,) = opened(1)

    traceback = tracemalloc.get_object_traceback(handle)

    assert traceback is not None
    assert (traceback[0].filename, traceback[0].lineno) == (__file__, LINE)
    assert tracemalloc.get_object_traceback(before) is None
    assert tracemalloc.get_object_traceback(3) is None


def test_starting_and_stopping() -> None:
    assert not tracemalloc.is_tracing()
    with pytest.raises(RuntimeError, match=r"call tracemalloc_ext\.start\(\) first"):
        tracemalloc.take_snapshot()
    with pytest.raises(ValueError, match=r"must be in range \[1; "):
        tracemalloc.start(0)
    tracemalloc.start(7)
    tracemalloc.start(3)
    assert tracemalloc.is_tracing()
    assert tracemalloc.get_traceback_limit() == 7
    assert tracemalloc.get_tracemalloc_memory() > 0
    tracemalloc.stop()
    tracemalloc.stop()
    assert not tracemalloc.is_tracing()
    assert tracemalloc.get_traced_memory() == (0, 0)


def test_handles_are_in_tracemallocs_own_snapshots() -> None:
    memory.start()
    try:
        total = memory.get_traced_memory()[0]
        tracemalloc.start()
        kept = opened(100)
        domain = memory.DomainFilter(True, tracemalloc.DOMAIN)
        snapshot = memory.take_snapshot().filter_traces([domain])
        mirrored = sum(trace.size for trace in snapshot.traces)
        kept.pop().close()
        fewer = memory.take_snapshot().filter_traces([domain])
    finally:
        memory.stop()

    assert len(snapshot.traces) == mirrored == 100
    assert len(fewer.traces) == 99
    assert total >= 0


def test_a_moment_of_a_recording(tmp_path: Path) -> None:
    run = run_program(
        """
        import os
        from safehandle_debug import SafeFileHandle
        def main():
            kept = [SafeFileHandle.open("/dev/null") for _ in range(4)]
            os._exit(0)
        main()
        """,
        tmp_path,
    )
    (path,) = run.recordings

    end = tracemalloc.Snapshot.from_recording(path)
    start = tracemalloc.Snapshot.from_recording(path, at=0.0)

    assert [stat.count for stat in end.statistics("lineno")] == [4]
    assert os.path.basename(end.statistics("lineno")[0].traceback[0].filename) == "program.py"
    assert len(start.traces) == 0
