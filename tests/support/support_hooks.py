"""The watch's hooks by themselves: compiled with a watch that writes down what
it is told (`tests/watch/told.c`), called as libc's functions would be.

The process that tests runs is not patched: only these calls pass the hooks.
"""

from __future__ import annotations

import _ctypes
import ctypes
import functools
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

__all__ = ["Hooks", "hooks_library"]

TESTS = Path(__file__).parents[1]
CORE = TESTS.parent / "safehandle_debug/_core"

KEPT_ERRNO = 77  # no function sets it


@functools.cache
def hooks_library() -> str:
    """Path of the compiled library; skips the test where there is no compiler."""
    compiler = os.environ.get("CC") or shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("no C compiler is installed")
    target = Path(tempfile.mkdtemp(prefix="safehandle-hooks-")) / "hooks.so"
    flags = [
        "-std=gnu11",
        "-shared",
        "-fPIC",
        "-fvisibility=hidden",
        "-Wall",
        "-Wextra",
        "-Werror",
    ]
    if "SAFEHANDLE_SANITIZED" in os.environ:
        flags += ["-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=undefined"]
    else:
        flags += ["-O2"]
    sources = [*sorted((CORE / "watch").glob("hooks*.c")), TESTS / "watch/told.c"]
    command = [compiler, *flags, f"-I{CORE}", *map(str, sources), "-o", str(target)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return str(target)


class _Keeping(ctypes._CFuncPtr):
    """Called with the GIL: a child that is forked while another thread of this
    process has it would wait for it for ever."""

    _flags_ = _ctypes.FUNCFLAG_CDECL | _ctypes.FUNCFLAG_PYTHONAPI | _ctypes.FUNCFLAG_USE_ERRNO
    _restype_ = ctypes.c_ssize_t


class Hooks:
    """Calls hooks, and says what they told the watch."""

    def __init__(self) -> None:
        self._library = ctypes.CDLL(hooks_library())
        self._library.hook_of.restype = ctypes.c_void_p
        self._library.hook_name.restype = ctypes.c_char_p
        self._library.told.restype = ctypes.c_char_p
        self._library.told_by.restype = ctypes.c_char_p
        self._library.told_switch.restype = ctypes.c_void_p
        self.awake = ctypes.c_int.from_address(self._library.told_switch())
        self.rooms = ctypes.c_int.in_dll(self._library, "told_rooms")
        self.verdict = ctypes.c_int.in_dll(self._library, "told_verdict")
        self.parked = (ctypes.c_ubyte * 1024).in_dll(self._library, "told_parked")
        self.errno = 0

    def names(self) -> list[str]:
        """All hooks, in order."""
        names: list[str] = []
        while name := self._library.hook_name(ctypes.c_size_t(len(names))):
            names.append(name.decode())
        return names

    def exists(self, name: str) -> bool:
        """Whether libc has the function."""
        return hasattr(ctypes.CDLL(None), name)

    def call(self, name: str, *arguments: object) -> int:
        """What the hook returns, as a signed number; `errno` is what it left."""
        address = self._library.hook_of(name.encode())
        assert address, f"there is no hook of {name}"
        forks = name.strip("_").lower() == "fork"
        function = (_Keeping if forks else ctypes.CFUNCTYPE(ctypes.c_ssize_t, use_errno=True))(
            address
        )
        wide = [ctypes.c_ssize_t(each) if isinstance(each, int) else each for each in arguments]
        ctypes.set_errno(KEPT_ERRNO)
        result: int = function(*wide)
        self.errno = ctypes.get_errno()
        return result

    def number(self, name: str, *arguments: object) -> int:
        """The same for a function that returns an int."""
        return ctypes.c_int(self.call(name, *arguments)).value

    def told(self) -> list[str]:
        """What the watch was told since the last time."""
        text: str = self._library.told().decode()
        return text.splitlines()

    def told_by(self) -> str:
        """The object that made the last call told of."""
        return Path(self._library.told_by().decode()).name

    def vfork_and_run(self, path: str, fd: int) -> int:
        """Exit status of a child that closes `fd` and runs `path`."""
        result: int = self._library.vfork_and_run(path.encode(), fd)
        return result

    def calm(self) -> None:
        """As new, for the next test."""
        self.awake.value = 1
        self.rooms.value = self.verdict.value = 0
        ctypes.memset(self.parked, 0, len(self.parked))
        self.told()
