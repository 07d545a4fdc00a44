"""Shows one target without a terminal, for benchmarks/tui.py.

    python tui_viewer.py TARGET SECONDS

Says "seen" on descriptor 3 when there has been something to be seen for a
second, then its share of a core, its views a second, its memory in MB, and by
how much that has grown but for what is the file's.  SECONDS 0: it ends with the first screen.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import safehandle_tui
from safehandle_tui.watch import WatchApp

SECONDS = float(sys.argv[2])


def memory_mb() -> tuple[float, float]:
    """What is resident of this process, and what of that is its own, not of files."""
    resident, shared = map(int, Path("/proc/self/statm").read_text().split()[1:3])
    size = os.sysconf("SC_PAGE_SIZE") / 1e6
    return resident * size, (resident - shared) * size


class Viewer(WatchApp):
    """The screen as it is, counted."""

    CSS_PATH = str(Path(safehandle_tui.__file__).with_name("app.tcss"))
    views = 0
    is_first = True

    def on_watch_app_new_view(self, message: WatchApp.NewView) -> None:
        super().on_watch_app_new_view(message)
        self.views += 1
        if self.is_first and message.view.rows:
            self.is_first = False
            if SECONDS:
                self.set_timer(1, self.begin)
            else:
                self.call_after_refresh(self.exit, 0)

    def begin(self) -> None:
        """Everything is in place."""
        os.write(3, b"seen\n")
        self.views, self.spent, self.began = 0, time.process_time(), time.monotonic()
        self.own = memory_mb()[1]
        self.set_timer(SECONDS, self.finish)

    def finish(self) -> None:
        """Tells what it cost."""
        passed = time.monotonic() - self.began
        share = (time.process_time() - self.spent) / passed
        memory, own = memory_mb()
        grown = own - self.own
        os.write(3, f"{share} {self.views / passed} {memory} {grown}\n".encode())
        self.exit(0)


if __name__ == "__main__":
    sys.exit(Viewer([sys.argv[1]]).run(headless=True, size=(120, 36)) != 0)
