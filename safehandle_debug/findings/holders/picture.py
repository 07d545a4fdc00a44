"""Who holds what as a picture: DOT by ourselves, SVG by graphviz.

`backrefs` draws everything around one live object with objgraph, which shows
more than the shortest chains do; both programs are optional.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterable, Sequence
from typing import Any, Final, TextIO

from safehandle_debug.findings.holders.model import Holders
from safehandle_debug.findings.holders.roots import is_foreign_code, is_foreign_module

__all__ = ["PictureError", "backrefs", "to_dot", "to_svg"]

_GRAPHVIZ_S: Final = 60


class PictureError(RuntimeError):
    """No picture can be drawn; the text is one sentence that says what to install."""


def to_dot(found: Iterable[tuple[str, Holders]]) -> str:
    """The chains to some handles, each (its name, its holders), as one graph.

    Steps that chains share are drawn once."""
    lines = [
        "digraph holders {",
        "  rankdir=LR;",
        '  node [shape=box, style=rounded, fontname="sans-serif", fontsize=11];',
    ]
    nodes: dict[str, str] = {}
    edges: dict[tuple[str, str], None] = {}

    def node(key: str, label: str, *attributes: str) -> str:
        if key not in nodes:
            nodes[key] = f"n{len(nodes)}"
            text = ", ".join((f"label={_quoted(label)}", *attributes))
            lines.append(f"  {nodes[key]} [{text}];")
        return nodes[key]

    for name, holders in found:
        last = node(f"handle {name}", name, "style=filled", 'fillcolor="#fbd5d5"')
        for chain in holders.chains:
            before, path = "", ""
            for link in chain.links[:-1]:
                path += link.text
                label = f"{link.text}\n{link.type}" if link.text else link.type
                here = node(path + link.type, label)
                if before:
                    edges[before, here] = None
                before = here
            edges[before or node("root " + chain.text, chain.text), last] = None
        if holders.cycle:
            ring = [
                node(f"{name} {number}", each) for number, each in enumerate(holders.cycle[:-1])
            ]
            for one, other in zip(ring, [*ring[1:], ring[0]], strict=True):
                edges[one, other] = None
            edges[ring[-1], last] = None
        elif holders.beyond and not holders.chains:
            edges[node(f"{name} beyond", holders.beyond), last] = None
    lines += [f"  {one} -> {other};" for one, other in edges]
    return "\n".join([*lines, "}"])


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False).replace("\\u", "\\\\u")


def to_svg(dot: str) -> str:
    """A graph in DOT as SVG.

    Raises:
        PictureError: graphviz is not installed, or cannot draw it.
    """
    program = shutil.which("dot")
    if program is None:
        raise PictureError("graphviz is not installed: apt install graphviz, or ask for DOT")
    try:
        done = subprocess.run(
            [program, "-Tsvg"],
            input=dot,
            capture_output=True,
            text=True,
            timeout=_GRAPHVIZ_S,
            check=True,
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise PictureError(f"graphviz cannot draw it: {error}") from error
    return done.stdout


def backrefs(handles: Sequence[object], output: TextIO, *, depth: int = 5) -> None:
    """Writes all that refers to some live objects as DOT, by objgraph.

    It collects garbage first, and looks at the whole heap: for a prompt, not
    for a program at work.

    Raises:
        PictureError: objgraph is not installed.
    """
    try:
        import objgraph
    except ImportError:
        raise PictureError(
            "objgraph is not installed: pip install 'safehandle-debug[holders]'"
        ) from None
    objgraph.show_backrefs(
        list(handles), max_depth=depth, filter=_is_programs, output=output, shortnames=False
    )


def _is_programs(thing: Any) -> bool:
    """False for what is ours or the test runner's."""
    if type(thing).__name__ == "frame":
        return not is_foreign_code(thing.f_code.co_filename)
    return not is_foreign_module(str(type(thing).__module__)) or hasattr(thing, "handle")
