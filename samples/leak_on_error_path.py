"""A configuration reader that closes its file, unless a line is wrong.

Wrong: `read_settings` raises between `open` and `close`.  The caller keeps the
exception for its summary, the exception keeps the frame, and the frame keeps
the file open.  No SafeHandle is in sight.

Look for: one `leak`, twice, opened in `read_settings`; the good files, opened
by the same line, are not blamed.
"""

from __future__ import annotations

import pathlib
import tempfile

FILES = {
    "good.conf": "host = localhost\nport = 80\n",
    "typo.conf": "host = localhost\nport 80\n",
    "empty.conf": "",
    "half.conf": "host\n",
}


def read_settings(path: pathlib.Path) -> dict[str, str]:
    """Reads `name = value` lines.

    Raises:
        ValueError: a line has no `=`.
    """
    file = open(path, encoding="utf-8")
    settings = {}
    for line in file:
        name, equals, value = line.partition("=")
        if not equals:
            raise ValueError(f"{path.name}: no '=' in {line.strip()!r}")
        settings[name.strip()] = value.strip()
    file.close()
    return settings


def main() -> list[Exception]:
    problems: list[Exception] = []
    with tempfile.TemporaryDirectory() as folder:
        for name, text in FILES.items():
            path = pathlib.Path(folder, name)
            path.write_text(text)
            try:
                print(f"{name}: {len(read_settings(path))} settings")
            except ValueError as error:
                problems.append(error)
    for problem in problems:
        print(problem)
    return problems


if __name__ == "__main__":
    PROBLEMS = main()
