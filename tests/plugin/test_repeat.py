"""`@pytest.mark.handles(repeat=N)`: the body runs again, growth alone fails."""

from __future__ import annotations

import pytest
from pytest_safehandle.growth import by_iteration, grows

HEAD = """
    import pytest
    from collections import deque
    from safehandle_debug import SafeFileHandle

    kept = []
    ran = []

    def opened():
        return SafeFileHandle.open("/dev/null")
"""


def test_growth_is_told_by_iteration(suite):
    """How many, what and where; then what each iteration left."""
    result = suite.check(
        HEAD
        + """
    @pytest.mark.handles(repeat=20)
    def test_grows():
        ran.append(1)
        kept.extend([opened(), opened()])
        opened().close()

    def test_ran_so_often():
        assert len(ran) == 20
    """
    )
    result.assert_outcomes(passed=2, errors=1)
    result.stdout.fnmatch_lines(
        [
            "open handles grow by 2 per iteration (40 in 20): SafeFileHandle fd * (test_it.py:9)",
            "",
            "  growth         " + " ".join(["+2"] * 20),
            "",
            "SafeFileHandle #*, fd *",
            "  opened         test_it.py:14: in test_grows",
            "*= handles =*",
            "40 leaked",
            "40 leaks   test_it.py:9: in opened   test_it.py::test_grows",
        ]
    )


@pytest.mark.parametrize(
    "body",
    [
        "opened().close()",
        "if not ran: kept.append(opened())",
        "if len(ran) < 6: kept.append(opened())",
        "recent.append(opened())",
        "ring = [opened()]; ring.append(ring)",
        "if len(ran) == 7: kept.append(opened())",
    ],
    ids=["closes", "once", "pool", "forgets the oldest", "garbage", "rarely"],
)
def test_what_does_not_grow_is_silent(suite, body):
    """Whatever stays within bounds is no leak rate."""
    suite.check(
        HEAD
        + f"""
    recent = deque(maxlen=3)

    @pytest.mark.handles(repeat=12)
    def test_stays():
        {body}
        ran.append(1)
    """
    ).assert_outcomes(passed=1)


def test_leaks_of_fixtures_are_judged_as_ever(suite):
    """They were set up once."""
    result = suite.check(
        HEAD
        + """
    @pytest.fixture
    def never_closed():
        kept.append(opened())

    @pytest.mark.handles(repeat=5)
    def test_one(never_closed):
        ran.append(1)

    def test_ran():
        assert len(ran) == 5
    """
    )
    result.assert_outcomes(passed=2, errors=1)
    result.stdout.fnmatch_lines(["1 handle leaked by fixture 'never_closed' (function): *"])


def test_body_that_fails_later(suite):
    """The failure says which time it was."""
    result = suite.check(
        HEAD
        + """
    @pytest.mark.handles(repeat=9)
    def test_fails_later():
        ran.append(1)
        assert len(ran) < 4

    @pytest.mark.handles(repeat=9)
    def test_skips():
        kept.append(1)
        pytest.skip("not here")

    def test_ran_so_often():
        assert (len(ran), len(kept)) == (4, 1)
    """
    )
    result.assert_outcomes(passed=1, failed=1, skipped=1)
    result.stdout.fnmatch_lines(["*when the body ran for the 4. of 9 times"])


def test_warns_where_leaks_warn(suite):
    """on-leak holds for growth too; without --handles nothing is repeated."""
    suite.write(
        HEAD
        + """
    @pytest.mark.handles(repeat=5)
    def test_grows():
        kept.append(opened())
    """
    )
    result = suite.run("--handles-on-leak=warn")
    result.assert_outcomes(passed=1, warnings=1)
    result.stdout.fnmatch_lines(["*HandleLeakWarning: open handles grow by 1 per iteration*"])
    suite.run_plain().assert_outcomes(passed=1)


def test_unittest_bodies(suite):
    """setUp and tearDown run each time; a failure ends it."""
    suite.check(
        HEAD
        + """
    import unittest

    class TestIt(unittest.TestCase):
        def setUp(self):
            ran.append(1)

        @pytest.mark.handles(repeat=6)
        def test_grows(self):
            kept.append(opened())

        @pytest.mark.handles(repeat=6)
        def test_is_wrong(self):
            self.fail("no")

        def test_ran(self):
            self.assertEqual(len(ran), 6 + 1 + 1)
    """
    ).assert_outcomes(passed=2, failed=1, errors=1)


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ("repeat=4", "repeat: use a number from 5 up, not 4"),
        ("repeat=True", "repeat: use a number from 5 up, not True"),
        ("repeat=9, expect=1", "repeat judges the growth of leaks: drop expect"),
        ("repeat=9, on_leak='off'", "repeat judges the growth of leaks: drop on_leak='off'"),
    ],
)
def test_nonsense(suite, arguments, reason):
    """A usage error at collection."""
    suite.write(
        HEAD
        + f"""
    @pytest.mark.handles({arguments})
    def test_one(): pass
    """
    )
    result = suite.run()
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"ERROR: test_it.py::test_one: @pytest.mark.handles: {reason}"])


def test_iterations():
    """Handles are counted for the iteration that opened them."""
    assert by_iteration([3, 4, 9], [2, 3, 6, 6, 9]) == [1, 1, 0, 1]
    assert grows([0, 1, 1, 1, 1])
    assert not grows([5, 1, 0, 1, 1])
    assert grows([0] + [0, 0, 1] * 4)
