"""Buffered data of files that nobody closed.

Wrong: `Report` never closes its file and dies in a reference cycle with its
last line still buffered.  With the built-in `open()` the line is lost, every
time: the collector finalizes the file's layers in no useful order, and the
lowest one is closed before the upper ones have written.  A `FileStream` over a
handle loses nothing: the handle is finalized after all of them.

Look for: 0 lines from `open()`, all lines from `FileStream`, and one
`abandoned` that counts the streams: the data arrived, but nobody closed them.
Descriptors of `open()` are not handles, so nothing is said of them.
"""

from __future__ import annotations

import gc
import os
import pathlib
import tempfile
from collections.abc import Callable
from typing import TextIO

from safehandle_debug import FileStream, SafeFileHandle

ROUNDS = 50
LINE = "the last line\n"

Opener = Callable[[pathlib.Path], TextIO]


class Report:
    """A text file and the section that is being written, which knows its report."""

    def __init__(self, path: pathlib.Path, opener: Opener) -> None:
        self.file = opener(path)
        self.section = Section(self)


class Section:
    """A part of a report."""

    def __init__(self, report: Report) -> None:
        self.report = report

    def end(self) -> None:
        self.report.file.write(LINE)


def by_open(path: pathlib.Path) -> TextIO:
    return open(path, "w", encoding="utf-8")


def by_stream(path: pathlib.Path) -> TextIO:
    handle = SafeFileHandle.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    return FileStream(handle).text("utf-8")


def survivors(folder: pathlib.Path, opener: Opener) -> int:
    """Number of files that have their last line when their reports are garbage."""
    paths = [folder / f"{opener.__name__}-{number}" for number in range(ROUNDS)]
    for path in paths:
        Report(path, opener).section.end()
        gc.collect()
    return sum(path.read_text("utf-8") == LINE for path in paths)


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        for opener in (by_open, by_stream):
            found = survivors(pathlib.Path(name), opener)
            print(f"{opener.__name__}: {found} of {ROUNDS} lines")


if __name__ == "__main__":
    main()
