"""What a reader keeps of a recording's events; see `_index/index.h`."""

from collections.abc import Callable, Iterable, Set
from typing import Final, final

# seq, serial, stack, type, kind, ending, flags of an event.
_Row = tuple[int, int, int, int, int, int, int]
# type, stack, flags of the acquire of the handle that it ends; None: not known.
_Acquired = tuple[int, int, int] | None
_Notable = Callable[[_Row, _Acquired], object]
# stack, type, opened, closed, finalized, importing, first, newest, last close
# (ticks), stack of that, births of all, births of the survivors, lifetimes
# (packed u32), survivors, birth of the oldest of them (ticks).
_Place = tuple[int, int, int, int, int, int, int, int, int, int, bytes, bytes, bytes, int, int]

BUCKETS: Final[int]
LIFETIMES: Final[int]

@final
class Index:
    def __new__(
        cls,
        inherited_serials: int = 0,
        start_ticks: int = 0,
        bucket_ticks: int = 1,
        # (stack of a close, type of the handle): may it be worth telling?
        question: Callable[[int, int], object] | None = None,
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
    def open(self) -> bytes: ...
    def before(self, seq: int, /) -> int: ...
    def restored(self, seq: int, /) -> Index: ...
    def alarms(self) -> bytes: ...
