"""Keys of the kernel: a serial number that is everybody's, closed by revoking."""

from __future__ import annotations

import errno
import gc
import threading
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest
from support_handles import refs
from support_programs import Run, recorded
from support_waiting import until

from safehandle_debug import (
    HandleClosedError,
    HandleNotSupportedError,
    SafeKeyringHandle,
    _native,
)
from safehandle_debug.findings.rules import findings_of

PROCESS, SESSION = -2, -3


def _why_not() -> str:
    """Why there are no keys here; empty when there are."""
    try:
        SafeKeyringHandle.add("user", "safehandle test probe", b"x").close()
    except (HandleNotSupportedError, OSError) as error:
        return f"no kernel keys: {error}"
    return ""


pytestmark = pytest.mark.skipif(bool(_why_not()), reason=_why_not() or "there are keys")


@pytest.fixture
def name() -> str:
    """A description that nobody else's key has."""
    return f"safehandle test {uuid.uuid4().hex}"


def errno_of_reading(number: int) -> int:
    """What the kernel says to somebody who still has the number; 0: the payload."""
    try:
        SafeKeyringHandle(number, owns_handle=False).read()
    except OSError as error:
        return error.errno or -1
    return 0


@pytest.mark.parametrize("payload", [b"x", b"\0" * 1000, bytearray(b"abc"), memoryview(b"abc")])
def test_what_was_added_is_read(name: str, payload: bytes) -> None:
    with SafeKeyringHandle.add("user", name, payload) as key:
        assert key.read() == bytes(payload)
        assert not key.is_invalid
        assert key.handle > 0


def test_closing_revokes(name: str) -> None:
    key = SafeKeyringHandle.add("user", name, b"x")
    key.close()
    assert errno_of_reading(key.handle) in {errno.EKEYREVOKED, errno.ENOKEY}
    for call in (key.read, key.revoke, lambda: key.unlink(SESSION)):
        with pytest.raises(HandleClosedError):
            call()


@pytest.mark.parametrize("cycle", [False, True], ids=["dropped", "collected"])
def test_abandoning_revokes(name: str, cycle: bool) -> None:
    kept: list[object] = [SafeKeyringHandle.add("user", name, b"x")]
    number = kept[0].handle  # type: ignore[attr-defined]
    if cycle:
        kept.append(kept)
    del kept
    gc.collect()
    assert errno_of_reading(number) in {errno.EKEYREVOKED, errno.ENOKEY}


def test_a_revoked_key_says_so(name: str, tmp_path: Path) -> None:
    """The handle stays open; closing it is no failure."""
    with recorded(tmp_path) as told:
        key = SafeKeyringHandle.add("user", name, b"x")
        key.revoke()
        for _ in range(2):
            with pytest.raises(OSError, match="revoked") as error:
                key.read()
            assert error.value.errno == errno.EKEYREVOKED
            assert not key.is_closed
        assert refs(key) == 1
        key.close()
    (history,) = told[0].handles
    assert (history.kind, history.detail) == ("key", f"user {name}")
    assert "release-failed" not in {event.kind for event in history.events}


@pytest.mark.parametrize("collected", [False, True])
def test_an_unlinked_key_is_gone(name: str, tmp_path: Path, collected: bool) -> None:
    """Out of its last keyring nobody reaches it, and soon the kernel collects it;
    closing it is no failure, before and after."""
    with recorded(tmp_path) as told, SafeKeyringHandle.add("user", name, b"x") as key:
        key.unlink(SESSION)
        with pytest.raises(OSError, match=r"Key|No such file") as error:
            key.unlink(SESSION)
        assert error.value.errno in {errno.ENOKEY, errno.ENOENT}
        assert refs(key) == 1
        if collected:
            until(lambda: errno_of_reading(key.handle) == errno.ENOKEY)
    history = told[0].handles[0]
    assert history.ending == "exited"
    assert "release-failed" not in {event.kind for event in history.events}


def test_adding_twice_is_one_key(name: str, tmp_path: Path) -> None:
    """The kernel updates the key that is there: both handles have it, which is told."""
    with recorded(tmp_path) as told:
        one = SafeKeyringHandle.add("user", name, b"one")
        other = SafeKeyringHandle.add("user", name, b"other")
        assert one.handle == other.handle
        assert one.read() == b"other"
        other.close()
        with pytest.raises(OSError, match="revoked"):
            one.read()
        one.close()
    first, second = told[0].handles
    acts = [event for event in second.events if event.kind == "double-owner"]
    assert [event.value for event in acts] == [first.serial]
    assert acts[0].stack[0].function == "test_adding_twice_is_one_key"
    findings = findings_of(second, over=True)
    assert [finding.kind for finding in findings] == ["double-owner"]
    assert findings_of(first, over=True) == []


def test_adopting_a_key_twice_is_told(name: str, tmp_path: Path) -> None:
    with recorded(tmp_path) as told, SafeKeyringHandle.add("user", name, b"x") as key:
        SafeKeyringHandle(key.handle).close()
    assert "double-owner" in {event.kind for event in told[0].handles[1].events}


def test_one_owner_at_a_time_is_no_second_owner(name: str, tmp_path: Path) -> None:
    """Closed, moved, borrowed: and added again under the same description."""
    with recorded(tmp_path) as told:
        SafeKeyringHandle.add("user", name, b"x").close()
        with SafeKeyringHandle.add("user", name, b"y") as key:
            SafeKeyringHandle(key.handle, owns_handle=False).close()
            key.revoke()
            with SafeKeyringHandle.add("user", name, b"z") as fresh:
                assert fresh.handle != key.handle
        moved = SafeKeyringHandle.add("user", name, b"w").detach()
        with SafeKeyringHandle(moved):
            SafeKeyringHandle.add("user", f"{name} another", b"v").close()
    kinds = {event.kind for history in told[0].handles for event in history.events}
    assert "double-owner" not in kinds


def test_borrowed_keys_stay(name: str) -> None:
    with SafeKeyringHandle.add("user", name, b"x") as key:
        SafeKeyringHandle(key.handle, owns_handle=False).close()
        assert key.read() == b"x"


def test_special_keyrings_are_nobodys(name: str) -> None:
    """Even a handle that claims to own one does not revoke it."""
    with SafeKeyringHandle.add("user", name, b"x") as key:
        SafeKeyringHandle(SESSION).close()
        assert key.read() == b"x"


def test_detached_keys_stay(name: str) -> None:
    key = SafeKeyringHandle.add("user", name, b"x")
    number = key.detach()
    assert errno_of_reading(number) == 0
    SafeKeyringHandle(number).close()
    assert errno_of_reading(number) != 0


@pytest.mark.parametrize(
    ("arguments", "errors"),
    [
        (("no such type", "name", b"x"), {errno.ENODEV}),
        (("user", "name", b""), {errno.EINVAL}),
        (("user", "name", b"x", 999_999_999), {errno.ENOKEY}),
        (("user", "name", b"x", 0), {errno.EINVAL, errno.ENOKEY}),
        (("user", "name", b"x" * 40_000), {errno.EINVAL, errno.EDQUOT}),
    ],
)
def test_what_the_kernel_refuses(arguments: tuple[object, ...], errors: set[int]) -> None:
    live, serial = _native.live_count(), _native.newest_serial()
    with pytest.raises(OSError) as error:  # noqa: PT011 - the number is compared below
        SafeKeyringHandle.add(*arguments)  # type: ignore[arg-type]
    assert error.value.errno in errors
    assert (_native.live_count(), _native.newest_serial()) == (live, serial)


@pytest.mark.parametrize(
    "arguments",
    [("user", "name"), ("user", None, b"x"), ("user", "name", "text"), ("user", "a\0b", b"x")],
)
def test_what_is_no_key(arguments: tuple[object, ...]) -> None:
    with pytest.raises((TypeError, ValueError)):
        SafeKeyringHandle.add(*arguments)  # type: ignore[arg-type]


def test_any_thread_can_finish_it(name: str) -> None:
    """Also one that ran before the key was made: keys go where all threads reach."""
    ready, keys, seen = threading.Event(), [], []

    def use() -> None:
        ready.wait()
        key = keys.pop()
        seen.append(key.read())
        key.close()

    thread = threading.Thread(target=use)
    thread.start()
    keys.append(SafeKeyringHandle.add("user", name, b"x"))
    number = keys[0].handle
    ready.set()
    thread.join()
    assert seen == [b"x"]
    assert errno_of_reading(number) != 0


FORK = """
import os, sys
from safehandle_debug import SafeKeyringHandle

key = SafeKeyringHandle.add("user", sys.argv[1], b"x")
pid = os.fork()
if pid == 0:
    {child}
    sys.exit(0)
assert os.waitpid(pid, 0)[1] == 0
try:
    print(key.read())
except OSError as error:
    print(error.errno)
key.close()
"""


@pytest.mark.parametrize(
    "child",
    ["pass", "del key", "key.cycle = key; del key; import gc; gc.collect()"],
    ids=["end", "dropped", "collected"],
)
def test_a_childs_finalizers_leave_it(run: Callable[..., Run], name: str, child: str) -> None:
    """What only the parent may undo: no finalizer in a forked child does."""
    if "cycle" in child:
        source = FORK.replace("SafeKeyringHandle.add", "type('Key', (SafeKeyringHandle,), {}).add")
    else:
        source = FORK
    result = run(
        source.format(child=child) if source is FORK else source.replace("{child}", child), name
    ).ok()
    assert result.out == "b'x'\n"


def test_a_child_may_close_it_on_purpose(run: Callable[..., Run], name: str) -> None:
    result = run(FORK.format(child="key.close()"), name).ok()
    assert result.out == f"{errno.EKEYREVOKED}\n"


def test_a_childs_own_keys_are_its_own(run: Callable[..., Run], name: str) -> None:
    """What the child added, it revokes at its end."""
    child = "own = SafeKeyringHandle.add('user', sys.argv[1] + ' child', b'y'); print(own.handle)"
    result = run(FORK.format(child=child), name).ok()
    number, parents = result.lines
    assert parents == "b'x'"
    assert errno_of_reading(int(number)) in {errno.EKEYREVOKED, errno.ENOKEY}


def test_the_end_of_the_process_revokes(run: Callable[..., Run], name: str) -> None:
    result = run(
        """
        import builtins, sys
        from safehandle_debug import SafeKeyringHandle
        builtins.kept = SafeKeyringHandle.add("user", sys.argv[1], b"x")
        print(kept.handle)
        """,
        name,
    ).ok()
    assert errno_of_reading(int(result.out)) in {errno.EKEYREVOKED, errno.ENOKEY}


def test_a_killed_process_leaves_it(run: Callable[..., Run], name: str) -> None:
    """Keys of the session outlive a process: the recording names what it left."""
    result = run(
        """
        import os, sys
        from safehandle_debug import SafeKeyringHandle
        kept = SafeKeyringHandle.add("user", sys.argv[1], b"x")
        print(kept.handle, flush=True)
        os.kill(os.getpid(), 9)
        """,
        name,
    )
    assert errno_of_reading(int(result.out)) == 0
    SafeKeyringHandle(int(result.out)).close()
    (history,) = result.first().handles
    assert (history.ending, history.value) == ("lost", int(result.out))
