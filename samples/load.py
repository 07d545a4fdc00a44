"""Asks the gateway for files, thousands of times, and now and then for nonsense.

    python samples/load.py PORT [--requests N] [--rate N] [--bad-every N]

Each client thread keeps its connection.  Most requests are for a whole file,
its digest, or a part of it; one in `--bad-every` asks for a part that does not
exist, as a client does that resumes a download of a file that has since become
shorter.  Prints one line of JSON: {"requests": 2000, "bad": 40, "failed": 0}.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import json
import signal
import sys
import threading
import time
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field

CLIENTS = 4
PATHS = ["/readme.txt", "/data.bin", "/page.html", "/digest/data.bin", "/log.txt"]
BEYOND = {"Range": "bytes=99000000-"}
TIMEOUT = 30.0  # seconds


@dataclass(slots=True)
class Plan:
    """Deals out the requests to the clients, at most `rate` in a second."""

    requests: int
    rate: float
    bad_every: int
    started: float = field(default_factory=time.monotonic)
    dealt: int = 0
    stop: threading.Event = field(default_factory=threading.Event)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def numbers(self) -> Iterator[int]:
        """The numbers of the requests that the calling client is to make, from 1."""
        while not self.stop.is_set():
            with self.lock:
                if self.dealt == self.requests:
                    return
                self.dealt += 1
                number = self.dealt
            if self.rate:
                self.stop.wait(self.started + number / self.rate - time.monotonic())
            yield number

    def is_bad(self, number: int) -> bool:
        return number % self.bad_every == 0


@dataclass(slots=True)
class Tally:
    """What one client saw."""

    requests: int = 0
    bad: int = 0
    failed: int = 0


def headers(plan: Plan, number: int) -> dict[str, str]:
    if plan.is_bad(number):
        return BEYOND
    if number % 3 == 0:
        return {"Range": "bytes=100-299"}
    return {"Accept-Encoding": "deflate"} if number % 2 else {}


def is_right(plan: Plan, number: int, response: http.client.HTTPResponse) -> bool:
    """Reads the answer to its end and checks that it is the one expected."""
    body = response.read()
    if plan.is_bad(number):
        return response.status == 416
    if response.status == 206:
        return len(body) == 200
    if response.headers["Content-Encoding"] == "deflate":
        body = zlib.decompress(body)
    return response.status == 200 and len(body) > 0


def client(port: int, plan: Plan, tally: Tally) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT)
    with contextlib.closing(connection):
        for number in plan.numbers():
            path = PATHS[0] if plan.is_bad(number) else PATHS[number % len(PATHS)]
            try:
                connection.request("GET", path, headers=headers(plan, number))
                right = is_right(plan, number, connection.getresponse())
            except (OSError, http.client.HTTPException):
                if plan.stop.is_set():
                    return
                connection.close()
                right = False
            tally.requests += 1
            tally.bad += plan.is_bad(number)
            tally.failed += not right


def run(port: int, plan: Plan) -> Tally:
    """Makes all the requests, or as many as it can until `plan.stop` is set."""
    tallies = [Tally() for _ in range(CLIENTS)]
    threads = [threading.Thread(target=client, args=(port, plan, tally)) for tally in tallies]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return Tally(
        requests=sum(tally.requests for tally in tallies),
        bad=sum(tally.bad for tally in tallies),
        failed=sum(tally.failed for tally in tallies),
    )


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Asks the gateway for files.")
    parser.add_argument("port", type=int)
    parser.add_argument("--requests", type=int, default=2000, help="how many; -1: no end")
    parser.add_argument("--rate", type=float, default=0, help="requests a second; 0: no limit")
    parser.add_argument("--bad-every", type=int, default=50, help="one in N asks for nonsense")
    options = parser.parse_args()
    if options.bad_every < 1:
        parser.error("--bad-every must be 1 or more")
    return options


def main() -> int:
    options = arguments()
    plan = Plan(options.requests, options.rate, options.bad_every)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: plan.stop.set())
    tally = run(options.port, plan)
    print(json.dumps({"requests": tally.requests, "bad": tally.bad, "failed": tally.failed}))
    return 1 if tally.failed else 0


if __name__ == "__main__":
    sys.exit(main())
