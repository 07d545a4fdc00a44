"""Pools of processes, started in all three ways, under the watch."""

from __future__ import annotations

from pathlib import Path

import pytest
from support_loads import run_watched, said

POOLS = """
import concurrent.futures, multiprocessing, os, sys
from multiprocessing import shared_memory


def work(number):
    with open(__file__) as file:
        file.readline()
    return number * number


def fill(queue):
    for number in range(20):
        queue.put(number)


def touch(name):
    memory = shared_memory.SharedMemory(name=name)
    memory.buf[0] = 7
    memory.close()


def answer(connection):
    connection.send("well")
    connection.close()


if __name__ == "__main__":
    context = multiprocessing.get_context(sys.argv[1])
    with context.Pool(2) as pool:
        print(sum(pool.map(work, range(50))))
    pool = context.Pool(2, maxtasksperchild=5)
    print(sum(pool.imap_unordered(work, range(20))))
    pool.close()
    pool.join()
    with concurrent.futures.ProcessPoolExecutor(2, mp_context=context) as executor:
        print(sum(executor.map(work, range(20))))
    queue = context.Queue()
    process = context.Process(target=fill, args=(queue,))
    process.start()
    print(sum(queue.get() for _ in range(20)))
    process.join()
    process.close()
    queue.close()
    queue.join_thread()
    memory = shared_memory.SharedMemory(create=True, size=10)
    process = context.Process(target=touch, args=(memory.name,))
    process.start()
    process.join()
    print(memory.buf[0])
    memory.close()
    memory.unlink()
    mine, theirs = context.Pipe()
    process = context.Process(target=answer, args=(theirs,))
    process.start()
    theirs.close()
    print(mine.recv())
    process.join()
    mine.close()
    with context.Manager() as manager:
        shared = manager.dict(one=1)
        print(dict(shared))
"""


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_nothing_is_found(method: str, tmp_path: Path) -> None:
    assert said(run_watched(POOLS, tmp_path, method)) == []
