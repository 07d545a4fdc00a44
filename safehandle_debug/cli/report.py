"""`safehandle report`: what is wrong, as text or JSON."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence

import click

from safehandle_debug.cli.group import CliError
from safehandle_debug.cli.output import format_option, wants_color, width, write
from safehandle_debug.cli.targets import open_ledgers, targets_argument
from safehandle_debug.cli.where import EVERYTHING, chosen, concerns, where_option
from safehandle_debug.findings import (
    Finding,
    Suppression,
    SuppressionError,
    apply,
    find,
    held_by,
    load,
    render_finding,
    render_process_death,
    render_summary,
    to_json,
)
from safehandle_debug.ledger import Filter, History, Ledger

FOUND = 1


@click.command()
@targets_argument
@format_option
@click.option(
    "--fail-on",
    type=click.Choice(["error", "warning"]),
    default="warning",
    show_default=True,
    help="the least severity that makes the exit code 1",
)
@click.option("--now", is_flag=True, help="judge running processes as if they ended now")
@where_option("findings on handles that match")
@click.option("--suppressions", metavar="FILE", help="leave out what the rules in FILE name")
@click.option("--output", metavar="FILE", help="write into FILE")
@click.option("--no-color", is_flag=True, help="plain text on a terminal too")
@click.pass_context
def report(
    context: click.Context,
    targets: tuple[str, ...],
    form: str,
    fail_on: str,
    now: bool,
    where: Filter,
    suppressions: str | None,
    output: str | None,
    no_color: bool,
) -> None:
    """Says what is wrong with the handles of a program.

    Handles that a running process holds are listed by `safehandle list`;
    they are leaks only with --now.
    """
    with open_ledgers(targets) as ledgers:
        reported, suppressed = judge(ledgers, now=now, suppressions=suppressions, where=where)
        if form == "json":
            text = json.dumps(to_json(ledgers, reported, _held(where)), indent=2)
        else:
            color = output is None and wants_color(no_color)
            text = compose(ledgers, reported, suppressed, color=color, where=where)
    write(text, output)
    failing = ("error",) if fail_on == "error" else ("error", "warning")
    if any(finding.severity in failing for finding in reported):
        context.exit(FOUND)


def judge(
    ledgers: Sequence[Ledger],
    *,
    now: bool = False,
    suppressions: str | None = None,
    where: Filter = EVERYTHING,
) -> tuple[list[Finding], list[tuple[Finding, Suppression]]]:
    """(findings to report, errors first; findings suppressed each with its rule).

    Rules are those of the file `suppressions`, and for each process those that
    it named itself when it started.  Findings outside `where` are in neither.

    Raises:
        CliError: a suppressions file cannot be read.
    """
    reported: list[Finding] = []
    suppressed: list[tuple[Finding, Suppression]] = []
    for ledger in ledgers:
        rules = []
        for path in dict.fromkeys((suppressions, ledger.recording.meta.get("suppressions"))):
            try:
                rules += load(path) if path else []
            except SuppressionError as error:
                raise CliError(str(error)) from error
        found = [each for each in find(ledger, now=now) if concerns(where, ledger, each)]
        kept, left_out = apply(found, rules)
        reported += kept
        suppressed += left_out
    reported.sort(key=lambda finding: finding.severity != "error")
    return reported, suppressed


def compose(
    ledgers: Sequence[Ledger],
    findings: Sequence[Finding],
    suppressed: Sequence[tuple[Finding, Suppression]] = (),
    *,
    color: bool,
    where: Filter = EVERYTHING,
) -> str:
    """The report as text: findings, processes that died, totals."""
    held = _held(where)
    columns = width()
    parts = [render_finding(finding, color=color, width=columns) for finding in findings]
    parts += [render_process_death(ledger, held, color=color, width=columns) for ledger in ledgers]
    if suppressed:
        parts.append("\n".join(_suppressed_line(*pair) for pair in suppressed))
    parts.append(render_summary(ledgers, findings, color=color, width=columns))
    if where:
        parts[-1] += f"\nonly findings on handles that match {where.text!r} are shown"
    return "\n\n".join(part.rstrip("\n") for part in parts if part)


def _held(where: Filter) -> Callable[[Ledger], list[History]]:
    """What to tell of handles that a killed process held."""
    return lambda ledger: chosen(ledger, held_by(ledger), where)


def _suppressed_line(finding: Finding, rule: Suppression) -> str:
    times = f" ({finding.count} times)" if finding.count > 1 else ""
    return f"suppressed: {finding.kind}{times} by {rule.file}:{rule.line}: {rule.reason}"
