"""Reads the release hooks of handle types for what fails when it is too late to ask.

A hook may run while the interpreter ends: nothing can be imported then, and a
name that its module lost, or never had, is an error that nobody sees but the
recording.
"""

from __future__ import annotations

import builtins
import dis
import inspect
from collections.abc import Iterator
from types import CodeType, FunctionType

from safehandle_debug import CriticalFinalizer

_HOOKS = ("release_handle", "is_invalid", "dispose", "finalize")
_GLOBALS = frozenset({"LOAD_GLOBAL", "LOAD_NAME"})


def audit_hooks(*types: type[CriticalFinalizer]) -> list[str]:
    """Sentences about hooks that may fail when they run; [] when all is well.

    Args:
        types: handle types; none: all that are loaded and not ours.

    A hook is read together with the methods of `self` that it calls.  Told are
    imports inside, names that neither the module nor Python has, and hooks that
    are generators or coroutines, of which a call runs nothing.
    """
    found: dict[str, None] = {}
    for type_ in types or tuple(_subclasses(CriticalFinalizer)):
        for name in _HOOKS:
            function = _function(type_, name)
            if function is not None:
                where = f"{function.__module__}.{function.__qualname__}"
                found.update(dict.fromkeys(f"{where} {each}" for each in _faults(type_, function)))
    return list(found)


def _subclasses(base: type[CriticalFinalizer]) -> Iterator[type[CriticalFinalizer]]:
    for each in base.__subclasses__():
        if each.__module__.partition(".")[0] != "safehandle_debug":
            yield each
        yield from _subclasses(each)


def _function(type_: type, name: str) -> FunctionType | None:
    found = inspect.getattr_static(type_, name, None)
    if isinstance(found, property):
        found = found.fget
    return found if isinstance(found, FunctionType) else None


def _faults(type_: type, hook: FunctionType) -> Iterator[str]:
    if inspect.isgeneratorfunction(hook) or inspect.iscoroutinefunction(hook):
        yield "is a generator or coroutine: a call of it runs nothing"
    pending, seen = [hook], {hook}
    while pending:
        function = pending.pop()
        for code in _codes(function.__code__):
            for step in dis.get_instructions(code):
                if step.opname == "IMPORT_NAME":
                    yield (
                        f"imports {step.argval!r} when it runs: at the end of the interpreter"
                        " nothing can be imported; import it at the top of the module"
                    )
                elif step.opname in _GLOBALS and not _is_known(function, step.argval):
                    yield f"uses {step.argval!r}, which neither its module nor Python has"
        for name in function.__code__.co_names:
            called = _function(type_, name)
            if called is not None and called not in seen:
                seen.add(called)
                pending.append(called)


def _codes(code: CodeType) -> Iterator[CodeType]:
    """It, and what is defined inside."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _codes(constant)


def _is_known(function: FunctionType, name: str) -> bool:
    return name in function.__globals__ or hasattr(builtins, name)
