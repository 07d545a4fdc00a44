"""Misuse fails the phase in which it happened, with both stacks."""

from __future__ import annotations

HEAD = """
    import gc
    import os

    import pytest
    from safehandle_debug import (
        HandleClosedError,
        SafeFileHandle,
        SafeHandleZeroOrMinusOneIsInvalid,
    )

    kept = []

    def opened():
        return SafeFileHandle.open("/dev/null")

    def give_back(handle):
        handle.dangerous_release()
"""


def test_double_release_fails_the_call(suite):
    """The release that closed it and the one too many, each with its stack."""
    result = suite.check(
        HEAD
        + """
    def test_return_twice():
        handle = opened()
        handle.dangerous_add_ref()
        give_back(handle)
        give_back(handle)

    def test_is_clean():
        with opened() as handle, handle.hold():
            pass
    """
    )
    result.assert_outcomes(failed=1, passed=1)
    result.stdout.fnmatch_lines(
        [
            "*_ test_return_twice _*",
            "SafeFileHandle #* released twice: fd * (test_it.py:17)",
            "",
            "  opened         test_it.py:20: in test_return_twice",
            "                 test_it.py:14: in opened",
            "  add-ref        test_it.py:21: in test_return_twice (refcount 1 -> 2)",
            "  release        test_it.py:17: in give_back (refcount 2 -> 1)",
            "  released again test_it.py:23: in test_return_twice",
            "                 test_it.py:17: in give_back (closed it)",
            "*= handles =*",
            "1 released twice",
            "1 double-release   test_it.py:17: in give_back   test_it.py::test_return_twice",
            "FAILED test_it.py::test_return_twice - Failed: SafeFileHandle #* released twice: *",
        ]
    )


def test_misuse_in_setup_and_teardown_are_errors_there(suite):
    """The phase that did it is the phase that fails."""
    result = suite.check(
        HEAD
        + """
    @pytest.fixture
    def before():
        give_back(opened())

    @pytest.fixture
    def after():
        yield
        give_back(opened())

    def test_setup(before): pass
    def test_teardown(after): pass
    """
    )
    result.assert_outcomes(passed=1, errors=2)
    result.stdout.fnmatch_lines(
        [
            "*ERROR at setup of test_setup*",
            "SafeFileHandle #* released twice: *",
            "*ERROR at teardown of test_teardown*",
            "SafeFileHandle #* released twice: *",
        ]
    )


def test_misuse_of_a_failing_test_is_a_section(suite):
    """The test's own exception wins."""
    result = suite.check(
        HEAD
        + """
    def test_fails():
        give_back(opened())
        assert False, "my own"
    """
    )
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        ["*my own*", "*- Handles misused -*", "SafeFileHandle #* released twice: *"]
    )


def test_unbalanced_reference_is_named_by_its_stack(suite):
    """Closed with an add-ref out: still open at the end of the test."""
    result = suite.check(
        HEAD
        + """
    def borrow(handle):
        handle.dangerous_add_ref()

    def test_borrows():
        handle = opened()
        borrow(handle)
        handle.close()
        kept.append(handle)
    """
    )
    result.assert_outcomes(passed=1, errors=1)
    result.stdout.fnmatch_lines(
        [
            "*ERROR at teardown of test_borrows*",
            "1 handle unbalanced: SafeFileHandle fd * '/dev/null' (test_it.py:20)",
            "  add-ref        test_it.py:20: in borrow (refcount 1 -> 2)",
            "  closed         test_it.py:25: in test_borrows (1 reference still out)",
            "1 unbalanced",
        ]
    )


def test_dropped_with_a_reference_out_fails_the_call(suite):
    """A finalizer that finds references out is misuse when it happens."""
    result = suite.check(
        HEAD
        + """
    def test_drops():
        handle = opened()
        handle.dangerous_add_ref()
        del handle
    """
    )
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        ["SafeFileHandle #* unbalanced: fd *, an add-ref was never released (test_it.py:21)"]
    )


def test_release_hook_that_fails(suite):
    """False or an exception from the hook: the resource may be lost."""
    result = suite.check(
        HEAD
        + """
    class Ticket(SafeHandleZeroOrMinusOneIsInvalid):
        def __init__(self, value):
            super().__init__()
            self.set_handle(value)

        def release_handle(self):
            return False

    def test_hook():
        Ticket(77).close()
    """
    )
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["Ticket #* not released: * 77 *"])


def test_two_owners_of_one_descriptor(suite):
    """Adopting a number that has an owner."""
    result = suite.check(
        HEAD
        + """
    def test_adopts():
        first = opened()
        second = SafeFileHandle(first.dangerous_get_handle())
        second.detach()
        first.close()
    """
    )
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["SafeFileHandle #* owned twice: fd * (test_it.py:21)"])


def test_value_set_over_an_open_one(suite):
    """The old value has no owner any more."""
    result = suite.check(
        HEAD
        + """
    def test_sets():
        handle = opened()
        old = handle.dangerous_get_handle()
        handle.set_handle(os.dup(old))
        os.close(old)
        handle.close()
    """
    )
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["SafeFileHandle #* leaked: *another value was set over it*"])


def test_finalizer_of_an_earlier_failed_test_blames_nobody_else(suite):
    """A failed test's handle dies whenever its traceback does."""
    result = suite.check(
        HEAD
        + """
    import sys

    def test_fails():
        handle = opened()
        handle.dangerous_add_ref()
        raise RuntimeError("on purpose")

    def test_later():
        sys.last_value = sys.last_traceback = None
        gc.collect()
    """
    )
    result.assert_outcomes(failed=1, passed=1)


def test_misuse_of_an_older_handle_fails_the_test_that_misused_it(suite):
    """The culprit is the test that released it, not the one that opened it."""
    result = suite.check(
        HEAD
        + """
    @pytest.fixture(scope="module")
    def shared():
        handle = opened()
        yield handle
        handle.close()

    def test_good(shared): pass

    def test_bad(shared):
        give_back(shared)

    def test_good_again(): pass
    """
    )
    result.assert_outcomes(failed=1, passed=2)
    result.stdout.fnmatch_lines(["FAILED test_it.py::test_bad - *released twice*"])
