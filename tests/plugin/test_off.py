"""Off, the plugin costs nothing; and it can be switched on and off in every way."""

from __future__ import annotations

import os

import pytest

LEAKS = """
    from safehandle_debug import SafeFileHandle

    kept = []

    def test_leaks():
        kept.append(SafeFileHandle.open("/dev/null"))
"""

TELLS_IMPORTS = """
    import sys

    def test_imports():
        roots = {name.partition(".")[0] for name in sys.modules}
        ours = roots & {"safehandle_debug", "safehandle_tui", "pytest_safehandle"}
        modules = sorted(name for name in sys.modules if name.startswith("pytest_safehandle"))
        print("loaded:", *sorted(ours), *modules)
"""


def test_off_loads_nothing_of_ours(suite):
    """Installed but not asked for, it loads options and hooks, and no core."""
    suite.write(TELLS_IMPORTS)
    result = suite.run_plain("-s")
    result.assert_outcomes(passed=1)
    loaded = "loaded: pytest_safehandle pytest_safehandle pytest_safehandle.hooks"
    result.stdout.fnmatch_lines([f"*{loaded} pytest_safehandle.plugin*"])
    assert not suite.sessions.exists()


def test_off_does_not_judge_or_speak(suite):
    """Without the option a leak is nobody's business."""
    suite.write(LEAKS)
    result = suite.run_plain()
    result.assert_outcomes(passed=1)
    result.stdout.no_fnmatch_line("*handles*")


def test_no_handles_wins_over_the_ini_file(suite):
    """The ini file switches it on, the command line off again."""
    suite.write(LEAKS)
    suite.pytester.makeini("[pytest]\nhandles = true")
    suite.run_plain().assert_outcomes(passed=1, errors=1)
    suite.run_plain("--no-handles").assert_outcomes(passed=1)


@pytest.mark.parametrize("name", ["safehandle", "pytest_safehandle.plugin"])
def test_is_loaded_by_entry_point_or_by_module(suite, name):
    """Without autoloading, -p takes either name."""
    suite.write(LEAKS)
    result = suite.pytester.runpytest_subprocess("-p", name, "--handles")
    result.assert_outcomes(passed=1, errors=1)


def test_is_loaded_by_itself_and_can_be_blocked(suite, monkeypatch):
    """Installed, it is there; blocked, its options are unknown."""
    monkeypatch.delenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD")
    suite.write(LEAKS)
    run = suite.pytester.runpytest_subprocess
    run("--handles").assert_outcomes(passed=1, errors=1)
    blocked = run("-p", "no:safehandle", "--handles")
    assert blocked.ret == pytest.ExitCode.USAGE_ERROR
    blocked.stderr.fnmatch_lines(["*unrecognized arguments: --handles*"])


@pytest.mark.parametrize("option", ["--collect-only", "--setup-plan", "--fixtures", "--markers"])
def test_is_off_when_no_test_runs(suite, option):
    """Options under which nothing runs do not start a recording."""
    suite.write(LEAKS)
    result = suite.run(option)
    assert result.ret == 0
    assert not suite.sessions.exists()
    result.stdout.no_fnmatch_line("handles: on*")


def test_help_markers_and_fixtures_name_what_there_is(suite):
    """All options, ini values, the marker and the fixture are documented."""
    suite.write("")
    suite.run_here("--help").stdout.fnmatch_lines(
        [
            "leaked and wrongly released handles:",
            "*--handles *",
            "*--no-handles *",
            "*--handles-on-leak=*",
            "*--handles-level=*",
            "*--handles-recording=PATH*",
            "*--handles-json=FILE*",
            "*--handles-baseline=FILE*",
            "*--handles-update-baseline*",
            "*handles (bool):*",
            "*handles_allow (linelist):*",
            "*handles_settle (string):*",
            "*handles_abandoned (string):*",
            "*verbosity_handles (string):*",
        ]
    )
    suite.run_here("--markers").stdout.fnmatch_lines(
        ["@pytest.mark.handles(on_leak=None, allow=(), expect=None, reason=None, repeat=None): *"]
    )
    suite.run_here("--fixtures").stdout.fnmatch_lines(["handles -- *", "*What this test does*"])


def test_header_says_that_it_is_on(suite):
    """One line, with the settings that matter."""
    suite.check("def test_nothing(): pass").stdout.fnmatch_lines(
        ["handles: on, level=full, on-leak=error"]
    )


def test_core_that_cannot_be_loaded(suite, monkeypatch):
    """An installation for another Python: one sentence, no traceback."""
    broken = suite.pytester.mkdir("broken") / "safehandle_debug"
    broken.mkdir()
    (broken / "__init__.py").write_text("raise ImportError('made for another')")
    monkeypatch.setenv("PYTHONPATH", str(broken.parent), prepend=os.pathsep)
    suite.write(LEAKS)
    result = suite.run()
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(
        ["ERROR: --handles cannot be switched on: made for another; install *"]
    )
    assert "Traceback" not in result.stderr.str()
