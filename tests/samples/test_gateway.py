"""The gateway serves thousands of requests, and only its one leak is found."""

from __future__ import annotations

import json
import pathlib
import signal
import subprocess
import sys

import pytest
from support_house import ROOT, TIMEOUT_S
from support_samples import Outcome, as_json, check_transcript, findings, line_of, report, watched

LEAK = "handle = SafeFileHandle.open(name, os.O_RDONLY, dir_fd=self.folder.fileno())"
REQUESTS = 2000
BAD = REQUESTS // 50
ARGUMENTS = ["--demo", f"--requests={REQUESTS}"]


@pytest.fixture(scope="module")
def outcome(tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    """A gateway that served all of the load."""
    folder = tmp_path_factory.mktemp("gateway")
    return watched("gateway.py", ARGUMENTS, folder)


def test_every_request_is_answered_rightly(outcome: Outcome) -> None:
    assert outcome.code == 0
    load = json.loads(outcome.output.splitlines()[-1].removeprefix("load: "))
    assert load == {"requests": REQUESTS, "bad": BAD, "failed": 0}


def test_only_the_leak_is_found(outcome: Outcome) -> None:
    """As many leaks as there were bad requests, all from the one line."""
    (leak,) = findings(outcome)
    assert (leak["kind"], leak["count"]) == ("leak", BAD)
    place = leak["culprit"][0]
    assert pathlib.Path(place["file"]) == ROOT / "samples/gateway.py"
    assert place["function"] == "Downloads.start"
    assert place["line"] == line_of("gateway.py", LEAK)


def test_the_first_line_names_the_line(outcome: Outcome) -> None:
    first = report(outcome).stdout.splitlines()[0]
    assert "leak" in first
    assert f"{BAD}" in first
    assert f"samples/gateway.py:{line_of('gateway.py', LEAK)}" in first


def test_it_is_reported_as_expected(outcome: Outcome) -> None:
    check_transcript("gateway", ARGUMENTS, outcome.output, report(outcome).stdout)


def test_the_process_of_the_load_is_clean(outcome: Outcome) -> None:
    """Both processes are in the session; the load holds nothing."""
    processes = as_json(outcome)["processes"]
    scripts = {pathlib.Path(process["argv"][1]).name: process for process in processes}
    assert set(scripts) == {"gateway.py", "load.py"}
    assert scripts["load.py"]["live"] == 0
    assert {process["ended"] for process in processes} == {"exit"}


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_cleanly(how: signal.Signals) -> None:
    """Ctrl-C stops load and gateway: exit code 0, no traceback."""
    with subprocess.Popen(
        [sys.executable, "samples/gateway.py", "--demo"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as gateway:
        assert gateway.stdout is not None
        assert gateway.stdout.readline().startswith("serving ")
        gateway.send_signal(how)
        output, errors = gateway.communicate(timeout=TIMEOUT_S)
    assert (gateway.returncode, errors) == (0, "")
    assert output.startswith("load: ")


def test_it_ends_after_the_asked_time_or_requests(tmp_path: pathlib.Path) -> None:
    assert watched("gateway.py", ["--seconds=0.1"], tmp_path).code == 0


def test_a_folder_that_is_none_is_one_sentence(tmp_path: pathlib.Path) -> None:
    result = subprocess.run(
        [sys.executable, "samples/gateway.py", str(tmp_path / "none")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 2
    assert result.stderr.splitlines()[-1].endswith("none is not a folder")
