"""An export takes as much memory for a large recording as for a small one."""

from __future__ import annotations

import io
import sys
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest
from support_house import run

from safehandle_debug.exports import tables, write_perfetto, write_tables
from safehandle_debug.ledger import Ledger
from safehandle_debug.recording import open_recording

FEW, MANY = 10_000, 80_000  # events
BATCH = 2048  # rows; the few are several batches

PROGRAM = """
import sys
from safehandle_debug import SafeFileHandle

for _ in range(int(sys.argv[1])):
    with SafeFileHandle.open("/dev/zero"):
        pass
"""

Write = Callable[[Ledger, Path], None]


class Nowhere(io.RawIOBase):
    """Counts what is written to it, and keeps nothing."""

    size = 0

    def writable(self) -> bool:
        return True

    def write(self, data: object) -> int:
        length = len(data)  # type: ignore[arg-type]
        self.size += length
        return length


def perfetto(ledger: Ledger, folder: Path) -> None:
    nowhere = Nowhere()
    write_perfetto([ledger], nowhere)  # type: ignore[arg-type]
    assert nowhere.size > ledger.process.events * 20


def csv(ledger: Ledger, folder: Path) -> None:
    folder.mkdir()
    write_tables([ledger], folder, "csv")


def parquet(ledger: Ledger, folder: Path) -> None:
    pytest.importorskip("pyarrow.parquet")
    folder.mkdir()
    write_tables([ledger], folder, "parquet")


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """Recordings of a small and a large number of events."""
    found = {}
    for number in (FEW, MANY):
        folder = tmp_path_factory.mktemp("memory")
        (folder / "app.py").write_text(PROGRAM)
        env = {
            "SAFEHANDLE_DEBUG": "full,fds=off,size=64M",
            "SAFEHANDLE_DEBUG_DIR": str(folder / "s"),
        }
        done = run([sys.executable, "app.py", str(number // 2)], cwd=folder, env=env)
        assert done.returncode == 0, done.stderr
        (found[number],) = (folder / "s").glob("*/*.shd")
    return found


@pytest.mark.parametrize("write", [perfetto, csv, parquet])
def test_memory_does_not_grow_with_the_recording(
    recordings: dict[int, Path],
    write: Write,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(tables, "BATCH", BATCH)
    peaks = {}
    for number in (FEW, FEW, MANY):  # the first loads what is loaded once
        with Ledger(open_recording(recordings[number])) as ledger:
            ledger.refresh()
            assert ledger.process.events == number
            tracemalloc.start()
            try:
                write(ledger, tmp_path / str(len(list(tmp_path.iterdir()))))
                _, peaks[number] = tracemalloc.get_traced_memory()
            finally:
                tracemalloc.stop()

    assert peaks[MANY] < 1.5 * peaks[FEW], peaks
