"""SafeRegistryHandle: a key of the Windows registry.

`winreg` has handles of its own, which close on their own terms; here the number
alone is taken out of them, and is closed as every handle is.
"""

from __future__ import annotations

import sys
from typing import Any, Self, SupportsIndex

from safehandle_debug import (
    HandleNotSupportedError,
    NullHandleError,
    SafeHandleZeroOrMinusOneIsInvalid,
)

__all__ = ["SafeRegistryHandle"]

if sys.platform == "win32":  # here, since nothing can be imported at the end of a process
    import winreg

_NO_REGISTRY = (
    "SafeRegistryHandle works on Windows only, this platform has no registry: "
    "keys of the Linux kernel are SafeKeyringHandle's"
)

# The roots (HKEY_CLASSES_ROOT, ...), as signed numbers: they are everybody's.
_ROOTS = range(-(1 << 31), -(1 << 31) + 0x80)


def _signed(value: SupportsIndex) -> int:
    """The number as 64 signed bits; winreg gives roots unsigned."""
    number = value.__index__()
    if 1 << 31 <= number < 1 << 32:
        return number - (1 << 32)
    return number - (1 << 64) if 1 << 63 <= number < 1 << 64 else number


class SafeRegistryHandle(SafeHandleZeroOrMinusOneIsInvalid):
    """An open key of the Windows registry.

    Args:
        value: the number of a key (an HKEY) to adopt.
        owns_handle: closing closes the key. The predefined roots are only ever
            borrowed.

    Raises HandleNotSupportedError where there is no registry.
    """

    handle_kind = "registry"
    handle_space = "registry"

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        # Not in __init__: a subclass's constructor must not get as far as to
        # acquire what cannot be wrapped.
        if sys.platform != "win32":
            raise HandleNotSupportedError(_NO_REGISTRY)
        return super().__new__(cls, *args, **kwargs)

    def __init__(self, value: SupportsIndex = 0, owns_handle: bool = True) -> None:
        number = _signed(value)
        super().__init__(owns_handle and number not in _ROOTS)
        self.set_handle(number)

    @classmethod
    def open(
        cls,
        root: int | SafeRegistryHandle,
        path: str,
        access: int = 0x20019,
        *,
        create: bool = False,
    ) -> Self:
        """Opens the key at `path` below `root`.

        Args:
            root: one of winreg's HKEY_ constants, or an open handle.
            path: names with backslashes between them.
            access: winreg's KEY_ constants; by default KEY_READ.
            create: makes the key when it is not there.

        Raises OSError as `winreg.OpenKeyEx` does, HandleClosedError when
        `root` is closed, HandleNotSupportedError where there is no registry.
        """
        if sys.platform != "win32":
            raise HandleNotSupportedError(_NO_REGISTRY)
        if root is None:
            raise NullHandleError("open() needs a root key, not None")
        if isinstance(root, SafeRegistryHandle):
            with root.hold() as number:
                return cls._open(number, path, access, create)
        if isinstance(root, int):
            return cls._open(root, path, access, create)
        raise TypeError(
            "open() needs one of winreg's HKEY_ constants or a SafeRegistryHandle, "
            f"not {type(root).__name__}"
        )

    if sys.platform == "win32":
        _CloseKey = staticmethod(winreg.CloseKey)

        @classmethod
        def _open(cls, root: int, path: str, access: int, create: bool) -> Self:
            handle = cls()
            acquire = winreg.CreateKeyEx if create else winreg.OpenKeyEx
            keys = map(acquire, [root], [path], [0], [access])
            # One C call from the system's answer to its owner: there is no
            # bytecode on the way for an interrupt to fall upon.
            next(map(handle.set_handle, map(winreg.HKEYType.Detach, keys)))
            return handle

        def release_handle(self) -> bool:
            """False when Windows refuses: somebody closed the key already."""
            try:
                self._CloseKey(self.handle)
            except OSError:
                return False
            return True
