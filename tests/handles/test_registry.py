"""The registry: there is none here, and that is said at once."""

from __future__ import annotations

import sys

import pytest

import safehandle_debug
from safehandle_debug import HandleNotSupportedError, SafeHandle, SafeRegistryHandle, _native

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="has a registry")

HKEY_CURRENT_USER = 0x80000001


@pytest.mark.parametrize("arguments", [(), (5,), (HKEY_CURRENT_USER, False), ("no number",)])
def test_constructing(arguments: tuple[object, ...]) -> None:
    """One sentence that says where it works and what there is here."""
    live = _native.live_count()
    with pytest.raises(
        HandleNotSupportedError, match=r"Windows only.* SafeKeyringHandle"
    ) as error:
        SafeRegistryHandle(*arguments)  # type: ignore[arg-type]
    assert "\n" not in str(error.value)
    assert isinstance(error.value, NotImplementedError)
    assert _native.live_count() == live


@pytest.mark.parametrize("root", [HKEY_CURRENT_USER, None, "HKCU"])
def test_opening(root: object) -> None:
    with pytest.raises(HandleNotSupportedError, match="Windows only"):
        SafeRegistryHandle.open(root, "Software")  # type: ignore[arg-type]


def test_a_subclass_acquires_nothing() -> None:
    """Its constructor is not entered."""
    entered = []

    class Settings(SafeRegistryHandle):
        def __init__(self) -> None:
            entered.append(self)
            super().__init__()

    with pytest.raises(HandleNotSupportedError):
        Settings()
    assert entered == []


def test_the_class_itself_is_here() -> None:
    """So that annotations and isinstance work everywhere."""
    assert issubclass(SafeRegistryHandle, SafeHandle)
    assert "SafeRegistryHandle" in dir(safehandle_debug)
    assert not isinstance(_native, SafeRegistryHandle)
