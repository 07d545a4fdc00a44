"""Made-up lives of handles: how programs use them that are well, and that leak.

A workload gives (opened at, closed at) in seconds, None for never; `evidence`
counts them as the index does.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator

from safehandle_debug.ledger.census import BUCKETS
from safehandle_debug.ledger.verdict import Evidence

Life = tuple[float, float | None]
Workload = Callable[[random.Random, float], Iterator[Life]]
NS = 10**9


def arrivals(
    rng: random.Random, length: float, number: float, *, start: float = 0.0
) -> Iterator[float]:
    """About so many moments between start and the end."""
    at = start
    while True:
        at += rng.expovariate(number / (length - start))
        if at >= length:
            return
        yield at


def _steady(
    life: Callable[[random.Random, float], float | None], number: float = 1000
) -> Workload:
    def workload(rng: random.Random, length: float) -> Iterator[Life]:
        for at in arrivals(rng, length, number):
            lasts = life(rng, length)
            yield at, None if lasts is None else at + lasts

    return workload


def _exponential(mean: float) -> Workload:
    return _steady(lambda rng, length: rng.expovariate(1 / mean))


def _share_of_run(share: float, number: float = 400) -> Workload:
    return _steady(lambda rng, length: rng.expovariate(1 / (share * length)), number)


def _lru(rng: random.Random, length: float) -> Iterator[Life]:
    size, open_since = 50, dict[int, float]()
    weights = [1 / (rank + 1) for rank in range(500)]
    for at in arrivals(rng, length, 3000):
        (key,) = rng.choices(range(500), weights)
        born = open_since.pop(key, at)
        open_since[key] = born
        if len(open_since) > size:
            oldest = next(iter(open_since))
            yield open_since.pop(oldest), at
    yield from ((born, None) for born in open_since.values())


def _pool(rng: random.Random, length: float) -> Iterator[Life]:
    for _ in range(16):
        yield rng.uniform(0, length / 50), None


def _rotating_pool(rng: random.Random, length: float) -> Iterator[Life]:
    for _ in range(16):
        at = rng.uniform(0, length / 50)
        while at < length:
            end = at + rng.expovariate(10 / length)
            yield at, end if end < length else None
            at = end


def _ramp(rng: random.Random, length: float) -> Iterator[Life]:
    for at in arrivals(rng, length, 2000):
        if rng.random() < at / length:
            yield at, at + rng.expovariate(5)


def _keep_alive(rng: random.Random, length: float) -> Iterator[Life]:
    for at in arrivals(rng, length, 1000):
        yield at, at + (rng.expovariate(1) if rng.random() < 0.7 else rng.expovariate(1 / 30))


def _log_rotation(rng: random.Random, length: float) -> Iterator[Life]:
    for turn in range(20):
        yield turn * length / 20, (turn + 1) * length / 20


def _batch(rng: random.Random, length: float) -> Iterator[Life]:
    for turn in range(6):
        for _ in range(100):
            at = turn * length / 6 + rng.uniform(0, length / 60)
            yield at, at + length / 30


def _unfinished_batch(rng: random.Random, length: float) -> Iterator[Life]:
    yield from ((at, None) for at in arrivals(rng, length, 200))


def _growing_threads(rng: random.Random, length: float) -> Iterator[Life]:
    yield from ((turn * length / 60, None) for turn in range(60))


def _daily(rng: random.Random, length: float) -> Iterator[Life]:
    for at in arrivals(rng, length, 3000):
        if rng.random() < 0.5 + 0.5 * math.sin(at / length * 12):
            yield at, at + rng.expovariate(2)


def _tenants(rng: random.Random, length: float) -> Iterator[Life]:
    """One line opens requests' files and, once each, the tenants' databases."""
    known = set()
    for at in arrivals(rng, length, 2000):
        tenant = min(int(rng.paretovariate(0.8)), 10_000)
        first = tenant < 60 and tenant not in known
        known.add(tenant)
        yield at, None if first else at + rng.expovariate(5)


def _pool_and_requests(rng: random.Random, length: float) -> Iterator[Life]:
    yield from _pool(rng, length)
    yield from _exponential(0.2)(rng, length)


def _websockets(rng: random.Random, length: float) -> Iterator[Life]:
    for at in arrivals(rng, length, 1000):
        long = rng.random() < 0.1
        yield at, at + rng.expovariate(4 / length if long else 2)


HEALTHY: dict[str, Workload] = {
    "requests": _exponential(0.2),
    "slow requests": _exponential(5),
    "long polls": _steady(lambda rng, length: 10.0),
    "short sessions": _share_of_run(1 / 8),
    "long sessions": _share_of_run(1 / 2),
    "longer sessions": _share_of_run(2, 200),
    "weibull": _steady(lambda rng, length: rng.weibullvariate(0.5, 0.5)),
    "pareto": _steady(lambda rng, length: 0.05 * rng.paretovariate(1.5)),
    "lru cache": _lru,
    "pool": _pool,
    "rotating pool": _rotating_pool,
    "ramp": _ramp,
    "keep-alive": _keep_alive,
    "log rotation": _log_rotation,
    "batches": _batch,
    "unfinished batch": _unfinished_batch,
    "growing thread pool": _growing_threads,
    "daily rhythm": _daily,
    "tenants": _tenants,
    "pool and requests": _pool_and_requests,
    "websockets": _websockets,
}


def _leak(
    share: float, number: float = 1000, *, start: float = 0.0, mean: float = 0.2
) -> Workload:
    def workload(rng: random.Random, length: float) -> Iterator[Life]:
        for at in arrivals(rng, length, number):
            leaks = at >= start * length and rng.random() < share
            yield at, None if leaks else at + rng.expovariate(1 / mean)

    return workload


def _ramp_leak(rng: random.Random, length: float) -> Iterator[Life]:
    for at in arrivals(rng, length, 2000):
        if rng.random() < at / length:
            yield at, None if rng.random() < 0.05 else at + rng.expovariate(5)


def _heavy_leak(rng: random.Random, length: float) -> Iterator[Life]:
    for at in arrivals(rng, length, 1000):
        yield at, None if rng.random() < 0.05 else at + rng.weibullvariate(0.2, 0.6)


LEAKING: dict[str, Workload] = {
    "one in eight": _leak(1 / 8),
    "one in fifty": _leak(1 / 50),
    "slow": _leak(12 / 1000),
    "from half on": _leak(1 / 10, start=0.5),
    "from three quarters on": _leak(1 / 10, start=0.75),
    "ramp": _ramp_leak,
    "heavy tail": _heavy_leak,
}


def evidence(workload: Workload, seed: int, length: float) -> Evidence:
    """What the index would have counted of a run of so many seconds."""
    rng = random.Random(seed)
    width = 1 / BUCKETS
    while length / width >= BUCKETS:
        width *= 2
    windows = int(length / width) + 1
    births, survivors, lives = [0] * windows, [0] * windows, dict[int, int]()
    opened = closed = 0
    for at, end in workload(rng, length):
        opened += 1
        births[int(at / width)] += 1
        if end is None or end >= length:
            survivors[int(at / width)] += 1
            continue
        closed += 1
        most = 1 << max(1, int((end - at) * NS).bit_length())
        lives[most] = lives.get(most, 0) + 1
    return Evidence(
        opened=opened,
        closed=closed,
        live=opened - closed,
        births=tuple(births),
        survivors=tuple(survivors),
        lives=tuple(sorted(lives.items())),
        window_ns=width * NS,
        age_ns=int(length * NS),
    )
