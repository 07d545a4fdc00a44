"""Rules about what not to report."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from support_recording import RecordingBuilder

from safehandle_debug.findings import Finding, SuppressionError, apply, find, load
from safehandle_debug.ledger import Ledger

Read = Callable[[RecordingBuilder], Ledger]


@pytest.fixture
def leak(read: Read) -> Finding:
    """Opened in here(), called by the fixture."""
    book = RecordingBuilder(cwd=str(Path(__file__).parent))

    def here() -> int:
        return book.stack_here()

    book.acquire(stack=here())
    (finding,) = find(read(book.end()))
    return finding


def rules(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "allowed.txt"
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    "rule",
    [
        "leak test_suppressions.py:leak.<locals>.here # why",
        "leak\ttest_suppressions.py:*here   # why",
        "leak:test_suppressions.py:*here # why",
        "* : *:*here # why",
        "* *:*here # why",
        "leak *.py:leak # the caller will do",
        f"leak {__file__}:*here # why",
        "leak */findings/*:*here # why",
        "  leak *:*here# x # with # inside",
    ],
)
def test_suppressed(rule: str, leak: Finding, tmp_path: Path) -> None:
    loaded = load(rules(tmp_path, f"# comment\n\n{rule}\n"))
    kept, suppressed = apply([leak], loaded)
    assert kept == []
    assert suppressed == [(leak, loaded[0])]
    assert loaded[0].line == 3
    assert loaded[0].reason


@pytest.mark.parametrize(
    "rule",
    [
        "abandoned *:*here # another kind",
        "leak *:there # another function",
        "leak other.py:*here # another file",
        "leak support/*:*here # another folder",
    ],
)
def test_not_suppressed(rule: str, leak: Finding, tmp_path: Path) -> None:
    assert apply([leak], load(rules(tmp_path, rule))) == ([leak], [])


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("leak a.py:f", "the reason is missing"),
        ("leak a.py:f #", "the reason is missing"),
        ("leak a.py:f # ", "the reason is missing"),
        ("leaks a.py:f # x", "'leaks' is not a kind of finding"),
        ("leak a.py # x", "is not path-glob:function-glob"),
        ("leak :f # x", "is not path-glob:function-glob"),
        ("leak a.py: # x", "is not path-glob:function-glob"),
        ("leak", "write 'kind path-glob:function-glob # reason'"),
    ],
)
def test_bad_rule(text: str, why: str, tmp_path: Path) -> None:
    """One sentence that names the file and the line."""
    path = rules(tmp_path, f"leak a.py:f # fine\n{text}\n")
    with pytest.raises(SuppressionError) as caught:
        load(path)
    assert str(caught.value).startswith(f"{path}:2: ")
    assert why in str(caught.value)
    assert "\n" not in str(caught.value)


def test_bad_file(tmp_path: Path) -> None:
    """What cannot be read is named too."""
    with pytest.raises(SuppressionError, match="No such file"):
        load(tmp_path / "none")
    with pytest.raises(SuppressionError, match="cannot be read"):
        load(tmp_path)
    (tmp_path / "bytes").write_bytes(b"\xff\xfe")
    with pytest.raises(SuppressionError, match="is not UTF-8"):
        load(tmp_path / "bytes")
