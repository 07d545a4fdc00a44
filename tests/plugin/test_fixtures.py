"""A fixture's handle is judged when the fixture ends, and named as the fixture's."""

from __future__ import annotations

import pytest

HEAD = """
    import pytest
    from safehandle_debug import SafeFileHandle

    kept = []

    def opened():
        return SafeFileHandle.open("/dev/null")

    def keep():
        kept.append(opened())
        return kept[-1]
"""


def test_fixture_that_never_closes_is_not_blamed_while_pytest_holds_the_value(suite):
    """item.funcargs outlives the teardown hooks: no false alarm in any scope."""
    result = suite.check(
        HEAD
        + """
    @pytest.fixture(params=["one", "two"])
    def handle(request):
        return opened()

    @pytest.fixture
    def nested(handle):
        return [handle, opened()]

    @pytest.fixture(autouse=True)
    def always():
        return opened()

    @pytest.fixture(scope="module")
    def shared():
        return opened()

    @pytest.fixture(scope="session")
    def forever():
        return opened()

    def test_plain(handle): assert not handle.is_closed
    def test_nested(nested): assert not nested[1].is_closed
    def test_dynamic(request): assert not request.getfixturevalue("shared").is_closed
    def test_wider(shared, forever): assert not forever.is_closed

    class TestOverride:
        @pytest.fixture
        def handle(self, handle):
            return (handle, opened())

        def test_override(self, handle): assert not handle[1].is_closed
    """
    )
    result.assert_outcomes(passed=8)


@pytest.mark.parametrize("scope", ["function", "class", "module", "package", "session"])
def test_leak_of_a_fixture_is_reported_where_its_scope_ends(suite, scope):
    """Once, at the last teardown of the scope, with the fixture's name."""
    result = suite.check(
        HEAD
        + f"""
    @pytest.fixture(scope="{scope}")
    def db():
        return keep()

    class TestDb:
        def test_first(self, db): pass
        def test_last(self, db): pass
    """
    )
    errors = 2 if scope == "function" else 1
    result.assert_outcomes(passed=2, errors=errors)
    result.stdout.fnmatch_lines(
        [
            "*ERROR at teardown of TestDb.test_last*",
            f"1 handle leaked by fixture 'db' ({scope}): SafeFileHandle fd * (test_it.py:7)",
            "  opened         test_it.py:15: in db",
            "                 test_it.py:10: in keep",
            "                 test_it.py:7: in opened",
        ]
    )
    if scope != "function":
        result.stdout.no_fnmatch_line("*teardown of TestDb.test_first*")


def test_pool_that_a_test_fills_belongs_to_the_wider_fixture(suite):
    """The test opens it, the session's pool holds it and closes it at its end."""
    result = suite.check(
        HEAD
        + """
    class Pool:
        def __init__(self):
            self.idle = {}

        def get(self, name):
            if name not in self.idle:
                self.idle[name] = opened()
            return self.idle[name]

    @pytest.fixture(scope="session")
    def pool():
        pool = Pool()
        yield pool
        for handle in pool.idle.values():
            handle.close()

    @pytest.fixture(scope="module")
    def client():
        cache = {}

        def get(name):
            if name not in cache:
                cache[name] = opened()
            return cache[name]

        yield get
        while cache:
            cache.popitem()[1].close()

    @pytest.mark.parametrize("name", ["a", "b"])
    def test_fills(pool, client, name):
        assert not pool.get(name).is_closed
        assert not client(name).is_closed

    def test_uses(pool, client):
        assert pool.get("a") is not client("a")
    """
    )
    result.assert_outcomes(passed=3)


def test_pool_that_is_never_emptied_is_reported_at_the_fixtures_end(suite):
    """Held by a fixture is not yet closed: the fixture answers for it."""
    result = suite.check(
        HEAD
        + """
    @pytest.fixture(scope="module")
    def pool():
        return kept

    def test_fills(pool):
        pool.append(opened())

    def test_last(pool):
        pass
    """
    )
    result.assert_outcomes(passed=2, errors=1)
    result.stdout.fnmatch_lines(
        [
            "*ERROR at teardown of test_last*",
            "1 handle leaked by fixture 'pool' (module): SafeFileHandle fd *",
            "  opened         test_it.py:18: in test_fills",
            "  during         test_it.py::test_fills",
        ]
    )


def test_fixture_set_up_again_with_another_parameter(suite):
    """Each life of a parametrized fixture answers for its own handles."""
    result = suite.check(
        HEAD
        + """
    @pytest.fixture(scope="module", params=["clean", "leaks", "clean again"])
    def handle(request):
        handle = opened()
        yield handle
        if request.param == "leaks":
            kept.append(handle)
        else:
            handle.close()

    def test_one(handle): pass
    def test_two(handle): pass
    """
    )
    result.assert_outcomes(passed=6, errors=1)
    result.stdout.fnmatch_lines(["1 handle leaked by fixture 'handle' (module): *"])


def test_fixture_that_requests_another_leaves_its_handles_alone(suite):
    """A handle is the innermost fixture's that was being set up."""
    result = suite.check(
        HEAD
        + """
    @pytest.fixture(scope="session")
    def inner():
        handle = opened()
        yield handle
        handle.close()

    @pytest.fixture
    def outer(request):
        before = opened()
        inner = request.getfixturevalue("inner")
        after = opened()
        yield inner
        before.close()
        kept.append(after)

    def test_first(outer): pass
    def test_second(inner): pass
    """
    )
    result.assert_outcomes(passed=2, errors=1)
    result.stdout.fnmatch_lines(
        [
            "*ERROR at teardown of test_first*",
            "1 handle leaked by fixture 'outer' (function): *",
            "  opened         test_it.py:23: in outer",
        ]
    )


def test_xunit_setups_are_fixtures(suite):
    """setup_module, setup_class and setup_method hold handles for their scope."""
    result = suite.check(
        HEAD
        + """
    def setup_module(module):
        module.shared = opened()

    def teardown_module(module):
        module.shared.close()

    class TestClean:
        @classmethod
        def setup_class(cls):
            cls.handle = opened()
            cls.pool = []

        @classmethod
        def teardown_class(cls):
            cls.handle.close()
            for handle in cls.pool:
                handle.close()

        def setup_method(self):
            self.own = opened()

        def teardown_method(self):
            self.own.close()

        def test_one(self):
            self.pool.append(opened())

        def test_two(self): pass

    class TestLeaks:
        @classmethod
        def setup_class(cls):
            cls.handle = opened()

        def test_one(self): pass
        def test_two(self): pass
    """
    )
    result.assert_outcomes(passed=4, errors=1)
    result.stdout.fnmatch_lines(
        [
            "*ERROR at teardown of TestLeaks.test_two*",
            "1 handle leaked by fixture 'setup_class' (class): *",
        ]
    )


def test_server_thread_of_a_wider_fixture_keeps_its_handles(suite):
    """A thread that was there before the test does not work for the test alone."""
    result = suite.check(
        HEAD
        + """
    import queue
    import threading

    @pytest.fixture(scope="session")
    def server():
        requests, answers = queue.Queue(), queue.Queue()

        def serve():
            connections = []
            while requests.get():
                connections.append(opened())
                answers.put("done")
            for connection in connections:
                connection.close()

        thread = threading.Thread(target=serve, name="server")
        thread.start()

        def ask():
            requests.put(True)
            return answers.get(timeout=30)

        yield ask
        requests.put(False)
        thread.join()

    def test_one(server): assert server() == "done"
    def test_two(server): assert server() == "done"
    """
    )
    result.assert_outcomes(passed=2)
    result.stdout.no_fnmatch_line("*= handles =*")


def test_fixture_whose_last_test_failed_is_not_judged_but_named(suite):
    """The failed test's traceback may hold it: a note at the end, no verdict."""
    result = suite.check(
        HEAD
        + """
    @pytest.fixture(scope="module")
    def db():
        return keep()

    def test_fails(db):
        assert db.is_closed
    """
    )
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        ["*= handles =*", "not judged, as a test failed: SafeFileHandle #*, fd * '/dev/null', *"]
    )
