"""Rows of a benchmark, each with its budget, and how they are shown."""

from __future__ import annotations

import argparse
import json
import os
import platform
from collections.abc import Iterator
from dataclasses import asdict, dataclass


@dataclass(frozen=True, slots=True)
class Row:
    """One thing measured."""

    what: str
    value: float
    unit: str  # "x" for a ratio
    budget: float | None
    ours: str  # absolute, for the curious
    peer: str

    @property
    def verdict(self) -> str:
        if self.budget is None:
            return ""
        # Memory is in whole bytes: the allocator's own headers add a fraction of one.
        value = round(self.value) if self.unit == "B" else self.value
        return "PASS" if value <= self.budget else "over"


def environment(**variables: str) -> dict[str, str]:
    """This environment with none but the given variables of ours."""
    clean = {name: text for name, text in os.environ.items() if not name.startswith("SAFEHANDLE")}
    return clean | variables


def show(rows: Iterator[Row], about: str) -> int:
    """Prints rows as they are measured, or JSON at their end, as the command line says.

    Returns the exit code: 1 when one is over its budget."""
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("--json", action="store_true", help="print JSON")
    as_json = parser.parse_args().json
    machine = f"{platform.python_implementation()} {platform.python_version()}"
    machine += f", {platform.system()} {platform.machine()}, {os.cpu_count()} CPUs"
    if not as_json:
        print(f"{machine}; CPU time, fastest of many batches\n")
        print(f"{'':45} {'measured':>10} {'at most':>8}       {'ours':>10}  peer")
    measured = []
    for row in rows:
        measured.append(row)
        if not as_json:
            print(_line(row), flush=True)
    if as_json:
        shown = [asdict(row) | {"verdict": row.verdict or None} for row in measured]
        print(json.dumps({"version": 1, "machine": machine, "rows": shown}, indent=2))
    return int(any(row.verdict == "over" for row in measured))


def _line(row: Row) -> str:
    budget = "" if row.budget is None else f"{row.budget:g} {row.unit}"
    value = f"{row.value:.3f} {row.unit}"
    numbers = f"{value:>10} {budget:>8} {row.verdict:4}  {row.ours:>10}"
    return f"{row.what:45} {numbers}  {row.peer}"
