"""The file of a recording, mapped read-only, and its blocks.

All trust in the file's content ends here: offsets and sizes are checked
before they are used, so that the floors above can meet wrong facts in a
damaged file, but never an error of their own.
"""

from __future__ import annotations

import errno
import mmap
import os
import stat
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from safehandle_debug.errors import RecordingError
from safehandle_debug.recording import format as shd
from safehandle_debug.recording.format import BlockType, Header

_HEAD = struct.Struct("=IIIIQI")  # the block head without what is reserved
_U32 = struct.Struct("=I")
_U64 = struct.Struct("=Q")
_GENERATION_OFFSET = 4
_LIVE_BYTES = shd.LIVE_A_BLOCK * shd.LIVE.size
_ROOM = shd.BLOCK_SIZE - shd.BLOCK_HEAD_SIZE
_EVENT_TYPES = (int(BlockType.EVENTS), int(BlockType.PINNED))
_HEADER_TRIES = 8
_SWAPPED_MARK = int.from_bytes(shd.BYTE_ORDER_MARK.to_bytes(4, "little"), "big")


class Block(NamedTuple):
    """A block's head, as read at one moment."""

    number: int
    type: int
    generation: int
    committed: int  # EVENTS, PINNED: records; others: bytes
    thread: int
    first_seq: int
    first_slot: int

    @property
    def start(self) -> int:
        """File offset of what follows the head."""
        return _start(self.number)


def _start(number: int) -> int:
    return shd.HEADER_SIZE + number * shd.BLOCK_SIZE + shd.BLOCK_HEAD_SIZE


class Mapping:
    """A recording's bytes; grows with the file at `refresh`."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        """Raises RecordingError with one sentence."""
        self.path = Path(path)
        self._map, self._file = _mapped(self.path)
        try:
            self._check_identity()
            self.header = self._read_header()
            self.refresh()
            for block in self.blocks():
                self._check(block)
        except BaseException:
            self.close()
            raise

    @property
    def closed(self) -> bool:
        return self._map.closed

    def close(self) -> None:
        self._map.close()

    def release(self) -> None:
        """Gives the pages back that were read; they are the file's."""
        if hasattr(mmap, "MADV_DONTNEED"):
            self._map.madvise(mmap.MADV_DONTNEED)

    def refresh(self) -> bool:
        """Reads the header anew, and maps what the file has grown by.

        Returns True when the header changed, its second anchor apart."""
        if self.closed:
            raise RecordingError(f"{self.path} has been closed")
        self._check_size()
        before, self.header = self.header, self._read_header()
        needed = shd.HEADER_SIZE + self.header.blocks * shd.BLOCK_SIZE
        if needed > len(self._map):
            size = self._map.size()
            if needed > size:
                left = (size - shd.HEADER_SIZE) // shd.BLOCK_SIZE
                raise RecordingError(
                    f"{self.path} is truncated: {left} of {self.header.blocks} blocks are left"
                )
            grown, file = _mapped(self.path)
            if file != self._file:
                grown.close()
                raise RecordingError(f"{self.path} has been replaced while it was read")
            # Not closed: a screen may be reading a text from the old one.
            self._map = grown
        return _without_anchor(before) != _without_anchor(self.header)

    def is_behind(self) -> bool:
        """True when refresh() would find another header."""
        self._check_size()
        return _without_anchor(self._read_header()) != _without_anchor(self.header)

    # --- blocks ---

    def block(self, number: int) -> Block:
        """The head of block `number`, which must be below header.blocks."""
        head = _HEAD.unpack_from(self._map, _start(number) - shd.BLOCK_HEAD_SIZE)
        return Block(number, *head)

    def blocks(self, *types: int) -> Iterator[Block]:
        """The heads of all blocks (of the given types), by number."""
        self._check_size()
        unpack = _HEAD.unpack_from
        data = self._map
        at = shd.HEADER_SIZE
        for number in range(self.header.blocks):
            head = unpack(data, at)
            at += shd.BLOCK_SIZE
            if not types or head[0] in types:
                yield Block(number, *head)

    def event_blocks(self) -> list[Block]:
        """EVENTS and PINNED blocks with records, by their first seq."""
        found = [block for _, _, block in self.unread({})]
        found.sort(key=lambda block: block.first_seq)
        return found

    def unread(self, read: dict[int, tuple[int, int]]) -> Iterator[tuple[int, int, Block]]:
        """(seq of the first unread record, its number, block) of the blocks
        of events with more records than `read` says: block number ->
        (generation, records)."""
        self._check_size()
        unpack = _HEAD.unpack_from
        data = self._map
        at = shd.HEADER_SIZE - shd.BLOCK_SIZE
        nothing = (0, 0)
        for number in range(self.header.blocks):
            at += shd.BLOCK_SIZE
            head = unpack(data, at)
            type, generation, committed = head[:3]
            if type not in _EVENT_TYPES or not committed or generation & 1:
                continue
            known, records = read.get(number, nothing)
            if known != generation:
                records = 0
            if records >= committed:
                continue
            block = Block(number, *head)
            if committed > shd.EVENTS_A_BLOCK:
                self._check(block)
                continue
            block = block._replace(first_seq=self.seq(block, 0))
            yield self.seq(block, records), records, block

    def seq(self, block: Block, number: int) -> int:
        """The seq of record `number` of an event block."""
        seq: int = _U64.unpack_from(self._map, block.start + number * shd.EVENT.size)[0]
        return seq

    def ticks(self, block: Block, number: int) -> int:
        """The time of record `number` of an event block."""
        at = block.start + number * shd.EVENT.size + _U64.size
        ticks: int = _U64.unpack_from(self._map, at)[0]
        return ticks

    def records(self, block: Block, first: int = 0) -> bytes:
        """The committed records of an event block from number `first` on;
        b"" when the block has been recycled since its head was read."""
        self._check_size()
        size = shd.EVENT.size
        data = self._map[block.start + first * size : block.start + block.committed * size]
        at = block.start - shd.BLOCK_HEAD_SIZE + _GENERATION_OFFSET
        return data if _U32.unpack_from(self._map, at)[0] == block.generation else b""

    def slots(self, block: Block) -> bytes:
        """The slots of a LIVE block, as they are at this moment."""
        self._check_size()
        return self._map[block.start : block.start + _LIVE_BYTES]

    def live_blocks(self) -> tuple[mmap.mmap, list[int]]:
        """The file, and where in it the slots of each LIVE block begin."""
        starts = [block.start for block in self.blocks(BlockType.LIVE)]
        return self._map, starts

    def slot(self, block: Block, number: int) -> bytes:
        """Slot `number` of a LIVE block."""
        at = block.start + number * shd.LIVE.size
        return self._map[at : at + shd.LIVE.size]

    def node(self, id: int) -> tuple[int, int, int, int] | None:
        """The stack node (parent, code, lasti, depth); None: no such id."""
        offset = id * shd.STACK_NODE.size
        if self._limit(offset, BlockType.STACKS) < shd.STACK_NODE.size:
            return None
        parent, code, lasti, depth = shd.STACK_NODE.unpack_from(self._map, offset)
        return parent, code, lasti, depth

    def data(self, id: int, type: int) -> bytes | None:
        """The payload of a DATA record of that type; None: no such id."""
        offset = id * 8
        room = self._limit(offset, BlockType.DATA) - shd.DATA_HEAD.size
        if room < 0:
            return None
        size, found, _ = shd.DATA_HEAD.unpack_from(self._map, offset)
        if found != type or size > room:
            return None
        at = offset + shd.DATA_HEAD.size
        return self._map[at : at + size]

    def _limit(self, offset: int, type: BlockType) -> int:
        """Committed bytes from a file offset on; negative: not inside a
        block of that type."""
        number = (offset - shd.HEADER_SIZE) // shd.BLOCK_SIZE
        if number < 0:
            return -1
        self._check_size()
        if number >= self.header.blocks:
            self.refresh()
            if number >= self.header.blocks:
                return -1
        block = self.block(number)
        if block.type != type or offset < block.start:
            return -1
        return block.start + min(block.committed, _ROOM) - offset

    # --- checks ---

    def _check_size(self) -> None:
        """Raises when the file has been cut off below what is mapped of it.

        To read a mapping beyond the end of its file is SIGBUS, a fatal signal
        and no error, so this is asked before each stretch that is read."""
        size = self._map.size()
        if size < len(self._map):
            raise RecordingError(
                f"{self.path} has been truncated while it was read: {size:,} of"
                f" {len(self._map):,} bytes are left"
            )

    def _check(self, block: Block) -> None:
        """Raises when a head says what no writer writes."""
        events = block.type in (BlockType.EVENTS, BlockType.PINNED)
        if block.type > max(BlockType):
            what = f"has the unknown type {block.type}"
        elif block.committed > (shd.EVENTS_A_BLOCK if events else _ROOM):
            what = "claims more than fits into it"
        else:
            return
        if block.generation & 1 or block != self.block(block.number):
            return  # it is just being recycled
        raise RecordingError(f"{self.path} is corrupt: block {block.number} {what}")

    def _check_identity(self) -> None:
        magic, version, mark = struct.unpack_from("=8sII", self._map, 0)
        if not any(magic):
            raise RecordingError(
                f"{self.path} has not begun: its process is just starting, or died as it did"
            )
        if magic != shd.MAGIC:
            raise RecordingError(f"{self.path} is not a recording of safehandle-debug")
        if mark == _SWAPPED_MARK:
            raise RecordingError(
                f"{self.path} was written on a machine of the other byte order: read it there"
            )
        if mark != shd.BYTE_ORDER_MARK or version == 0:
            raise RecordingError(f"{self.path} is corrupt: its header makes no sense")
        if version > shd.VERSION:
            raise RecordingError(
                f"{self.path} was written by a newer safehandle-debug (format {version}, "
                f"this one reads up to {shd.VERSION}): upgrade to read it"
            )

    def _read_header(self) -> Header:
        """The header; while its second anchor changes, once more."""
        for _ in range(_HEADER_TRIES):
            header = Header._make(shd.HEADER.unpack_from(self._map, 0))
            again = Header._make(shd.HEADER.unpack_from(self._map, 0))
            if again.second_version == header.second_version and not header.second_version & 1:
                break
        if (
            header.header_size != shd.HEADER_SIZE
            or header.block_size != shd.BLOCK_SIZE
            or header.ended > max(shd.Ended)
            or header.level > max(shd.Level)
        ):
            raise RecordingError(f"{self.path} is corrupt: its header makes no sense")
        return header


def _without_anchor(header: Header) -> tuple[object, ...]:
    """What tells whether anything happened: the anchor is renewed anyway."""
    return header[:20] + header[24:]


def _mapped(path: Path) -> tuple[mmap.mmap, tuple[int, int]]:
    """A file's bytes, and what tells it from others (device, inode).

    Raises RecordingError."""
    fd = _open(path)
    try:
        status = _checked(fd, path)
        # The mapping keeps a descriptor of its own: one for each recording.
        content = mmap.mmap(fd, status.st_size, prot=mmap.PROT_READ)
    except (OSError, ValueError) as error:
        if isinstance(error, RecordingError):
            raise
        raise RecordingError(f"{path} cannot be mapped: {error}") from error
    finally:
        os.close(fd)
    return content, (status.st_dev, status.st_ino)


def _open(path: Path) -> int:
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
    try:
        return os.open(path, flags)
    except FileNotFoundError as error:
        raise RecordingError(f"there is no recording {path}") from error
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise RecordingError(
                f"{path} is a symbolic link: name the recording itself"
            ) from error
        raise RecordingError(f"{path} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise RecordingError(f"{str(path)!r} cannot be the name of a recording") from error


def _checked(fd: int, path: Path) -> os.stat_result:
    status = os.fstat(fd)
    if not stat.S_ISREG(status.st_mode):
        raise RecordingError(f"{path} is not a file")
    if status.st_size == 0:
        raise RecordingError(f"{path} is empty: its process recorded nothing")
    if status.st_size < shd.HEADER_SIZE:
        if not _begins_like_one(fd):
            raise RecordingError(f"{path} is not a recording of safehandle-debug")
        raise RecordingError(f"{path} is truncated: not even its header is left")
    return status


def _begins_like_one(fd: int) -> bool:
    start = os.pread(fd, len(shd.MAGIC), 0)
    return shd.MAGIC.startswith(start)
