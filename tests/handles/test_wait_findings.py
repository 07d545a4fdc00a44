"""What is said of programs that wait: of wrong ones, and nothing of correct ones."""

from __future__ import annotations

import textwrap
from collections import Counter
from contextlib import ExitStack
from pathlib import Path

import pytest
from support_programs import Run, run_program

from safehandle_debug.findings import find
from safehandle_debug.ledger import Ledger
from safehandle_debug.recording import open_recording

START = """
import asyncio, multiprocessing, os, subprocess, sys, threading
from safehandle_debug import (
    AutoResetEvent, ManualResetEvent, SafeInotifyHandle, SafePollHandle, SafeProcessHandle,
    SafeWaitHandle, Semaphore, WaitHandle, wait_all, wait_any,
)
"""


def judged(run: Run) -> Counter[tuple[str, str]]:
    """The findings of all processes of a program: how many of a kind and a type."""
    with ExitStack() as stack:
        ledgers = [
            stack.enter_context(Ledger(open_recording(path))) for path in run.ok().recordings
        ]
        for ledger in ledgers:
            ledger.refresh()
        return Counter(
            (finding.kind, finding.handle.owner) for each in ledgers for finding in find(each)
        )


WRONG = {
    "kept": (
        """
        def main():
            sys.kept = [
                ManualResetEvent(), SafePollHandle.create(), SafeInotifyHandle.create(),
                SafeProcessHandle.spawn(["true"]), WaitHandle(SafeWaitHandle.timer(1)),
            ]
        main()
        """,
        {
            ("leak", "SafeWaitHandle"): 2,
            ("leak", "SafePollHandle"): 1,
            ("leak", "SafeInotifyHandle"): 1,
            ("leak", "SafeProcessHandle"): 1,
        },
    ),
    "dropped": (
        """
        def main():
            Semaphore(), SafePollHandle.create(), SafeProcessHandle.spawn(["true"])
        main()
        """,
        {
            ("abandoned", "SafeWaitHandle"): 1,
            ("abandoned", "SafePollHandle"): 1,
            ("abandoned", "SafeProcessHandle"): 1,
        },
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong(name: str, tmp_path: Path) -> None:
    source, expected = WRONG[name]
    assert judged(run_program(START + textwrap.dedent(source), tmp_path)) == Counter(expected)


CORRECT = {
    "threads": """
        with AutoResetEvent() as event, Semaphore() as passed:
            def wait():
                event.wait()
                passed.release()
            threads = [threading.Thread(target=wait) for _ in range(3)]
            for thread in threads:
                thread.start()
            for thread in threads:
                event.set()
                passed.wait()
            for thread in threads:
                thread.join()
        """,
    "closed while a daemon waits for ever": """
        event = ManualResetEvent()
        waiting = threading.Event()
        def wait():
            waiting.set()
            event.wait()
        threading.Thread(target=wait, daemon=True).start()
        waiting.wait()
        event.close()
        """,
    "asyncio": """
        async def main():
            with AutoResetEvent() as event, SafeProcessHandle.spawn(["true"]) as process:
                try:
                    await asyncio.wait_for(event, 0.01)
                except TimeoutError:
                    event.set()
                assert await event and await process == 0
        asyncio.run(main())
        """,
    "processes of multiprocessing": """
        def answer(question, reply):
            question.wait()
            reply.set()
        if __name__ == "__main__":
            for method in "fork", "spawn":
                context = multiprocessing.get_context(method)
                with ManualResetEvent() as question, AutoResetEvent() as reply:
                    process = context.Process(target=answer, args=(question, reply))
                    process.start()
                    question.set()
                    assert reply.wait(60)
                    process.join()
                    assert process.exitcode == 0
        """,
    "another program": """
        if len(sys.argv) > 1:
            with ManualResetEvent(handle=SafeWaitHandle(int(sys.argv[1]))) as event:
                event.set()
        else:
            with ManualResetEvent() as event:
                args = [sys.executable, __file__, str(event.fileno())]
                with SafeProcessHandle.spawn(args, pass_fds=[event]) as process:
                    assert wait_all([event, process], 60)
                    assert process.wait() == 0
        """,
    "somebody else's child": """
        child = subprocess.Popen(["true"])
        with SafeProcessHandle.open(child.pid) as process:
            WaitHandle(process).wait()
        child.wait()
        """,
    "refused after close": """
        event = ManualResetEvent()
        event.close()
        try:
            wait_any([event])
        except ValueError:
            print("refused")
        """,
    "closed while registered": """
        with SafePollHandle.create() as poll:
            event = SafeWaitHandle.event(1)
            poll.register(event)
            poll.poll()
            event.close()
            assert poll.poll(0) == []
        """,
}


@pytest.mark.parametrize("name", CORRECT)
def test_correct(name: str, tmp_path: Path) -> None:
    run = run_program(START + textwrap.dedent(CORRECT[name]), tmp_path)
    assert judged(run) == Counter()
