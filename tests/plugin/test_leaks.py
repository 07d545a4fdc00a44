"""A test that leaves a handle open is an error at its teardown; nobody else is."""

from __future__ import annotations

import pytest

HEAD = """
    import pytest
    from safehandle_debug import SafeFileHandle

    kept = []

    def opened():
        return SafeFileHandle.open("/dev/null")
"""


def test_leak_is_an_error_at_teardown_of_that_test_only(suite):
    """The call passed; the next test is clean although the handle is still open."""
    result = suite.check(
        HEAD
        + """
    def test_leaks():
        kept.append(opened())

    def test_is_clean():
        opened().close()
    """
    )
    result.assert_outcomes(passed=2, errors=1)
    result.stdout.fnmatch_lines(
        [
            "*ERROR at teardown of test_leaks*",
            "1 handle leaked: SafeFileHandle fd * '/dev/null' (test_it.py:7)",
            "",
            "SafeFileHandle #*, fd * '/dev/null', refcount 1, open for *.* s",
            "  opened         test_it.py:10: in test_leaks",
            "                 test_it.py:7: in opened",
            "  still held     test_it.kept[[]0]",
            "",
            "Close it, or allow the site:",
            '  @pytest.mark.handles(allow="test_it.py:opened", reason="...")',
            "*= handles =*",
            "1 leaked",
            "1 leak   test_it.py:7: in opened   test_it.py::test_leaks",
            "*short test summary*",
            "ERROR test_it.py::test_leaks - Failed: 1 handle leaked: SafeFileHandle fd *",
        ]
    )
    result.stdout.no_fnmatch_line("*INTERNALERROR*")


def test_several_leaks_are_one_message(suite):
    """The first is told whole, the others are listed."""
    result = suite.check(
        HEAD
        + """
    def test_leaks():
        kept.extend(opened() for _ in range(30))
    """
    )
    result.assert_outcomes(passed=1, errors=1)
    result.stdout.fnmatch_lines(
        [
            "30 handles leaked: SafeFileHandle fd * '/dev/null' (test_it.py:7) and 29 more",
            "SafeFileHandle #*, refcount 1, open for *",
            "SafeFileHandle #*, fd * '/dev/null', opened at test_it.py:7: in opened",
            "... and 9 more",
            "30 leaked",
            "30 leaks   test_it.py:7: in opened   test_it.py::test_leaks",
        ]
    )


def test_equal_leaks_of_many_tests_are_one_group(suite):
    """The summary groups by site; each parameter has its own verdict."""
    result = suite.check(
        HEAD
        + """
    @pytest.mark.parametrize("leaks", [True, False, True, True])
    def test_parameter(leaks):
        handle = opened()
        if leaks:
            kept.append(handle)
        else:
            handle.close()
    """
    )
    result.assert_outcomes(passed=4, errors=3)
    result.stdout.fnmatch_lines(
        [
            "*= handles =*",
            "3 leaked",
            "3 leaks   test_it.py:7: in opened   test_it.py::test_parameter?True* and 2 more",
        ]
    )


def test_instance_of_a_plain_class_keeps_its_handle(suite):
    """The item keeps the instance: said so, and told which."""
    result = suite.check(
        HEAD
        + """
    class TestKeeper:
        def test_keeps(self):
            self.handle = opened()

        def test_closes(self):
            self.handle = opened()
            self.handle.close()
    """
    )
    result.assert_outcomes(passed=2, errors=1)
    result.stdout.fnmatch_lines(["  still held     TestKeeper self.handle"])


def test_holder_of_equal_leaks_is_looked_for_twice(suite):
    """The others' reports name the test whose report has it."""
    result = suite.check(
        HEAD
        + """
    @pytest.mark.parametrize("number", range(4))
    def test_leaks(number):
        kept.append(opened())

    def test_elsewhere():
        kept.append(SafeFileHandle.open("/dev/null"))
    """
    )
    result.assert_outcomes(passed=5, errors=5)
    held = [line.split(None, 2)[2] for line in result.outlines if line.startswith("  still held ")]
    # Where CI is set, pytest repeats it all in its summary.
    assert sorted(held[:5]) == [
        *(["see test_it.py::test_leaks[0]"] * 2),
        *(f"test_it.kept[{number}]" for number in (0, 1, 4)),
    ]


def test_leak_in_a_thread_is_the_tests(suite):
    """A thread that the test starts works for the test."""
    result = suite.check(
        HEAD
        + """
    import threading

    def test_thread():
        thread = threading.Thread(target=lambda: kept.append(opened()), name="helper")
        thread.start()
        thread.join()
    """
    )
    result.assert_outcomes(passed=1, errors=1)
    result.stdout.fnmatch_lines(["1 handle leaked: *", "  thread         helper"])


BACKGROUND = (
    HEAD
    + """
    import os
    import threading

    began, go_on, closed = threading.Event(), threading.Event(), threading.Event()

    def work():
        handle = opened()
        began.set()
        go_on.wait(60)
        if CLOSES:
            handle.close()
        else:
            kept.append(handle)
        closed.set()

    def test_starts():
        threading.Thread(target=work, name="worker", daemon=True).start()
        assert began.wait(60)

    def test_next():
        pass

    @pytest.fixture(scope="session", autouse=True)
    def end():
        yield
        if not STAYS:
            go_on.set()
            assert closed.wait(60)
"""
)


@pytest.mark.parametrize("opens", ["opened()", "os.open(os.devnull, os.O_RDONLY)"])
def test_thread_left_at_work_may_close_its_handle_later(suite, opens):
    """A thread that goes on during the next tests is not done with its handles."""
    closes = "handle.close()" if opens == "opened()" else "os.close(handle)"
    source = BACKGROUND.replace("handle = opened()", f"handle = {opens}")
    source = source.replace("handle.close()", closes)
    result = suite.check(source + "\n    CLOSES, STAYS = True, False\n")
    result.assert_outcomes(passed=2)
    result.stdout.no_fnmatch_line("*= handles =*")
    assert result.ret == 0


@pytest.mark.parametrize("args", [(), ("-p", "xdist", "-n1")])
@pytest.mark.parametrize("stays", [False, True])
def test_leak_of_a_thread_left_at_work_is_the_tests(suite, stays, args):
    """Its verdict comes at the end of the session, and names the right test."""
    if args:
        pytest.importorskip("xdist")
    json = suite.pytester.path / "found.json"
    xml = suite.pytester.path / "found.xml"
    result = suite.check(
        f"{BACKGROUND}\n    CLOSES, STAYS = False, {stays}\n",
        f"--handles-json={json}",
        f"--junitxml={xml}",
        *args,
    )
    result.assert_outcomes(passed=2, errors=1)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(
        [
            "*ERROR at teardown of test_starts*",
            "1 handle leaked: *",
            "  thread         worker",
            "Judged at the end of the session: *",
            "1 leak   test_it.py:*: in *   test_it.py::test_starts",
            "ERROR test_it.py::test_starts*",
        ]
    )
    assert '"tests": [\n    "test_it.py::test_starts"\n   ]' in json.read_text()
    assert xml.read_text().count("<error") == 1


def test_leak_of_a_thread_left_at_work_only_warned_of(suite):
    result = suite.check(
        f"{BACKGROUND}\n    CLOSES, STAYS = False, True\n", "--handles-on-leak=warn"
    )
    result.assert_outcomes(passed=2, warnings=1)
    result.stdout.fnmatch_lines(["*HandleLeakWarning: 1 handle leaked: *"])
    assert result.ret == 0


def test_idle_thread_of_a_pool_is_done_with_what_it_opened(suite):
    """The function that opened the handle is over: the verdict is not put off."""
    result = suite.check(
        HEAD
        + """
    from concurrent.futures import ThreadPoolExecutor

    pool = ThreadPoolExecutor(1)

    def test_pool():
        kept.append(pool.submit(opened).result())
    """
    )
    result.assert_outcomes(passed=1, errors=1)
    result.stdout.fnmatch_lines(["1 handle leaked: *"])
    result.stdout.no_fnmatch_line("Judged at the end*")


def test_skipped_test_is_judged(suite):
    """A skip is not a failure: what it opened before is leaked."""
    result = suite.check(
        HEAD
        + """
    def test_skips():
        kept.append(opened())
        pytest.skip("later")

    def test_skips_clean():
        handle = opened()
        pytest.skip("later")
    """
    )
    result.assert_outcomes(skipped=2, errors=1)


def test_failed_test_has_no_verdict_but_a_section(suite):
    """Its traceback holds the handle; later tests are not blamed either."""
    result = suite.check(
        HEAD
        + """
    def test_fails():
        handle = opened()
        assert handle.is_closed

    def test_is_clean():
        opened().close()
    """
    )
    result.assert_outcomes(failed=1, passed=1)
    result.stdout.fnmatch_lines(
        [
            "*- Handles still open -*",
            "SafeFileHandle #*, fd * '/dev/null', opened at test_it.py:7: in opened",
        ]
    )
    result.stdout.no_fnmatch_line("*leaked*")


def test_failed_setup_and_failed_teardown_have_no_verdict(suite):
    """An exception of the test's own wins; ours is a section."""
    result = suite.check(
        HEAD
        + """
    @pytest.fixture
    def broken():
        kept.append(opened())
        raise RuntimeError("no fixture")

    @pytest.fixture
    def breaks():
        yield
        raise RuntimeError("no end")

    def test_setup(broken):
        pass

    def test_teardown(breaks):
        kept.append(opened())
    """
    )
    result.assert_outcomes(passed=1, errors=2)
    result.stdout.fnmatch_lines(
        ["*ERROR at setup of test_setup*", "*RuntimeError: no fixture", "*- Handles still open -*"]
    )
    result.stdout.fnmatch_lines(
        ["*ERROR at teardown of test_teardown*", "*RuntimeError: no end", "*Handles still open -*"]
    )
    result.stdout.no_fnmatch_line("*leaked*")


def test_expected_failure_is_no_way_to_accept_a_leak(suite):
    """An xfail test that leaks and passes is an XPASS; one that fails has no verdict."""
    result = suite.check(
        HEAD
        + """
    @pytest.mark.xfail
    def test_passes():
        kept.append(opened())

    @pytest.mark.xfail(strict=True)
    def test_fails():
        handle = opened()
        assert handle.is_closed
    """
    )
    result.assert_outcomes(xpassed=1, xfailed=2)


def test_stops_at_the_first_leak(suite):
    """A leak counts for -x and --maxfail as any error does."""
    result = suite.check(
        HEAD
        + """
    def test_leaks():
        kept.append(opened())

    def test_never_runs():
        pass
    """,
        "-x",
    )
    result.assert_outcomes(passed=1, errors=1)
    result.stdout.fnmatch_lines(["*stopping after 1 failures*"])


def test_handle_that_a_hook_opens_between_tests_is_nobodys(suite):
    """What no test opened is in no test's verdict."""
    suite.pytester.makeconftest(
        """
        from safehandle_debug import SafeFileHandle

        kept = [SafeFileHandle.open("/dev/null")]

        def pytest_collection_modifyitems():
            kept.append(SafeFileHandle.open("/dev/null"))

        def pytest_runtest_logfinish():
            kept.append(SafeFileHandle.open("/dev/null"))
        """
    )
    result = suite.check("def test_one(): pass\ndef test_two(): pass")
    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines(
        ["*= handles =*", *["opened outside of tests: SafeFileHandle #*, fd * '/dev/null', *"] * 3]
    )
    assert "#1," not in result.stdout.str(), "the conftest's import keeps that one"
