"""Recordings as tables, and as a trace for Perfetto, written in bounded memory.

- `schema`    the tables and what their columns mean
- `tables`    their rows, in batches, from recordings of any size
- `files`     the batches as Parquet (pyarrow) or CSV
- `perfetto`  the handles as a trace
- `packets`   the format of traces
"""

from safehandle_debug.exports.files import ExportError as ExportError
from safehandle_debug.exports.files import write_tables as write_tables
from safehandle_debug.exports.perfetto import write_perfetto as write_perfetto
from safehandle_debug.exports.schema import TABLES as TABLES

__all__ = ["TABLES", "ExportError", "write_perfetto", "write_tables"]
