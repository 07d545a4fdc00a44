"""Keys, providers and secrets of OpenSSL: cases 195 to 200."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support_crypto import MADE_AND_GONE, Telltale, freed_block, read_memory, telltale
from support_handles import refs
from support_programs import Run

from safehandle_debug import (
    HandleClosedError,
    HandleStateError,
    SafeNCryptKeyHandle,
    SafeNCryptProviderHandle,
    SafeNCryptSecretHandle,
)


@pytest.fixture
def told(tmp_path: Path) -> Iterator[Telltale]:
    """A provider that writes down what happens to it and its keys."""
    with telltale(tmp_path) as provider:
        yield provider


@pytest.mark.parametrize("first", ["original", "duplicate"])
def test_the_last_of_two_duplicates_frees_the_key(told: Telltale, first: str) -> None:
    """Case 195: in either order, and before the provider goes."""
    with SafeNCryptProviderHandle.load("telltale") as provider:
        original = SafeNCryptKeyHandle.generate("TOLD", provider)
    duplicate = original.duplicate()
    assert duplicate.handle == original.handle
    pair = [original, duplicate]
    if first == "duplicate":
        pair.reverse()
    pair[0].dispose()
    assert told.lines == MADE_AND_GONE[:2]
    assert pair[1].duplicate().is_closed is False  # dropped at once
    assert told.lines == MADE_AND_GONE[:2]
    pair[1].dispose()
    assert told.lines == MADE_AND_GONE


def test_a_duplicate_races_with_dispose(fast_switching: None) -> None:
    """Case 196: the key is a good one, or the handle is closed; nothing between."""
    outcomes = set()
    for round in range(300):
        key = SafeNCryptKeyHandle.generate("ED25519")
        start = threading.Barrier(2)

        def close(key: SafeNCryptKeyHandle = key, start: threading.Barrier = start) -> None:
            start.wait()
            key.dispose()

        thread = threading.Thread(target=close)
        thread.start()
        start.wait()
        for _ in range(round % 7):
            key.handle  # noqa: B018  (a little later in every round)
        try:
            with key.duplicate() as duplicate:
                thread.join()
                assert duplicate.verify(duplicate.sign(b"text"), b"text")
            outcomes.add("duplicate")
        except HandleClosedError:
            outcomes.add("closed")
        thread.join()
        assert refs(key) == 0
    assert outcomes


def test_a_key_keeps_its_provider(told: Telltale) -> None:
    """Case 197: the provider is closed first and goes last."""
    provider = SafeNCryptProviderHandle.load("telltale")
    key = SafeNCryptKeyHandle.generate("TOLD", provider)
    provider.dispose()
    assert not provider.is_closed
    assert told.lines == MADE_AND_GONE[:2]
    key.dispose()
    assert provider.is_closed
    assert told.lines == MADE_AND_GONE


def test_a_key_works_when_its_provider_was_disposed() -> None:
    """Case 197: all that it can do, it still does."""
    provider = SafeNCryptProviderHandle.load("default")
    key = SafeNCryptKeyHandle.generate("EC", provider)
    provider.dispose()
    with key:
        assert key.verify(key.sign(b"text"), b"text")
        with SafeNCryptSecretHandle.derive(key, key) as secret:
            assert secret.byte_length == 32
    assert provider.is_closed


@pytest.mark.parametrize("value", [0, -1])
@pytest.mark.parametrize("owns", [True, False])
def test_an_invalid_key_lets_its_provider_go(value: int, owns: bool) -> None:
    """Case 198: at once, since its release never runs."""
    provider = SafeNCryptProviderHandle.load("default")
    key = SafeNCryptKeyHandle(value, owns, provider=provider)
    assert key.is_invalid
    assert not key.is_closed
    assert refs(provider) == 1
    provider.dispose()
    assert provider.is_closed
    key.dispose()


def test_a_valid_key_holds_its_provider() -> None:
    """Case 198: what the constructor does with a value, adopted or borrowed."""
    owner = SafeNCryptKeyHandle.generate("ED25519")
    provider = SafeNCryptProviderHandle.load("default")
    borrowed = SafeNCryptKeyHandle(owner.handle, False, provider=provider)
    adopted = SafeNCryptKeyHandle(owner.detach(), provider=provider)
    assert refs(provider) == 3
    borrowed.dispose()
    assert refs(provider) == 2
    adopted.dispose()
    assert refs(provider) == 1
    provider.dispose()


def test_nothing_to_duplicate() -> None:
    """Case 199: an invalid key is told from a closed one."""
    with pytest.raises(HandleStateError, match="holds no key"):
        SafeNCryptKeyHandle().duplicate()
    key = SafeNCryptKeyHandle.generate("ED25519")
    key.dispose()
    with pytest.raises(HandleClosedError):
        key.duplicate()


def _agree() -> SafeNCryptSecretHandle:
    with SafeNCryptKeyHandle.generate("X25519") as key:
        return SafeNCryptSecretHandle.derive(key, key)


@pytest.mark.parametrize("end", [SafeNCryptSecretHandle.dispose, SafeNCryptSecretHandle.finalize])
def test_a_secret_is_wiped(end: Callable[[SafeNCryptSecretHandle], None]) -> None:
    """Case 200: before its memory is freed, where what is not wiped stays."""
    secret = _agree()
    address, size = secret.handle, secret.byte_length
    assert read_memory(address, size) == secret.read() != bytes(size)
    end(secret)
    assert read_memory(address, size) == bytes(size)


def test_the_sweep_wipes_a_secret(run: Callable[..., Run]) -> None:
    """Case 200: what the end of a process does, without the end."""
    result = run(
        """
        import os
        from safehandle_debug import SafeNCryptKeyHandle, SafeNCryptSecretHandle, _native

        key = SafeNCryptKeyHandle.generate("X25519")
        secret = SafeNCryptSecretHandle.derive(key, key)
        address, size = secret.handle, secret.byte_length
        memory = os.open("/proc/self/mem", os.O_RDONLY)
        before = os.pread(memory, size, address) == secret.read()
        swept = _native.sweep()
        print(before, swept, os.pread(memory, size, address) == bytes(size))
        """
    ).ok()
    assert result.lines == ["True 2 True"]


def test_freed_memory_can_be_read() -> None:
    """Case 200: the test above would see a secret that was freed and not wiped."""
    text = bytes(range(100, 132))
    assert read_memory(freed_block(text), len(text)) == text
