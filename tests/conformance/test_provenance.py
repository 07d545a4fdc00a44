"""Where handles come from: cases 218 to 222."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from support_handles import Probe
from support_programs import Run, recorded

from safehandle_debug import SafeFileHandle, _native


def test_switched_off_it_keeps_no_stack(run: Callable[..., Run]) -> None:
    """Case 218: no recording, no stack; the report says how to switch it on."""
    result = run(
        """
        import os, subprocess, sys
        from safehandle_debug import SafeFileHandle, _native

        handle = SafeFileHandle.open("/dev/null", os.O_RDONLY)
        assert _native.level() == "off"
        assert _native.recording_path() is None
        assert _native.capture_stack() == 0
        report = subprocess.run(
            [sys.executable, "-P", "-m", "safehandle_debug", "report"],
            capture_output=True, text=True
        )
        print(report.stdout, report.stderr)
        """,
        level=None,
    ).ok()
    assert "SAFEHANDLE_DEBUG=full" in result.out
    assert "Traceback" not in result.out
    assert result.recordings == []


def test_a_finalized_handle_is_told_with_its_origin(run: Callable[..., Run]) -> None:
    """Case 219: serial, type, value and constructor stack of what was not disposed."""
    result = run(
        """
        import os
        from safehandle_debug import SafeFileHandle

        def careless():
            handle = SafeFileHandle.open("/dev/null", os.O_RDONLY)
            return handle.handle

        with SafeFileHandle.open("/dev/null", os.O_RDONLY):
            pass
        print(careless())
        """
    ).ok()
    exited, dropped = result.first().handles
    assert exited.ending == "exited"
    assert dropped.ending == "dropped"
    assert dropped.serial == exited.serial + 1
    assert (dropped.owner, str(dropped.value)) == ("SafeFileHandle", result.lines[0])
    assert dropped.detail == "/dev/null"
    assert [(frame.function, frame.line) for frame in dropped.opened] == [
        ("careless", 6),
        ("<module>", 11),
    ]
    assert dropped.site == dropped.opened[0]
    assert dropped.opened[0].file.endswith("program.py")


def test_a_failed_open_leaves_no_handle(tmp_path: Path) -> None:
    """Case 220: neither leak nor finalized handle, and no serial is open."""
    mark, live = _native.newest_serial(), _native.live_count()
    with recorded(tmp_path) as told:
        for _ in range(3):
            with pytest.raises(FileNotFoundError):
                SafeFileHandle.open(tmp_path / "missing", os.O_RDONLY)
        assert _native.open_since(mark) == []
        assert _native.live_count() == live
        gc.collect()
    assert told[0].handles == ()


def test_open_handles_are_known_without_collecting(released: list[int]) -> None:
    """Case 221: the registry answers the same whatever the collector does."""
    thresholds = gc.get_threshold()
    kept = Probe(released, 1)
    try:
        for round_ in range(100):
            gc.set_threshold(round_ % 3 * 5, 2, 2)
            mark = _native.newest_serial()
            live = _native.live_count()
            handles = [Probe(released, 2) for _ in range(10)]
            handles.append(handles)  # type: ignore[arg-type]
            opened = _native.open_since(mark)
            assert len(opened) == 10
            assert opened == sorted(opened)
            assert _native.live_count() == live + 10
            for handle in handles[:9]:
                handle.dispose()
            assert _native.open_since(mark) == opened[9:]
            handles[9].dispose()
            assert _native.open_since(mark) == []
            assert _native.live_count() == live
    finally:
        gc.set_threshold(*thresholds)
    assert not kept.is_closed


def test_a_stack_that_cannot_be_kept(tmp_path: Path, released: list[int]) -> None:
    """Case 222: with the recording full, handles work and the loss is counted."""
    with recorded(tmp_path, size=1 << 20) as told:
        for number in range(9000):
            source = f"def made_{number}(make):\n    handle = make()\n    handle.dispose()\n"
            namespace: dict[str, Callable[[Callable[[], Probe]], None]] = {}
            exec(compile(source, f"<made {number}>", "exec"), namespace)
            namespace[f"made_{number}"](lambda: Probe(released))
    assert released == [5] * 9000
    assert told[0].process.dropped > 0


def test_memory_errors_do_not_reach_a_handle(run: Callable[..., Run]) -> None:
    """Case 222: every allocation of the interpreter fails while it works."""
    pytest.importorskip("_testcapi")
    result = run(
        """
        import os
        from _testcapi import remove_mem_hooks, set_nomemory
        from safehandle_debug import SafeFileHandle

        def use(add, release, close):
            set_nomemory(0)
            add()
            release()
            close()
            remove_mem_hooks()

        for _ in range(10):
            handle = SafeFileHandle.open("/dev/null", os.O_RDONLY)
            fd = handle.handle
            calls = handle.dangerous_add_ref, handle.dangerous_release, handle.close
            use(*calls)
            assert handle.is_closed
            try:
                os.fstat(fd)
            except OSError:
                pass
            else:
                raise AssertionError("still open")
        print("ok")
        """
    ).ok()
    assert result.lines == ["ok"]
    assert {history.ending for history in result.first().handles} == {"closed"}


def test_stacks_of_deep_recursion(tmp_path: Path, released: list[int]) -> None:
    """Case 222: at the end of the recursion limit it still works."""
    limit = sys.getrecursionlimit()

    def dive() -> None:
        Probe(released).dispose()
        dive()

    with recorded(tmp_path) as told, pytest.raises(RecursionError):
        dive()
    assert sys.getrecursionlimit() == limit
    assert len(released) > 100
    assert {history.ending for history in told[0].handles} <= {"closed", "dropped"}
