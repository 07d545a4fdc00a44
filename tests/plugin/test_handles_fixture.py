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

    def test_allow_nonsense(handles):
        with pytest.raises(ValueError, match="is not a site: use path-glob"):
            handles.allow("nowhere")
"""
)


@pytest.mark.parametrize("option", ["--handles", "--no-handles"])
def test_fixture_works_on_and_off(suite, option):
    """Asking for the fixture tracks handles for that test, whatever the option."""
    suite.write(ASKS)
    suite.run_plain(option).assert_outcomes(passed=8)


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
