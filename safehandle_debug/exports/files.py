"""Tables as files: Parquet by pyarrow, CSV by the standard library."""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Protocol, Self

from safehandle_debug.exports.schema import TABLES, Column
from safehandle_debug.exports.tables import Batch, Source
from safehandle_debug.findings import find
from safehandle_debug.ledger import Ledger

__all__ = ["FORMATS", "ExportError", "write_tables"]

# `stacks` has those that the tables before it refer to.
_ORDER: Final = ("processes", "events", "handles", "findings", "stacks")


class ExportError(RuntimeError):
    """Something is missing; the text is one sentence that says what to install."""


class _Writer(Protocol):
    def write(self, batch: Batch) -> None: ...


class _Csv:
    """A header, then rows; empty for null."""

    def __init__(self, path: Path, columns: Sequence[Column]) -> None:
        self._names = [column.name for column in columns]
        self._file = path.with_suffix(".csv").open("w", encoding="utf-8", newline="")
        self._writer = csv.writer(self._file)
        self._writer.writerow(self._names)

    def write(self, batch: Batch) -> None:
        self._writer.writerows(zip(*(batch[name] for name in self._names), strict=True))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._file.close()


class _Parquet:
    """Texts that repeat are stored once."""

    def __init__(self, path: Path, columns: Sequence[Column]) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        types = {"int": pa.int64(), "text": pa.string(), "bool": pa.bool_()}
        self._pa: Any = pa
        self._schema: Any = pa.schema(
            [
                pa.field(each.name, types[each.type], metadata={"meaning": each.meaning})
                for each in columns
            ]
        )
        target = str(path.with_suffix(".parquet"))
        self._writer: Any = pq.ParquetWriter(target, self._schema, compression="zstd")

    def write(self, batch: Batch) -> None:
        self._writer.write_table(self._pa.Table.from_pydict(batch, schema=self._schema))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._writer.close()


_Make = Callable[[Path, Sequence[Column]], AbstractContextManager[_Writer]]
FORMATS: Final[dict[str, _Make]] = {"csv": _Csv, "parquet": _Parquet}


def write_tables(
    ledgers: Sequence[Ledger],
    folder: Path,
    form: str,
    progress: Callable[[int], None] = lambda done: None,
) -> None:
    """Writes all tables into `folder`, a file each.

    Args:
        ledgers: refreshed.
        folder: exists, and is empty.
        form: of FORMATS.
        progress: is told of numbers of events done, each event twice.

    Raises:
        ExportError: pyarrow is not installed, for Parquet.
        OSError: a file cannot be written.
    """
    if form == "parquet":
        _ask_for_pyarrow()
    found = [find(ledger) for ledger in ledgers]
    sources = [Source(ledger, progress) for ledger in ledgers]
    for table in _ORDER:
        with FORMATS[form](folder / table, TABLES[table]) as writer:
            for source, findings in zip(sources, found, strict=True):
                for batch in source.batches(table, findings):
                    writer.write(batch)


def _ask_for_pyarrow() -> None:
    try:
        import pyarrow.parquet  # noqa: F401
    except ImportError as error:
        raise ExportError(
            "pyarrow is not installed: pip install 'safehandle-debug[export]', or take csv"
        ) from error
