"""What the documentation shows is what happens, and it builds without a warning."""

from __future__ import annotations

import os
import pathlib
import re
import sys

import click
import pytest
from support_documents import blocks, matches, run_document
from support_house import ROOT, run
from support_samples import UPDATE

from safehandle_debug.cli import main

DOCS = ROOT / "docs"
PAGES = sorted(path.relative_to(DOCS) for path in DOCS.rglob("*.md"))
# sh: what installs or sets up a machine, and so cannot be tried in a test.
LANGUAGES = {"console", "python", "sql", "text", "sh", "toml", "yaml", "c"}
SET_UP = ("pip install ", "make ", "apt install ", "eval ")


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_a_pages_commands_print_what_it_shows(page: pathlib.Path, tmp_path: pathlib.Path) -> None:
    shown = [block for block in blocks(DOCS / page) if block.language == "console"]
    assert run_document(DOCS / page, tmp_path) >= len(shown)


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_a_pages_blocks_can_all_be_tried(page: pathlib.Path) -> None:
    found = blocks(DOCS / page)
    assert {block.language for block in found} <= LANGUAGES
    assert (DOCS / page).read_text().count("```") == 2 * len(found)
    for block in found:
        if block.language == "python":
            assert block.file is not None, block.text
        if block.language == "sh":
            assert all(line.startswith(SET_UP) for line in block.text.splitlines()), block.text


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_a_pages_python_is_run_by_one_of_its_commands(page: pathlib.Path) -> None:
    found = blocks(DOCS / page)
    shown = "\n".join(block.text for block in found if block.language == "console")
    files = [block.file for block in found if block.language in ("python", "c") and block.file]
    imported = "\n".join(block.text for block in found)
    for file in files:
        stem = pathlib.Path(file).stem
        assert file in shown or re.search(rf"^(import|from) {stem}\b", imported, re.MULTILINE)


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_a_pages_links_lead_somewhere(page: pathlib.Path) -> None:
    text = (DOCS / page).read_text()
    for link in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", text):
        if "://" not in link:
            assert (DOCS / page.parent / link).exists(), link


def test_every_page_is_in_the_menu() -> None:
    menu = (ROOT / "mkdocs.yml").read_text()
    assert [str(page) for page in PAGES if f": {page}" not in menu] == []


def test_the_site_builds_without_a_warning(tmp_path: pathlib.Path) -> None:
    pytest.importorskip("mkdocs")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)]
    result = run(command, cwd=ROOT, env={"NO_MKDOCS_2_WARNING": "1"})
    assert result.returncode == 0, result.stderr
    reference = (tmp_path / "reference" / "index.html").read_text()
    for name in ("SafeFileHandle", "FileStream", "wait_any", "tracemalloc_ext", "holders_of"):
        assert name in reference


# --- the commands ---


def helps() -> str:
    """The help of `safehandle` and of each verb, as a page."""
    parts = [HEAD]
    context = click.Context(main, info_name="safehandle", max_content_width=80, terminal_width=80)
    parts.append(f"```text\n{main.get_help(context)}\n```\n")
    for name in sorted(main.commands):
        command = main.commands[name]
        inner = click.Context(
            command, info_name=name, parent=context, max_content_width=80, terminal_width=80
        )
        parts.append(f"## {name}\n\n```text\n{command.get_help(inner)}\n```\n")
    return "\n".join(parts)


HEAD = """\
# Commands

The exit code is 0 when nothing was found, 1 when something was, and 2 for bad usage or input.
"""


def test_the_page_of_commands_is_their_help() -> None:
    """`make expected` writes it anew; read the difference before you commit it."""
    page = DOCS / "commands.md"
    head, _, tail = page.read_text().partition("\n## Completion")
    if os.environ.get(UPDATE):
        page.write_text(f"{helps()}\n## Completion{tail}")
        head = page.read_text().partition("\n## Completion")[0]
    assert head.rstrip() == helps().rstrip()


@pytest.mark.parametrize("name", sorted(main.commands))
def test_every_option_says_what_it_does(name: str) -> None:
    for parameter in main.commands[name].params:
        if isinstance(parameter, click.Option):
            assert parameter.help, f"{name} {parameter.name}"
    assert main.commands[name].help


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shell_can_complete(shell: str, tmp_path: pathlib.Path) -> None:
    env = {"_SAFEHANDLE_COMPLETE": f"{shell}_source"}
    done = run([sys.executable, "-c", CALL], cwd=tmp_path, env=env)
    assert "_SAFEHANDLE_COMPLETE" in done.stdout


CALL = "from safehandle_debug.cli import main; main(prog_name='safehandle')"


def test_verbs_and_sessions_are_completed(tmp_path: pathlib.Path) -> None:
    name = "20260102T030405.000006-1"
    (tmp_path / "s" / name).mkdir(parents=True, mode=0o700)
    (tmp_path / "s").chmod(0o700)

    def completed(words: str, number: int) -> str:
        env = {
            "_SAFEHANDLE_COMPLETE": "bash_complete",
            "COMP_WORDS": words,
            "COMP_CWORD": str(number),
            "SAFEHANDLE_DEBUG_DIR": str(tmp_path / "s"),
        }
        return run([sys.executable, "-c", CALL], cwd=tmp_path, env=env).stdout

    assert "plain,report" in completed("safehandle rep", 1)
    assert f"plain,{name}" in completed("safehandle report 2026", 2)


def test_the_ellipsis_stands_for_lines_and_nothing_else() -> None:
    """The comparison of pages can fail."""
    assert matches("a\n...\nb", "a\n1\n2\nb\n")
    assert not matches("a\n...\nb", "a\n1\n")
