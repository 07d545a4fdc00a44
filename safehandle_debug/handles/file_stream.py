"""FileStream: files, pipes and sockets as Python streams, over a handle.

Streams stand on each other: text on a buffer, a buffer on a FileStream, that
on a handle.  When a collection finds all of them at once, finalizers run in no
useful order; a lower one that closes takes away what an upper one has still to
write.  That is how `open()` loses buffered data.  Here

- the FileStream has no finalizer: its handle has, and runs after all ordinary
  ones;
- the buffers of `buffered()` flush when they are finalized, and close nothing;
- so the text of `text()`, or whatever else stands on top, finds all that it
  needs, whenever its turn comes.

Finalizers run until the very end of the interpreter, when the globals of
modules are gone: what writing needs is bound to the classes.
"""

from __future__ import annotations

import errno
import fcntl
import io
import os
import stat
import sys
from typing import TYPE_CHECKING, Any, ClassVar, Self

from safehandle_debug import HandleClosedError, NullHandleError, SafeFileHandle, SafeHandle

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer, StrOrBytesPath, WriteableBuffer

    from safehandle_debug import Hold

__all__ = ["FileStream"]

_CREATION_FLAGS = {
    "r": 0,
    "w": os.O_CREAT | os.O_TRUNC,
    "a": os.O_CREAT | os.O_APPEND,
    "x": os.O_CREAT | os.O_EXCL,
}


def _parse(mode: str) -> tuple[str, bool]:
    """("r", "w", "a" or "x", whether there is a "+"); ValueError for other modes."""
    letters = mode.replace("b", "", 1)
    letter = letters.replace("+", "", 1)
    if letter not in _CREATION_FLAGS:
        raise ValueError(
            f"mode must be 'r', 'w', 'a' or 'x', with '+' for both ways, not {mode!r}; "
            "a stream is binary, text() is not"
        )
    return letter, letter != letters


def _written(letter: str, plus: bool) -> str:
    """The mode as `io.FileIO` writes it."""
    if plus and letter == "w" and sys.version_info < (3, 15):
        letter = "r"
    return f"{letter}b+" if plus else f"{letter}b"


def _mode_of(flags: int) -> str:
    """The mode of an open descriptor, from its status flags."""
    access = flags & os.O_ACCMODE
    if access == os.O_RDONLY:
        return "rb"
    both = access == os.O_RDWR
    return _written("a" if flags & os.O_APPEND else "r" if both else "w", both)


class FileStream(io.RawIOBase):
    """An unbuffered binary stream over a SafeFileHandle, a SafePipeHandle or
    any other handle of a descriptor.

    Each call holds a reference: closing the handle from another thread takes
    effect when the call is over.  After that, use raises HandleClosedError (a
    ValueError), and `close()` is silent.

    Args:
        handle: stays the one owner of the descriptor.
        mode: as of `io.FileIO`; by default what the descriptor was opened for.
        close_handle: `close()` closes the handle too.
        name: the attribute `name`; by default the number of the descriptor.

    Raises TypeError when it is no handle of a descriptor, HandleClosedError
    when it is closed, IsADirectoryError, ValueError for a wrong mode.
    """

    _os_fstat = staticmethod(os.fstat)
    _os_lseek = staticmethod(os.lseek)
    _os_write = staticmethod(os.write)

    def __init__(
        self,
        handle: SafeHandle,
        mode: str | None = None,
        *,
        close_handle: bool = True,
        name: str | bytes | int | None = None,
    ) -> None:
        super().__init__()
        if handle is None:
            raise NullHandleError("a FileStream needs a handle, not None")
        if not isinstance(handle, SafeHandle) or handle.handle_space != "fd":
            raise TypeError(
                f"a FileStream needs a handle of a descriptor, not {type(handle).__name__}; "
                "for a path: FileStream.open(path, mode)"
            )
        with handle.hold() as fd:
            if stat.S_ISDIR(os.fstat(fd).st_mode):
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), name)
            letter, plus = _parse(mode or _mode_of(fcntl.fcntl(fd, fcntl.F_GETFL)))
            self._name: str | bytes | int = fd if name is None else name
        self._handle = handle
        self._close_handle = close_handle
        self._readable = letter == "r" or plus
        self._writable = letter != "r" or plus
        self._mode = _written(letter, plus)
        self._seekable: bool | None = None
        self._has_refused_data = False  # since its handle was closed
        self._finalizing = False
        if letter == "a" and self.seekable():
            self.seek(0, os.SEEK_END)

    @classmethod
    def open(cls, path: StrOrBytesPath, mode: str = "rb") -> Self:
        """Opens a file by its path. Raises as the built-in `open()` does."""
        letter, plus = _parse(mode)
        access = os.O_RDWR if plus else os.O_RDONLY if letter == "r" else os.O_WRONLY
        handle = SafeFileHandle.open(path, access | _CREATION_FLAGS[letter] | os.O_CLOEXEC)
        try:
            return cls(handle, mode, name=os.fspath(path))
        except BaseException:
            handle.close()
            raise

    def __del__(self) -> None:
        """Nothing: without this, io would close the stream under those who stand on it."""

    # --- what stands on it ---

    def buffered(
        self, buffer_size: int = io.DEFAULT_BUFFER_SIZE
    ) -> io.BufferedReader | io.BufferedWriter | io.BufferedRandom:
        """A buffer over this stream, of the class that its mode asks for.

        When it is dropped without close, it writes what it holds, also as part
        of a cycle and also under an `io.TextIOWrapper`."""
        if not self._writable:
            return _Reader(self, buffer_size)
        return _Random(self, buffer_size) if self._readable else _Writer(self, buffer_size)

    def text(
        self,
        encoding: str | None = None,
        errors: str | None = None,
        newline: str | None = None,
        *,
        buffer_size: int = io.DEFAULT_BUFFER_SIZE,
    ) -> io.TextIOWrapper:
        """Text over a buffer over this stream; arguments as of `open()`.

        When it is dropped without close, it writes what it holds, also as part
        of a cycle."""
        return io.TextIOWrapper(
            self.buffered(buffer_size),
            io.text_encoding(encoding),
            errors,
            newline,
            line_buffering=self.isatty(),
        )

    # --- what it is ---

    @property
    def handle(self) -> SafeHandle:
        """The handle that owns the descriptor."""
        return self._handle

    @property
    def name(self) -> str | bytes | int:
        """The path that it was opened with, or the number of the descriptor."""
        return self._name

    @property
    def mode(self) -> str:
        """In the form of `io.FileIO`: "rb", "wb", "rb+", ..."""
        return self._mode

    def fileno(self) -> int:
        """The descriptor. Raises HandleClosedError when stream or handle is closed."""
        self._check_open()
        with self._handle.hold() as fd:
            return fd

    def isatty(self) -> bool:
        with self._use() as fd:
            return os.isatty(fd)

    def readable(self) -> bool:
        self._check_open()
        return self._readable

    def writable(self) -> bool:
        self._check_open()
        return self._writable

    def seekable(self) -> bool:
        if self._seekable is None:
            with self._use() as fd:
                try:
                    self._os_lseek(fd, 0, os.SEEK_CUR)
                except OSError:
                    self._seekable = False
                else:
                    self._seekable = True
        self._check_open()
        return self._seekable

    def __repr__(self) -> str:
        state = " closed" if self.closed else ""
        return f"<FileStream name={self._name!r} mode={self._mode!r}{state} {self._handle!r}>"

    def __reduce_ex__(self, protocol: Any) -> Any:
        raise TypeError(f"cannot copy or pickle {type(self).__name__}: a handle has one owner")

    # --- what it does ---

    def readinto(self, buffer: WriteableBuffer, /) -> int | None:
        """Bytes read, 0 at the end, None when it would block."""
        with self._use(reading=True) as fd:
            try:
                return os.readv(fd, [buffer])
            except BlockingIOError:
                return None

    def readall(self) -> bytes:
        """All until the end; what there is when it would block."""
        chunks: list[bytes] = []
        with self._use(reading=True) as fd:
            size = self._rest(fd)
            while True:
                try:
                    chunk = os.read(fd, size)
                except BlockingIOError:
                    # None, where there is nothing at all, is what io expects.
                    return b"".join(chunks) if chunks else None  # type: ignore[return-value]
                if not chunk:
                    return b"".join(chunks)
                chunks.append(chunk)
                size = max(io.DEFAULT_BUFFER_SIZE, min(2 * size, 1 << 20))

    def write(self, data: ReadableBuffer, /) -> int | None:
        """Bytes written, maybe fewer than given; None when it would block."""
        try:
            use = self._use(writing=True)
        except HandleClosedError:
            self._has_refused_data = True
            raise
        with use as fd:
            try:
                return self._os_write(fd, data)
            except BlockingIOError:
                return None

    def seek(self, offset: int, whence: int = 0, /) -> int:
        with self._use() as fd:
            return self._os_lseek(fd, offset, whence)

    def tell(self) -> int:
        return self.seek(0, 1)

    def truncate(self, size: int | None = None, /) -> int:
        """Cuts or fills with zeros; the position stays. Returns the size."""
        with self._use(writing=True) as fd:
            if size is None:
                size = self._os_lseek(fd, 0, 1)
            os.ftruncate(fd, size)
            return size

    def close(self) -> None:
        """Closes the stream and, unless close_handle=False, the handle. Again is silent."""
        if self.closed:
            return
        try:
            super().close()
        finally:
            if self._close_handle:
                self._handle.dispose(not self._finalizing)

    def _dealloc_warn(self, source: object) -> None:
        """Called by io's finalizers before they close what the program has not closed:
        the recording says then that it was abandoned."""
        self._finalizing = True

    def _check_open(self) -> None:
        if self.closed:
            raise HandleClosedError(f"the stream {self._name!r} is closed")

    def _use(self, *, reading: bool = False, writing: bool = False) -> Hold:
        """A reference for one operation."""
        self._check_open()
        if reading and not self._readable:
            raise io.UnsupportedOperation("not readable")
        if writing and not self._writable:
            raise io.UnsupportedOperation("not writable")
        return self._handle.hold()

    def _rest(self, fd: int) -> int:
        """Bytes to ask for to have all in one read and the end in the next."""
        try:
            rest = self._os_fstat(fd).st_size - self._os_lseek(fd, 0, 1)
        except OSError:
            rest = 0
        return max(rest, io.DEFAULT_BUFFER_SIZE) + 1


class _Reader(io.BufferedReader):
    """A reader that does not close when it is finalized; it loses nothing."""

    def __del__(self) -> None:
        """Nothing: see FileStream.__del__."""


class _Flushing:
    """The finalizer of buffers that may hold data: it writes them, and closes nothing."""

    # The class of a buffer that has been finalized and is still written to, by
    # the finalizer of somebody else: nobody would flush it again.
    _finalized: ClassVar[type[Any]]

    def __del__(self: Any) -> None:
        try:
            closed = self.closed
        except ValueError:
            return  # detached, or its constructor failed
        if not closed:
            self.flush()
            self.__class__ = self._finalized


class _WritingThrough:
    """Holds nothing back."""

    def write(self: Any, data: ReadableBuffer, /) -> int:
        count: int = super().write(data)  # type: ignore[misc]
        self.flush()
        return count


class _Writer(_Flushing, io.BufferedWriter): ...


class _Random(_Flushing, io.BufferedRandom):
    def close(self) -> None:
        try:
            super().close()
        except HandleClosedError:
            # Before it closes it also moves the stream to where reading stood:
            # nothing is lost when a closed handle refuses only that.
            if self.raw._has_refused_data:  # type: ignore[attr-defined]
                raise


class _FinalizedWriter(_WritingThrough, _Writer): ...


class _FinalizedRandom(_WritingThrough, _Random): ...


_Writer._finalized = _FinalizedWriter
_Random._finalized = _FinalizedRandom
