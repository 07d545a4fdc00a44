"""Writes `cost.md` from what the benchmarks measure; `make cost` runs it.

    python docs/cost.py [--measured]

The numbers are kept in `cost.json`, so that the page can be written anew from
them without measuring again (`--measured`), and checked to be no other.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

HERE: Final = Path(__file__).resolve().parent
PAGE: Final = HERE / "cost.md"
NUMBERS: Final = HERE / "cost.json"
TITLES: Final = {
    "core": "SafeHandles",
    "calls": "Native calls",
    "descriptors": "All descriptors of a program",
    "plugin": "A test suite",
}

HEAD = """\
# What it costs

Ratios of CPU times, each of two runs in turns: a program watched beside the same program
unwatched, or a call beside what a program would use in its place. *At most* is what we allow
ourselves; a number above it is in bold. `make cost` measures it all again and writes this page.
"""

TABLE: Final = (
    "| what | measured | at most | absolute | beside |",
    "| --- | --- | --- | --- | --- |",
)

FOOT = """\
A program that ends with handles open spends up to 0.3 s more, to say who holds them; one that
closed everything spends nothing.

Measure it on yours:

```sh
make benchmark
```
"""


def measured() -> dict[str, Any]:
    """What each benchmark says of this machine.

    Raises:
        subprocess.CalledProcessError: one of them could not run.
    """
    found = {}
    for name in TITLES:
        print(f"measuring {name}", file=sys.stderr, flush=True)
        command = [sys.executable, str(HERE.parent / "benchmarks" / f"{name}.py"), "--json"]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
        if done.returncode not in (0, 1):  # 1: something is over its budget
            raise subprocess.CalledProcessError(done.returncode, command)
        found[name] = json.loads(done.stdout)
    return found


def page(numbers: dict[str, Any]) -> str:
    """The page that shows some numbers."""
    parts = [HEAD]
    for name, title in TITLES.items():
        told = numbers[name]
        parts.append(f"## {title}\n\n{told['machine']}.\n")
        parts.append("\n".join([*TABLE, *map(_row, told["rows"])]) + "\n")
    return "\n".join([*parts, FOOT])


def _row(row: dict[str, Any]) -> str:
    value = _amount(row["value"], row["unit"])
    if row["verdict"] == "over":
        value = f"**{value}**"
    most = "" if row["budget"] is None else _amount(row["budget"], row["unit"])
    what = row["what"]
    if what.startswith("  "):  # of the row above
        what = f"... {what.strip()}"
    cells = (what, value, most, row["ours"].strip(), row["peer"].strip())
    return f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |"


def _amount(value: float, unit: str) -> str:
    shown = f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"
    return f"{shown}{'' if unit == 'x' else ' '}{unit}"


def main() -> None:
    """Measures, unless told not to, and writes the page."""
    parser = argparse.ArgumentParser(description="Writes docs/cost.md.")
    parser.add_argument("--measured", action="store_true", help="from the numbers in cost.json")
    if not parser.parse_args().measured:
        NUMBERS.write_text(json.dumps(measured(), indent=1) + "\n")
    PAGE.write_text(page(json.loads(NUMBERS.read_text())))


if __name__ == "__main__":
    main()
