"""`--handles-baseline`: known leaks do not fail, and the list only shrinks."""

from __future__ import annotations

import json

import pytest

HEAD = """
    import pytest
    from safehandle_debug import SafeFileHandle

    kept = []

    def opened():
        kept.append(SafeFileHandle.open("/dev/null"))
"""
OLD = (
    HEAD
    + """
    @pytest.fixture(scope="module")
    def never_closed():
        opened()

    @pytest.mark.parametrize("number", [1, 2])
    def test_leaks(number):
        for _ in range(number):
            opened()

    def test_fixture(never_closed):
        pass
"""
)
BETTER = OLD.replace("range(number)", "range(1)")
WORSE = OLD.replace("range(number)", "range(2)")
FILE = "--handles-baseline=known.json"
UPDATE = "--handles-update-baseline"


def known(suite):
    whole = json.loads((suite.pytester.path / "known.json").read_text())
    assert whole["version"] == 1
    return {(one["where"], one["site"]): one["count"] for one in whole["leaks"]}


OLD_ONES = {
    ("test_it.py::test_leaks[1]", "test_it.py:opened"): 1,
    ("test_it.py::test_leaks[2]", "test_it.py:opened"): 2,
    ("test_it.py: fixture never_closed", "test_it.py:opened"): 1,
}


@pytest.mark.parametrize("options", [(), ("-p", "xdist", "-n2")])
def test_made_then_kept_then_shrunk(suite, options):
    """Made once; silent while nothing changes; stale entries named, then taken out."""
    if options:
        pytest.importorskip("xdist")
    result = suite.check(OLD, FILE, UPDATE, *options)
    result.assert_outcomes(passed=3)
    result.stdout.fnmatch_lines(["baseline written: known.json, 3 known"])
    assert known(suite) == OLD_ONES
    result = suite.run(FILE, *options)
    result.assert_outcomes(passed=3)
    result.stdout.no_fnmatch_line("*= handles =*")

    result = suite.check(BETTER, FILE, *options)
    result.assert_outcomes(passed=3)
    result.stdout.fnmatch_lines(
        [
            "stale in the baseline: 1 entry; --handles-update-baseline takes them out",
            "  1 leak   test_it.py:opened   test_it.py::test_leaks?2?",
        ],
        consecutive=True,
    )
    assert known(suite) == OLD_ONES
    result = suite.run(FILE, UPDATE, *options)
    result.stdout.fnmatch_lines(["baseline written: known.json, 1 stale taken out"])
    assert known(suite)["test_it.py::test_leaks[2]", "test_it.py:opened"] == 1


def test_new_leaks_fail(suite):
    """Also while the file is updated, and they are not added to it."""
    suite.check(OLD, FILE, UPDATE).assert_outcomes(passed=3)
    for options in ((FILE,), (FILE, UPDATE)):
        result = suite.check(WORSE, *options)
        result.assert_outcomes(passed=3, errors=1)
        result.stdout.fnmatch_lines(["*ERROR at teardown of test_leaks?1?*", "1 handle leaked: *"])
        assert known(suite) == OLD_ONES


@pytest.mark.parametrize(
    "body", ["assert False", "pytest.skip('not here')", "pytest.xfail('known')"]
)
def test_tests_that_did_not_run_to_the_end_are_not_stale(suite, body):
    """Nobody knows whether they would leak; nor of those that were not run."""
    suite.check(OLD, FILE, UPDATE)
    suite.write(BETTER.replace("for _ in", f"{body}\n        for _ in"))
    suite.run(FILE, UPDATE)
    assert known(suite) == OLD_ONES
    suite.check(OLD, FILE, UPDATE, "-k", "nothing")
    suite.run(FILE, UPDATE, "-k", "fixture")
    assert known(suite) == OLD_ONES


def test_lines_may_move(suite):
    """Entries name functions; the ini file names the baseline."""
    suite.check(OLD, FILE, UPDATE)
    suite.pytester.makeini("[pytest]\nhandles_baseline = known.json")
    suite.check("\n" * 7 + OLD).assert_outcomes(passed=3)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (None, "does not exist: make it with --handles-update-baseline"),
        ("nonsense", "is no baseline: make a new one with --handles-update-baseline"),
        ("[]", "is no baseline: *"),
        (
            '{"version": 2, "leaks": []}',
            "has version 2, this plugin reads up to 1: install a newer one",
        ),
        (
            '{"version": 1, "leaks": [{"kind": "leak", "where": "a", "site": "b", "count": 0}]}',
            "an entry needs kind, where, site and a count from 1 up",
        ),
    ],
)
def test_files_that_make_no_sense(suite, text, reason):
    """A usage error before the first test."""
    suite.write(OLD)
    if text is not None:
        (suite.pytester.path / "known.json").write_text(text)
    result = suite.run_here("--handles", FILE)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"ERROR: --handles-baseline: */known.json*{reason}"])


def test_update_needs_a_file(suite):
    """And a folder that is there."""
    suite.write(OLD)
    for options, reason in (
        ((UPDATE,), "--handles-update-baseline: name the file by --handles-baseline"),
        ((UPDATE, "--handles-baseline=no/known.json"), "*cannot be written: choose another path"),
    ):
        result = suite.run_here("--handles", *options)
        assert result.ret == pytest.ExitCode.USAGE_ERROR
        result.stderr.fnmatch_lines([f"ERROR: {reason}"])
