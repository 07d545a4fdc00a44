"""A number that is used after it was closed.

Wrong: `Journal.write` keeps the number of a file that `Journal.rotate` has
closed.  The kernel gives a closed number to the next who asks; here that is
the file of the customer's orders, and the line would land in it.

No SafeHandle is in sight: this is plain `os` and `open`.

Look for: one `recycled`, with the line that wrote, the one that closed, and
the victim: what would have been hit, had the number not been kept unused.
"""

from __future__ import annotations

import os
import pathlib
import tempfile


class Journal:
    """Lines in a file, by its bare number."""

    def __init__(self, path: pathlib.Path) -> None:
        self.number = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def rotate(self) -> None:
        os.close(self.number)

    def write(self, line: str) -> None:
        os.write(self.number, line.encode())


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        journal = Journal(folder / "journal.log")
        journal.rotate()
        with open(folder / "orders.csv", "w") as orders:
            try:
                journal.write("started\n")
            except OSError as error:
                print("not written:", error.strerror)
            orders.write("1 piano\n")
        print((folder / "orders.csv").read_text(), end="")


if __name__ == "__main__":
    main()
