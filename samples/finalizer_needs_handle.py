"""A buffered log whose own finalizer still needs the handle.  Correct.

`Log.__del__` writes what is left in the buffer.  Log and handle die in the
same collection of the cyclic collector, and the handle is finalized after the
log, so the last line arrives.

Look for: no error.  One warning, `abandoned`: the program never closed the
log, its finalizer did.  Nothing is said of the log that was closed.
"""

from __future__ import annotations

import gc
import os
import pathlib
import tempfile

from safehandle_debug import SafeFileHandle

FLAGS = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC


class Log:
    """Lines, buffered; in a cycle with the channel that feeds it."""

    def __init__(self, path: pathlib.Path) -> None:
        self.handle = SafeFileHandle.open(path, FLAGS)
        self.buffer: list[bytes] = []
        self.channel = Channel(self)

    def flush(self) -> None:
        os.write(self.handle.fileno(), b"".join(self.buffer))
        self.buffer.clear()

    def close(self) -> None:
        self.flush()
        self.handle.close()

    def __del__(self) -> None:
        if not self.handle.is_closed:
            self.flush()


class Channel:
    """Where lines for a log come from."""

    def __init__(self, log: Log) -> None:
        self.log = log

    def say(self, line: str) -> None:
        self.log.buffer.append(line.encode() + b"\n")


def closed_log(path: pathlib.Path) -> None:
    log = Log(path)
    log.channel.say("closed with care")
    log.close()


def abandoned_log(path: pathlib.Path) -> None:
    log = Log(path)
    log.channel.say("left to the collector")


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder, "app.log")
        closed_log(path)
        abandoned_log(path)
        gc.collect()
        print(path.read_text(), end="")


if __name__ == "__main__":
    main()
