"""The screen in a browser: a real one, where there is one."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from support_screens import Leaky

aiohttp = pytest.importorskip("aiohttp")
pytest.importorskip("textual_serve")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
BOUND_S = 60.0
# How many pixels of the page's canvases have the colour of what is bad.
RED = """(() => {
  let red = 0;
  for (const canvas of document.querySelectorAll("canvas")) {
    const context = canvas.getContext("2d");
    if (!context) continue;
    const {data} = context.getImageData(0, 0, canvas.width, canvas.height);
    for (let at = 0; at < data.length; at += 4)
      if (data[at] == 255 && data[at + 1] == 138 && data[at + 2] == 138) red++;
  }
  return red;
})()"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextlib.contextmanager
def served(leaky: Leaky) -> Iterator[int]:
    """`safehandle watch --web` on the leaky session; yields the port."""
    port = free_port()
    words = [sys.executable, "-m", "safehandle_debug", "watch", "--web", "--port", str(port)]
    with subprocess.Popen(
        [*words, str(leaky.folder)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as server:
        try:
            yield port
        finally:
            server.terminate()
            server.wait(BOUND_S)


async def when_ready(session: Any, url: str) -> Any:
    """The answer, as soon as there is somebody to give it."""
    async with asyncio.timeout(BOUND_S):
        while True:
            with contextlib.suppress(aiohttp.ClientError):
                async with session.get(url) as answer:
                    return await answer.text()
            await asyncio.sleep(0.05)


@contextlib.asynccontextmanager
async def browser(folder: Path) -> AsyncIterator[int]:
    """A real Chromium without a window; yields its debugging port."""
    assert CHROMIUM is not None
    port = free_port()
    options = ["--headless=new", "--no-sandbox", "--disable-gpu", "--window-size=1300,800"]
    process = subprocess.Popen(
        [CHROMIUM, *options, f"--user-data-dir={folder}", f"--remote-debugging-port={port}"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield port
    finally:
        process.terminate()
        process.wait(BOUND_S)


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium")
def test_a_browser_shows_the_leak(leaky: Leaky, tmp_path: Path) -> None:
    """What is bad is red on the page."""

    async def scenario(port: int) -> int:
        async with aiohttp.ClientSession() as session, browser(tmp_path / "profile") as debug:
            await when_ready(session, f"http://127.0.0.1:{port}/")
            pages = json.loads(await when_ready(session, f"http://127.0.0.1:{debug}/json"))
            (page,) = [each for each in pages if each["type"] == "page"]
            async with (
                asyncio.timeout(BOUND_S),
                session.ws_connect(page["webSocketDebuggerUrl"], max_msg_size=0) as socket,
            ):
                number = 0

                async def call(method: str, **parameters: object) -> Any:
                    nonlocal number
                    number += 1
                    message = {"id": number, "method": method, "params": parameters}
                    await socket.send_json(message)
                    while True:
                        answer = json.loads((await socket.receive()).data)
                        if answer.get("id") == number:
                            return answer["result"]

                await call("Page.navigate", url=f"http://127.0.0.1:{port}/")
                while True:
                    answer = await call("Runtime.evaluate", expression=RED)
                    red = answer["result"].get("value", 0)
                    if red > 20:
                        return int(red)
                    await asyncio.sleep(0.1)

    with served(leaky) as port:
        assert asyncio.run(scenario(port)) > 20


def test_only_this_machine_is_served(leaky: Leaky) -> None:
    """It listens on 127.0.0.1, and on no other address."""

    async def page(port: int) -> str:
        async with aiohttp.ClientSession() as session:
            return str(await when_ready(session, f"http://127.0.0.1:{port}/"))

    with served(leaky) as port:
        assert "safehandle watch" in asyncio.run(page(port))
        with open("/proc/net/tcp", encoding="ascii") as file:
            rows = [line.split() for line in file.readlines()[1:]]
        listening = {row[1] for row in rows if row[3] == "0A" and row[1].endswith(f":{port:04X}")}
        assert listening == {f"0100007F:{port:04X}"}


def test_a_port_in_use_is_said() -> None:
    """One sentence, and what to do."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        result = subprocess.run(
            [sys.executable, "-m", "safehandle_debug", "watch", "--web", "--port", port],
            capture_output=True,
            text=True,
            check=False,
            env=dict(os.environ),
        )
    assert result.returncode == 2
    assert f"port {port} cannot be used" in result.stderr
    assert result.stderr.count("\n") == 1
