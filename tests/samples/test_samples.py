"""Each sample misbehaves in one way, and the report says so, and nothing else.

`samples/NAME.expected.txt` shows both commands and what they print, as the
reader of the sample would see it.  After a change of wording:

    make expected
"""

from __future__ import annotations

import pathlib
from dataclasses import dataclass

import pytest
from support_samples import SAMPLES, check_transcript, findings, line_of, report, watched


@dataclass(frozen=True, slots=True)
class Expected:
    """One finding: what, how often, and the line of the wrong act."""

    kind: str
    count: int | None  # None: it depends on the moment
    function: str
    line: str


NOTHING: list[Expected] = []

SAMPLE_FINDINGS = {
    "correct": NOTHING,
    "leak_in_cycle": [
        Expected(
            "leak", 3, "Document.__init__", "self.handle = SafeFileHandle.open(path, os.O_RDONLY)"
        )
    ],
    "leak_on_error_path": [
        Expected("leak", 2, "read_settings", 'file = open(path, encoding="utf-8")')
    ],
    "leak_in_thread": [
        Expected("leak", 4, "scratch", 'handle = LOCAL.handle = SafeFileHandle.memfd("scratch")')
    ],
    "double_release": [
        Expected("double-release", 1, "Pool.give_back", "writer.dangerous_release()")
    ],
    "unbalanced_add_ref": [
        Expected("unbalanced", 1, "Journal.append", "self.handle.dangerous_add_ref()")
    ],
    "failing_hook": [
        Expected("release-failed", 1, "main", "lock.close()"),
        Expected("release-failed", 1, "main", "cache.close()"),
    ],
    "finalizer_needs_handle": [
        Expected("abandoned", 1, "Log.__init__", "self.handle = SafeFileHandle.open(path, FLAGS)")
    ],
    "stale_number": [
        Expected("recycled", 1, "Journal.write", "os.write(self.number, line.encode())")
    ],
    "buffered_data": [
        Expected("abandoned", 50, "by_open", 'return open(path, "w", encoding="utf-8")'),
        Expected(
            "abandoned",
            50,
            "by_stream",
            "handle = SafeFileHandle.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)",
        ),
    ],
    "interrupted_open": [
        Expected(
            "abandoned", None, "open_safe", "with SafeFileHandle.open(os.devnull, os.O_RDONLY):"
        )
    ],
    "double_owner": [
        Expected("double-owner", 1, "as_stream", "return SafeFileHandle(handle.fileno())")
    ],
}

PROGRAMS = {"gateway", "load"}  # test_gateway.py


def test_every_sample_is_run() -> None:
    assert {path.stem for path in SAMPLES.glob("*.py")} == set(SAMPLE_FINDINGS) | PROGRAMS


def test_every_sample_says_what_to_look_for() -> None:
    silent = [
        path.name
        for path in SAMPLES.glob("*.py")
        if path.stem != "load" and "\nLook for:" not in path.read_text()
    ]
    assert silent == []


@pytest.mark.parametrize("name", SAMPLE_FINDINGS)
def test_a_sample_is_reported_as_expected(name: str, tmp_path: pathlib.Path) -> None:
    """Both forms of the report say what is wrong, at the very line, and nothing else."""
    outcome = watched(f"{name}.py", [], tmp_path)
    assert outcome.code == 0, outcome.output

    found = findings(outcome)
    for finding, expected in zip(found, SAMPLE_FINDINGS[name], strict=True):
        place = finding["culprit"][0]
        assert finding["kind"] == expected.kind
        assert finding["severity"] == ("warning" if expected.kind == "abandoned" else "error")
        assert expected.count in (finding["count"], None)
        assert pathlib.Path(place["file"]).name == f"{name}.py"
        assert place["function"] == expected.function
        assert place["line"] == line_of(f"{name}.py", expected.line)

    text = report(outcome)
    assert text.returncode == (1 if SAMPLE_FINDINGS[name] else 0)
    check_transcript(name, [], outcome.output, text.stdout)


def test_an_interrupted_open_loses_nothing(tmp_path: pathlib.Path) -> None:
    """The class made in two steps loses more than a third of its descriptors."""
    lines = watched("interrupted_open.py", [], tmp_path).output.splitlines()
    lost = {line.split()[0]: int(line.split()[-2]) for line in lines[1:]}
    assert lost["SafeFileHandle.open()"] == 0
    assert lost["PlainFile(path)"] > 100
