"""The line that made a generator is named where the source leaves no doubt."""

from __future__ import annotations

from pathlib import Path

import pytest

from safehandle_debug.findings.generators import made_at
from safehandle_debug.ledger import Frame

LIBRARY = Frame("<frozen os>", 1, "fwalk")

# `# ASKED` is the line of the stack, `# MADE` what is to be found.
CERTAIN = {
    "variable": "walk = os.fwalk('.')  # MADE\nnext(walk)  # ASKED",
    "loop": "walk = os.fwalk('.')  # MADE\nfor each in walk:  # ASKED\n    break",
    "function": "def f():\n    walk = fwalk('.')  # MADE\n    return next(walk)  # ASKED",
    "other_function": (
        "def g():\n    walk = 1\ndef f():\n    walk = fwalk('.')  # MADE\n    next(walk)  # ASKED"
    ),
}
UNCERTAIN = {
    "at_once": "walk = next(os.fwalk('.'))  # ASKED",
    "in_a_loop": "for each in os.fwalk('.'):  # ASKED\n    break",
    "given_twice": "walk = os.fwalk('.')\nwalk = os.fwalk('..')\nnext(walk)  # ASKED",
    "perhaps_another": "walk = None\nif 1:\n    walk = os.fwalk('.')\nnext(walk)  # ASKED",
    "loop_variable": "walk = os.fwalk('.')\nfor walk in []:\n    pass\nnext(walk)  # ASKED",
    "of_another_name": "walk = os.walk('.')\nnext(walk)  # ASKED fwalk",
    "two_of_them": "one = os.fwalk('.')\ntwo = os.fwalk('.')\nnext(one), next(two)  # ASKED",
    "argument": "def f(walk):\n    next(walk)  # ASKED\nf(os.fwalk('.'))",
    "no_python": "walk = os.fwalk('.')\nnext(walk)  # ASKED\n(",
}


def look(source: str, folder: Path) -> tuple[Frame, ...] | None:
    file = folder / "program.py"
    file.write_text(source)
    line = next(n for n, text in enumerate(source.splitlines(), 1) if "# ASKED" in text)
    return made_at((LIBRARY, Frame(str(file), line, "f"), Frame(str(file), 1, "<module>")), "")


@pytest.mark.parametrize("name", CERTAIN)
def test_the_line_that_made_it(name: str, tmp_path: Path) -> None:
    source = CERTAIN[name]
    made = look(source, tmp_path)
    assert made is not None
    assert "# MADE" in source.splitlines()[made[0].line - 1]
    assert [frame.function for frame in made] == ["f", "<module>"]


@pytest.mark.parametrize("name", UNCERTAIN)
def test_no_line_when_in_doubt(name: str, tmp_path: Path) -> None:
    assert look(UNCERTAIN[name], tmp_path) is None


def test_what_the_program_opened_itself(tmp_path: Path) -> None:
    assert made_at((Frame(str(tmp_path / "a.py"), 1, "f"),), "") is None
    assert made_at((), "") is None
