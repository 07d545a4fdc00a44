"""`audit_hooks()`: what would fail in a release hook when it runs late."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from safehandle_debug import SafeHandle, SafeHandleMinusOneIsInvalid
from safehandle_debug.testing import audit_hooks

FREED: list[int] = []


class Correct(SafeHandleMinusOneIsInvalid):
    """Looks like the others, and runs at any moment."""

    def release_handle(self) -> bool:
        try:
            return all(self._free(each) for each in [self.handle])
        except (OSError, ValueError):
            return super().__eq__(None) is True

    def _free(self, value: int) -> bool:
        FREED.append(value)
        return os.path.sep == "/"

    def unrelated(self) -> None:
        import wave  # noqa: F401


class Importing(SafeHandleMinusOneIsInvalid):
    def release_handle(self) -> bool:
        import shutil

        return bool(shutil)


class ImportingElsewhere(SafeHandleMinusOneIsInvalid):
    def release_handle(self) -> bool:
        return self.free()

    def free(self) -> bool:
        from shutil import rmtree

        return bool(rmtree)


class Misspelt(SafeHandleMinusOneIsInvalid):
    def release_handle(self) -> bool:
        return os_close(self.handle) == 0  # type: ignore[name-defined] # noqa: F821


class AskingInvalid(SafeHandle):
    @property
    def is_invalid(self) -> bool:
        import sys

        return self.handle == sys.maxsize

    def release_handle(self) -> bool:
        return True


class Waiting(SafeHandleMinusOneIsInvalid):
    async def release_handle(self) -> bool:  # type: ignore[override]
        return True


class Yielding(SafeHandleMinusOneIsInvalid):
    def release_handle(self) -> Iterator[bool]:  # type: ignore[override]
        yield True


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        (Importing, "Importing.release_handle imports 'shutil' when it runs"),
        (ImportingElsewhere, "ImportingElsewhere.release_handle imports 'shutil' when it runs"),
        (Misspelt, "Misspelt.release_handle uses 'os_close', which neither"),
        (AskingInvalid, "AskingInvalid.is_invalid imports 'sys' when it runs"),
        (Waiting, "Waiting.release_handle is a generator or coroutine"),
        (Yielding, "Yielding.release_handle is a generator or coroutine"),
    ],
)
def test_what_would_fail_late_is_said(wrong: type[SafeHandle], sentence: str) -> None:
    (said,) = audit_hooks(wrong)
    assert sentence in said


def test_a_correct_hook_is_silent() -> None:
    assert audit_hooks(Correct) == []


def test_all_types_of_the_program_are_read() -> None:
    """Those of this file among them; ours are not the program's."""
    said = audit_hooks()
    assert len({line for line in said if f"{__name__}." in line}) == 6
    assert [line for line in said if line.startswith("safehandle_debug.")] == []


@pytest.mark.parametrize("idle", [Waiting, Yielding])
def test_a_hook_that_runs_nothing_is_refused(idle: type[SafeHandleMinusOneIsInvalid]) -> None:
    with pytest.raises(TypeError, match="is a generator or coroutine"):
        idle()
