"""The report as Markdown, for a pull request or an issue."""

from __future__ import annotations

import html
from collections.abc import Sequence
from typing import Final

from safehandle_debug.findings import Finding, first_line, render_finding
from safehandle_debug.findings.wording import place, plural
from safehandle_debug.ledger import Ledger, site_of

__all__ = ["to_markdown"]

LONGEST: Final = 60_000  # characters; GitHub takes 65,536
_FENCE: Final = "```"


def to_markdown(ledgers: Sequence[Ledger], findings: Sequence[Finding]) -> str:
    """A table of what was found, and below it each finding folded."""
    events = sum(ledger.process.events for ledger in ledgers)
    scope = f"{plural(len(ledgers), 'process', 'processes')}, {plural(events, 'event')}"
    if not findings:
        return f"### Handles: nothing found\n\n{scope}.\n"
    lines = [f"### Handles: {plural(len(findings), 'finding')}", "", f"In {scope}.", ""]
    lines += ["| kind | times | where | handle |", "| --- | ---: | --- | --- |"]
    for finding in findings:
        where = place(site_of(finding.culprit) or finding.handle.site, finding.cwd)
        handle = f"{finding.handle.owner} {finding.handle.detail or ''}".strip()
        cells = (finding.kind, f"{finding.count:,}", f"`{_code(where)}`", f"`{_code(handle)}`")
        lines.append(f"| {' | '.join(cells)} |")
    lines.append("")
    size = sum(map(len, lines)) + len(lines)
    for number, finding in enumerate(findings):
        block = _folded(finding)
        size += len(block) + 1
        if size > LONGEST:
            lines.append(f"... and {plural(len(findings) - number, 'other finding')}.")
            break
        lines.append(block)
    return "\n".join(lines).rstrip("\n") + "\n"


def _folded(finding: Finding) -> str:
    body = render_finding(finding).partition("\n")[2].replace(_FENCE, "'''")
    summary = html.escape(first_line(finding), quote=False)
    return (
        f"<details><summary>{summary}</summary>\n\n{_FENCE}text\n{body}\n{_FENCE}\n\n</details>\n"
    )


def _code(text: str) -> str:
    """Text that can stand in a code span of a table."""
    shown = "".join(each if each.isprintable() else " " for each in text)
    return shown.replace("`", "'").replace("|", "\\|")
