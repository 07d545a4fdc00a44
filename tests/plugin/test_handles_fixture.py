"""The `handles` fixture: what a test can ask and assert while it runs."""

from __future__ import annotations

import pytest

HEAD = """
    import pytest
    from pytest_safehandle import HandleLeakError
    from safehandle_debug import SafeFileHandle, SafePipeHandle

    kept = []

    def opened():
        return SafeFileHandle.open("/dev/null")
"""

ASKS = (
    HEAD
    + """
    def test_live_and_events(handles):
        assert handles.live == []
        with opened() as handle:
            (live,) = handles.live
            assert (live.owner, live.detail) == ("SafeFileHandle", "/dev/null")
            assert live.value == handle.dangerous_get_handle()
            with handle.hold():
                pass
        assert handles.live == []
        kinds = [event.kind for event in handles.events]
        assert kinds == ["acquire", "add-ref", "release", "close"]

    def test_check(handles):
        with handles.check():
            opened().close()
        with pytest.raises(HandleLeakError, match="^1 handle leaked: SafeFileHandle fd "):
            with handles.check():
                kept.append(opened())
        kept[-1].close()

    def test_check_lets_exceptions_through(handles):
        with pytest.raises(ZeroDivisionError):
            with handles.check():
                handle = opened()
                1 / 0

    def test_check_collects_garbage(handles):
        with handles.check():
            ring = [opened()]
            ring.append(ring)
            del ring

    def test_check_sees_its_block_only(handles):
        outer = opened()
        with handles.check():
            opened().close()
        outer.close()

    def test_balanced(handles):
        handle = opened()
        handle.dangerous_add_ref()
        handle.close()
        with pytest.raises(HandleLeakError, match="^1 handle unbalanced: "):
            handles.assert_balanced()
        handle.dangerous_release()
        handles.assert_balanced()

    def test_allow(handles):
        kept.append(opened())
        handles.allow("test_it.py:opened")
        handles.assert_balanced()

    def test_opened(handles):
        assert handles.opened() == []
        opened().close()
        reader, writer = SafePipeHandle.pair()
        reader.close()
        lent = SafeFileHandle(writer.fileno(), owns_handle=False)
        assert [one.kind for one in handles.opened()] == ["file", "pipe", "pipe"]
        (file,) = handles.opened(kind="file")
        assert (file.ending, [event.kind for event in file.events]) == (
            "closed", ["acquire", "close"]
        )
        assert len(handles.opened(kind="pipe")) == 2
        assert handles.opened(kind="socket") == []
        writer.close()

    def test_opened_many(handles):
        first = opened()
        for _ in range(150):
            opened().close()
        assert len(handles.opened(kind="file")) == 151
        serials = [one.serial for one in handles.opened()]
        assert serials == sorted(serials)
        first.close()

    def test_session(handles_session):
        before = handles_session.opened
        with opened():
            assert handles_session.live[-1].detail == "/dev/null"
            assert handles_session.opened == before + 1
        assert handles_session.found == {}

    def test_allow_nonsense(handles):
        with pytest.raises(ValueError, match="is not a site: use path-glob"):
            handles.allow("nowhere")
"""
)


@pytest.mark.parametrize("option", ["--handles", "--no-handles"])
def test_fixture_works_on_and_off(suite, option):
    """Asking for the fixture tracks handles for that test, whatever the option."""
    suite.write(ASKS)
    suite.run_plain(option).assert_outcomes(passed=11)


def test_wrong_release_is_not_balanced(suite):
    """assert_balanced() also tells of releases that were one too many."""
    suite.write(
        HEAD
        + """
    def test_balanced(handles):
        opened().dangerous_release()
        with pytest.raises(HandleLeakError, match="released twice"):
            handles.assert_balanced()
    """
    )
    suite.run_plain("--no-handles").assert_outcomes(passed=1)
    suite.run_plain("--handles").assert_outcomes(failed=1)


def test_check_finds_hypothesis_examples(suite):
    """Inside the test it fails each example by itself."""
    pytest.importorskip("hypothesis")
    suite.write(
        HEAD
        + """
    from hypothesis import HealthCheck, given, settings, strategies

    @settings(
        database=None,
        derandomize=True,
        deadline=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture],
    )
    @given(number=strategies.integers(0, 100))
    def test_examples(handles, number):
        with handles.check():
            handle = opened()
            if number > 10:
                kept.append(handle)
            else:
                handle.close()
    """
    )
    result = suite.run("-p", "hypothesispytest")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*1 handle leaked: *", "*test_examples(*", "*number=11,*"])


def test_session_totals(suite):
    """What earlier tests were told is counted, and what they left is seen."""
    suite.write(
        HEAD
        + """
    def test_one():
        kept.append(opened())

    def test_two():
        opened().dangerous_release()

    def test_three(handles_session):
        assert handles_session.found == {"leak": 1, "double-release": 1}
        assert [one.detail for one in handles_session.live] == ["/dev/null"]
        assert handles_session.opened == 2
    """
    )
    suite.run("-p", "no:randomly").assert_outcomes(passed=2, failed=1, errors=1)


def test_session_fixture_alone_starts_recording(suite):
    """Off, it begins when it is asked for, and judges nobody."""
    suite.write(
        HEAD
        + """
    def test_one(handles_session):
        kept.append(opened())
        assert [one.detail for one in handles_session.live] == ["/dev/null"]

    def test_two(handles_session, handles):
        assert (handles_session.opened, handles_session.found) == (1, {})
        assert handles.opened() == []
    """
    )
    suite.run_plain().assert_outcomes(passed=2)
