"""Correct programs that look like leaking or misusing ones stay silent."""

from __future__ import annotations

import pytest

HEAD = """
    import gc
    import threading

    import pytest
    from safehandle_debug import HandleClosedError, SafeFileHandle, SafePipeHandle

    def opened():
        return SafeFileHandle.open("/dev/null")
"""


def test_correct_tests_pass(suite):
    """Closed, held, detached, borrowed, garbage: none of it is a leak."""
    result = suite.check(
        HEAD
        + """
    import os

    kept = []

    def test_with():
        with opened() as handle, handle.hold() as fd:
            os.fstat(fd)

    def test_closed_twice():
        handle = opened()
        handle.close()
        handle.close()

    def test_local_is_dropped():
        handle = opened()

    def test_cycle():
        ring = [opened()]
        ring.append(ring)

    def test_long_cycle():
        ring = [opened()]
        ring.append(ring)
        gc.collect(0)
        gc.collect(1)

    def test_raises():
        handle = opened()
        with pytest.raises(ZeroDivisionError) as info:
            1 / len(handle.__class__.__name__[:0])
        assert info.value is not None

    def test_detached():
        kept.append(opened())
        os.close(kept[-1].detach())

    def test_borrowed():
        kept.append(SafeFileHandle(2, owns_handle=False))

    def test_use_after_close_is_refused():
        handle = opened()
        handle.close()
        with pytest.raises(HandleClosedError):
            handle.dangerous_add_ref()

    def test_pair():
        reader, writer = SafePipeHandle.pair()
        with reader, writer:
            pass

    def test_balanced_over_threads():
        handle = opened()
        handle.dangerous_add_ref()
        thread = threading.Thread(target=handle.dangerous_release)
        handle.close()
        thread.start()
        thread.join()
        assert handle.is_closed

    def test_monkeypatch(monkeypatch):
        monkeypatch.setitem(globals(), "patched", opened())

    def test_tmp_path(tmp_path, capfd, caplog, recwarn):
        with SafeFileHandle.open(tmp_path / "x", os.O_CREAT | os.O_RDWR):
            print("printed")
    """,
    )
    result.assert_outcomes(passed=13)
    result.stdout.no_fnmatch_line("*leaked*")


def test_other_thread_that_closes_a_little_later(suite):
    """Other threads get a moment before anybody is blamed."""
    result = suite.check(
        HEAD
        + """
    kept = []
    closers = []

    @pytest.fixture(scope="module", autouse=True)
    def joined():
        yield
        for thread in closers:
            thread.join()

    def test_hands_over(request):
        kept.append(opened())
        done = threading.Event()

        def close():
            # After the test's teardown has begun, which the finalizer tells.
            done.wait(30)
            kept.pop().close()

        closers.append(threading.Thread(target=close))
        closers[-1].start()
        request.addfinalizer(done.set)
    """,
        "-o",
        "handles_settle=30",
    )
    result.assert_outcomes(passed=1)


def test_module_imported_by_a_test_may_keep_its_handle(suite):
    """A handle opened by an import is kept for the life of the process."""
    result = suite.check(
        HEAD
        + """
    def test_imports():
        import library

        assert not library.handle.is_closed
    """,
        library="""
        from safehandle_debug import SafeFileHandle

        handle = SafeFileHandle.open("/dev/null")
    """,
    )
    result.assert_outcomes(passed=1)


def test_garbage_is_collected_only_on_suspicion(suite):
    """Tests that close their handles cost no collection; cycles no full one."""
    suite.pytester.makeconftest(
        """
        import gc

        full = []
        gc.callbacks.append(
            lambda phase, info: full.append(1)
            if phase == "start" and info["generation"] == 2
            else None
        )
        gc.set_threshold(100_000, 100_000, 100_000)

        def pytest_terminal_summary(terminalreporter):
            terminalreporter.write_line(f"full collections: {len(full)}")
        """
    )
    result = suite.check(
        HEAD
        + """
    @pytest.fixture
    def forgotten():
        return opened()

    @pytest.mark.parametrize("number", range(20))
    def test_closes(number):
        opened().close()

    @pytest.mark.parametrize("number", range(20))
    def test_fixture(forgotten, number):
        pass

    @pytest.mark.parametrize("number", range(20))
    def test_cycle(number):
        ring = [opened()]
        ring.append(ring)
    """
    )
    result.assert_outcomes(passed=60)
    before = _full_collections(suite.run_plain())
    assert _full_collections(result) == before


def _full_collections(result: pytest.RunResult) -> int:
    line = next(line for line in result.outlines if line.startswith("full collections: "))
    return int(line.rpartition(" ")[2])


@pytest.mark.parametrize("name", ["pytest_rerunfailures", "pytest_timeout"])
def test_plugins_that_run_tests_may_keep_descriptors(suite, name):
    """A module alone is of the runner as a package is; one that is named alike is not."""
    keeping = "import socket\nkept = []\ndef keep(): kept.append(socket.socket())\n"
    result = suite.check(
        f"""
        import {name}, {name}_of_mine

        def test_runner():
            {name}.keep()

        def test_own():
            {name}_of_mine.keep()
        """,
        **{name: keeping, f"{name}_of_mine": keeping},
    )
    result.assert_outcomes(passed=2, errors=1)
    result.stdout.fnmatch_lines([f"1 leak   {name}_of_mine.py:3: in keep *::test_own"])


def test_children_that_the_kernel_reaps(suite):
    """Nobody waits for them, and none is left."""
    suite.check("""
        import os
        import signal

        import pytest

        def test_ignored():
            before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
            for _ in range(3):
                if os.fork() == 0:
                    os._exit(0)
            with pytest.raises(ChildProcessError):
                os.waitpid(-1, 0)
            signal.signal(signal.SIGCHLD, before)
        """).assert_outcomes(passed=1)
