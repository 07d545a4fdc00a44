"""What the README shows is what happens.

Its `python` blocks that begin with a file's name are written into a folder,
and the commands of its `console` blocks are run there, in order; each must
print what the README says it prints, but for what differs from run to run and
for lines that are `...`.
"""

from __future__ import annotations

import pathlib
import re
from dataclasses import dataclass

import pytest
from support_house import ROOT, run
from support_samples import SAMPLES, normalised, steady

DOCUMENTS = ["README.md", "CONTRIBUTING.md", "CHANGELOG.md"]
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LANGUAGES = {"console", "python", "sh", "text"}
MAKE_TARGET = re.compile(r"\bmake (?:\w+=\S+ )*([a-z-]+)")

NAMED_PATH = re.compile(
    r"`((?:safehandle_debug|tests|samples|docs|benchmarks|tui|plugins)/[^`*]*)`"
)


@dataclass(frozen=True, slots=True)
class Command:
    """One command of a console block."""

    line: str
    output: str  # normalised; a line "..." stands for any lines


def blocks(document: str = "README.md") -> list[tuple[str, str]]:
    """(language, text) of each fenced block."""
    return BLOCK.findall((ROOT / document).read_text())


def commands(block: str) -> list[Command]:
    """The commands of a console block, with what they print."""
    found = []
    for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
        line, _, output = part.partition("\n")
        found.append(Command(line, normalised(output)))
    return found


def matches(shown: str, printed: str) -> bool:
    """True when the lines are those shown; "..." stands for any lines."""
    pattern = "\n".join(
        r"(?s:.*?)" if line.strip() == "..." else re.escape(line) for line in shown.splitlines()
    )
    return re.fullmatch(pattern, printed.rstrip("\n")) is not None


@pytest.mark.parametrize("document", DOCUMENTS)
def test_blocks_have_a_known_language(document: str) -> None:
    """Another language would not be checked by anything."""
    assert {language for language, _ in blocks(document)} <= LANGUAGES
    assert (ROOT / document).read_text().count("```") == 2 * len(blocks(document))


def test_the_commands_print_what_is_shown(tmp_path: pathlib.Path) -> None:
    """All doors, one after the other, as a reader would try them."""
    env = {"SAFEHANDLE_DEBUG_DIR": str(tmp_path / "sessions"), "PYTHONDONTWRITEBYTECODE": "1"}
    (tmp_path / "samples").symlink_to(ROOT / "samples")
    count = 0
    for language, text in blocks():
        name = re.match(r"# (\w+\.py)\n", text)
        if language == "python" and name is not None:
            (tmp_path / name[1]).write_text(text)
        if language != "console":
            continue
        for command in commands(text):
            result = run(["sh", "-c", f"{command.line} 2>&1"], cwd=tmp_path, env=env)
            printed = normalised(result.stdout)
            assert matches(command.output, printed), f"$ {command.line}\n{printed}"
            count += 1
    assert count >= 4


def test_every_python_block_is_a_file() -> None:
    """A block without a name would not be run."""
    assert [text for language, text in blocks() if language == "python" and text[0] != "#"] == []


def test_what_it_catches_is_what_reports_say() -> None:
    """Each quoted sentence stands in the expected report of a sample."""
    text = (ROOT / "README.md").read_text()
    quotes = re.findall(r"^- \*\*.*? \u2014 `([^`]+)`", text, re.MULTILINE | re.DOTALL)
    reports = "".join(steady(path.read_text()) for path in SAMPLES.glob("*.expected.txt"))
    assert len(quotes) == 7
    for quote in quotes:
        assert steady(normalised(" ".join(quote.split()))).strip() in reports


@pytest.mark.parametrize("document", ["README.md", "CONTRIBUTING.md"])
def test_every_make_target_exists(document: str) -> None:
    """`make -n` says what it would do; `make test` cannot be run by itself."""
    targets = set(MAKE_TARGET.findall((ROOT / document).read_text()))
    assert {"demo", "test"} <= targets
    for target in sorted(targets):
        result = run(["make", "-n", target], cwd=ROOT)
        assert result.returncode == 0, result.stderr


def test_make_demo_is_safehandle_demo() -> None:
    assert "safehandle demo" in run(["make", "-n", "demo"], cwd=ROOT).stdout


def test_the_demo_without_a_terminal_reports_the_leak(tmp_path: pathlib.Path) -> None:
    env = {"SAFEHANDLE_DEBUG_DIR": str(tmp_path / "sessions")}
    result = run(["safehandle", "demo", "--requests", "200"], cwd=ROOT, env=env)
    assert result.returncode == 0, result.stderr
    assert re.search(r"^leak: .* samples/gateway\.py:\d+ ", result.stdout, re.MULTILINE)


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_file_it_names_exists(document: str) -> None:
    """Links to files, and paths in code spans."""
    text = (ROOT / document).read_text()
    links = [link for link in re.findall(r"\]\(([^)]+)\)", text) if "://" not in link]
    paths = re.findall(
        r"`((?:safehandle_debug|tests|samples|docs|benchmarks|tui|plugins)/[^`*]*)`", text
    )
    assert [name for name in links + paths if not (ROOT / name).exists()] == []


def test_the_ellipsis_stands_for_lines_and_nothing_else() -> None:
    """The comparison above can fail."""
    assert matches("a\n...\nb", "a\n1\n2\nb\n")
    assert not matches("a\n...\nb", "a\n1\n")
    assert not matches("a.c", "abc")
