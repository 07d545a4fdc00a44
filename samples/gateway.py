"""An HTTP gateway to the files of a folder, on loopback, with one leak.

    python samples/gateway.py [FOLDER] [--port N] [--requests N] [--seconds N]
    python samples/gateway.py --demo [--requests N] [--seconds N] [--rate N]

`GET /NAME` answers with the file, a part of it (`Range`) or the file
compressed on the way (`Accept-Encoding: deflate`); `GET /digest/NAME` with its
SHA-256; `GET /status` lists the downloads that are going on.  A file is a
SafeFileHandle, and what a worker thread compresses or digests goes through a
SafePipeHandle.  With `--demo` it also starts `load.py` on itself, and it ends
when that does.  Ctrl-C ends it cleanly.

Wrong: `Downloads.start` opens the file, enters the download into the list, and
only then looks at the range.  A range beyond the end of the file raises, the
client gets its 416, and nobody takes the download off the list again.

Look for: one `leak`, as many times as there were bad ranges, opened in
`Downloads.start`; nothing else, over thousands of requests.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import pathlib
import re
import resource
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from safehandle_debug import SafeFileHandle, SafePipeHandle

CHUNK = 32768  # bytes read or written at once
WORKERS = 8
DEMO_RATE = 50.0  # requests a second
OPEN_FILES = 65536
RANGE = re.compile(r"bytes=(\d+)-(\d*)")


class RangeError(Exception):
    """The client asked for bytes that the file does not have."""


@dataclass(slots=True)
class Download:
    """One file on its way to one client."""

    name: str
    handle: SafeFileHandle
    first: int
    last: int  # inclusive
    is_part: bool = False

    @property
    def size(self) -> int:
        return self.last - self.first + 1

    def chunks(self) -> Iterator[bytes]:
        with self.handle.hold() as fd:
            for offset in range(self.first, self.last + 1, CHUNK):
                yield os.pread(fd, min(CHUNK, self.last + 1 - offset), offset)


class Downloads:
    """The downloads that are going on."""

    def __init__(self, folder: pathlib.Path) -> None:
        self.folder = SafeFileHandle.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        self.active: list[Download] = []
        self.lock = threading.Lock()

    def start(self, name: str, wanted: str | None) -> Download:
        """Opens the file `name`; `wanted` is the client's Range header.

        Raises:
            FileNotFoundError: there is no such file.
            RangeError: the file has no such part.
        """
        handle = SafeFileHandle.open(name, os.O_RDONLY, dir_fd=self.folder.fileno())
        download = Download(name, handle, 0, os.fstat(handle.fileno()).st_size - 1)
        with self.lock:
            self.active.append(download)
        if wanted is not None:
            choose_part(download, wanted)
        return download

    def finish(self, download: Download) -> None:
        with self.lock:
            self.active.remove(download)
        download.handle.close()

    def names(self) -> list[str]:
        with self.lock:
            return [download.name for download in self.active]

    def close(self) -> None:
        self.folder.close()


def choose_part(download: Download, wanted: str) -> None:
    match = RANGE.fullmatch(wanted)
    if match is None:
        return
    first = int(match[1])
    last = min(int(match[2]), download.last) if match[2] else download.last
    if first > last:
        raise RangeError(f"{download.name} has {download.size} bytes, not {first}")
    download.first, download.last, download.is_part = first, last, True


def write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def pump(writer: SafePipeHandle, chunks: Iterator[bytes]) -> None:
    """Writes all chunks into the pipe, and closes it."""
    with writer, writer.hold() as fd:
        for chunk in chunks:
            write_all(fd, chunk)


def drain(reader: SafePipeHandle) -> Iterator[bytes]:
    """What comes out of the pipe until it is closed at the other end."""
    with reader, reader.hold() as fd:
        while chunk := os.read(fd, CHUNK):
            yield chunk


def compressed(chunks: Iterator[bytes]) -> Iterator[bytes]:
    compressor = zlib.compressobj()
    for chunk in chunks:
        yield compressor.compress(chunk)
    yield compressor.flush()


def digest(reader: SafePipeHandle) -> str:
    sha = hashlib.sha256()
    for chunk in drain(reader):
        sha.update(chunk)
    return sha.hexdigest()


class Gateway(ThreadingHTTPServer):
    """Serves the files of one folder."""

    daemon_threads = False
    block_on_close = True
    request_queue_size = 64

    def __init__(self, folder: pathlib.Path, port: int, requests: int | None) -> None:
        self.downloads = Downloads(folder)
        self.workers = ThreadPoolExecutor(WORKERS, thread_name_prefix="worker")
        self.requests_left = requests
        self.connections: set[socket.socket] = set()
        self.lock = threading.Lock()
        self.done = threading.Event()
        super().__init__(("127.0.0.1", port), Handler)

    def work(self, task: Callable[..., Any], *args: Any) -> Future[Any]:
        return self.workers.submit(task, *args)

    def count(self) -> None:
        """Another request was answered."""
        with self.lock:
            if self.requests_left is not None:
                self.requests_left -= 1
                if self.requests_left == 0:
                    self.done.set()

    def server_close(self) -> None:
        with self.lock:
            for connection in self.connections:
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RD)
        super().server_close()
        self.workers.shutdown()
        self.downloads.close()


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    wbufsize = CHUNK
    server: Gateway
    connection: socket.socket

    def setup(self) -> None:
        super().setup()
        with self.server.lock:
            self.server.connections.add(self.connection)

    def finish(self) -> None:
        with self.server.lock:
            self.server.connections.discard(self.connection)
        super().finish()

    def log_message(self, *_: object) -> None:
        """A line a request is too much for a load test."""

    def do_GET(self) -> None:
        name = self.path.lstrip("/")
        if name == "status":
            self.answer(HTTPStatus.OK, json.dumps(self.server.downloads.names()).encode())
        else:
            self.answer_file(name.removeprefix("digest/"), "/" in name)
        self.server.count()

    def answer_file(self, name: str, wants_digest: bool) -> None:
        if "/" in name:
            self.answer(HTTPStatus.NOT_FOUND, b"no such file\n")
            return
        try:
            download = self.server.downloads.start(name, self.headers["Range"])
        except FileNotFoundError:
            self.answer(HTTPStatus.NOT_FOUND, b"no such file\n")
            return
        except RangeError as error:
            self.answer(HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, f"{error}\n".encode())
            return
        try:
            if wants_digest:
                self.answer(HTTPStatus.OK, self.digest_of(download).encode() + b"\n")
            elif self.headers["Accept-Encoding"] == "deflate" and not download.is_part:
                self.send_compressed(download)
            else:
                self.send_plain(download)
        finally:
            self.server.downloads.finish(download)

    def answer(self, status: HTTPStatus, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def digest_of(self, download: Download) -> str:
        reader, writer = SafePipeHandle.pair()
        result = self.server.work(digest, reader)
        pump(writer, download.chunks())
        return str(result.result())

    def send_plain(self, download: Download) -> None:
        self.send_response(HTTPStatus.PARTIAL_CONTENT if download.is_part else HTTPStatus.OK)
        self.send_header("Content-Length", str(download.size))
        self.end_headers()
        for chunk in download.chunks():
            self.wfile.write(chunk)

    def send_compressed(self, download: Download) -> None:
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Encoding", "deflate")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        reader, writer = SafePipeHandle.pair()
        pumped = self.server.work(pump, writer, compressed(download.chunks()))
        for chunk in drain(reader):
            self.wfile.write(b"%x\r\n%b\r\n" % (len(chunk), chunk))
        pumped.result()
        self.wfile.write(b"0\r\n\r\n")


def make_files(folder: pathlib.Path) -> None:
    """Fills a folder with what `load.py` asks for."""
    text = "".join(f"line {number} of a file that is served often\n" for number in range(200))
    (folder / "readme.txt").write_text(text)
    (folder / "page.html").write_text(f"<pre>{text * 4}</pre>")
    (folder / "log.txt").write_text(text * 16)
    (folder / "data.bin").write_bytes(hashlib.sha256(b"data").digest() * 4096)


def start_load(gateway: Gateway, options: argparse.Namespace) -> subprocess.Popen[str]:
    """Starts the load on the gateway; the gateway is done when it ends."""
    requests = -1 if options.requests is None else options.requests
    rate = options.rate
    if rate is None:
        rate = DEMO_RATE if options.requests is None else 0
    load = subprocess.Popen(
        [
            *(sys.executable, str(pathlib.Path(__file__).with_name("load.py"))),
            *(str(gateway.server_port), f"--requests={requests}", f"--rate={rate}"),
        ],
        stdout=subprocess.PIPE,
        text=True,
    )

    def wait() -> None:
        load.wait()
        gateway.done.set()

    threading.Thread(target=wait, name="waits for the load", daemon=True).start()
    return load


def serve(folder: pathlib.Path, options: argparse.Namespace) -> int:
    """Serves until the load, the time or the user ends it; returns the exit status."""
    gateway = Gateway(folder, options.port, None if options.demo else options.requests)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: gateway.done.set())
    server = threading.Thread(target=gateway.serve_forever, name="server")
    server.start()
    print(f"serving {folder} at http://127.0.0.1:{gateway.server_port}/", flush=True)
    load = start_load(gateway, options) if options.demo else None
    gateway.done.wait(options.seconds)

    status = 0
    if load is not None:
        load.terminate()
        print("load:", load.communicate()[0].strip() or "stopped", flush=True)
        status = max(load.returncode, 0)
    gateway.shutdown()
    server.join()
    gateway.server_close()
    return status


def allow_many_files() -> None:
    """As servers do: the usual limit is 1024 descriptors."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, OPEN_FILES)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="An HTTP gateway to the files of a folder.")
    parser.add_argument("folder", nargs="?", type=pathlib.Path, help="default: one made for it")
    parser.add_argument("--port", type=int, default=0, help="default: a free one")
    parser.add_argument("--requests", type=int, help="end after so many; default: never")
    parser.add_argument("--seconds", type=float, help="end after so long; default: never")
    parser.add_argument("--demo", action="store_true", help="start the load too")
    parser.add_argument("--rate", type=float, help="requests a second of the load; 0: no limit")
    options = parser.parse_args()
    if options.folder is not None and not options.folder.is_dir():
        parser.error(f"{options.folder} is not a folder")
    return options


def main() -> int:
    options = arguments()
    allow_many_files()
    if options.folder is not None:
        return serve(options.folder, options)
    with tempfile.TemporaryDirectory(prefix="gateway-") as name:
        make_files(pathlib.Path(name))
        return serve(pathlib.Path(name), options)


if __name__ == "__main__":
    sys.exit(main())
