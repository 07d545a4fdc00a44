"""Findings that someone has decided to live with, and why.

A file has one rule a line; blank lines and lines that begin with # are skipped:

    kind  path-glob:function-glob  # reason
    kind:path-glob:function-glob  # reason

`kind` is that of the finding, or `*`.  The globs are held against each frame
of the handle's acquire stack and of the finding's culprit: the path as it is,
relative to the working directory, and, when the glob has no slash, the file's
name alone; the function by its qualified name.  The reason is mandatory.
"""

from __future__ import annotations

import fnmatch
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import get_args

from safehandle_debug.findings.model import Finding, FindingKind
from safehandle_debug.findings.wording import short_path
from safehandle_debug.ledger import Frame

KINDS = frozenset(get_args(FindingKind))
ANY = "*"

_RULE = re.compile(
    r"(?P<kind>[^\s#:]+)(?:\s*:\s*|\s+)(?P<site>[^#]*[^#\s])\s*(?:#(?P<reason>.*))?"
)


class SuppressionError(ValueError):
    """A suppressions file cannot be read; the text names file and line."""


@dataclass(frozen=True, slots=True)
class Suppression:
    """One rule of a suppressions file."""

    kind: str  # of finding, or "*"
    path: str  # glob
    function: str  # glob
    reason: str
    file: str  # the rule's own place
    line: int

    def matches(self, finding: Finding) -> bool:
        """True when the rule names the finding."""
        if self.kind not in (ANY, finding.kind):
            return False
        frames = {*finding.handle.opened, *finding.culprit}
        return any(self._matches_frame(frame, finding.cwd) for frame in frames)

    def _matches_frame(self, frame: Frame, cwd: str) -> bool:
        if not fnmatch.fnmatchcase(frame.function, self.function):
            return False
        names = [frame.file, short_path(frame.file, cwd)]
        if "/" not in self.path:
            names.append(os.path.basename(frame.file))
        return any(fnmatch.fnmatchcase(name, self.path) for name in names)


def load(path: str | os.PathLike[str]) -> list[Suppression]:
    """Reads a suppressions file.

    Raises SuppressionError with one sentence."""
    file = os.fspath(path)
    try:
        with open(file, encoding="utf-8") as text:
            lines = text.read().splitlines()
    except UnicodeDecodeError as error:
        raise SuppressionError(f"the suppressions file {file} is not UTF-8 text") from error
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else str(error)
        raise SuppressionError(f"the suppressions file {file} cannot be read: {why}") from error
    numbered = ((number, line.strip()) for number, line in enumerate(lines, 1))
    return [_rule(line, file, number) for number, line in numbered if line and line[0] != "#"]


def apply(
    findings: Iterable[Finding], rules: Sequence[Suppression]
) -> tuple[list[Finding], list[tuple[Finding, Suppression]]]:
    """(findings to report, findings suppressed each with its rule)."""
    kept: list[Finding] = []
    suppressed: list[tuple[Finding, Suppression]] = []
    for finding in findings:
        rule = next((rule for rule in rules if rule.matches(finding)), None)
        if rule is None:
            kept.append(finding)
        else:
            suppressed.append((finding, rule))
    return kept, suppressed


def _rule(text: str, file: str, line: int) -> Suppression:
    at = f"{file}:{line}"
    match = _RULE.fullmatch(text)
    if match is None:
        raise SuppressionError(f"{at}: write 'kind path-glob:function-glob # reason'")
    kind, site, reason = match["kind"], match["site"], match["reason"]
    if kind != ANY and kind not in KINDS:
        known = ", ".join(sorted(KINDS))
        raise SuppressionError(f"{at}: {kind!r} is not a kind of finding: use {ANY}, {known}")
    path, colon, function = site.rpartition(":")
    if not colon or not path or not function:
        raise SuppressionError(f"{at}: {site!r} is not path-glob:function-glob")
    if not reason or not reason.strip():
        raise SuppressionError(f"{at}: the reason is missing: end the line with '# why'")
    return Suppression(kind, path, function, reason.strip(), file, line)
