"""Which findings of many tests are one line at the end, and one in the JSON file."""

from __future__ import annotations

import json

import pytest

HELPERS = """
    import os
    import socket

    kept = []

    def opened():
        kept.append(socket.socket())

    def one_way():
        opened()

    def other_way():
        opened()

    def number():
        kept.append(os.open("/dev/null", os.O_RDONLY))
"""


def found(suite, *args):
    """(count, sorted tests) by fingerprint, of the findings in the JSON file."""
    suite.run("--handles-json=handles.json", *args)
    whole = json.loads((suite.pytester.path / "handles.json").read_text())
    return {one["fingerprint"]: (one["count"], sorted(one["tests"])) for one in whole["findings"]}


def test_one_helper_from_three_tests(suite):
    """What differs by test does not count: function, class, line, parameter."""
    source = """
        import helpers
        import pytest

        def test_a():
            helpers.one_way()

        class TestB:
            @pytest.mark.parametrize("number", (1, 2))
            def test_b(self, number):
                unused = number
                helpers.one_way()
    """
    result = suite.check(source, helpers=HELPERS)
    result.assert_outcomes(passed=3, errors=3)
    result.stdout.fnmatch_lines(
        ["3 leaked", "3 leaks   helpers.py:7: in opened   test_it.py::test_a and 2 more"]
    )
    result.stdout.no_fnmatch_line("*<-*")
    (((count, tests),)) = [*found(suite).values()]
    assert count == 3
    assert tests == [
        "test_it.py::TestB::test_b[1]",
        "test_it.py::TestB::test_b[2]",
        "test_it.py::test_a",
    ]


def test_two_ways_to_one_line(suite):
    """Each is a bug of its own, and the summary tells them apart."""
    source = """
        import helpers

        def test_a():
            helpers.one_way()

        def test_b():
            helpers.other_way()

        def test_c():
            helpers.other_way()
    """
    suite.check(source, helpers=HELPERS).stdout.fnmatch_lines(
        [
            "3 leaked",
            "2 leaks   helpers.py:7: in opened <- helpers.py:13: in other_way   test_it.py::*",
            "1 leak   helpers.py:7: in opened <- helpers.py:10: in one_way   test_it.py::test_a",
        ]
    )
    assert sorted(count for count, _ in found(suite).values()) == [1, 2]


def test_opened_in_the_test_itself(suite):
    """Its place counts: two tests are two groups, so are two lines of one test."""
    source = """
        import socket

        kept = []

        def test_a():
            kept.append(socket.socket())
            kept.append(socket.socket())

        def test_b():
            kept.append(socket.socket())
    """
    result = suite.check(source)
    result.stdout.fnmatch_lines(
        [
            "3 leaked",
            "1 leak   test_it.py:6: in test_a   test_it.py::test_a",
            "1 leak   test_it.py:7: in test_a   test_it.py::test_a",
            "1 leak   test_it.py:10: in test_b   test_it.py::test_b",
        ]
    )
    assert [count for count, _ in found(suite).values()] == [1, 1, 1]


def test_fingerprint_survives_other_changes(suite):
    """Lines added above do not matter, nor which test it was."""
    suite.write("import helpers\n\ndef test_a(): helpers.one_way()", helpers=HELPERS)
    before = found(suite)
    suite.write("import helpers\n\n\n\ndef test_z(): helpers.one_way()", helpers="\n\n" + HELPERS)
    after = found(suite)
    assert len(before) == 1
    assert before.keys() == after.keys()
    assert before != after


def test_workers_share_groups(suite):
    """What two processes found of one bug is one group."""
    pytest.importorskip("xdist")
    source = "\n".join(
        ["import helpers", *(f"def test_{n}(): helpers.one_way()" for n in range(4))]
    )
    result = suite.check(source, "-p", "xdist", "-n2", helpers=HELPERS)
    result.stdout.fnmatch_lines(["4 leaks   helpers.py:7: in opened   test_it.py::* and 3 more"])


def test_only_safehandles_have_references(suite):
    """A socket or a bare number has no count of them; where a number stands is told."""
    source = "import helpers\n\ndef test_a(): helpers.number()\n\ndef test_b(): helpers.one_way()"
    result = suite.check(source, helpers=HELPERS)
    result.stdout.fnmatch_lines(
        [
            "file #*, fd * '/dev/null', open for * s",
            "  still held     nothing; the number * stands in helpers.kept?0?",
            "socket #*, fd *, open for * s",
            "  still held     helpers.kept?1?",
        ]
    )
    result.stdout.no_fnmatch_line("*refcount*")
