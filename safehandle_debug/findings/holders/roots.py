"""Where a search begins: what the program itself keeps alive.

Never our own modules and frames, nor those of what runs tests: that they hold a
handle explains nothing.
"""

from __future__ import annotations

import contextvars
import os
import sys
import types
from collections.abc import Iterator
from types import FrameType
from typing import Any, Final, NamedTuple

from safehandle_debug import _native
from safehandle_debug.ledger import is_library, is_ours

__all__ = ["Root", "frame_variables", "is_foreign_code", "is_foreign_module", "roots"]

_RUNNERS: Final = ("_pytest", "pluggy", "pytest", "xdist", "execnet", "unittest")
_OURS: Final = ("safehandle_debug", "safehandle_tui", "pytest_safehandle")
_FOREIGN: Final = frozenset(_RUNNERS + _OURS)
_RUNNER_PATHS: Final = tuple(f"{os.sep}{name}{os.sep}" for name in _RUNNERS)
_OPTIMIZED: Final = 1  # CO_OPTIMIZED: variables are not in a dict

# A class or module may define these names anew: no code of the program is run.
_module_of: Final = type.__dict__["__module__"].__get__
_namespace_of: Final[Any] = vars(types.ModuleType)["__dict__"].__get__


class Root(NamedTuple):
    """An object that needs no other reason to be alive."""

    text: str
    thing: object
    is_programs: bool = True  # False: a library's own


def is_foreign_module(name: str) -> bool:
    """True for modules of ours, and of what runs tests."""
    # A mock keeps the arguments of its calls, which is a reason as any other.
    return name.partition(".")[0] in _FOREIGN and name != "unittest.mock"


def is_foreign_code(file: str) -> bool:
    """The same for a source file."""
    return is_ours(file) or any(part in file for part in _RUNNER_PATHS)


def frame_variables(frame: FrameType) -> dict[str, Any]:
    """A frame's local variables; {} for a module's."""
    if frame.f_code.co_flags & _OPTIMIZED:
        return _native.frame_locals(frame)
    if frame.f_locals is frame.f_globals:
        return {}
    return {name: value for name, value in frame.f_locals.items() if type(name) is str}


def roots() -> Iterator[Root]:
    """All roots, those first that explain best where several do."""
    yield from _tasks()
    yield from _variables()
    yield from _frames()
    yield from _modules()


def _frames() -> Iterator[Root]:
    names = _thread_names()
    known = {id(_namespace_of(module)) for module in _loaded().values()}
    for ident, newest in sys._current_frames().items():
        frame: FrameType | None = newest
        name = names.get(ident, "?")
        where = "" if name == "MainThread" else f"thread {name!r}, "
        while frame is not None:
            code = frame.f_code
            if not is_foreign_code(code.co_filename):
                at = f"{os.path.basename(code.co_filename)}:{frame.f_lineno}"
                own = not is_library(code.co_filename)
                for variable, value in frame_variables(frame).items():
                    text = f"{where}local {variable} of {code.co_qualname} ({at})"
                    yield Root(text, value, own)
                if id(frame.f_globals) not in known:
                    yield from _globals(frame.f_globals)
                    known.add(id(frame.f_globals))
            frame = frame.f_back


def _globals(namespace: dict[str, Any]) -> Iterator[Root]:
    """Of code that runs in no module that is loaded."""
    name = namespace.get("__name__")
    shown = name if type(name) is str else "?"
    for key, value in list(namespace.items()):
        if type(key) is str and key != "__builtins__":
            yield Root(f"{shown}.{key}", value)


def _thread_names() -> dict[int, str]:
    threading = sys.modules.get("threading")
    active = vars(threading).get("_active") if threading is not None else None
    if type(active) is not dict:
        return {}
    found = {}
    for ident, thread in list(active.items()):
        name = vars(thread).get("_name")
        if type(name) is str:
            found[ident] = name
    return found


def _tasks() -> Iterator[Root]:
    module = sys.modules.get("asyncio.tasks")
    if module is None:
        return
    task_type = vars(module)["Task"]
    for attribute in ("_all_tasks", "_scheduled_tasks"):  # 3.11, 3.12
        references = getattr(vars(module).get(attribute), "data", ())
        for reference in list(references):
            task = reference()
            if issubclass(type(task), task_type):
                yield Root(f"task {task_type.get_name(task)!r}", task)
    for task in list(vars(module).get("_eager_tasks", ())):
        if issubclass(type(task), task_type):
            yield Root(f"task {task_type.get_name(task)!r}", task)


def _variables() -> Iterator[Root]:
    for variable, value in contextvars.copy_context().items():
        yield Root(f"contextvar {variable.name!r}", value)


def _loaded() -> dict[str, types.ModuleType]:
    return {
        name: module
        for name, module in list(sys.modules.items())
        if issubclass(type(module), types.ModuleType) and type(name) is str
    }


def _modules() -> Iterator[Root]:
    """The globals of modules, the program's own modules first.

    A class or function that another module defines is that one's."""
    loaded = {name: each for name, each in _loaded().items() if not is_foreign_module(name)}
    library = {name: _is_library_module(module) for name, module in loaded.items()}
    for name in sorted(loaded, key=lambda name: (library[name], name)):
        for key, value in list(_namespace_of(loaded[name]).items()):
            if type(key) is not str or key in ("__builtins__", "__loader__", "__spec__"):
                continue
            if issubclass(type(value), types.ModuleType):
                continue
            home = name
            if issubclass(type(value), type):
                home = _module_of(value)
            elif type(value) is types.FunctionType:
                home = value.__module__
            if home == name or home not in loaded:
                yield Root(f"{name}.{key}", value, not library[name])


def _is_library_module(module: types.ModuleType) -> bool:
    file = _namespace_of(module).get("__file__")
    if type(file) is not str:
        return bool(_namespace_of(module).get("__name__") != "__main__")
    return is_library(file)
