"""Awaiting wait handles in asyncio."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
from support_handles import refs

from safehandle_debug import (
    AutoResetEvent,
    HandleClosedError,
    ManualResetEvent,
    SafeWaitHandle,
    _native,
)


@pytest.fixture(autouse=True)
def _nothing_is_left() -> Iterator[None]:
    """Every test closes what it opens."""
    live = _native.live_count()
    yield
    assert _native.live_count() == live


def test_awaiting() -> None:
    async def main() -> list[bool]:
        with AutoResetEvent() as event:
            asyncio.get_running_loop().call_soon(event.set)
            return [await event, event.wait(0)]

    assert asyncio.run(main()) == [True, False]


def test_awaiting_what_is_signalled_already() -> None:
    async def main() -> bool:
        with ManualResetEvent(True) as event:
            return await event

    assert asyncio.run(main())


def test_many_tasks_await_one_event() -> None:
    """Each set lets one task pass; all of them do in the end."""

    async def main() -> int:
        passed = 0

        async def wait() -> None:
            nonlocal passed
            await event
            passed += 1

        with AutoResetEvent() as event:
            tasks = [asyncio.create_task(wait()) for _ in range(5)]
            for number in range(5):
                event.set()
                await asyncio.wait(tasks[number:], return_when=asyncio.FIRST_COMPLETED)
                tasks.sort(key=lambda task: not task.done())
                assert passed == number + 1
            return passed

    assert asyncio.run(main()) == 5


def test_a_cancelled_await_takes_nothing() -> None:
    async def main() -> None:
        with AutoResetEvent() as event:
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(event, 0.01)
            assert refs(event.safe_wait_handle) == 1
            event.set()
            assert event.wait(0)

    asyncio.run(main())


def test_cancelling_one_of_two_keeps_the_other() -> None:
    async def main() -> bool:
        with ManualResetEvent() as event:
            one, two = asyncio.ensure_future(event), asyncio.ensure_future(event)
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            one.cancel()
            await asyncio.sleep(0)
            event.set()
            return await asyncio.wait_for(two, 60)

    assert asyncio.run(main())


def test_dispose_during_an_await() -> None:
    """As in a thread: the await completes, then it closes."""

    async def main() -> None:
        event = ManualResetEvent()
        handle = event.safe_wait_handle
        assert isinstance(handle, SafeWaitHandle)
        task = asyncio.ensure_future(event)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        event.close()
        assert not event.is_closed
        handle.set()
        assert await asyncio.wait_for(task, 60)
        assert event.is_closed

    asyncio.run(main())


def test_awaiting_a_closed_event() -> None:
    async def main() -> None:
        event = ManualResetEvent()
        event.close()
        with pytest.raises(HandleClosedError):
            await event

    asyncio.run(main())


def test_an_abandoned_await_leaves_nothing() -> None:
    """A loop that is closed over a task that waits: no reference stays out."""
    loop = asyncio.new_event_loop()
    event = ManualResetEvent()
    task = loop.create_task(event._signalled(event.safe_wait_handle))
    loop.call_soon(loop.stop)
    loop.run_forever()
    loop.call_soon(loop.stop)
    loop.run_forever()
    assert refs(event.safe_wait_handle) > 1
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        loop.run_until_complete(task)
    loop.close()
    assert refs(event.safe_wait_handle) == 1
    event.close()
