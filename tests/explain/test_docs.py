"""What the documentation shows is what happens, and it builds without a warning."""

from __future__ import annotations

import importlib.util
import json
import os
import pathlib
import pty
import re
import select
import shutil
import signal
import sys
import tomllib

import click
import pytest
from support_documents import blocks, matches, run_document
from support_house import ROOT, run
from support_samples import UPDATE

from safehandle_debug.cli import main

DOCS = ROOT / "docs"
PAGES = sorted(path.relative_to(DOCS) for path in DOCS.rglob("*.md"))
# Blocks that are neither commands with what they print, nor a file that one of
# these runs: each is tried by a test of its own, which is named here.
TRIED = {
    ("commands.md", "text"): "test_the_page_of_commands_is_their_help",
    ("commands.md", "sh"): "test_a_real_shell_completes",
    ("cost.md", "sh"): "test_what_is_made_can_be_made",
    ("index.md", "sh"): "test_what_is_installed_is_offered",
    ("screens.md", "toml"): "test_the_keys_that_are_shown_are_taken",
    ("semantics.md", "text"): "test_the_state_word_is_the_cores",
    ("suite.md", "toml"): "test_the_settings_that_are_shown_are_taken",
    ("tables.md", "sql"): "test_the_pages_queries_answer",
}


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_a_pages_commands_print_what_it_shows(page: pathlib.Path, tmp_path: pathlib.Path) -> None:
    shown = [block for block in blocks(DOCS / page) if block.language == "console"]
    assert run_document(DOCS / page, tmp_path) >= len(shown)


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_no_block_is_left_untried(page: pathlib.Path) -> None:
    found = blocks(DOCS / page)
    assert (DOCS / page).read_text().count("```") == 2 * len(found)
    sources = "".join(path.read_text() for path in pathlib.Path(__file__).parent.glob("test_*.py"))
    for block in found:
        if block.language in ("python", "c"):
            assert block.file is not None, block.text
        elif block.language != "console":
            assert f"def {TRIED[str(page), block.language]}(" in sources


def shown(page: str, language: str) -> str:
    """The one block in a language on a page."""
    (block,) = [each for each in blocks(DOCS / page) if each.language == language]
    return block.text


def test_what_is_made_can_be_made() -> None:
    """`make -n` says what it would do; what that is takes minutes."""
    for line in shown("cost.md", "sh").splitlines():
        make, target = line.split()
        result = run([make, "-n", target], cwd=ROOT)
        assert result.returncode == 0, result.stderr
        assert "benchmarks/" in result.stdout


def test_what_is_installed_is_offered() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    texts = [path.read_text() for path in (ROOT / "README.md", *DOCS.rglob("*.md"))]
    found = re.findall(r"pip install '?([\w-]+)(?:\[([\w,]+)\])?'?", "\n".join(texts))
    assert ("safehandle-debug", "tui,pytest") in found
    for name, extras in found:
        assert name == project["name"]
        assert set(filter(None, extras.split(","))) <= set(project["optional-dependencies"])


def test_the_keys_that_are_shown_are_taken(tmp_path: pathlib.Path) -> None:
    keys = pytest.importorskip("safehandle_tui.keys")
    (tmp_path / "keys.toml").write_text(shown("screens.md", "toml"))
    assert keys.read_keymap(tmp_path / "keys.toml") == ({"alarms": "v", "mark": "M,m"}, None)


def test_the_settings_that_are_shown_are_taken(tmp_path: pathlib.Path) -> None:
    (tmp_path / "pyproject.toml").write_text(shown("suite.md", "toml"))
    (tmp_path / "app").mkdir()
    program = "from app.cache import open_index\ndef test_index():\n    open_index()\n"
    runs = (("open_index", ["--handles-update-baseline"], True), ("open_index", [], True))
    for name, options, passes in (*runs, ("other", [], False)):
        (tmp_path / "app" / "cache.py").write_text(
            f"KEPT = []\ndef {name}():\n    KEPT.append(open(__file__))\n"
        )
        (tmp_path / "test_it.py").write_text(program.replace("open_index", name))
        done = run([sys.executable, "-m", "pytest", "-q", *options], cwd=tmp_path)
        assert (done.returncode == 0) == passes, done.stdout


def test_the_state_word_is_the_cores() -> None:
    """The drawing is as wide as the word, and its bits are where the core has them."""
    drawing = shown("semantics.md", "text").splitlines()
    assert re.findall(r"\d+", drawing[0]) == ["31", "2", "1", "0"]
    assert [word.strip() for word in drawing[2].split("|")[2:4]] == ["disposed", "closed"]
    headers = (ROOT / "safehandle_debug/_core").rglob("*.h")
    values = dict(
        re.findall(r"#define SHD_(CLOSED|DISPOSED|ONE_REF) (\d+)u", "".join(map(read, headers)))
    )
    assert values == {"CLOSED": "1", "DISPOSED": "2", "ONE_REF": "4"}


def read(path: pathlib.Path) -> str:
    return path.read_text()


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


def test_the_page_of_costs_is_what_was_measured() -> None:
    """`make cost` writes both; nobody has to copy a number."""
    specification = importlib.util.spec_from_file_location("cost", DOCS / "cost.py")
    assert specification is not None
    assert specification.loader is not None
    cost = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(cost)
    numbers = json.loads((DOCS / "cost.json").read_text())
    page = (DOCS / "cost.md").read_text()

    assert page == cost.page(numbers)
    numbers["core"]["rows"][0]["value"] += 1
    assert page != cost.page(numbers)
    for name in cost.TITLES:
        assert (ROOT / "benchmarks" / f"{name}.py").exists()


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


INTERACTIVE = {
    "bash": ["bash", "--norc", "--noprofile", "-i"],
    "zsh": ["zsh", "-f", "-i"],
    "fish": ["fish", "--no-config", "-i"],
}
READY = {"zsh": "autoload -Uz compinit; compinit -u -D; "}


@pytest.mark.parametrize("shell", INTERACTIVE)
def test_a_real_shell_completes(shell: str, tmp_path: pathlib.Path) -> None:
    """Typed on a terminal: the line of the page, and a verb with a Tab in it."""
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    line = READY.get(shell, "") + shown("commands.md", "sh").strip().replace("bash", shell)
    typed = [f"{line}; echo ready > ready", "safehandle rep\t --help > help", "exit"]
    pid, terminal = pty.fork()
    if pid == 0:
        try:
            os.chdir(tmp_path)
            tools = pathlib.Path(sys.executable).parent
            path = f"{tools}:{os.environ['PATH']}"
            os.execvpe(
                INTERACTIVE[shell][0],
                INTERACTIVE[shell],
                {"PATH": path, "TERM": "xterm", "HOME": str(tmp_path), "LANG": "C.UTF-8"},
            )
        finally:
            os._exit(127)  # or the tests would go on in this process too
    said = b""
    try:
        for text in typed:
            os.write(terminal, f"{text}\r".encode())
        while chunk := read_some(terminal, tmp_path):
            said += chunk
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        os.close(terminal)
    assert (tmp_path / "ready").exists(), said
    assert (tmp_path / "help").read_text().startswith("Usage: safehandle report "), said


def read_some(terminal: int, folder: pathlib.Path) -> bytes:
    """What a terminal says next; nothing once its program has gone."""
    ready, _, _ = select.select([terminal], [], [], 60)
    if not ready:
        raise AssertionError(f"the shell waits; it left {os.listdir(folder)}")
    try:
        return os.read(terminal, 4096)
    except OSError:  # EIO: nobody is left on the other side
        return b""


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
