"""Sites that may leave handles open, or release them wrongly."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase

from safehandle_debug.ledger import Frame, History


class SiteError(ValueError):
    """The text of a site cannot be understood; says what is accepted."""


@dataclass(frozen=True, slots=True)
class Site:
    """Names the handles that some code opened, those of one class, or what some
    code does."""

    path: str  # glob, matched from the end of the path; "" when by type
    function: str  # glob, of the function's name or its qualified name
    owner: str | None = None  # class name

    @classmethod
    def parse(cls, text: str) -> Site | None:
        """Reads a site; None when there is nothing but a comment.

        Raises:
            SiteError: it has neither form.
        """
        text = text.partition("#")[0].strip()
        if not text:
            return None
        path, colon, function = text.rpartition(":")
        if not colon or not path or not function:
            raise SiteError(
                f"'{text}' is not a site: use path-glob:function-glob"
                " (app/store.py:open_index) or type:NAME (type:SafeFileHandle)"
            )
        if path == "type":
            return cls("", "", function)
        return cls(path.removeprefix("./"), function)

    def covers(self, history: History) -> bool:
        """True when the handle was opened through this site."""
        if self.owner is not None:
            return history.owner == self.owner
        return self.is_in(history.opened)

    def is_in(self, stack: Iterable[Frame]) -> bool:
        """True when the stack goes through this site."""
        return self.owner is None and any(self._is_at(frame) for frame in stack)

    def _is_at(self, frame: Frame) -> bool:
        file = frame.file.replace(os.sep, "/")
        if not fnmatchcase(file, self.path) and not fnmatchcase(file, f"*/{self.path}"):
            return False
        name = frame.function
        return fnmatchcase(name, self.function) or fnmatchcase(
            name.rpartition(".")[2], self.function
        )
