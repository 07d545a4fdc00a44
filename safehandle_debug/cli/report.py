"""`safehandle report`: what is wrong, as text, JSON, a page, Markdown or SARIF."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import click

from safehandle_debug.cli.group import CliError
from safehandle_debug.cli.output import format_option, wants_color, width, write
from safehandle_debug.cli.progress import progress
from safehandle_debug.cli.targets import open_ledgers, targets_argument
from safehandle_debug.cli.where import EVERYTHING, chosen, concerns, where_option
from safehandle_debug.findings import (
    Accepted,
    Finding,
    Suppression,
    SuppressionError,
    apply,
    find_all,
    held_by,
    load,
    render_exhaustion,
    render_finding,
    render_process_death,
    render_summary,
    sort_out,
    to_json,
)
from safehandle_debug.findings.wording import plural, times
from safehandle_debug.ledger import Filter, History, Ledger

FOUND = 1


@click.command()
@targets_argument
@format_option("html", "markdown", "sarif")
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
@click.option(
    "--verbose", "-v", is_flag=True, help="also what is accepted without a rule, and why"
)
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
    verbose: bool,
) -> None:
    """Says what is wrong with the handles of a program.

    Handles that a running process holds are listed by `safehandle list`;
    they are leaks only with --now.
    """
    with open_ledgers(targets) as ledgers:
        with progress("judging"):
            judged = judge(ledgers, now=now, suppressions=suppressions, where=where)
        reported = judged.reported
        with progress("writing"):
            if form == "json":
                text = json.dumps(to_json(ledgers, reported, _held(where)), indent=2)
            elif form != "text":
                text = _formatted(form, ledgers, reported)
            else:
                color = output is None and wants_color(no_color)
                text = compose(ledgers, judged, color=color, where=where, verbose=verbose)
    write(text, output)
    failing = ("error",) if fail_on == "error" else ("error", "warning")
    if any(finding.severity in failing for finding in reported):
        context.exit(FOUND)


def _formatted(form: str, ledgers: Sequence[Ledger], findings: Sequence[Finding]) -> str:
    # Not loaded by those who read text.
    from safehandle_debug.formats import to_html, to_markdown, to_sarif

    if form == "sarif":
        return json.dumps(to_sarif(ledgers, findings), indent=2)
    return (to_html if form == "html" else to_markdown)(ledgers, findings).rstrip("\n")


@dataclass(frozen=True, slots=True)
class Judged:
    """What was found, and what became of it."""

    reported: list[Finding]  # errors first
    suppressed: list[tuple[Finding, Suppression]]  # by a rule of a file
    unused: list[Suppression]  # rules of files that name none of the findings
    accepted: list[tuple[Finding, Accepted]]  # of libraries, that keep it on purpose


def judge(
    ledgers: Sequence[Ledger],
    *,
    now: bool = False,
    suppressions: str | None = None,
    where: Filter = EVERYTHING,
) -> Judged:
    """All findings.

    Rules are those of the file `suppressions`, and for each process those that
    it named itself when it started.  Findings outside `where` are left out.

    Raises:
        CliError: a suppressions file cannot be read.
    """
    judged = Judged([], [], [], [])
    rules_of: dict[str, list[Suppression]] = {}
    for ledger in ledgers:
        rules = []
        for path in dict.fromkeys((suppressions, ledger.recording.meta.get("suppressions"))):
            if path and path not in rules_of:
                try:
                    rules_of[path] = load(path)
                except SuppressionError as error:
                    raise CliError(str(error)) from error
            rules += rules_of[path] if path else []
        found, accepted = sort_out(find_all(ledger, now=now))
        judged.accepted.extend(each for each in accepted if concerns(where, ledger, each[0]))
        found = [each for each in found if concerns(where, ledger, each)]
        kept, left_out = apply(found, rules)
        judged.reported.extend(kept)
        judged.suppressed.extend(left_out)
    judged.reported.sort(key=lambda finding: finding.severity != "error")
    used = {(rule.file, rule.line) for _, rule in judged.suppressed}
    for rules in rules_of.values():
        judged.unused.extend(rule for rule in rules if (rule.file, rule.line) not in used)
    return judged


def compose(
    ledgers: Sequence[Ledger],
    judged: Judged,
    *,
    color: bool,
    where: Filter = EVERYTHING,
    verbose: bool = False,
) -> str:
    """The report as text: findings, processes that died, totals."""
    held = _held(where)
    columns = width()
    parts = [render_finding(finding, color=color, width=columns) for finding in judged.reported]
    parts += [render_exhaustion(ledger, color=color, width=columns) for ledger in ledgers]
    parts += [render_process_death(ledger, held, color=color, width=columns) for ledger in ledgers]
    notes = [_suppressed_line(*pair) for pair in judged.suppressed]
    if not where:
        notes += _unused_lines(judged.unused)
    if verbose:
        notes += [_accepted_line(*pair) for pair in judged.accepted]
    parts.append("\n".join(notes))
    parts.append(render_summary(ledgers, judged.reported, color=color, width=columns))
    if where:
        parts[-1] += f"\nonly findings on handles that match {where.text!r} are shown"
    return "\n\n".join(part.rstrip("\n") for part in parts if part)


def _held(where: Filter) -> Callable[[Ledger], list[History]]:
    """What to tell of handles that a killed process held."""
    return lambda ledger: chosen(ledger, held_by(ledger), where)


def _suppressed_line(finding: Finding, rule: Suppression) -> str:
    count = times(finding.count)
    return f"suppressed: {finding.kind}{count} by {rule.file}:{rule.line}: {rule.reason}"


def _accepted_line(finding: Finding, rule: Accepted) -> str:
    return f"accepted: {finding.kind}{times(finding.count)} of {rule.module}: {rule.reason}"


def _unused_lines(rules: Iterable[Suppression]) -> Iterable[str]:
    """One line a file."""
    lines: dict[str, list[int]] = {}
    for rule in rules:
        lines.setdefault(rule.file, []).append(rule.line)
    for file, numbers in lines.items():
        which = ", ".join(map(str, numbers))
        yield f"unused: {plural(len(numbers), 'rule')} of {file} match nothing: line {which}"
