"""Writes the reference out of the docstrings, when the site is built.

A hook of mkdocs: it fills in `reference.md`, so that nothing of it can be out
of date.
"""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Iterator
from typing import Any

MODULES = {
    "safehandle_debug": "handles",
    "safehandle_debug.marshal": "native calls",
    "safehandle_debug.testing": "unittest",
    "safehandle_debug.tracemalloc_ext": "in tracemalloc's terms",
    "safehandle_debug.recording": "recordings",
    "safehandle_debug.ledger": "histories",
    "safehandle_debug.findings": "what is wrong",
    "safehandle_debug.findings.holders": "who holds it",
}
_SIGNATURE = re.compile(r"^\w+\(.*?\)\n--\n\n", re.DOTALL)


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Adds all modules to the page that is for them."""
    if page.file.src_path != "reference.md":
        return markdown
    return "\n".join([markdown, *(line for name in MODULES for line in _module(name))])


def _module(name: str) -> Iterator[str]:
    module = importlib.import_module(name)
    yield f"## {name}\n"
    yield f"{_text(module)}\n"
    for public in module.__all__:
        yield from _entry(public, getattr(module, public))


def _entry(name: str, thing: Any) -> Iterator[str]:
    if inspect.isclass(thing):
        yield f"### {name}\n"
        bases = [base.__name__ for base in thing.__bases__ if base is not object]
        if bases:
            yield f"A `{'`, `'.join(bases)}`.\n"
        yield f"{_text(thing)}\n"
        for member, value in vars(thing).items():
            if not member.startswith("_") and _text(value) and not inspect.isclass(value):
                yield f"- `{member}{_signature(value)}`: {_first(value)}"
        yield ""
    elif callable(thing):
        yield f"### {name}\n\n`{name}{_signature(thing)}`\n\n{_text(thing)}\n"


def _signature(thing: Any) -> str:
    target = getattr(thing, "__func__", thing)
    if isinstance(thing, property) or not callable(target):
        return ""
    try:
        return str(inspect.signature(target)).replace("'", "")
    except (TypeError, ValueError):
        return "(...)"


def _text(thing: Any) -> str:
    """A docstring as Markdown: what is indented in it is code."""
    doc = _SIGNATURE.sub("", inspect.getdoc(thing) or "")
    lines = []
    for line in doc.splitlines():
        if re.fullmatch(r"(Args|Raises|Returns):", line):
            lines.append(f"\n**{line[:-1]}**\n")
        elif lines and re.match(r" {4}\S+( \S+)?: ", line):
            lines.append(f"- {line.strip()}")
        else:
            lines.append(line)
    return "\n".join(lines).replace("<", "&lt;")


def _first(thing: Any) -> str:
    return " ".join(_text(thing).partition("\n\n")[0].split())
