"""Options, ini values and markers: the specific wins, nonsense is a usage error."""

from __future__ import annotations

import pytest

HEAD = """
    import pytest
    from safehandle_debug import SafeFileHandle

    kept = []

    def opened():
        kept.append(SafeFileHandle.open("/dev/null"))
"""

LEAKS = (
    HEAD
    + """
    def test_leaks():
        opened()
"""
)


def test_leaks_may_be_warnings(suite):
    """on-leak=warn: the test passes, the warnings summary shows the report."""
    result = suite.check(LEAKS, "--handles-on-leak=warn")
    result.assert_outcomes(passed=1, warnings=1)
    result.stdout.fnmatch_lines(["*HandleLeakWarning: 1 handle leaked: *", "1 leaked"])


def test_warnings_follow_the_filters(suite):
    """As an error it fails at teardown; ignored, it is silent."""
    suite.write(LEAKS)
    warn = "--handles-on-leak=warn"
    category = "pytest_safehandle.HandleLeakWarning"
    suite.run(warn, "-W", f"error::{category}").assert_outcomes(passed=1, errors=1)
    suite.run(warn, "-W", "error").assert_outcomes(passed=1, errors=1)
    suite.run(warn, "-W", f"ignore::{category}").assert_outcomes(passed=1, warnings=0)


def test_option_wins_over_ini(suite):
    """And the ini value is the default."""
    suite.write(LEAKS)
    suite.pytester.makeini("[pytest]\nhandles_on_leak = warn")
    suite.run().assert_outcomes(passed=1, warnings=1)
    suite.run("--handles-on-leak=error").assert_outcomes(passed=1, errors=1)


@pytest.mark.parametrize(
    "allowed",
    ["test_it.py:opened", "*.py:open*", "test_it.py:test_leaks  # known", "type:SafeFileHandle"],
)
def test_allowed_site(suite, allowed):
    """A frame that opened it, or its class, by glob."""
    suite.write(LEAKS)
    suite.pytester.makeini(f"[pytest]\nhandles_allow =\n    # libraries\n    {allowed}")
    suite.run().assert_outcomes(passed=1)


MISUSES = """
    import os
    import pytest

    def close(number):
        os.close(number)

    def test_closes_behind():
        with open(os.devnull) as file:
            close(file.fileno())
            with pytest.raises(OSError):
                file.close()
"""


@pytest.mark.parametrize("allowed", ["test_it.py:close", "test_it.py:test_*  # on purpose"])
def test_site_allowed_to_misuse(suite, allowed):
    """A frame of the wrong act, by glob."""
    suite.write(MISUSES)
    suite.pytester.makeini(f"[pytest]\nhandles_allow =\n    {allowed}")
    result = suite.run()
    result.assert_outcomes(passed=1)
    result.stdout.no_fnmatch_line("*= handles =*")


def test_marker_allows_misuse(suite):
    """Of its own test alone."""
    allowed = """
    @pytest.mark.handles(allow="test_it.py:close", reason="what a dead number does")
    def test_closes_behind"""
    again = MISUSES.partition("\n    def test")[2].replace("_behind", "_again")
    source = MISUSES.replace("\n    def test_closes_behind", allowed)
    result = suite.check(f"{source}\n    def test{again}")
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(["FAILED test_it.py::test_closes_again*"])


@pytest.mark.parametrize("allowed", ["test_it.py:other", "type:FileIO"])
def test_other_sites_may_not_misuse(suite, allowed):
    """What opened it, or is of a class, may stay open but not be misused."""
    suite.write(MISUSES)
    suite.pytester.makeini(f"[pytest]\nhandles_allow = {allowed}")
    suite.run().assert_outcomes(failed=1)


@pytest.mark.parametrize(
    "allowed", ["other.py:opened", "test_it.py:closed", "type:SafePipeHandle"]
)
def test_other_sites_are_not_allowed(suite, allowed):
    """A site that does not match changes nothing."""
    suite.write(LEAKS)
    suite.pytester.makeini(f"[pytest]\nhandles_allow = {allowed}")
    suite.run().assert_outcomes(passed=1, errors=1)


def test_marker(suite):
    """The marker of a test wins over the session's settings; the closest marker wins."""
    result = suite.check(
        HEAD
        + """
    @pytest.mark.handles(on_leak="off", reason="a cache for the whole run")
    def test_off():
        opened()

    @pytest.mark.handles(on_leak="warn")
    def test_warns():
        opened()

    @pytest.mark.handles(allow="test_it.py:opened", reason="held by the library")
    def test_allows():
        opened()

    @pytest.mark.handles(allow=["nothing.py:here", "test_it.py:opened"], reason="either")
    def test_allows_either():
        opened()

    @pytest.mark.handles(expect=2)
    def test_expects():
        opened()
        opened()

    @pytest.mark.handles(on_leak="off", reason="a class of caches")
    class TestClosest:
        def test_outer(self):
            opened()

        @pytest.mark.handles(on_leak="error")
        def test_inner(self):
            opened()

    @pytest.mark.handles(expect=1)
    def test_expects_in_vain():
        pass

    @pytest.mark.handles(expect=1)
    def test_leaks_more():
        opened()
        opened()
    """,
        "--strict-markers",
    )
    result.assert_outcomes(passed=9, errors=3, warnings=1)
    result.stdout.fnmatch_lines(
        [
            "*ERROR at teardown of TestClosest.test_inner*",
            "*ERROR at teardown of test_expects_in_vain*",
            "expected to leak 1, leaked none: remove expect from the test's handles marker",
            "*ERROR at teardown of test_leaks_more*",
            "expected to leak 1, leaked 2",
        ]
    )


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (
            "ok=True",
            "unexpected keyword argument 'ok'; it takes on_leak, allow, expect, reason and repeat",
        ),
        ("'loud'", "on_leak: use 'error', 'warn' or 'off', not 'loud'"),
        ("allow=3", "allow: use a site or a tuple of sites, not 3"),
        ("allow='nowhere'", "allow: 'nowhere' is not a site: use path-glob:function-glob"),
        ("expect=0", "expect: use a number from 1 up, not 0"),
        ("expect=True", "expect: use a number from 1 up, not True"),
        ("expect=1, allow='a.py:b'", "use either allow (may stay open) or expect (must leak)"),
        ("expect=1, on_leak='off'", "expect needs leaks to be judged"),
        ("reason=1", "reason: use a text, not 1"),
        ("allow='a.py:b'", "allow needs a reason: add reason='...'"),
        ("on_leak='off', reason=' '", "on_leak='off' needs a reason: add reason='...'"),
    ],
)
def test_marker_that_makes_no_sense(suite, arguments, complaint):
    """A usage error at collection that names test and accepted values."""
    suite.write(
        f"""
        import pytest

        @pytest.mark.handles({arguments})
        def test_marked(): pass
        """
    )
    result = suite.run_here("--handles")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: test_it.py::test_marked: @pytest.mark.handles: *"])
    assert complaint in result.stderr.str()


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("handles = maybe", "ini option 'handles': use true or false"),
        ("handles_on_leak = loud", "ini option 'handles_on_leak': use error or warn, not 'loud'"),
        ("handles_level = some", "ini option 'handles_level': use sampled or full, not 'some'"),
        ("handles_settle = long", "ini option 'handles_settle': use seconds from 0 to 60"),
        ("handles_settle = -1", "ini option 'handles_settle': use seconds from 0 to 60"),
        ("handles_abandoned = yes", "ini option 'handles_abandoned': use ignore, warn or error"),
        ("handles_allow = nowhere", "ini option 'handles_allow': 'nowhere' is not a site"),
        ("verbosity_handles = loud", "ini option 'verbosity_handles': use auto or a whole number"),
    ],
)
def test_ini_value_that_makes_no_sense(suite, line, complaint):
    """A usage error that names the accepted values, before anything runs."""
    suite.write(LEAKS)
    suite.pytester.makeini(f"[pytest]\n{line}")
    option = [] if line.startswith("handles =") else ["--handles"]
    result = suite.run_here(*option)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert complaint in result.stderr.str()
    assert "Traceback" not in result.stderr.str()


def test_option_that_makes_no_sense(suite):
    """argparse says which values there are."""
    suite.write(LEAKS)
    result = suite.run("--handles-on-leak=loud")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*--handles-on-leak: invalid choice: 'loud'*"])


def test_recording_is_kept(suite):
    """In the named file, with the fields filled in; made anew each time."""
    suite.write(LEAKS)
    for _ in range(2):
        suite.run("--handles-recording=rec-{worker}.shd").assert_outcomes(passed=1, errors=1)
    files = [path.name for path in suite.pytester.path.iterdir() if path.suffix == ".shd"]
    assert files == ["rec-main.shd"]
    assert not suite.sessions.exists()


def test_session_folder_has_the_recording_otherwise(suite):
    """So that a viewer finds it as the newest session."""
    suite.write(LEAKS)
    suite.run()
    (session,) = suite.sessions.iterdir()
    assert len(list(session.glob("*.shd"))) == 1


@pytest.mark.parametrize(
    ("path", "complaint"),
    [
        ("no/such/folder/rec.shd", "there is no folder *no/such/folder"),
        ("{test}.shd", "use no fields but {worker} and {pid}"),
        ("test_it.py", "test_it.py exists and is no recording: choose another path"),
        (".", "is not a file: choose another path"),
    ],
)
def test_recording_that_cannot_be_written(suite, path, complaint):
    """A usage error, and nothing is overwritten."""
    suite.write(LEAKS)
    result = suite.run_here("--handles", f"--handles-recording={path}")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"ERROR: --handles-recording*{complaint}*"])
    assert (suite.pytester.path / "test_it.py").stat().st_size > 0


def test_verbosity(suite):
    """-q: the first line only; -v: every handle whole; -vv: every reference."""
    suite.write(
        HEAD
        + """
    def test_leaks():
        opened()
        opened()
        for _ in range(10):
            kept[0].dangerous_add_ref()
            kept[0].dangerous_release()
    """
    )
    for option, whole, references in [("-q", 0, 0), ("-s", 1, 3), ("-v", 2, 3), ("-vv", 2, 10)]:
        # With -vv the short summary repeats the whole message.
        text = suite.run(option).stdout.str().partition("short test summary")[0]
        lines = text.splitlines()
        assert sum("refcount 1, open for" in line for line in lines) == whole, option
        assert sum("(refcount 1 -> 2)" in line for line in lines) == references, option


@pytest.mark.parametrize(
    ("abandoned", "outcomes"),
    [
        ("ignore", {"passed": 3}),
        ("warn", {"passed": 3, "warnings": 2}),
        ("error", {"passed": 3, "errors": 2}),
    ],
)
def test_abandoned_handles(suite, abandoned, outcomes):
    """Closed by a finalizer instead of by code: counted, and judged if asked for."""
    suite.write(
        HEAD
        + """
    def test_drops():
        handle = SafeFileHandle.open("/dev/null")

    def test_cycle():
        ring = [SafeFileHandle.open("/dev/null")]
        ring.append(ring)

    def test_closes():
        SafeFileHandle.open("/dev/null").close()
    """
    )
    suite.pytester.makeini(f"[pytest]\nhandles_abandoned = {abandoned}")
    result = suite.run()
    result.assert_outcomes(**outcomes)
    result.stdout.fnmatch_lines(["*2 abandoned to the finalizer*(-v lists them)"])
    verbose = suite.run("-v")
    verbose.stdout.fnmatch_lines(["1 abandoned   test_it.py:10: in test_drops   *"])


def test_descriptors_abandoned_to_finalizers_in_python(suite):
    """`__del__` calls close(): nobody did in time, all the same."""
    suite.write(
        """
    import tempfile, zipfile

    def test_drops():
        tempfile.NamedTemporaryFile()

    def test_drops_an_archive(tmp_path):
        zipfile.ZipFile(tmp_path / "a.zip", "w").writestr("a", "b")

    def test_closes():
        with tempfile.NamedTemporaryFile():
            pass
    """
    )
    suite.pytester.makeini("[pytest]\nhandles_abandoned = error")
    suite.run("--handles-fds").assert_outcomes(passed=3, errors=2)


def test_hooks_of_others(suite):
    """A conftest can expect a leak, and is told of those that are reported."""
    suite.pytester.makeconftest(
        """
        def pytest_handles_is_expected(item, record):
            return True if item.name == "test_expected" and record.owner else None

        def pytest_handles_leaked(item, records):
            print("told:", item.name, [record.detail for record in records])
        """
    )
    result = suite.check(
        HEAD
        + """
    def test_expected():
        opened()

    def test_reported():
        opened()
    """,
        "-s",
    )
    result.assert_outcomes(passed=2, errors=1)
    result.stdout.fnmatch_lines(["*told: test_reported ?'/dev/null'?"])
    result.stdout.no_fnmatch_line("*told: test_expected*")


def test_hook_of_others_that_raises_is_their_failure(suite):
    """An error at teardown with their exception, no internal error."""
    suite.pytester.makeconftest(
        "def pytest_handles_is_expected(item, record): raise LookupError('no idea')"
    )
    result = suite.check(LEAKS)
    result.assert_outcomes(passed=1, errors=1)
    result.stdout.fnmatch_lines(["*LookupError: no idea"])


def test_failure_of_the_check_is_one_warning(suite):
    """An unreadable recording ends the check; the tests go on unjudged."""
    suite.pytester.makeconftest(
        """
        import os
        from safehandle_debug import _native

        def pytest_sessionstart():
            os.unlink(_native.recording_path())
        """
    )
    result = suite.check(LEAKS + "\n\n    def test_more():\n        opened()\n")
    result.assert_outcomes(passed=2, warnings=1)
    result.stdout.fnmatch_lines(["*HandleCheckWarning: handles are not checked any more: *"])
    strict = suite.run("-W", "error")
    strict.assert_outcomes(passed=2)
    strict.stdout.fnmatch_lines(["*= handles =*", "handles are not checked any more: *"])


def test_environment_variable_that_already_records(suite, monkeypatch):
    """Its recording is used; another level asked for by option starts a new one."""
    monkeypatch.setenv("SAFEHANDLE_DEBUG", "full")
    suite.write(LEAKS)
    suite.run().assert_outcomes(passed=1, errors=1)
    (session,) = suite.sessions.iterdir()
    assert len(list(session.glob("*.shd"))) == 1
    suite.run("--handles-level=sampled").assert_outcomes(passed=1)


def test_recording_that_a_test_stops(suite):
    """Later tests are not judged, which the summary says."""
    result = suite.check(
        HEAD
        + """
    from safehandle_debug import _native

    def test_leaks():
        opened()

    def test_stops():
        _native.stop_recording()

    def test_leaks_too():
        opened()
    """
    )
    result.assert_outcomes(passed=3, errors=1)
    result.stdout.fnmatch_lines(
        ["*= handles =*", "the recording was stopped by a test: later tests were not judged"]
    )
