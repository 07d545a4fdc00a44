"""What other programs read: the JSON file, and annotations of GitHub Actions."""

from __future__ import annotations

import json
import os

import pytest
from pytest_safehandle.github import workflow_commands

HEAD = """
    import pytest
    from safehandle_debug import SafeFileHandle

    kept = []

    def opened():
        return SafeFileHandle.open("/dev/null")
"""

WRONG = (
    HEAD
    + """
    @pytest.fixture(scope="module")
    def never_closed():
        kept.append(opened())

    @pytest.mark.parametrize("number", range(3))
    def test_leaks(number):
        kept.append(opened())

    def test_returns_twice():
        handle = opened()
        handle.dangerous_release()

    def test_drops():
        opened()

    def test_fixture(never_closed):
        pass
"""
)


def written(suite, name="handles.json"):
    return json.loads((suite.pytester.path / name).read_text())


@pytest.mark.parametrize("options", [(), ("-p", "xdist", "-n2")])
def test_json(suite, options):
    """The format of reports on programs, whoever ran the tests."""
    if options:
        pytest.importorskip("xdist")
    result = suite.check(WRONG, "--handles-json=handles.json", *options)
    result.assert_outcomes(passed=5, failed=1, errors=4)
    whole = written(suite)
    assert whole["version"] == 1
    assert os.path.dirname(whole["session"]) == str(suite.sessions)
    pids = {process["pid"] for process in whole["processes"]}
    assert len(pids) == len(whole["processes"]) == (2 if options else 1)
    found = {(one["kind"], one["count"]): one for one in whole["findings"]}
    assert set(found) == {("leak", 3), ("leak", 1), ("double-release", 1)}
    leak = found["leak", 3]
    assert sorted(leak["tests"]) == [f"test_it.py::test_leaks[{n}]" for n in range(3)]
    assert (leak["severity"], leak["fixture"], leak["pid"] in pids) == ("error", None, True)
    assert leak["culprit"][0]["function"] == "opened"
    assert [event["kind"] for event in leak["events"]] == ["acquire"]
    assert found["leak", 1]["fixture"] == "'never_closed' (module)"
    assert "was released at test_it.py:19" in found["double-release", 1]["message"]


def test_json_of_abandoned_handles(suite):
    """They are findings when the settings say so."""
    suite.write(WRONG)
    suite.pytester.makeini("[pytest]\nhandles_abandoned = warn")
    suite.run("--handles-json=handles.json", "-k", "drops").assert_outcomes(passed=1, warnings=1)
    (finding,) = written(suite)["findings"]
    assert (finding["kind"], finding["severity"]) == ("abandoned", "warning")
    assert finding["tests"] == ["test_it.py::test_drops"]


def test_json_of_warnings(suite):
    """A leak that only warns is a warning there too."""
    suite.write(WRONG)
    suite.run("--handles-json=handles.json", "--handles-on-leak=warn", "-k", "leaks")
    (finding,) = written(suite)["findings"]
    assert (finding["count"], finding["severity"]) == (3, "warning")


def test_json_when_nothing_is_wrong(suite):
    """A reader need not tell "nothing found" from "did not run"."""
    suite.check("def test_nothing(): pass", "--handles-json=handles.json")
    whole = written(suite)
    assert (whole["findings"], len(whole["processes"])) == ([], 1)


@pytest.mark.parametrize(
    ("path", "reason"),
    [(".", "is a folder: name a file in it"), ("no/such.json", "there is no folder */no")],
)
def test_json_that_cannot_be_written(suite, path, reason):
    """Said before the first test runs."""
    suite.write(WRONG)
    result = suite.run_here("--handles", f"--handles-json={path}")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"ERROR: --handles-json: *{reason}"])


def test_github_annotations(suite, monkeypatch):
    """One for equal findings, where GitHub reads the output."""
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    result = suite.check(WRONG)
    result.stdout.fnmatch_lines(
        [
            "*= handles =*",
            "::error file=test_it.py,line=7,title=handle leaked::SafeFileHandle fd *"
            ", in test_it.py::test_leaks?0? and 2 other tests",
            "::error file=test_it.py,line=19,title=handle released twice::*",
        ]
    )


def test_no_annotations_elsewhere(suite):
    """Without GITHUB_ACTIONS nothing looks like a command."""
    suite.check(WRONG, "-k", "leaks").stdout.no_fnmatch_line("::*")


def test_annotations_are_escaped():
    """Nothing in a name can end a property or begin another command."""
    one = {
        "kind": "leak",
        "owner": "FileIO",
        "where": [["a.py", "opened"]],
        "lines": [3],
        "test": "t::x",
        "message": "50%\nof 'a:b,c'",
        "severity": "warning",
        "file": "/w/a:b,c.py",
        "line": 3,
    }
    assert workflow_commands([one], "/w") == [
        "::warning file=a%3Ab%2Cc.py,line=3,title=handle leaked::50%25%0Aof 'a:b,c', in t::x"
    ]
    (outside,) = workflow_commands([{**one, "file": "/elsewhere/a.py"}], "/w")
    assert outside.startswith("::warning title=handle leaked::")
