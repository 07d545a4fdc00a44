"""Keys, providers and secrets on OpenSSL's libcrypto."""

from __future__ import annotations

import ctypes
import functools
import gc
import hashlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support_crypto import MADE_AND_GONE, Telltale, telltale
from support_handles import refs
from support_native import compile_c
from support_programs import Run, recorded

from safehandle_debug import (
    HandleClosedError,
    HandleNotSupportedError,
    HandleStateError,
    NullHandleError,
    SafeFileHandle,
    SafeNCryptHandle,
    SafeNCryptKeyHandle,
    SafeNCryptProviderHandle,
    SafeNCryptSecretHandle,
)

Key, Provider, Secret = SafeNCryptKeyHandle, SafeNCryptProviderHandle, SafeNCryptSecretHandle


@pytest.fixture
def told(tmp_path: Path) -> Iterator[Telltale]:
    """A provider that writes down what happens to it and its keys."""
    with telltale(tmp_path) as provider:
        yield provider


# --- keys ---


@pytest.mark.parametrize("algorithm", ["RSA", "EC", "ec", "ED25519", "ED448"])
def test_sign_and_verify(algorithm: str) -> None:
    with Key.generate(algorithm) as key, Key.generate(algorithm) as other:
        signature = key.sign(b"text")
        assert key.verify(signature, bytearray(b"text"))
        assert not key.verify(signature, b"other text")
        assert not key.verify(b"no signature", b"text")
        assert not key.verify(b"", b"text")
        assert not other.verify(signature, b"text")


def test_the_digest_matters() -> None:
    with Key.generate("EC", group="P-384") as key:
        signature = key.sign(b"text", "SHA512")
        assert key.verify(signature, b"text", digest="SHA512")
        assert not key.verify(signature, b"text", "SHA256")


def test_sizes_and_groups() -> None:
    with Key.generate("RSA", bits=1024) as short, Key.generate("RSA") as usual:
        assert (len(short.sign(b"")), len(usual.sign(b""))) == (128, 256)
    with Key.generate("EC", group="P-521") as large, Key.generate("EC") as small:
        assert len(large.public_key()) > len(small.public_key())
        assert small.public_key()[:1] == b"0"  # an ASN.1 sequence


def test_many_signatures_have_their_own_lengths() -> None:
    """An EC signature is up to 72 bytes; none is padded to that."""
    with Key.generate("EC") as key:
        for number in range(50):
            text = str(number).encode()
            signature = key.sign(text)
            assert signature[1] == len(signature) - 2  # the sequence's own length
            assert key.verify(signature, text)


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda: Key.generate("NONE"), HandleNotSupportedError, "generate a key of 'NONE'"),
        (lambda: Key.generate("EC", group="P-1"), HandleNotSupportedError, "invalid curve"),
        (lambda: Key.generate("RSA", bits=3), HandleNotSupportedError, "too small"),
        (lambda: Key.generate("RSA", bits=-1), ValueError, "bits"),
        (lambda: Key.generate("RSA", 3), TypeError, "provider must be"),
        (lambda: Key.generate("RSA", Provider()), HandleStateError, "load"),
        (lambda: Key.generate("RSA", Provider(-1)), HandleStateError, "load"),
        (lambda: Key().sign(b""), HandleStateError, "generate"),
        (lambda: Key(-1).public_key(), HandleStateError, "generate"),
        (lambda: Key.generate("X25519").sign(b""), HandleNotSupportedError, "cannot sign"),
        (lambda: Key.generate("X25519").verify(b"", b""), HandleNotSupportedError, "verify"),
        (lambda: Key.generate("EC").sign(b"", "NONE"), HandleNotSupportedError, "NONE"),
        (lambda: Key.generate("EC").sign("text"), TypeError, "bytes"),
        (lambda: Provider.load("nowhere"), HandleNotSupportedError, "nowhere"),
        (lambda: Provider.load(""), ValueError, "default"),
        (lambda: Provider.load("a\0b"), ValueError, "default"),
        (lambda: Provider.load(b"default"), TypeError, "str"),
        (lambda: Secret.derive(None, b""), NullHandleError, "key"),
        (lambda: Secret.derive(SafeFileHandle(), b""), TypeError, "SafeNCryptKeyHandle"),
        (lambda: Secret.derive(Key.generate("EC"), 3), TypeError, "peer"),
        (lambda: Secret.derive(Key.generate("EC"), b"x"), ValueError, "DER"),
        (lambda: Secret.derive(Key.generate("EC"), Key()), HandleStateError, "no key"),
        (lambda: Secret().read(), HandleStateError, "derive"),
        (SafeNCryptHandle, TypeError, "abstract"),
    ],
)
def test_bad_input(call: Callable[[], Any], error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        call()


def test_a_closed_key() -> None:
    key, other = Key.generate("X25519"), Key.generate("X25519")
    key.close()
    key.close()
    for use in (
        key.public_key,
        key.duplicate,
        lambda: key.sign(b""),
        lambda: key.verify(b"", b""),
        lambda: Secret.derive(key, other),
        lambda: Secret.derive(other, key),
    ):
        with pytest.raises(HandleClosedError):
            use()
    assert refs(other) == 1


def test_a_closed_provider() -> None:
    provider = Provider.load("default")
    provider.close()
    with pytest.raises(HandleClosedError):
        Key.generate("EC", provider)
    with pytest.raises(HandleClosedError):
        Key(0, provider=provider)


# --- providers ---


def test_a_failed_key_lets_its_provider_go() -> None:
    with Provider.load("legacy") as provider:
        with pytest.raises(HandleNotSupportedError, match="provider=legacy"):
            Key.generate("RSA", provider)  # the other providers are not asked
        assert refs(provider) == 1


def test_a_provider_serves_nobody_else() -> None:
    """What hashlib finds does not change when a provider is loaded and goes."""

    def finds_md4() -> bool:
        try:
            hashlib.new("md4")
        except ValueError:
            return False
        return True

    before = finds_md4()
    with Provider.load("legacy"):
        assert finds_md4() == before
        assert hashlib.new("sha256", b"").hexdigest().startswith("e3b0c442")
    with Provider.load("default") as one, Provider.load("default") as another:
        assert one.handle != another.handle
    assert hashlib.new("sha256", b"").hexdigest().startswith("e3b0c442")


def test_a_cycle_of_key_and_provider(told: Telltale) -> None:
    class Holder:
        def __init__(self) -> None:
            self.provider = Provider.load("telltale")
            self.key = Key.generate("TOLD", self.provider)
            self.me = self

    Holder()
    gc.collect()
    assert told.lines == MADE_AND_GONE


def test_dropping_the_provider_alone(told: Telltale) -> None:
    key = Key.generate("TOLD", Provider.load("telltale"))
    gc.collect()
    assert told.lines == MADE_AND_GONE[:2]
    del key
    assert told.lines == MADE_AND_GONE


def test_a_key_on_a_provider_cannot_be_detached() -> None:
    with Provider.load("default") as provider, Key.generate("EC", provider) as key:
        with pytest.raises(HandleNotSupportedError, match="lives on another"):
            key.detach()
        assert not key.is_closed


def test_an_invalidated_key_lets_its_provider_go(told: Telltale) -> None:
    with Provider.load("telltale") as provider:
        key = Key.generate("TOLD", provider)
        number = key.handle
        key.set_handle_as_invalid()
        assert refs(provider) == 1
        assert told.lines == MADE_AND_GONE[:2]
        with Key(number):  # still there: whoever has the number may free it
            pass
    assert told.lines == MADE_AND_GONE


def test_a_hook_in_python(told: Telltale) -> None:
    class Mine(SafeNCryptKeyHandle):
        def release_handle(self) -> bool | None:
            seen.append(refs(provider))
            return super().release_handle()

    seen: list[int] = []
    provider = Provider.load("telltale")
    key = Mine.generate("TOLD", provider)
    duplicate = key.duplicate()
    assert type(duplicate) is Mine
    provider.close()
    key.close()
    duplicate.close()
    assert seen == [2, 1]
    assert told.lines == MADE_AND_GONE


# --- secrets ---


@pytest.mark.parametrize(("algorithm", "size"), [("X25519", 32), ("X448", 56), ("EC", 32)])
def test_both_sides_agree(algorithm: str, size: int) -> None:
    with (
        Provider.load("default") as provider,
        Key.generate(algorithm, provider) as mine,
        Key.generate(algorithm) as theirs,
        Secret.derive(mine, theirs) as here,
        Secret.derive(theirs, memoryview(mine.public_key())) as there,
        Secret.derive(mine, mine) as other,
    ):
        assert here.read() == there.read() != other.read()
        assert here.byte_length == len(here.read()) == size
        assert refs(mine) == refs(theirs) == 1


@pytest.mark.parametrize("other", ["ED25519", "EC"])
def test_keys_that_do_not_belong_together(other: str) -> None:
    with Key.generate("X25519") as key, Key.generate(other) as peer:
        with pytest.raises(HandleNotSupportedError, match="cannot derive"):
            Secret.derive(key, peer)
        with pytest.raises(HandleNotSupportedError, match="cannot derive"):
            Secret.derive(peer, key)


def test_bytes_after_a_public_key() -> None:
    with Key.generate("X25519") as key, pytest.raises(ValueError, match="DER"):
        Secret.derive(key, key.public_key() + b"\0")


def test_a_secret_outlives_its_keys_and_moves() -> None:
    with Key.generate("X25519") as key:
        secret = Secret.derive(key, key)
    text = secret.read()
    moved = Secret(secret.detach())
    with pytest.raises(HandleClosedError):
        secret.read()
    with pytest.raises(HandleClosedError):
        _ = secret.byte_length
    with moved:
        assert moved.read() == text


# --- recordings ---


def test_what_is_recorded(tmp_path: Path) -> None:
    with (
        recorded(tmp_path) as told,
        Provider.load("default") as provider,
        Key.generate("EC", provider) as key,
    ):
        key.duplicate().close()
        Secret.derive(key, key).close()
        number = provider.handle
    provided, made, duplicate, secret = told[0].handles
    assert provided == told[0].of(number, "SafeNCryptProviderHandle")
    assert [(h.kind, h.space, h.detail) for h in told[0].handles] == [
        ("provider", "provider", "default"),
        ("key", "pkey", "EC P-256"),
        ("key", "pkey", f"duplicate of #{made.serial}"),
        ("secret", "secret", f"derived from #{made.serial}"),
    ]
    assert {provided.ending, made.ending} == {"exited"}
    assert {duplicate.ending, secret.ending} == {"closed"}
    kinds = {event.kind for handle in told[0].handles for event in handle.events}
    assert not kinds & {"double-owner", "release-failed"}


KEPT = """
import ctypes, os, sys
from safehandle_debug import *

provider = SafeNCryptProviderHandle.load("telltale")
key = SafeNCryptKeyHandle.generate("TOLD", provider)
duplicate = key.duplicate()
pair = SafeNCryptKeyHandle.generate("X25519")
secret = SafeNCryptSecretHandle.derive(pair, pair)
for handle in (provider, key, duplicate, pair, secret):
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(handle))
"""


def test_the_sweep_at_exit(run: Callable[..., Run], told: Telltale) -> None:
    result = run(KEPT, env=told.env).ok()
    assert told.lines == MADE_AND_GONE
    assert {handle.ending for handle in result.first().handles} == {"swept"}
    assert len(result.first().handles) == 5


@pytest.mark.parametrize("before", ["", "import ssl\n"])
def test_an_exit_under_a_running_interpreter(
    run: Callable[..., Run], told: Telltale, before: str
) -> None:
    """OpenSSL cleans up before our own exit function is called, or after."""
    result = run(before + KEPT + "ctypes.CDLL(None).exit(0)\n", env=told.env).ok()
    assert told.lines == MADE_AND_GONE
    assert {handle.ending for handle in result.first().handles} == {"swept"}


def test_a_forked_child_leaves_the_parents_alone(run: Callable[..., Run], told: Telltale) -> None:
    result = run(
        KEPT
        + """
child = os.fork()
if child == 0:
    sys.exit(0)
os.waitpid(child, 0)
print(open(os.environ["TELLTALE"]).read().count("freed"))
""",
        env=told.env,
    ).ok()
    assert result.lines == ["0"]
    assert told.lines == MADE_AND_GONE


def test_a_subinterpreter(run: Callable[..., Run], told: Telltale) -> None:
    result = run(
        f"""
        from sharing import create, destroy, run_in

        inner = create()
        run_in(inner, {KEPT!r})
        print(open({str(told.file)!r}).read().count("unloaded"))
        destroy(inner)
        print(open({str(told.file)!r}).read().count("unloaded"))
        """,
        env=told.env,
    ).ok()
    assert result.lines == ["0", "1"]
    assert told.lines == MADE_AND_GONE


# --- the library ---

ASK = """
from safehandle_debug import *

for ask in (
    lambda: SafeNCryptProviderHandle.load("default"),
    lambda: SafeNCryptKeyHandle.generate("RSA"),
    SafeNCryptKeyHandle,
    SafeNCryptSecretHandle,
):
    try:
        ask()
    except HandleNotSupportedError as error:
        print(error)
"""


def test_without_the_library(run: Callable[..., Run], tmp_path: Path) -> None:
    (tmp_path / "libcrypto.so.3").touch()
    result = run(ASK, env={"LD_LIBRARY_PATH": str(tmp_path)}).ok()
    assert len(result.lines) == 4
    for line in result.lines:
        assert "install Debian's package libssl3" in line


def test_with_another_library(run: Callable[..., Run], tmp_path: Path) -> None:
    compile_c("int nothing;", tmp_path / "libcrypto.so.3")
    result = run(ASK, env={"LD_LIBRARY_PATH": str(tmp_path)}).ok()
    assert len(result.lines) == 4
    for line in result.lines:
        assert "has no function OPENSSL_atexit: OpenSSL 3.0 or newer" in line


def test_the_library_is_not_loaded_before_it_is_needed(run: Callable[..., Run]) -> None:
    result = run(
        """
        import os
        import safehandle_debug

        def loaded():
            return "libcrypto" in open("/proc/self/maps").read()

        print(loaded())
        safehandle_debug.SafeNCryptKeyHandle()
        print(loaded())
        """,
        level=None,
    ).ok()
    assert result.lines == ["False", "True"]


class _Malloc(ctypes.Structure):
    """What mallinfo2(3) fills in."""

    _fields_ = [
        (name, ctypes.c_size_t)
        for name in (
            "arena",
            "ordblks",
            "smblks",
            "hblks",
            "hblkhd",
            "usmblks",
            "fsmblks",
            "uordblks",
            "fordblks",
            "keepcost",
        )
    ]


def _loaded() -> None:
    Provider.load("default").close()


@functools.cache
def _lasting() -> SafeNCryptProviderHandle:
    return Provider.load("default")


def _made_on_a_provider() -> None:
    with Key.generate("ED25519", _lasting()) as key:
        key.duplicate().close()


def _used() -> None:
    with Key.generate("EC") as key:
        key.verify(key.sign(b"text"), b"text")
        key.verify(b"wrong", b"text")


def _derived() -> None:
    with Key.generate("X25519") as key, Secret.derive(key, key.public_key()) as secret:
        secret.read()


def _refused() -> None:
    with Provider.load("legacy") as provider, Key.generate("X25519") as key:
        for call in (
            lambda: Provider.load("nowhere"),
            lambda: Key.generate("RSA", provider),
            lambda: key.sign(b""),
        ):
            with pytest.raises(HandleNotSupportedError):
                call()


@pytest.mark.skipif(
    "SAFEHANDLE_SANITIZED" in os.environ, reason="a sanitizer keeps what was freed"
)
@pytest.mark.parametrize("once", [_loaded, _made_on_a_provider, _used, _derived, _refused])
def test_memory_does_not_grow(once: Callable[[], None]) -> None:
    """All that was taken of the C heap is given back.

    (Not so of keys on ever new providers: OpenSSL's own tables grow then, for
    a thousand rounds, as they do in a program in C.)"""
    mallinfo = getattr(ctypes.CDLL(None), "mallinfo2", None)
    if mallinfo is None:
        pytest.skip("this C library does not tell what is in use")
    mallinfo.restype = _Malloc
    grown = []
    for _ in range(10):  # caches fill up in the first of them
        gc.collect()
        before = mallinfo().uordblks
        for _ in range(100):
            once()
        gc.collect()
        grown.append((mallinfo().uordblks - before) / 100)
        if grown[-1] < 16:
            return
    pytest.fail(f"bytes that each round left behind: {grown}")
