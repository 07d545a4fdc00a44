"""Verdicts stay right beside unittest, subtests, doctests and other plugins."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from fnmatch import fnmatch

import pytest

HEAD = """
    import pytest
    from safehandle_debug import SafeFileHandle

    kept = []

    def opened():
        return SafeFileHandle.open("/dev/null")
"""

MIXED = (
    HEAD
    + """
    @pytest.fixture(scope="module")
    def db():
        handle = opened()
        yield handle
        handle.close()

    @pytest.mark.parametrize("number", range(6))
    def test_clean(db, number):
        opened().close()

    @pytest.mark.parametrize("number", range(3))
    def test_leaks(db, number):
        kept.append(opened())

    def test_returns_twice():
        handle = opened()
        handle.dangerous_release()
"""
)


def test_unittest(suite):
    """setUp, setUpClass and setUpModule hold handles for their scope."""
    result = suite.check(
        """
        import unittest

        from safehandle_debug import SafeFileHandle

        kept = []

        def opened():
            return SafeFileHandle.open("/dev/null")

        def setUpModule():
            global shared
            shared = opened()

        def tearDownModule():
            shared.close()

        class Clean(unittest.TestCase):
            @classmethod
            def setUpClass(cls):
                cls.handle = opened()

            @classmethod
            def tearDownClass(cls):
                cls.handle.close()

            def setUp(self):
                self.own = opened()
                self.dropped = opened()
                self.addCleanup(self.own.close)

            def test_one(self):
                self.assertFalse(self.own.is_closed)

            def test_subtests(self):
                for number in range(3):
                    with self.subTest(number=number):
                        opened().close()

            def test_skips(self):
                self.skipTest("later")

        class Wrong(unittest.TestCase):
            def test_returns_twice(self):
                opened().dangerous_release()

            def test_fails(self):
                handle = opened()
                self.assertTrue(handle.is_closed)

        class Async(unittest.IsolatedAsyncioTestCase):
            async def test_async(self):
                opened().close()
        """
    )
    result.assert_outcomes(passed=3, skipped=1, failed=2)
    result.stdout.fnmatch_lines(
        [
            "FAILED test_it.py::Wrong::test_fails - AssertionError*",
            "FAILED test_it.py::Wrong::test_returns_twice - *released twice*",
        ]
    )


def test_leak_of_a_unittest_class(suite):
    """What setUpClass opens and nobody closes is the class's."""
    result = suite.check(
        """
        import unittest

        from safehandle_debug import SafeFileHandle

        class Case(unittest.TestCase):
            @classmethod
            def setUpClass(cls):
                cls.handle = SafeFileHandle.open("/dev/null")

            def test_one(self): pass
            def test_two(self): pass
        """
    )
    result.assert_outcomes(passed=2, errors=1)
    result.stdout.fnmatch_lines(
        [
            "*ERROR at teardown of Case.test_two*",
            "1 handle leaked by fixture 'setUpClass' (class): *",
        ]
    )


def test_subtests(suite):
    """Judged with the test that they are part of; a failed one spoils the verdict."""
    if int(pytest.__version__.partition(".")[0]) < 9:
        pytest.skip("subtests are part of pytest from 9 on")
    result = suite.check(
        HEAD
        + """
    def test_leaks(subtests):
        for number in range(3):
            with subtests.test(number=number):
                if number == 1:
                    kept.append(opened())

    def test_fails(subtests):
        with subtests.test("one"):
            handle = opened()
            assert handle.is_closed
    """
    )
    result.stdout.fnmatch_lines(["*ERROR at teardown of test_leaks*", "1 handle leaked: *"])
    result.stdout.no_fnmatch_line("*ERROR at teardown of test_fails*")
    result.stdout.no_fnmatch_line("*INTERNALERROR*")


def test_doctests(suite):
    """Names of a doctest are cleared by its runner; what is kept elsewhere leaks."""
    result = suite.check(
        '''
        """
        >>> from safehandle_debug import SafeFileHandle
        >>> handle = SafeFileHandle.open("/dev/null")
        """

        kept = []

        def keeps():
            """
            >>> from safehandle_debug import SafeFileHandle
            >>> import test_it
            >>> test_it.kept.append(SafeFileHandle.open("/dev/null"))
            """
        ''',
        "--doctest-modules",
    )
    result.assert_outcomes(passed=2, errors=1)
    result.stdout.fnmatch_lines(["*ERROR at teardown of *test_it.keeps*", "1 handle leaked: *"])


def test_doctest_text_files(suite):
    """Items without fixtures or functions are judged too."""
    suite.pytester.maketxtfile(
        test_doc="""
        >>> from safehandle_debug import SafeFileHandle
        >>> SafeFileHandle.open("/dev/null").close()
        """
    )
    suite.run().assert_outcomes(passed=1)


@pytest.mark.parametrize("distribution", ["load", "loadscope"])
def test_xdist(suite, distribution):
    """Same verdicts and one summary; each worker records for itself."""
    pytest.importorskip("xdist")
    suite.write(MIXED)
    result = suite.run("-p", "xdist", "-n2", f"--dist={distribution}")
    result.assert_outcomes(passed=9, failed=1, errors=3)
    result.stdout.fnmatch_lines(
        [
            "handles: on, level=full, on-leak=error",
            "*= handles =*",
            "3 leaked, 1 released twice",
            "3 leaks   test_it.py:7: in opened   test_it.py::test_leaks?* and 2 more",
        ]
    )
    (session,) = suite.sessions.iterdir()
    assert len(list(session.glob("*.shd"))) == 2


def test_xdist_recording_in_a_named_file(suite):
    """Without a field in the name, workers get files of their own."""
    pytest.importorskip("xdist")
    suite.write(MIXED)
    suite.run("-p", "xdist", "-n2", "--handles-recording=rec.shd")
    names = sorted(path.name for path in suite.pytester.path.glob("*.shd"))
    assert names == ["rec-gw0.shd", "rec-gw1.shd"]


@pytest.mark.parametrize("options", [(), ("--handles-recording=rec-{pid}.shd",)])
def test_xdist_worker_that_dies(suite, options):
    """The crash is xdist's to report; the others' verdicts stand, and what the
    dead one held is told by its recording."""
    pytest.importorskip("xdist")
    suite.write(
        HEAD
        + """
    import os

    def test_dies():
        kept.append(opened())
        os.kill(os.getpid(), 9)

    @pytest.mark.parametrize("number", range(4))
    def test_leaks(number):
        kept.append(opened())
    """
    )
    result = suite.run("-p", "xdist", "-n2", *options)
    result.assert_outcomes(passed=4, failed=1, errors=4)
    result.stdout.no_fnmatch_line("*INTERNALERROR*")
    died = [line for line in result.outlines if line.startswith("worker gw")]
    assert len(died) == 1, "leaks that were reported are not told again"
    assert fnmatch(
        died[0],
        "worker gw* died with SafeFileHandle #*, fd * '/dev/null',"
        " opened at test_it.py:*: in opened, in test_it.py::test_dies",
    )


def test_junit(suite):
    """An <error> with the report, and a property with the count."""
    suite.write(MIXED)
    suite.run("--junitxml=junit.xml", "-k", "leaks")
    root = ElementTree.parse(suite.pytester.path / "junit.xml").getroot()
    errors = root.findall(".//error")
    assert len(errors) == 3
    assert all("1 handle leaked: SafeFileHandle fd " in (error.text or "") for error in errors)
    text = errors[0].text or ""
    assert "test_it.py:7: in opened" in text
    assert '    return SafeFileHandle.open("/dev/null")\n           ^^^^' in text
    properties = root.findall(".//property[@name='handles_leaked']")
    assert [one.get("value") for one in properties] == ["1", "1", "1"]


def test_tests_that_run_pytest(suite):
    """A session inside a test judges its own tests and leaves ours alone."""
    suite.pytester.makeconftest("pytest_plugins = ['pytester']")
    result = suite.check(
        HEAD
        + """
    def test_inner(pytester):
        pytester.makepyfile('''
            from safehandle_debug import SafeFileHandle
            kept = []
            def test_leaks():
                kept.append(SafeFileHandle.open("/dev/null"))
            def test_clean():
                kept.pop().close()
        ''')
        inner = pytester.runpytest_inprocess("-p", "safehandle", "--handles")
        inner.assert_outcomes(passed=2, errors=1)

    def test_leaks():
        kept.append(opened())
    """
    )
    result.assert_outcomes(passed=2, errors=1)
    result.stdout.fnmatch_lines(["ERROR test_it.py::test_leaks - *"])


def test_rerunfailures(suite):
    """Each attempt has a mark of its own; one that leaks is run again."""
    pytest.importorskip("pytest_rerunfailures")
    result = suite.check(
        HEAD
        + """
    attempts = []

    def test_flaky():
        attempts.append(1)
        if len(attempts) < 3:
            kept.append(opened())
    """,
        "-p",
        "rerunfailures",
        "--reruns=3",
    )
    result.stdout.fnmatch_lines(["*rerun*"])
    result.stdout.no_fnmatch_line("*INTERNALERROR*")
    assert result.ret == 0


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_randomly(suite, seed):
    """In whatever order, each test is blamed for its own."""
    pytest.importorskip("pytest_randomly")
    suite.write(MIXED)
    result = suite.run("-p", "randomly", f"--randomly-seed={seed}")
    result.assert_outcomes(passed=9, failed=1, errors=3)
    result.stdout.fnmatch_lines(["3 leaked, 1 released twice"])


def test_asyncio(suite):
    """Coroutine tests and fixtures; a session-wide loop is nobody's leak."""
    pytest.importorskip("pytest_asyncio")
    result = suite.check(
        HEAD
        + """
    import asyncio

    import pytest_asyncio

    @pytest_asyncio.fixture
    async def handle():
        handle = opened()
        yield handle
        handle.close()

    @pytest_asyncio.fixture(scope="session", loop_scope="session")
    async def forever():
        return opened()

    @pytest.mark.asyncio
    async def test_clean(handle):
        opened().close()

    @pytest.mark.asyncio
    async def test_leaks():
        kept.append(opened())

    @pytest.mark.asyncio
    async def test_pending_task():
        async def wait():
            with opened():
                await asyncio.Event().wait()

        task = asyncio.create_task(wait(), name="waits")
        await asyncio.sleep(0)
        assert not task.done()

    @pytest.mark.asyncio
    async def test_abandoned_generator():
        async def numbers():
            with opened():
                yield 1

        async for _ in numbers():
            break

    @pytest.mark.asyncio(loop_scope="session")
    async def test_session(forever):
        opened().close()
    """,
        "-p",
        "asyncio",
    )
    result.assert_outcomes(passed=5, errors=1)
    result.stdout.fnmatch_lines(["*ERROR at teardown of test_leaks*"])


def test_anyio(suite):
    """anyio's own pytest plugin."""
    pytest.importorskip("anyio")
    result = suite.check(
        HEAD
        + """
    @pytest.fixture
    def anyio_backend():
        return "asyncio"

    @pytest.fixture
    async def handle():
        handle = opened()
        yield handle
        handle.close()

    @pytest.mark.anyio
    async def test_clean(handle):
        opened().close()

    @pytest.mark.anyio
    async def test_leaks():
        kept.append(opened())
    """,
        "-p",
        "anyio",
    )
    result.assert_outcomes(passed=2, errors=1)
    result.stdout.fnmatch_lines(["*ERROR at teardown of test_leaks*"])


def test_strict_configuration(suite):
    """Strict markers, strict configuration and warnings as errors."""
    suite.write(MIXED)
    suite.pytester.makeini("[pytest]\nhandles = true\nfilterwarnings = error\nxfail_strict = true")
    result = suite.run_plain("--strict-markers", "--strict-config")
    result.assert_outcomes(passed=9, failed=1, errors=3)


def test_setup_only_and_setup_show(suite):
    """Fixtures run without tests: judged; nothing else changes."""
    suite.write(MIXED)
    assert suite.run("--setup-only").ret == 0
    suite.run("--setup-show").assert_outcomes(passed=9, failed=1, errors=3)


@pytest.mark.parametrize("stop", ["pytest.exit('enough')", "raise KeyboardInterrupt"])
def test_session_that_is_interrupted(suite, stop):
    """What was found before is told; the interrupted test is not judged."""
    result = suite.check(
        HEAD
        + f"""
    def test_leaks():
        kept.append(opened())

    def test_stops():
        handle = opened()
        {stop}

    def test_never_runs():
        pass
    """
    )
    assert result.ret == pytest.ExitCode.INTERRUPTED
    result.stdout.fnmatch_lines(["*ERROR at teardown of test_leaks*", "1 leaked"])
    result.stdout.no_fnmatch_line("*INTERNALERROR*")


def test_timeout(suite):
    """A test that is stopped by a signal failed for its own reason."""
    pytest.importorskip("pytest_timeout")
    result = suite.check(
        HEAD
        + """
    import threading

    def test_hangs():
        handle = opened()
        threading.Event().wait()

    def test_is_clean():
        opened().close()
    """,
        "-p",
        "timeout",
        "--timeout=1",
    )
    result.assert_outcomes(failed=1, passed=1)
    result.stdout.fnmatch_lines(["*- Handles still open -*"])
