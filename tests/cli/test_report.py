"""`safehandle report` on real recordings."""

from __future__ import annotations

import json
import os
import pty
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

Run = Callable[..., subprocess.CompletedProcess[str]]

WAIT = """
import sys, safehandle_debug
def main():
    global handle
    handle = safehandle_debug.SafeFileHandle.open("/dev/null")
main()
print("ready", flush=True)
sys.stdin.readline()
handle.close()
"""


def test_the_newest_session_is_reported(command: Run, clean: Path, leak: Path) -> None:
    assert clean < leak

    done = command("report")

    assert done.returncode == 1
    assert "leak" in done.stdout
    assert "app.py:5" in done.stdout
    assert done.stderr == ""


@pytest.mark.parametrize("form", ["folder", "name", "recording"])
def test_a_target_is_a_folder_a_name_or_a_recording(
    command: Run, leak: Path, clean: Path, form: str
) -> None:
    target = {"folder": str(leak), "name": leak.name, "recording": str(next(leak.iterdir()))}

    assert command("report", target[form]).returncode == 1
    assert command("report").returncode == 0


def test_several_targets_are_reported_together_and_once(
    command: Run, leak: Path, clean: Path
) -> None:
    done = command("report", str(leak), str(clean), str(leak), "--format=json")

    assert len(json.loads(done.stdout)["processes"]) == 2


def test_a_clean_program_has_no_findings(command: Run, clean: Path) -> None:
    done = command("report")

    assert done.returncode == 0
    assert "leak" not in done.stdout


def test_json_is_version_1(command: Run, leak: Path) -> None:
    done = command("report", "--format", "json")

    told = json.loads(done.stdout)
    assert done.returncode == 1
    assert told["version"] == 1
    assert [finding["kind"] for finding in told["findings"]] == ["leak"]
    assert told["findings"][0]["culprit"][0]["line"] == 5


def test_warnings_fail_unless_only_errors_should(command: Run, abandoned: Path) -> None:
    assert command("report").returncode == 1
    assert command("report", "--fail-on=warning").returncode == 1

    done = command("report", "--fail-on=error")
    assert done.returncode == 0
    assert "abandoned" in done.stdout


def test_errors_fail_either_way(command: Run, leak: Path) -> None:
    assert command("report", "--fail-on=error").returncode == 1


def test_a_running_process_is_judged_on_demand_only(
    command: Run, environment: dict[str, str], program: Callable[[str], Path]
) -> None:
    with subprocess.Popen(
        [sys.executable, program(WAIT)],
        env=environment | {"SAFEHANDLE_DEBUG": "full"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as running:
        assert running.stdout is not None
        running.stdout.readline()
        quiet = command("report", str(running.pid))
        judged = command("report", str(running.pid), "--now", "--format=json")
        running.communicate("\n", timeout=60)

    assert quiet.returncode == 0
    assert judged.returncode == 1
    assert [finding["kind"] for finding in json.loads(judged.stdout)["findings"]] == ["leak"]
    assert command("report").returncode == 0


def test_suppressed_findings_are_told_with_their_reason(
    command: Run, leak: Path, tmp_path: Path
) -> None:
    (tmp_path / "known.txt").write_text("leak  *app.py:keep  # kept on purpose\n")

    done = command("report", "--suppressions", "known.txt")

    assert done.returncode == 0
    assert "suppressed: leak by " in done.stdout
    assert "kept on purpose" in done.stdout


def test_suppressions_that_the_program_named_count_too(
    command: Run, recorded: Callable[..., Path], leaking: str, tmp_path: Path
) -> None:
    (tmp_path / "known.txt").write_text("leak  *app.py:keep  # kept on purpose\n")
    recorded(leaking, "full,suppressions=known.txt")

    assert command("report").returncode == 0


def test_the_report_can_go_into_a_file(command: Run, leak: Path, tmp_path: Path) -> None:
    done = command("report", "--output", "report.txt")

    assert (done.returncode, done.stdout) == (1, "")
    assert "leak" in (tmp_path / "report.txt").read_text()


class TestBadInput:
    """One sentence and exit code 2."""

    @staticmethod
    def refused(done: subprocess.CompletedProcess[str]) -> str:
        assert done.returncode == 2, done.stdout
        assert done.stdout == ""
        assert "Traceback" not in done.stderr
        assert done.stderr.count("\n") == 1, done.stderr
        return done.stderr

    @pytest.mark.parametrize("name", ["report", "list"])
    @pytest.mark.parametrize(
        "target", ["4194305", "none.shd", "./none", "20200101T000000.000000-1"]
    )
    def test_a_target_that_is_not_there(self, command: Run, name: str, target: str) -> None:
        assert target in self.refused(command(name, target))

    @pytest.mark.parametrize("name", ["report", "list"])
    def test_no_session_at_all(self, command: Run, name: str) -> None:
        assert "SAFEHANDLE_DEBUG" in self.refused(command(name))

    @pytest.mark.parametrize("name", ["report", "list", "watch"])
    @pytest.mark.parametrize(
        "content", [b"", b"hello\n", b"SHDREC\r\n", b"SHDREC\r\n" + bytes(9000)]
    )
    def test_a_corrupt_recording(
        self, command: Run, tmp_path: Path, name: str, content: bytes
    ) -> None:
        if name == "watch":
            pytest.importorskip("textual")
        (tmp_path / "1-1.shd").write_bytes(content)

        assert "1-1.shd" in self.refused(command(name, str(tmp_path / "1-1.shd")))

    def test_a_suppressions_file_that_is_not_there(self, command: Run, leak: Path) -> None:
        assert "none.txt" in self.refused(command("report", "--suppressions", "none.txt"))

    def test_an_output_that_cannot_be_written(self, command: Run, leak: Path) -> None:
        assert "cannot write no/such" in self.refused(command("report", "--output", "no/such"))

    def test_a_full_device(self, command: Run, leak: Path) -> None:
        with open("/dev/full", "w") as full:
            done = command("report", capture_output=False, stdout=full, stderr=subprocess.PIPE)

        assert done.returncode == 2
        assert "No space left on device" in done.stderr
        assert "Traceback" not in done.stderr


def test_a_corrupt_recording_beside_good_ones_is_left_out_with_a_line(
    command: Run, leak: Path
) -> None:
    (leak / "77-1.shd").write_bytes(b"x" * 5000)

    done = command("report", str(leak))

    assert done.returncode == 1
    assert done.stderr.startswith("Left out: ")
    assert done.stderr.count("\n") == 1


TWO_LEAKS = """
import safehandle_debug
kept = []
def fetch():
    kept.append(safehandle_debug.SafePipeHandle.pair())
def main():
    for _ in range(3):
        kept.append(safehandle_debug.SafeFileHandle.open("/dev/null"))
    fetch()
    {end}
main()
"""


def kinds(text: str) -> list[str]:
    return sorted(finding["handle"]["kind"] for finding in json.loads(text)["findings"])


def test_findings_are_chosen_by_a_filter(command: Run, recorded: Callable[..., Path]) -> None:
    recorded(TWO_LEAKS.format(end=""))

    assert kinds(command("report", "--format=json").stdout) == ["file", "pipe"]
    done = command("report", "--format=json", "--where", "alarm:leak !func:fetch")
    assert (done.returncode, kinds(done.stdout)) == (1, ["file"])


def test_a_report_says_that_it_was_filtered(command: Run, recorded: Callable[..., Path]) -> None:
    """And what it leaves out does not fail it."""
    recorded(TWO_LEAKS.format(end=""))

    done = command("report", "--where", "kind:process")

    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("nothing found in 1 process")
    assert "only findings on handles that match 'kind:process' are shown" in done.stdout


def test_what_a_killed_process_held_is_filtered(
    command: Run, recorded: Callable[..., Path]
) -> None:
    recorded(TWO_LEAKS.format(end="import os; os.kill(os.getpid(), 9)"))

    text = command("report", "--where", "kind:pipe").stdout
    assert "died holding 2 handles" in text
    assert "SafeFileHandle" not in text
    held = json.loads(command("report", "--format=json", "--where", "kind:file").stdout)
    assert [each["kind"] for each in held["processes"][0]["held"]] == ["file"] * 3


CUT_OFF = """
import os, sys
from safehandle_debug.cli.group import CliError
from safehandle_debug.cli.report import judge
from safehandle_debug.cli.targets import open_ledgers
try:
    with open_ledgers([sys.argv[1]]) as ledgers:
        os.truncate(ledgers[0].recording.path, 5000)
        judge(ledgers) if sys.argv[2] == "report" else ledgers[0].open()
except CliError as error:
    print(error.format_message())
"""


@pytest.mark.parametrize("command", ["report", "list"])
def test_a_recording_cut_off_while_it_is_read_is_one_sentence(
    leak: Path, environment: dict[str, str], command: str
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", CUT_OFF, leak, command],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )

    assert (done.returncode, done.stderr) == (0, "")
    assert "has been truncated while it was read" in done.stdout
    assert done.stdout.count("\n") == 1


@pytest.mark.parametrize("name", ["report", "list"])
def test_a_reader_that_goes_away_is_no_fault(
    leak: Path, environment: dict[str, str], name: str
) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = subprocess.run(
            [sys.executable, "-m", "safehandle_debug", name, str(leak)],
            env=environment,
            stdout=writer,
            stderr=subprocess.PIPE,
            check=False,
        )
    finally:
        os.close(writer)

    assert (done.returncode, done.stderr) == (141, b"")


def test_closed_stdout_is_no_fault(leak: Path, environment: dict[str, str]) -> None:
    line = f"exec {sys.executable} -m safehandle_debug report {leak} >&-"

    done = subprocess.run(["sh", "-c", line], env=environment, stderr=subprocess.PIPE, check=False)

    assert (done.returncode, done.stderr) == (1, b"")


def on_terminal(arguments: list[str], environment: dict[str, str]) -> bytes:
    """What a command prints on a terminal."""
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-m", "safehandle_debug", *arguments],
        env=environment,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
    ) as running:
        os.close(theirs)
        output = b""
        try:
            while chunk := os.read(ours, 4096):
                output += chunk
        except OSError:
            pass  # EIO: the other end was closed
        running.wait(timeout=60)
    os.close(ours)
    return output


@pytest.mark.parametrize(
    ("variables", "arguments", "colored"),
    [
        ({"TERM": "xterm"}, [], True),
        ({"TERM": "xterm", "NO_COLOR": "1"}, [], False),
        ({"TERM": "xterm"}, ["--no-color"], False),
        ({"TERM": "dumb"}, [], False),
    ],
)
def test_colours_are_for_terminals_that_want_them(
    leak: Path,
    environment: dict[str, str],
    variables: dict[str, str],
    arguments: list[str],
    colored: bool,
) -> None:
    output = on_terminal(["report", str(leak), *arguments], environment | variables)

    assert b"leak" in output
    assert (b"\x1b[" in output) is colored


def test_no_colours_in_a_pipe(command: Run, leak: Path) -> None:
    assert "\x1b" not in command("report", str(leak)).stdout


def test_a_session_of_more_processes_than_the_descriptor_limit(command: Run, leak: Path) -> None:
    (recording,) = leak.iterdir()
    pid, ticks = recording.stem.split("-")
    for number in range(2, 60):
        (leak / f"{pid}-{ticks}-{number}.shd").write_bytes(recording.read_bytes())

    done = command(
        "report",
        "--format=json",
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (32, 4096)),
    )

    assert done.stderr == ""
    assert len(json.loads(done.stdout)["processes"]) == 59
