"""Where the number of a descriptor or a child process stands that nothing owns.

A number keeps nothing open, and the same number may mean anything else: what is
said of it is where it stands, in what the program itself has written, and no
more than that.
"""

from __future__ import annotations

import collections
import enum
import re
import sys
import types
from collections.abc import Sequence
from contextvars import Context
from itertools import pairwise
from typing import Any, Final

from safehandle_debug.findings.holders.links import chain
from safehandle_debug.ledger import is_library

__all__ = ["CHILD", "LEAST", "MOST_PLACES", "RAW", "standing"]

RAW: Final = "raw"  # the owner of a descriptor that nothing owns
CHILD: Final = "child"  # of a child process, which an object may have
LEAST: Final = 3  # below it are the standard streams
MOST_PLACES: Final = 3  # where a number stands oftener it says nothing

# As names of constants are written: such a number was there before the descriptor.
_CONSTANT: Final = re.compile(r"(?:.*\.)?[A-Z][A-Z0-9_]*")
# An attribute that is called what it is: a library's object has the number.
_DESCRIPTOR: Final = re.compile(r".*\._*(?:\w+_)?(?:fd|fileno|pid)")
# By id: a metaclass may say how its classes are hashed.
_PLAIN: Final = frozenset(
    id(kind)
    for kind in (
        dict,
        list,
        tuple,
        set,
        frozenset,
        collections.deque,
        collections.defaultdict,
        collections.OrderedDict,
        types.CellType,
        types.FrameType,
        types.GeneratorType,
        types.CoroutineType,
        types.AsyncGeneratorType,
        types.MethodType,
        types.SimpleNamespace,
        Context,
    )
)
_TASKS: Final = frozenset({"_asyncio", "asyncio.tasks"})
_module_of: Final = type.__dict__["__module__"].__get__
_namespace_of: Final[Any] = vars(types.ModuleType)["__dict__"].__get__


def standing(value: int, places: Sequence[tuple[str, Sequence[object]]]) -> str:
    """What is known of a bare number.

    Args:
        value: it.
        places: where it was met: what the root is called, and all objects from
            there to the number itself.
    """
    met = [(chain(root, path).text, path) for root, path in places]
    found = dict.fromkeys(
        text for text, path in met if _is_written(path) or _DESCRIPTOR.fullmatch(text)
    )
    if not found:
        return f"nothing: no variable of the program is {value}"
    likely = [text for text in found if not _CONSTANT.fullmatch(text)]
    if not likely or len(likely) > MOST_PLACES:
        return "nothing: it is a bare number"
    return f"nothing; the number {value} stands in {' and in '.join(likely)}"


def _is_written(path: Sequence[object]) -> bool:
    """True when the program has put the number where it stands."""
    for holder, held in pairwise(path):
        if type(holder) is types.FunctionType:
            if held is not holder.__closure__:
                return False  # a default, which was there before any descriptor
        elif not _is_plain(holder):
            return False
    return True


def _is_plain(thing: object) -> bool:
    """True for what keeps what a program puts into it, and has no numbers of its own."""
    kind = type(thing)
    if id(kind) in _PLAIN:
        return True
    owner: type = thing if issubclass(kind, type) else kind  # type: ignore[assignment]
    if issubclass(owner, enum.Enum):
        return False
    module = _module_of(owner)
    if type(module) is not str:
        return False
    file = _file_of(module)
    return module in _TASKS or module == "__main__" or (file is not None and not is_library(file))


def _file_of(module: str) -> str | None:
    loaded = sys.modules.get(module)
    if not issubclass(type(loaded), types.ModuleType):
        return None
    file = _namespace_of(loaded).get("__file__")
    return file if type(file) is str else None
