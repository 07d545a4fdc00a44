"""`HandlesTestCase`: each test of a unittest suite is checked."""

from __future__ import annotations

import pytest

SUITE = """
class TestIt(HandlesTestCase, unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.pool = [opened()]

    @classmethod
    def tearDownClass(cls):
        for handle in cls.pool:
            handle.close()

    def setUp(self):
        self.handle = opened()

    def test_clean(self):
        opened().close()

    def test_cleanup(self):
        handle = opened()
        self.addCleanup(handle.close)

    def test_attribute(self):
        self.other = opened()

    def test_fills_the_pool(self):
        self.pool.append(opened())

    def test_raises(self):
        with self.assertRaises(ZeroDivisionError):
            handle = opened()
            1 / 0

    def test_skips(self):
        handle = opened()
        self.skipTest("not here")

    @unittest.expectedFailure
    def test_expected_failure(self):
        handle = opened()
        self.fail("known")

    def test_subtests(self):
        for number in range(3):
            with self.subTest(number=number):
                opened().close()

    {more}
"""
WRONG = """def test_leaks(self):
        kept.append(opened())

    def test_twice(self):
        opened().dangerous_release()

    def test_subtest_leaks(self):
        with self.subTest(number=1):
            kept.append(opened())

    def test_fails_for_its_own_reason(self):
        handle = opened()
        kept.append(handle)
        self.fail("own reason")
"""


def test_correct_tests_pass(run):
    """Set-ups, cleanups, attributes, pools, exceptions, skips: no leaks."""
    outcome = run(SUITE.format(more=""))
    assert outcome.counts == (8, 0, 0), outcome.text
    assert "OK (skipped=1, expected failures=1)" in outcome.text


def test_wrong_tests_fail(run):
    """Each by itself, with the report; one that fails anyway is not judged."""
    outcome = run(SUITE.format(more=WRONG))
    assert outcome.counts == (12, 4, 0), outcome.text
    assert outcome.text.count("HandleLeakError: ") == 3
    assert outcome.text.count("own reason") == 2  # source and message
    assert "opened at test_it.py:11 in opened was never closed" in outcome.text


def test_the_same_verdicts_as_the_plugin(run):
    """Under pytest too, with the plugin or without."""
    source = SUITE.format(more=WRONG)
    for options in ([], ["-p", "safehandle", "--handles"]):
        command = ("-m", "pytest", "-p", "no:cacheprovider", *options)
        outcome = run(source, *command, PYTEST_DISABLE_PLUGIN_AUTOLOAD="1")
        assert "4 failed, 6 passed, 1 skipped, 1 xfailed" in outcome.text, outcome.text


def test_settings_of_a_class(run):
    """What may stay open is said in the class."""
    outcome = run(
        """
        class TestIt(HandlesTestCase, unittest.TestCase):
            handles_allow = "type:SafeFileHandle"

            def test_leaks(self):
                kept.append(opened())
        """
    )
    assert outcome.counts == (1, 0, 0), outcome.text


@pytest.mark.parametrize(
    ("body", "failures"),
    [
        ("opened().close()", 0),
        ("kept.append(opened())", 1),
        ("self.tasks = [asyncio.ensure_future(self.holds())]; await asyncio.sleep(0)", 0),
    ],
    ids=["clean", "leaks", "pending task"],
)
def test_async_tests(run, body, failures):
    """Judged when the loop is closed: a task that it cancels lets go."""
    outcome = run(
        f"""
        import asyncio

        class TestIt(HandlesTestCase, unittest.IsolatedAsyncioTestCase):
            async def holds(self):
                with opened():
                    await asyncio.Event().wait()

            async def test_it(self):
                {body}
        """
    )
    assert outcome.counts == (1, failures, 0), outcome.text


def test_a_test_by_itself(run):
    """run() without a result makes one, as TestCase does."""
    outcome = run(
        """
        class TestIt(HandlesTestCase, unittest.TestCase):
            def runTest(self):
                kept.append(opened())

        result = TestIt().run()
        print(result.testsRun, len(result.failures), result.errors)
        """,
        "-X",
        "dev",
    )
    assert outcome.text == "1 1 []\n", outcome.text


WIDER = """
import sys

def tearDownModule():
    pass

class TestIt(HandlesTestCase, unittest.TestCase):
    kept = []

    {set_up}

    def test_one(self):
        {place}.append(opened())

    def test_two(self):
        pass

{module}
"""
SET_UP_CLASS = "setUpClass = classmethod(lambda cls: None)"
SET_UP_MODULE = "def setUpModule():\n    pass"


@pytest.mark.parametrize(
    ("set_up", "module", "place", "counts", "where"),
    [
        ("", "", "self.kept", (2, 1, 0), "FAIL: test_one "),
        (SET_UP_CLASS, "", "self.kept", (2, 0, 1), "ERROR: tearDownClass (test_it.TestIt)"),
        (SET_UP_CLASS, "", "kept", (2, 1, 0), "FAIL: test_one "),
        ("", SET_UP_MODULE, "kept", (2, 0, 1), "ERROR: tearDownModule (test_it)"),
    ],
    ids=["nobody", "class", "class but not there", "module"],
)
def test_what_a_wider_set_up_never_closes(run, set_up, module, place, counts, where):
    """Told at the end of the class or module that had taken it over."""
    outcome = run(WIDER.format(set_up=set_up, module=module, place=place))
    assert outcome.counts == counts, outcome.text
    assert where in outcome.text
    assert "opened at test_it.py:11 in opened was never closed" in outcome.text


AT_WORK = """
began, go_on, closed = threading.Event(), threading.Event(), threading.Event()

def work():
    handle = opened()
    began.set()
    go_on.wait(60)
    {end}
    closed.set()

class TestIt(HandlesTestCase, unittest.TestCase):
    def test_one(self):
        threading.Thread(target=work, name="worker", daemon=True).start()
        self.assertTrue(began.wait(60))

    def test_two(self):
        {two}
"""
GO_ON = "go_on.set(), closed.wait(60)"


@pytest.mark.parametrize(
    ("end", "two", "counts"),
    [
        ("handle.close()", GO_ON, (2, 0, 0)),
        ("kept.append(handle)", GO_ON, (2, 0, 1)),
        ("handle.close()", "pass", (2, 0, 1)),
    ],
    ids=["closes", "forgets", "never ends"],
)
def test_thread_that_outlives_its_test(run, end, two, counts):
    """Judged at the end of the class: until then it may close what it opened."""
    outcome = run(AT_WORK.format(end=end, two=two))
    assert outcome.counts == counts, outcome.text
    assert ("ERROR: tearDownClass (test_it.TestIt)" in outcome.text) is (counts[2] > 0)
