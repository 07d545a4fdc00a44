"""The tables of an export.  Columns are only ever added, at the end.

Times are nanoseconds since 1970 (UTC).  `pid` with `started_ns` names a
process; within it `serial` names a handle and `stack` a stack.
"""

from __future__ import annotations

from typing import Final, NamedTuple

__all__ = ["TABLES", "Column"]


class Column(NamedTuple):
    """One column; it has nulls where its meaning says so."""

    name: str
    type: str  # "int" (64 bits), "text" or "bool"
    meaning: str


_PROCESS: Final = (
    Column("pid", "int", "of the process"),
    Column("started_ns", "int", "when its recording began"),
)

_CONTEXT: Final = (
    Column("task", "text", "asyncio task; null: none"),
    Column("test", "text", "the test that ran; null: none"),
)

TABLES: Final[dict[str, tuple[Column, ...]]] = {
    "processes": (
        *_PROCESS,
        Column("parent_pid", "int", "of its parent"),
        Column("command", "text", "its command line"),
        Column("cwd", "text", "its working directory"),
        Column("python", "text", "version of Python"),
        Column("level", "text", "sampled or full"),
        Column("ended", "text", "exit, signal or running"),
        Column("ended_ns", "int", "when it ended; null: unknown or running"),
        Column("exit_code", "int", "status or number of the signal; null: unknown or running"),
        Column("events", "int", "events that happened"),
        Column("dropped", "int", "events that were dropped to stay within the size"),
        Column("live", "int", "handles open now, or when it ended"),
    ),
    "events": (
        *_PROCESS,
        Column("seq", "int", "order in the process, from 1; rows are nearly in this order"),
        Column("at_ns", "int", "when it happened"),
        Column("serial", "int", "the handle"),
        Column("kind", "text", "acquire, add-ref, release, close, ..."),
        Column("ending", "text", "closed, exited, dropped, ...; null: it did not end"),
        Column("refs", "int", "references after the event"),
        Column("value", "int", "raw value, such as the descriptor's number"),
        Column("stack", "int", "where; null: not recorded"),
        Column("thread", "text", "name of the thread"),
        *_CONTEXT,
    ),
    "handles": (
        *_PROCESS,
        Column("serial", "int", "its number in the process, never used again"),
        Column("kind", "text", "file, pipe, socket, ..."),
        Column("owner", "text", "class of the owner"),
        Column("value", "int", "raw value when it was acquired"),
        Column("detail", "text", "path, address, ...; null: none"),
        Column("opened_ns", "int", "when it was acquired"),
        Column("closed_ns", "int", "when it was closed; null: still open, or lost"),
        Column("ending", "text", "how; null: still open, or lost"),
        Column("stack", "int", "where it was acquired; null: not recorded"),
        Column("file", "text", "file of the place that acquired it; null: not recorded"),
        Column("line", "int", "line of that place"),
        Column("function", "text", "function of that place"),
        Column("thread", "text", "name of the thread that acquired it"),
        *_CONTEXT,
        Column("borrowed", "bool", "somebody else has to close it"),
        Column("importing", "bool", "acquired while a module was imported"),
        Column("at_exit", "bool", "closed only while the interpreter ended"),
    ),
    "stacks": (
        *_PROCESS,
        Column("stack", "int", "the stack"),
        Column("depth", "int", "0: innermost frame"),
        Column("file", "text", "file of the frame"),
        Column("line", "int", "line of the frame"),
        Column("function", "text", "qualified name"),
    ),
    "findings": (
        *_PROCESS,
        Column("kind", "text", "leak, abandoned, ..."),
        Column("severity", "text", "error or warning"),
        Column("fingerprint", "text", "the same bug has the same one in every run"),
        Column("count", "int", "handles alike"),
        Column("message", "text", "the sentence of the report"),
        Column("serial", "int", "the handle, an example when there are several"),
        Column("owner", "text", "class of its owner"),
        Column("file", "text", "file of the wrong act; null: unknown"),
        Column("line", "int", "line of the wrong act"),
        Column("function", "text", "function of the wrong act"),
        Column("thread", "text", "name of the thread"),
        Column("test", "text", "the test that ran; null: none"),
        Column("holders", "text", "what kept it alive, a line each; null: unknown"),
    ),
}
