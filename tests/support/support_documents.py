"""Runs what a document shows: its files are written, its commands are run in order."""

from __future__ import annotations

import pathlib
import re
from dataclasses import dataclass

from support_house import ROOT, run
from support_samples import normalised

__all__ = ["Block", "Command", "blocks", "commands", "matches", "run_document"]

_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_NAMED = re.compile(r"# ([\w./]+\.\w+)\n")


@dataclass(frozen=True, slots=True)
class Block:
    """One fenced block."""

    language: str
    text: str

    @property
    def file(self) -> str | None:
        """The file that a block is, by its first line."""
        match = _NAMED.match(self.text)
        return None if match is None else match[1]


@dataclass(frozen=True, slots=True)
class Command:
    """One command of a console block."""

    line: str
    output: str  # normalised; a line "..." stands for any lines


def blocks(path: pathlib.Path) -> list[Block]:
    """All fenced blocks of a document."""
    return [Block(*pair) for pair in _BLOCK.findall(path.read_text())]


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


def run_document(path: pathlib.Path, folder: pathlib.Path) -> int:
    """Does what a document shows, in `folder`; returns how many commands that were.

    Raises:
        AssertionError: a command prints something else.
    """
    env = {"SAFEHANDLE_DEBUG_DIR": str(folder / "sessions"), "PYTHONDONTWRITEBYTECODE": "1"}
    (folder / "samples").symlink_to(ROOT / "samples")
    count = 0
    for block in blocks(path):
        if block.file is not None:
            (folder / block.file).write_text(block.text)
        if block.language != "console":
            continue
        for command in commands(block.text):
            result = run(["sh", "-c", f"{command.line} 2>&1"], cwd=folder, env=env)
            printed = normalised(result.stdout)
            assert matches(command.output, printed), f"$ {command.line}\n{printed}"
            count += 1
    return count
