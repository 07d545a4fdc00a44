"""Documents that point at their pages, which point back: nobody closes the file.

Wrong: `Document` opens a handle and leaves it to its finalizer.  Document and
pages form a reference cycle, and the program switches the collector off as
batch jobs do, so that the finalizer has no reason to run before the end.

Look for: one `leak`, three times, opened in `Document.__init__`.
"""

from __future__ import annotations

import gc
import os
import tempfile

from safehandle_debug import SafeFileHandle

PAGE_SIZE = 16


class Page:
    """A part of a document; it knows its document to read itself."""

    def __init__(self, document: Document, offset: int) -> None:
        self.document = document
        self.offset = offset

    def text(self) -> bytes:
        with self.document.handle.hold() as fd:
            return os.pread(fd, PAGE_SIZE, self.offset)


class Document:
    """A file cut into pages."""

    def __init__(self, path: str) -> None:
        self.handle = SafeFileHandle.open(path, os.O_RDONLY)
        size = os.fstat(self.handle.fileno()).st_size
        self.pages = [Page(self, offset) for offset in range(0, size, PAGE_SIZE)]

    def words(self) -> int:
        return len(b"".join(page.text() for page in self.pages).split())


def count_words(path: str) -> int:
    return Document(path).words()


def main() -> None:
    gc.disable()
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
        file.write("the quick brown fox jumps over the lazy dog\n" * 3)
        file.flush()
        for _ in range(3):
            print(count_words(file.name), "words")


if __name__ == "__main__":
    main()
