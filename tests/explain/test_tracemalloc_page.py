"""The examples of the standard library's own page, run with the import changed.

The page comes with the system's documentation of Python (Debian: python3-doc);
where it is not installed, what it shows is tried in test_tracemalloc_ext.py.
"""

from __future__ import annotations

import html
import re
import sys
from pathlib import Path

import pytest
from support_house import run

PAGES = sorted(Path("/usr/share/doc").glob("python3*/html/library/tracemalloc.html"))

WORK = """
from safehandle_debug import SafeFileHandle

def work(number):
    return [SafeFileHandle.open("/dev/null") for _ in range(number)]
"""
# What the page leaves to its reader.
ELSEWHERE = {
    "# ... run your application ...": "kept = work(3)",
    "# ... start your application ...": "kept = work(1)",
    "# ... call the function leaking memory ...": "kept += work(2)",
}
SHOWN = {
    "[ Top 10 ]": [r".*/work\.py:5: size=3 B, count=3, average=1 B"],
    "[ Top 10 differences ]": [r".*/work\.py:5: size=3 B \(\+2 B\), count=3 \(\+2\), average=1 B"],
    "memory blocks": [
        r"3 memory blocks: 0\.0 KiB",
        r"    kept = work\(3\)",
        r"    return \[SafeFileHandle\.open\(\"/dev/null\"\) for _ in range\(number\)\]",
    ],
    "Top %s lines": [
        r"#1: .*/work\.py:5: 0\.0 KiB",
        r"    return \[SafeFileHandle\.open.*",
        r"Total allocated size: 0\.0 KiB",
    ],
    "second_peak": [r"first_size=0, first_peak=0", r"second_size=0, second_peak=0"],
    "for line in traceback": [
        r"Traceback \(most recent call first\):",
        r".*/work\.py:5",
    ],
}


def examples() -> list[str]:
    """The programs of the page; what they print is on it too, and left out."""
    if not PAGES:
        return []
    text = PAGES[0].read_text()
    blocks = re.findall(r'<div class="highlight"><pre>(.*?)</pre>', text, re.DOTALL)
    shown = [html.unescape(re.sub(r"<[^>]*>", "", block)) for block in blocks]
    return [each for each in shown if re.search(r"^(import tracemalloc|print\()", each, re.M)]


@pytest.mark.skipif(not PAGES, reason="python3-doc is not installed")
def test_the_page_has_the_examples_that_are_run() -> None:
    found = examples()
    assert len(found) == len(SHOWN)
    for mark in SHOWN:
        assert sum(mark in each for each in found) == 1


@pytest.mark.skipif(not PAGES, reason="python3-doc is not installed")
@pytest.mark.parametrize("mark", SHOWN)
def test_an_example_runs_on_handles(mark: str, tmp_path: Path) -> None:
    (program,) = [each for each in examples() if mark in each]
    imports = "from safehandle_debug import tracemalloc_ext as tracemalloc"
    if "import tracemalloc" in program:
        program = program.replace("import tracemalloc", f"from work import work\n{imports}")
    else:
        start = "tracemalloc.start()\ntraceback = tracemalloc.get_object_traceback(work(1)[0])"
        program = f"from work import work\n{imports}\n{start}\n{program}"
    for comment, code in ELSEWHERE.items():
        program = program.replace(comment, code)
    (tmp_path / "work.py").write_text(WORK)
    (tmp_path / "example.py").write_text(program)

    done = run([sys.executable, "example.py"], cwd=tmp_path)

    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    for pattern in SHOWN[mark]:
        assert any(re.fullmatch(pattern, line) for line in lines), done.stdout
