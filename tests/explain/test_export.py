"""Tables and traces of recordings, and what is asked of them."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from support_house import ROOT, run

from safehandle_debug.exports import TABLES

# How many events the large export has; the page on tables was tried with ten million.
EVENTS = int(os.environ.get("SAFEHANDLE_EXPORT_EVENTS", "100000"))

PROGRAM = """
import sys
from safehandle_debug import SafeFileHandle

KEPT = []

def keep(number):
    for _ in range(number):
        KEPT.append(SafeFileHandle.open("/dev/null"))

def churn(number):
    for _ in range(number):
        with SafeFileHandle.open("/dev/zero"):
            pass

def main():
    churn(int(sys.argv[1]))
    keep(7)

main()
"""

Safehandle = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where a program ran whose recording is large."""
    folder = tmp_path_factory.mktemp("export")
    (folder / "app.py").write_text(PROGRAM)
    value = f"full,fds=off,size={max(EVENTS // 10_000, 16)}M"
    environment = {"SAFEHANDLE_DEBUG": value, "SAFEHANDLE_DEBUG_DIR": str(folder / "s")}
    command = [sys.executable, "app.py", str((EVENTS - 14) // 2)]
    assert run(command, cwd=folder, env=environment, timeout=600).returncode == 0
    return folder


@pytest.fixture(scope="module")
def safehandle(folder: Path) -> Safehandle:
    """safehandle(*ARGUMENTS) runs the command on that recording."""

    def command(*arguments: str) -> subprocess.CompletedProcess[str]:
        return run(
            [sys.executable, "-m", "safehandle_debug", *arguments],
            cwd=folder,
            env={"SAFEHANDLE_DEBUG_DIR": str(folder / "s")},
            timeout=1200,
        )

    return command


@pytest.fixture(scope="module")
def tables(folder: Path, safehandle: Safehandle) -> Path:
    """The tables as Parquet."""
    done = safehandle("export", "--format", "parquet", "--output", "tables")
    assert done.returncode == 0, done.stderr
    return folder / "tables"


def test_every_table_has_the_columns_of_its_schema(tables: Path) -> None:
    pq = pytest.importorskip("pyarrow.parquet")
    assert {path.stem for path in tables.iterdir()} == set(TABLES)
    for name, columns in TABLES.items():
        schema = pq.read_schema(tables / f"{name}.parquet")
        assert schema.names == [column.name for column in columns]
        types = {"int": "int64", "text": "string", "bool": "bool"}
        assert [str(field.type) for field in schema] == [types[each.type] for each in columns]
        assert schema.field("pid").metadata == {b"meaning": b"of the process"}


def test_csv_says_the_same(safehandle: Safehandle, folder: Path, tables: Path) -> None:
    pq = pytest.importorskip("pyarrow.parquet")
    assert safehandle("export", "--format", "csv", "--output", "csv").returncode == 0
    for name, columns in TABLES.items():
        table = pq.read_table(tables / f"{name}.parquet").slice(0, 1000).to_pylist()
        with (folder / "csv" / f"{name}.csv").open(newline="") as file:
            reader = csv.DictReader(file)
            rows = [row for row, _ in zip(reader, table, strict=False)]
        shown = [
            {key: "" if value is None else str(value) for key, value in row.items()}
            for row in table
        ]
        assert rows == shown
        assert reader.fieldnames == [column.name for column in columns]


def page_queries() -> list[str]:
    """The queries that the page on tables shows."""
    text = (ROOT / "docs" / "tables.md").read_text()
    return [part.partition("```")[0] for part in text.split("```sql\n")[1:]]


def test_the_pages_queries_answer(tables: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Growth of leaks per place, lifetimes, and the ten worst places."""
    duckdb = pytest.importorskip("duckdb")
    monkeypatch.chdir(tables.parent)
    with duckdb.connect() as connection:
        growth, lifetimes, worst = [connection.sql(text).fetchall() for text in page_queries()]
        ((count,),) = connection.sql("select count(*) from 'tables/events.parquet'").fetchall()

    assert count >= EVENTS
    assert sum(row[-1] for row in growth) == 7
    assert {row[2] for row in growth} == {"keep"}
    assert {row[0]: row[1] for row in lifetimes} == {
        "churn": (EVENTS - 14) // 2,
        "keep": 7,
    }
    assert [(row[1], row[2]) for row in worst] == [("keep", 7)]


def test_a_folder_that_exists_is_left_alone(safehandle: Safehandle, tables: Path) -> None:
    done = safehandle("export", "--format", "parquet", "--output", "tables")
    assert done.returncode == 2
    assert done.stderr == "Error: tables exists: name a folder that does not\n"


def test_no_pyarrow_is_a_sentence(safehandle: Safehandle, folder: Path) -> None:
    program = (
        "import sys; sys.modules['pyarrow'] = None\n"
        "from safehandle_debug.cli import main; main(sys.argv[1:])"
    )
    done = run(
        [sys.executable, "-c", program, "export", "--format", "parquet", "--output", "none"],
        cwd=folder,
        env={"SAFEHANDLE_DEBUG_DIR": str(folder / "s")},
    )
    assert done.returncode == 2
    assert "pyarrow is not installed: pip install 'safehandle-debug[export]'" in done.stderr
    assert not (folder / "none").exists()


def test_the_page_names_every_column() -> None:
    text = (ROOT / "docs" / "tables.md").read_text()
    for name, columns in TABLES.items():
        section = text.partition(f"### {name}\n")[2].partition("\n### ")[0]
        rows = [f"| `{each.name}` | {each.type} | {each.meaning} |" for each in columns]
        assert [line for line in section.splitlines() if line.startswith("| `")] == rows
