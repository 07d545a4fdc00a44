"""Levels, and recording that stops and starts again."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from support_handles import Probe
from support_programs import Run, recorded, told_by

from safehandle_debug import SafeFileHandle, _native
from safehandle_debug.errors import HandleStateError, RecordingError


def test_off_records_nothing(run: Callable[..., Run]) -> None:
    """No session, no file, no mapping, no stack."""
    result = run(
        """
        import os
        from safehandle_debug import SafeFileHandle, _native

        with SafeFileHandle.open("/dev/null", os.O_RDONLY) as handle:
            with handle.hold():
                pass
        assert _native.level() == "off"
        assert _native.recording_path() is None
        assert _native.recording_error() is None
        assert ".shd" not in open("/proc/self/maps").read()
        print(_native.newest_serial())
        """,
        level="off",
    ).ok()
    assert result.sessions == []
    assert result.lines == ["1"]


@pytest.mark.parametrize("level", [None, "off", "sampled,fds=off", "full,fds=off"])
def test_handles_behave_alike_at_every_level(run: Callable[..., Run], level: str | None) -> None:
    result = run(
        """
        import gc, os
        from holding import both
        from safehandle_debug import HandleClosedError, _native

        for _ in range(300):
            native, hooked = both(5)
            native.dangerous_add_ref()
            native.dispose()
            assert not native.is_closed
            native.dangerous_release()
            assert native.is_closed
            try:
                native.hold()
            except HandleClosedError:
                pass
            hooked.dangerous_release()
            assert hooked.is_closed
            assert _native.live_count() == 0
        print(_native.newest_serial(), _native.problem_count())
        """,
        level=level,
    ).ok()
    assert result.lines == ["600 300"]
    assert result.released == [5] * 300


def test_sampled_records_some(run: Callable[..., Run]) -> None:
    """One handle in `sample` has its history, the others are counted."""
    result = run(
        """
        import os
        from safehandle_debug import SafeFileHandle

        for _ in range(1000):
            SafeFileHandle.open("/dev/null", os.O_RDONLY).close()
        """,
        level="sampled,sample=10",
    ).ok()
    told = result.first()
    handles = told.owned_by("SafeFileHandle")
    assert 20 <= len(handles) <= 500
    for history in handles:
        assert [event.kind for event in history.events] == ["acquire", "close"]
        assert history.opened


def test_problems_are_recorded_though_sampled_out(run: Callable[..., Run]) -> None:
    """A double release is told with its stack, whichever handle it hits."""
    result = run(
        """
        import os
        from safehandle_debug import SafeFileHandle

        def too_often(handle):
            handle.dangerous_release()

        for _ in range(20):
            too_often(SafeFileHandle.open("/dev/null", os.O_RDONLY))
        """,
        level="sampled,sample=1000",
    ).ok()
    events = [event for history in result.first().handles for event in history.events]
    doubles = [event for event in events if event.kind == "double-release"]
    assert len(doubles) == 20
    assert {event.stack[0].function for event in doubles} == {"too_often"}


def test_stopped_and_started_again(tmp_path: Path) -> None:
    """Each recording tells its own time; a handle that was open before is open in
    the second one as well."""
    with recorded(tmp_path) as first:
        early = SafeFileHandle.open("/dev/null", os.O_RDONLY)
        assert _native.level() == "full"
    assert _native.level() == "off"
    assert _native.recording_path() is None
    between = SafeFileHandle.open("/dev/null", os.O_RDONLY)
    with recorded(tmp_path) as second:
        late = SafeFileHandle.open("/dev/null", os.O_RDONLY)
        for handle in (early, between, late):
            with handle.hold():
                pass
            handle.close()
    assert [history.serial for history in first[0].handles] == [_serial_before(late, 2)]
    assert first[0].handles[0].ending is None or first[0].handles[0].ending == "lost"
    newest = second[0].handles[-1]
    assert newest.serial == _native.newest_serial()
    assert [event.kind for event in newest.events] == ["acquire", "add-ref", "release", "close"]
    closed = {history.serial for history in second[0].handles if history.ending == "closed"}
    assert newest.serial in closed
    assert early.is_closed
    assert between.is_closed


def _serial_before(handle: SafeFileHandle, steps: int) -> int:
    return _native.newest_serial() - steps


def test_started_twice_is_refused(tmp_path: Path) -> None:
    with recorded(tmp_path):
        path = _native.recording_path()
        with pytest.raises(HandleStateError, match="already"):
            _native.start_recording(str(tmp_path / "other.shd"))
        assert _native.recording_path() == path
    _native.stop_recording()


@pytest.mark.parametrize("where", ["missing/recording.shd", "", "."])
def test_a_path_that_cannot_be_written(tmp_path: Path, where: str) -> None:
    """RecordingError in one sentence; handles go on at level off."""
    with pytest.raises(RecordingError) as caught:
        _native.start_recording(str(tmp_path / where))
    assert "\n" not in str(caught.value)
    assert _native.level() == "off"
    SafeFileHandle.open("/dev/null", os.O_RDONLY).close()


def test_an_existing_file_is_not_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "precious.shd"
    path.write_bytes(b"precious")
    with pytest.raises(RecordingError):
        _native.start_recording(str(path))
    assert path.read_bytes() == b"precious"
    link = tmp_path / "link.shd"
    link.symlink_to(tmp_path / "target.shd")
    with pytest.raises(RecordingError):
        _native.start_recording(str(link))
    assert not (tmp_path / "target.shd").exists()


def test_many_recordings_in_one_process(tmp_path: Path) -> None:
    """Fifty starts and stops leak neither descriptors nor mappings."""

    def maps() -> int:
        return Path("/proc/self/maps").read_text().count(".shd")

    fds = len(os.listdir("/proc/self/fd"))
    for _ in range(50):
        with recorded(tmp_path, size=1 << 20) as told:
            Probe([]).close()
        assert len(told[0].handles) == 1
    assert len(os.listdir("/proc/self/fd")) == fds
    assert maps() <= 1


def test_the_test_name_marks_events(tmp_path: Path) -> None:
    """set_test() holds for the calling thread until it is set anew."""
    with recorded(tmp_path) as told:
        _native.set_test("tests::one")
        handle = Probe([])
        _native.set_test("tests::two")
        handle.close()
        _native.set_test(None)
        Probe([], 6).close()
    one, other = told[0].handles
    assert [event.test for event in one.events] == ["tests::one", "tests::two"]
    assert [event.test for event in other.events] == [None, None]


def test_a_recording_can_be_read_while_it_is_written(tmp_path: Path) -> None:
    path = tmp_path / "live.shd"
    _native.start_recording(str(path), children=False)
    try:
        handle = Probe([])
        (history,) = told_by(path).handles
        assert history.is_open
        handle.close()
        (history,) = told_by(path).handles
        assert history.ending == "closed"
        assert told_by(path).process.ended == "running"
    finally:
        _native.stop_recording()


def test_sweep_releases_what_is_open(run: Callable[..., Run]) -> None:
    """Asked for at run time it releases all, once, and says how many."""
    result = run(
        """
        import os
        from holding import SafeFileHandle, both
        from safehandle_debug import _native

        kept = [both(number) for number in range(10)]
        borrowed = SafeFileHandle(0, owns_handle=False)
        fds = [native.handle for native, _ in kept]
        print(_native.sweep())
        print(_native.sweep())
        assert not any(os.path.exists(f"/proc/self/fd/{fd}") for fd in fds)
        os.fstat(borrowed.handle)
        # The numbers are somebody else's now; the old objects leave them alone.
        others = [os.open("/dev/null", os.O_RDONLY) for _ in fds]
        assert set(others) == set(fds)
        del kept
        for fd in others:
            os.close(fd)
        """
    ).ok()
    assert result.lines == ["20", "0"]
    assert sorted(result.released) == list(range(10))
    owned = [history for history in result.first().handles if not history.borrowed]
    assert {history.ending for history in owned} == {"swept"}
