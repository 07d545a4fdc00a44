"""Where a generator of the standard library was made.

What such a generator opens it opens when it is first asked for something, and
the stack tells of that line: `next(walk)`.  The line to look at is the one that
made it: `walk = os.fwalk(path)`.  No event tells of it; the source does, where
one variable of the function was given its value once, by a call of that name.
"""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterator
from dataclasses import replace
from typing import Final

from safehandle_debug.findings.source import whole
from safehandle_debug.ledger import Frame, is_standard

_LARGEST: Final = 1 << 20  # characters of a source that is looked through

_Function = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda | ast.Module


def made_at(opened: tuple[Frame, ...], cwd: str) -> tuple[Frame, ...] | None:
    """The acquire stack, standing where the generator was made that opened the
    handle; None when there was none, or its line is not certain."""
    at = next((i for i, frame in enumerate(opened) if not is_standard(frame.file)), 0)
    if at == 0:
        return None
    generator = opened[at - 1].function.rpartition(".")[2]
    site = opened[at]
    call = _made(whole(site, cwd), site.line, generator)
    if call is None:
        return None
    frame = replace(
        site,
        line=call.lineno,
        end_line=call.end_lineno,
        column=call.col_offset,
        end_column=call.end_col_offset,
    )
    return (frame, *opened[at + 1 :])


@functools.lru_cache(maxsize=128)
def _made(source: str, line: int, generator: str) -> ast.Call | None:
    if generator.startswith("__") or generator not in source or len(source) > _LARGEST:
        return None
    try:
        scope: _Function = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError):
        return None
    inner: _Function | None = scope
    while inner is not None:
        scope = inner
        inner = next((each for each in _functions(scope) if _has(each, line)), None)
    names: set[str] = set()
    for node in _nodes(scope):
        if getattr(node, "lineno", 0) == line:
            if _calls(node, generator):
                return None  # made and asked at once
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
                names.add(node.id)
    made: list[ast.Call] = []
    for name in names:
        values = [node for node in _nodes(scope) if _stores(node, name)]
        if len(values) == 1 and isinstance(values[0], ast.Assign):
            value = values[0].value
            if isinstance(value, ast.Call) and _calls(value, generator) and value.lineno < line:
                made.append(value)
    return made[0] if len(made) == 1 else None


def _functions(scope: ast.AST) -> Iterator[_Function]:
    for node in _nodes(scope):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            yield node


def _nodes(scope: ast.AST) -> Iterator[ast.AST]:
    """What belongs to a function, and not to another one inside it; of those
    inside, the node alone."""
    waiting = list(ast.iter_child_nodes(scope))
    while waiting:
        node = waiting.pop()
        yield node
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            waiting += ast.iter_child_nodes(node)


def _has(node: _Function, line: int) -> bool:
    first, last = getattr(node, "lineno", 0), getattr(node, "end_lineno", 0) or 0
    return first <= line <= last


def _calls(node: ast.AST, name: str) -> bool:
    if not isinstance(node, ast.Call):
        return False
    called = node.func
    return name == (
        called.attr
        if isinstance(called, ast.Attribute)
        else called.id
        if isinstance(called, ast.Name)
        else ""
    )


def _stores(node: ast.AST, name: str) -> bool:
    """Whether a statement gives the variable a value."""
    if isinstance(node, ast.Assign):
        return any(isinstance(each, ast.Name) and each.id == name for each in node.targets)
    if isinstance(node, ast.Name) and node.id == name and not isinstance(node.ctx, ast.Load):
        return False  # counted with its statement
    targets = [
        getattr(node, field) for field in ("target", "optional_vars") if hasattr(node, field)
    ]
    return any(
        isinstance(each, ast.Name) and each.id == name
        for target in targets
        if isinstance(target, ast.AST)
        for each in ast.walk(target)
    )
