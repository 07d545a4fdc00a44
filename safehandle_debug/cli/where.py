"""`--where`: one filter language for the screen and for commands."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import click

from safehandle_debug.cli.group import CliError
from safehandle_debug.findings import Finding, find
from safehandle_debug.ledger import (
    Filter,
    FilterError,
    HandleFacts,
    History,
    Ledger,
    ProcessInfo,
    parse_filter,
)

EVERYTHING = Filter()

_Command = TypeVar("_Command", bound=Callable[..., Any])


def where_option(what: str) -> Callable[[_Command], _Command]:
    """Gives a command its `--where`, a Filter; `what` it leaves in, in words."""
    return click.option(
        "--where",
        metavar="FILTER",
        default="",
        callback=lambda context, parameter, text: _parsed(text),
        help=f"only {what}, as in 'kind:file age>5m !thread:Main'",
    )


def _parsed(text: str) -> Filter:
    try:
        return parse_filter(text)
    except FilterError as error:
        raise CliError(f"--where: {error}") from error


def facts(process: ProcessInfo, history: History, problem: str = "") -> HandleFacts:
    """A handle as a filter sees it, of a process as of now."""
    return HandleFacts(history, cwd=process.cwd, until_ns=process.ended_at_ns, problem=problem)


def chosen(ledger: Ledger, histories: Iterable[History], where: Filter) -> list[History]:
    """Those of one process's handles that match, in their order.

    As on the screen, `problem` is the kind of an error found on the handle,
    leaks apart."""
    if not where:
        return list(histories)
    process, now_ns = ledger.process, time.time_ns()
    problems = _problems(ledger) if where.asks_for_problems else {}
    return [
        history
        for history in histories
        if where.matches(facts(process, history, problems.get(history.serial, "")), now_ns)
    ]


def concerns(where: Filter, ledger: Ledger, finding: Finding) -> bool:
    """True when a finding's handle matches; its `problem` is the finding's kind.

    Of several handles alike it is the example that must."""
    handle = facts(ledger.process, finding.handle, finding.kind)
    handle.test = finding.test or handle.test
    return where.matches(handle, time.time_ns())


def _problems(ledger: Ledger) -> dict[int, str]:
    """Serial -> kind of error, of handles that are wrong in more than being open."""
    problems: dict[int, str] = {}
    for finding in find(ledger):
        if finding.severity == "error" and finding.kind != "leak":
            for serial in finding.serials or (finding.handle.serial,):
                problems.setdefault(serial, finding.kind)
    return problems
