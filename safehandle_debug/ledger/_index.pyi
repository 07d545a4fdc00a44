"""What a reader keeps of a recording's events; see `_index/index.h`."""

from collections.abc import Callable, Iterable, Sequence, Set
from mmap import mmap
from typing import Any, Final, final

# seq, serial, stack, type, kind, ending, flags of an event.
_Row = tuple[int, int, int, int, int, int, int]
# type, stack, flags of the acquire of the handle that it ends; None: not known.
_Acquired = tuple[int, int, int] | None
_Notable = Callable[[_Row, _Acquired], object]
# stack, type, opened, closed, finalized, importing, first, newest, last close
# (ticks), stack of that, births of all, births of the survivors, lifetimes
# (packed u32).
_Place = tuple[int, int, int, int, int, int, int, int, int, int, bytes, bytes, bytes]

# (number of the Handles, ids, count, oldest birth, newest, serial of the newest,
# least value, greatest, births by part of the span).
_Group = tuple[int, tuple[int, ...], int, int, int, int, int, int, tuple[int, ...]]

BUCKETS: Final[int]
LIFETIMES: Final[int]

# Columns of ids.
NONE: Final[int]
STACK: Final[int]
TYPE: Final[int]
THREAD: Final[int]
TASK: Final[int]
TEST: Final[int]
DETAIL: Final[int]
STATE: Final[int]  # life | ending << 8 | problem << 16 | flags << 24
NUMBER: Final[int]  # 32 bits of the value

# Numbers that are compared and sorted by.
SERIAL: Final[int]
VALUE: Final[int]
REFS: Final[int]
AGE: Final[int]
BIRTH: Final[int]
PID: Final[int]

def copied(file: mmap | bytes, starts: list[int], known: list[Slots], /) -> list[Slots]: ...

@final
class Slots:
    def __new__(cls, packed: bytes) -> Slots: ...
    def __len__(self) -> int: ...
    def packed(self) -> bytes: ...

@final
class Index:
    def __new__(
        cls,
        inherited_serials: int = 0,
        start_ticks: int = 0,
        bucket_ticks: int = 1,
        # (stack of a close, type of the handle): may it be worth telling?
        question: Callable[[int, int], object] | None = None,
        most_ended: int = 0,
    ) -> Index: ...
    @property
    def events(self) -> int: ...
    @property
    def open_count(self) -> int: ...
    def take(self, chunks: Iterable[tuple[int, bytes]], notable: _Notable | None, /) -> int: ...
    def settle(self, notable: _Notable, /) -> None: ...
    def prune(self, live: Set[int], /) -> None: ...
    def places(self) -> list[_Place]: ...
    def span(self) -> tuple[int, int, bytes]: ...
    def open(self) -> Slots: ...
    def before(self, seq: int, /) -> int: ...
    def restored(self, seq: int, most_ended: int = 0, /) -> Index: ...
    def ended(self, left: bool = False, /) -> tuple[bytes, bytes]: ...
    def stretches(self, serial: int, until: int, /) -> list[tuple[int, int]]: ...
    def alarms(self) -> bytes: ...

@final
class Question:
    def __new__(cls, callable: Callable[[int, int], int]) -> Question: ...

@final
class Handles:
    def __new__(
        cls,
        # (live slots, packed u64 of the ticks of the closes or None, state of all)
        parts: Sequence[tuple[Slots | bytes, bytes | None, int]],
        inherited: int = 0,
        pid: int = 0,
        clock: tuple[int, int, float] = (0, 0, 1.0),  # ticks, ns then, ns a tick
        problems: dict[int, int] = ...,  # serial -> number
        until: int = 0,  # ns
    ) -> Handles: ...
    def count(self, without: int = 0, /) -> int: ...
    def among(self, serials: Iterable[int], /) -> list[bytes]: ...

@final
class Selection:
    def __new__(cls, handles: tuple[Handles, ...]) -> Selection: ...
    def __len__(self) -> int: ...
    # (number of the Handles, packed slot, ns of the close or 0, state)
    def __getitem__(self, at: int, /) -> tuple[int, bytes, int, int]: ...
    def where(self, tests: list[Any], now_ns: int, /) -> Selection: ...
    def sorted(self, keys: list[Any], descending: bool, now_ns: int, /) -> Selection: ...
    def find(self, process: int, serial: int, /) -> int: ...
    def numbers(self, number: int, now_ns: int = 0, /) -> bytes: ...
    def groups(
        self, columns: tuple[int, ...], start_ns: int = 0, span_ns: int = 1, buckets: int = 1, /
    ) -> list[_Group]: ...
