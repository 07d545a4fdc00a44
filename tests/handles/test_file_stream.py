"""FileStream: a raw stream as io expects it, and buffers that lose nothing."""

from __future__ import annotations

import copy
import csv
import gc
import io
import json
import os
import pickle
import pty
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support_handles import refs
from support_programs import Run, recorded, run_program

from safehandle_debug import (
    FileStream,
    HandleClosedError,
    NullHandleError,
    SafeFileHandle,
    SafeHandleMinusOneIsInvalid,
    SafePipeHandle,
    _native,
)

ROUNDS = 50


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., Run]:
    """Runs a program of its own."""
    return lambda source, **options: run_program(source, tmp_path / "program", **options)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "file"


def pipe() -> tuple[FileStream, FileStream]:
    reader, writer = SafePipeHandle.pair()
    return FileStream(reader), FileStream(writer)


# --- as a FileIO ---


@pytest.mark.parametrize(
    "mode", ["r", "rb", "r+", "rb+", "br+", "w", "wb+", "a", "a+b", "x", "x+"]
)
def test_modes_are_those_of_fileio(path: Path, mode: str) -> None:
    """The same attributes, the same file, the same position."""
    seen = []
    for make in (FileStream.open, io.FileIO):
        path.unlink(missing_ok=True)
        if "x" not in mode:
            path.write_bytes(b"content")
        with make(str(path), mode) as stream:  # type: ignore[operator]
            answers = [stream.mode, stream.readable(), stream.writable(), stream.seekable()]
            answers += [stream.tell(), stream.isatty(), stream.closed, stream.name]
            if stream.writable():
                answers.append(stream.write(b"new"))
            if stream.readable():
                stream.seek(0)
                answers.append(stream.read())
            assert not os.get_inheritable(stream.fileno())
        answers += [stream.closed, path.read_bytes()]
        seen.append(answers)
    assert seen[0] == seen[1]


@pytest.mark.parametrize("mode", ["rt", "", "b", "rw", "r++", "rbb", "q", "U", "+"])
def test_modes_that_are_none(path: Path, mode: str) -> None:
    path.write_bytes(b"content")
    live = _native.live_count()
    with pytest.raises(ValueError, match="mode must be"):
        FileStream.open(path, mode)
    assert _native.live_count() == live
    assert path.read_bytes() == b"content"


def test_open_fails_as_open_does(path: Path, tmp_path: Path) -> None:
    with recorded(tmp_path) as told:
        for name, mode, error in [
            (path, "r", FileNotFoundError),
            (tmp_path, "w", IsADirectoryError),
            (tmp_path, "r", IsADirectoryError),
        ]:
            with pytest.raises(error) as caught:
                FileStream.open(name, mode)
            with pytest.raises(error) as expected:
                open(name, mode + "b")  # noqa: SIM115
            assert str(caught.value) == str(expected.value)
        path.touch()
        with pytest.raises(FileExistsError):
            FileStream.open(path, "x")
    (history,) = told[0].handles  # the folder: opened, looked at, closed
    assert history.ending == "closed"


@pytest.mark.parametrize(
    ("flags", "mode"),
    [
        (os.O_RDONLY, "rb"),
        (os.O_WRONLY, "wb"),
        (os.O_RDWR, "rb+"),
        (os.O_WRONLY | os.O_APPEND, "ab"),
        (os.O_RDWR | os.O_APPEND, "ab+"),
    ],
)
def test_the_mode_of_a_handle(path: Path, flags: int, mode: str) -> None:
    """By default what it was opened for; its name is its number."""
    path.write_bytes(b"content")
    with FileStream(SafeFileHandle.open(path, flags)) as stream:
        assert stream.mode == mode
        assert stream.name == stream.fileno() == stream.handle.handle
        assert stream.tell() == (7 if "a" in mode else 0)
        assert stream.readable() == ("r" in mode or "+" in mode)
        assert stream.writable() == (mode != "rb")
        assert repr(stream).startswith(f"<FileStream name={stream.name} mode='{mode}' <")


def test_what_is_no_handle_of_a_descriptor(path: Path) -> None:
    class Other(SafeHandleMinusOneIsInvalid):
        def release_handle(self) -> bool:
            return True

    for wrong in (path, str(path), 0, Other()):
        with pytest.raises(TypeError, match=r"FileStream\.open"):
            FileStream(wrong)  # type: ignore[arg-type]
    with pytest.raises(NullHandleError):
        FileStream(None)  # type: ignore[arg-type]
    closed = SafeFileHandle.memfd("x")
    closed.close()
    with pytest.raises(HandleClosedError):
        FileStream(closed)
    with pytest.raises(OSError, match="Bad file descriptor"):
        FileStream(SafeFileHandle())


def test_reading(path: Path) -> None:
    path.write_bytes(b"0123456789")
    with FileStream.open(path) as stream:
        assert stream.read(3) == b"012"
        target = bytearray(4)
        assert stream.readinto(target) == 4
        assert target == b"3456"
        assert stream.seek(-1, os.SEEK_CUR) == stream.tell() == 6
        assert stream.readall() == stream.read(-1) + b"6789" == b"6789"
        assert stream.read(5) == stream.readall() == b""
        assert stream.readinto(target) == stream.readinto(bytearray()) == 0
        with pytest.raises(io.UnsupportedOperation, match="not writable"):
            stream.write(b"x")
        with pytest.raises(io.UnsupportedOperation, match="not writable"):
            stream.truncate(0)
        with pytest.raises((TypeError, BufferError)):
            stream.readinto(b"read-only")  # type: ignore[arg-type]
        assert refs(stream.handle) == 1  # type: ignore[arg-type]


def test_reading_all_of_what_grows_or_has_no_size() -> None:
    data = os.urandom(300_000)
    with SafeFileHandle.memfd("x") as handle, FileStream(handle) as stream:
        stream.write(data)
        stream.seek(5)
        assert stream.readall() == data[5:]
        stream.seek(400_000)
        assert stream.readall() == b""
    reader, writer = pipe()
    feed = writer.buffered()
    with reader:
        feeder = threading.Thread(target=lambda: (feed.write(data), feed.close()))
        feeder.start()
        assert reader.readall() == data
        feeder.join(60)
    with FileStream.open("/proc/self/status") as status:
        assert b"Threads:" in status.readall()


def test_writing(path: Path) -> None:
    with FileStream.open(path, "w") as stream:
        assert stream.write(b"0123456789") == 10
        assert stream.write(memoryview(b"ab")) == stream.write(bytearray(b"cd")) == 2
        assert stream.truncate(12) == 12
        assert stream.tell() == 14
        assert stream.truncate() == 14
        stream.writelines([b"x", b"y"])
        stream.flush()
        with pytest.raises(io.UnsupportedOperation, match="not readable"):
            stream.read(1)
        with pytest.raises(io.UnsupportedOperation, match="not readable"):
            stream.readall()
        with pytest.raises(TypeError):
            stream.write("text")  # type: ignore[arg-type]
    assert path.read_bytes() == b"0123456789ab\0\0xy"


def test_pipes() -> None:
    reader, writer = pipe()
    with reader, writer:
        assert not reader.seekable()
        assert (reader.mode, writer.mode) == ("rb", "wb")
        with pytest.raises(OSError, match="Illegal seek"):
            reader.tell()
        writer.write(b"text")
        assert reader.read(100) == b"text"
        writer.close()
        assert reader.read(100) == b""
    reader, writer = pipe()
    reader.close()
    with writer, pytest.raises(BrokenPipeError):
        writer.write(b"x")


def test_descriptors_that_do_not_block() -> None:
    """None where the kernel says later, as io.FileIO."""
    reader, writer = SafePipeHandle.pair(os.O_NONBLOCK | os.O_CLOEXEC)
    with FileStream(reader) as source, FileStream(writer) as sink:
        assert source.read(10) is None
        assert source.readinto(bytearray(1)) is None
        assert source.readall() is None
        written = 0
        while (count := sink.write(bytes(4096))) is not None:
            written += count
        assert source.readall() == bytes(written)


def test_terminals() -> None:
    one, other = pty.openpty()
    with FileStream(SafeFileHandle(one)) as stream, SafeFileHandle(other):
        assert stream.isatty()
        with FileStream(SafeFileHandle(one, owns_handle=False), "w").text("ascii") as text:
            assert text.line_buffering


def test_closing() -> None:
    handle = SafeFileHandle.memfd("x")
    stream = FileStream(handle)
    assert not stream.closed
    stream.close()
    assert handle.is_closed
    stream.close()
    assert "closed" in repr(stream)
    for use in (
        lambda: stream.read(1),
        lambda: stream.write(b"x"),
        lambda: stream.seek(0),
        lambda: stream.tell(),
        lambda: stream.fileno(),
        lambda: stream.isatty(),
        lambda: stream.readable(),
        lambda: stream.writable(),
        lambda: stream.seekable(),
        lambda: stream.truncate(0),
        lambda: stream.readall(),
        lambda: stream.flush(),
        lambda: stream.__enter__(),
        lambda: next(stream),
    ):
        with pytest.raises(ValueError, match="closed"):
            use()


def test_a_handle_that_somebody_else_closes() -> None:
    with SafeFileHandle.memfd("x") as handle:
        FileStream(handle, close_handle=False).close()
        assert not handle.is_closed
        with FileStream(handle, close_handle=False).buffered() as buffered:
            buffered.write(b"text")
        assert os.pread(handle.fileno(), 10, 0) == b"text"


def test_closing_waits_for_a_read() -> None:
    """The descriptor stays until the call in another thread is over."""
    reader, writer = pipe()
    seen: list[bytes | None] = []
    thread = threading.Thread(target=lambda: seen.append(reader.read(10)))
    thread.start()
    while refs(reader.handle) < 2:  # type: ignore[arg-type]
        pass
    reader.close()
    assert not reader.handle.is_closed
    writer.write(b"text")
    thread.join(60)
    assert seen == [b"text"]
    assert reader.handle.is_closed
    writer.close()


def test_dropping_closes_without_a_finalizer(tmp_path: Path) -> None:
    """The handle's own finalizer does it; nobody closes twice."""
    with recorded(tmp_path) as told:
        fd = FileStream(SafeFileHandle.memfd("x")).fileno()
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(fd)
    (history,) = told[0].handles
    assert history.ending == "dropped"
    assert [event.kind for event in history.events if event.kind == "release-failed"] == []


@pytest.mark.parametrize("layers", ["text", "buffered"])
def test_what_a_finalizer_closes_is_not_closed_by_the_program(
    path: Path, tmp_path: Path, layers: str
) -> None:
    """Whichever layer's finalizer it was: the handle's ending says so."""
    with recorded(tmp_path) as told:
        LAYERS[layers](path)
        _cycle(LAYERS[layers](path))
        gc.collect()
        with LAYERS[layers](path):  # type: ignore[attr-defined]
            pass
    assert [h.ending for h in told[0].handles] == ["dropped", "collected", "closed"]


def test_streams_are_not_copied() -> None:
    with FileStream(SafeFileHandle.memfd("x")) as stream:
        for use in (copy.copy, copy.deepcopy, pickle.dumps):
            with pytest.raises(TypeError, match="one owner"):
                use(stream)


def test_subclasses(path: Path) -> None:
    class Counting(FileStream):
        count = 0

        def write(self, data: Any, /) -> int | None:
            self.count += 1
            return super().write(data)

    with Counting.open(path, "w") as stream:
        stream.write(b"x")
        assert stream.count == 1


# --- what stands on it ---


def test_buffers_have_the_class_of_their_mode(path: Path) -> None:
    kinds = {"w": io.BufferedWriter, "r": io.BufferedReader, "r+": io.BufferedRandom}
    for mode, kind in kinds.items():
        with FileStream.open(path, mode).buffered() as buffered:
            assert isinstance(buffered, kind)
            assert isinstance(buffered.raw, FileStream)


def test_the_standard_buffers_work(path: Path) -> None:
    with io.BufferedWriter(FileStream.open(path, "w"), 10) as writer:
        for number in range(100):
            writer.write(b"%d\n" % number)
    with io.BufferedReader(FileStream.open(path)) as reader:
        assert [int(line) for line in reader] == list(range(100))
        reader.seek(0)
        assert reader.peek(1)[:4] == b"0\n1\n"
        assert reader.read1(2) == b"0\n"
    with io.BufferedRandom(FileStream.open(path, "r+")) as both:
        assert both.readline() == b"0\n"
        both.write(b"X")
        both.seek(0)
        assert both.read(6) == b"0\nX\n2\n"
    with io.TextIOWrapper(io.BufferedReader(FileStream.open(path)), "ascii") as text:
        assert text.readline() == "0\n"
    reader, writer = pipe()
    with io.BufferedRWPair(reader, writer) as pair:
        pair.write(b"text")
        pair.flush()
        assert pair.read1(10) == b"text"


def test_text(path: Path) -> None:
    with FileStream.open(path, "w").text("utf-8", newline="\r\n") as text:
        assert text.name == str(path)
        assert text.write("é\nü\n") == 4
        text.flush()
        position = text.tell()
        text.write("more\n")
    assert position == 8
    assert path.read_bytes() == "é\r\nü\r\nmore\r\n".encode()
    with FileStream.open(path, "r+").text("utf-8") as text:
        assert text.readline() == "é\n"
        assert text.read() == "ü\nmore\n"
        text.seek(position)
        assert text.read() == "more\n"
        text.write("last")
    assert path.read_text("utf-8").endswith("more\nlast")
    with (
        FileStream.open(path).text("ascii", "strict") as text,
        pytest.raises(UnicodeDecodeError),
    ):
        text.read()


def test_what_takes_files_takes_streams(path: Path) -> None:
    with FileStream.open(path, "w").text("utf-8") as text:
        csv.writer(text).writerow(["a", "b"])
        json.dump({"a": 1}, text)
        print("line", file=text)
    assert path.read_text("utf-8") == 'a,b\n{"a": 1}line\n'


def _cycle(*held: object) -> None:
    """Garbage that only the collector finds."""
    cycle: list[object] = [*held]
    cycle.append(cycle)


def _wrote(stream: Any, data: Any) -> Any:
    stream.write(data)
    return stream


LAYERS: dict[str, Callable[[Path], object]] = {
    "buffered": lambda path: _wrote(FileStream.open(path, "w").buffered(), b"data"),
    "both ways": lambda path: _wrote(FileStream.open(path, "w+").buffered(), b"data"),
    "text": lambda path: _wrote(FileStream.open(path, "w").text("ascii"), "data"),
    "text both ways": lambda path: _wrote(FileStream.open(path, "w+").text("ascii"), "data"),
    "standard text over ours": lambda path: _wrote(
        io.TextIOWrapper(FileStream.open(path, "w").buffered(), "ascii"), "data"
    ),
    "standard buffer over ours": lambda path: _wrote(
        io.BufferedWriter(FileStream.open(path, "w")), b"data"
    ),
    "a pair": lambda path: _wrote(
        io.BufferedRWPair(FileStream.open("/dev/null"), FileStream.open(path, "w")), b"data"
    ),
}


@pytest.mark.parametrize("layers", LAYERS)
def test_a_collection_loses_nothing(path: Path, layers: str) -> None:
    """50 of 50, in whatever order the finalizers run."""
    survived = 0
    live = _native.live_count()
    for _ in range(ROUNDS):
        _cycle(LAYERS[layers](path))
        gc.collect()
        survived += path.read_bytes() == b"data"
        path.unlink()
    assert survived == ROUNDS
    assert _native.live_count() == live


@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.parametrize("mode", ["w", "wb"])
def test_the_standard_open_loses_everything(path: Path, mode: str) -> None:
    """What the test above is there for; should this one fail, CPython has improved."""
    survived = 0
    for _ in range(ROUNDS):
        _cycle(_wrote(open(path, mode), "data" if mode == "w" else b"data"))  # noqa: SIM115
        gc.collect()
        survived += path.read_bytes() == b"data"
    assert survived == 0


@pytest.mark.parametrize("layers", LAYERS)
def test_dropping_loses_nothing(path: Path, layers: str) -> None:
    live = _native.live_count()
    stream = LAYERS[layers](path)
    assert path.read_bytes() == b""
    del stream
    assert path.read_bytes() == b"data"
    assert _native.live_count() == live


class Owner:
    """Writes once more from its own finalizer."""

    def __init__(self, stream: io.BufferedWriter | io.BufferedRandom | None = None) -> None:
        self.stream = stream
        self.me = self

    def __del__(self) -> None:
        assert self.stream is not None
        self.stream.write(b"+more")


@pytest.mark.parametrize("mode", ["w", "w+"])
@pytest.mark.parametrize("owner_first", [False, True])
def test_what_finalizers_write_is_not_lost(path: Path, mode: str, owner_first: bool) -> None:
    """Also after the buffer's own finalizer has run: then it holds nothing back."""
    for _ in range(ROUNDS):
        owner = Owner() if owner_first else None
        stream = _wrote(FileStream.open(path, mode).buffered(), b"data")
        owner = owner or Owner()
        owner.stream = stream
        del owner, stream
        gc.collect()
        assert path.read_bytes() == b"data+more"


def test_a_detached_buffer_has_nothing_to_finalize(path: Path) -> None:
    buffered = _wrote(FileStream.open(path, "w").buffered(), b"data")
    stream = buffered.detach()
    del buffered
    stream.close()
    assert path.read_bytes() == b"data"
    assert type(stream) is FileStream


def test_data_that_cannot_be_written_is_told(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the finalizer too; it never raises."""
    caught: list[type[BaseException]] = []
    monkeypatch.setattr("sys.unraisablehook", lambda args: caught.append(args.exc_type))
    buffered = _wrote(FileStream.open(path, "w").buffered(), b"data")
    buffered.raw.handle.close()
    del buffered
    assert caught == [HandleClosedError]
    assert path.read_bytes() == b""


def test_random_access_over_a_closed_handle() -> None:
    """Silent when nothing is lost, an error when something is."""
    for data, lost in [(b"", False), (b"data", True)]:
        handle = SafeFileHandle.memfd("x")
        both = FileStream(handle).buffered()
        both.write(data)
        handle.close()
        if lost:
            with pytest.raises(HandleClosedError):
                both.close()
        both.close()
        assert both.closed


EXITS = {
    "global": "",
    "attribute of a module": "import json; json.kept = kept",
    "in a cycle": "kept = [kept]; kept.append(kept)",
    "class attribute": "class Kept: stream = kept\ndel kept",
    "builtins": "import builtins; builtins.kept = kept",
    "sys": "import sys; sys.kept = kept",
    "exception": "raise SystemExit(0)",
    "thread": "import threading\nthreading.Thread(target=print, args=(kept,)).start()",
}


@pytest.mark.parametrize("level", [None, "full"])
@pytest.mark.parametrize("where", EXITS)
def test_the_end_of_the_interpreter_loses_nothing(
    run: Callable[..., Run], where: str, level: str | None, tmp_path: Path
) -> None:
    """The globals that writing needs are gone by then; it does not need them."""
    run(
        f"""
import safehandle_debug
from safehandle_debug import FileStream
kept = [
    FileStream.open("text", "w").text("ascii"),
    FileStream.open("buffered", "w").buffered(),
    FileStream.open("both", "w+").buffered(),
]
kept[0].write("data")
kept[1].write(b"data")
kept[2].write(b"data")
{EXITS[where]}
""",
        level=level,
    ).ok()
    for name in ("text", "buffered", "both"):
        assert (tmp_path / "program" / name).read_bytes() == b"data", name


def test_interrupts_lose_no_descriptor(run: Callable[..., Run]) -> None:
    result = run(
        """
        import os, signal
        from safehandle_debug import FileStream, _native

        class Stop(Exception):
            pass

        armed = False

        def stop(*_):
            if armed:
                raise Stop

        signal.signal(signal.SIGALRM, stop)
        stopped = rounds = 0
        while stopped < 300 and rounds < 1_000_000:
            rounds += 1
            try:
                armed = True
                signal.setitimer(signal.ITIMER_REAL, 1e-5 * (1 + rounds % 17))
                for _ in range(100):
                    with FileStream.open("/dev/null", "r+").buffered() as stream:
                        stream.read(1)
                armed = False
            except Stop:
                armed = False
                stopped += 1
            stream = None
        print(stopped, _native.live_count())
        """,
        level=None,
    )
    assert result.code == 0, result.err
    assert result.lines == ["300 0"]


def test_loaded_when_it_is_asked_for(run: Callable[..., Run]) -> None:
    result = run(
        """
        import sys
        import safehandle_debug
        name = "safehandle_debug.handles.file_stream"
        print(name in sys.modules, "FileStream" in dir(safehandle_debug))
        stream = safehandle_debug.FileStream
        print(name in sys.modules, stream is safehandle_debug.FileStream)
        try:
            safehandle_debug.FileStreams
        except AttributeError as error:
            print(error)
        """,
        level=None,
    ).ok()
    assert result.lines == [
        "False True",
        "True True",
        "module 'safehandle_debug' has no attribute 'FileStreams'",
    ]
