"""Says what is wrong: leaks, double releases, unbalanced references, ..."""

from safehandle_debug.findings.accepted import Accepted as Accepted
from safehandle_debug.findings.json import to_json as to_json
from safehandle_debug.findings.kept import sort_out as sort_out
from safehandle_debug.findings.model import Finding as Finding
from safehandle_debug.findings.model import FindingKind as FindingKind
from safehandle_debug.findings.model import Severity as Severity
from safehandle_debug.findings.rules import find as find
from safehandle_debug.findings.rules import find_all as find_all
from safehandle_debug.findings.rules import findings_of as findings_of
from safehandle_debug.findings.rules import held_by as held_by
from safehandle_debug.findings.summary import render_exhaustion as render_exhaustion
from safehandle_debug.findings.summary import render_process_death as render_process_death
from safehandle_debug.findings.summary import render_summary as render_summary
from safehandle_debug.findings.suppressions import Suppression as Suppression
from safehandle_debug.findings.suppressions import SuppressionError as SuppressionError
from safehandle_debug.findings.suppressions import apply as apply
from safehandle_debug.findings.suppressions import load as load
from safehandle_debug.findings.text import first_line as first_line
from safehandle_debug.findings.text import render_finding as render_finding

__all__ = [
    "Accepted",
    "Finding",
    "FindingKind",
    "Severity",
    "Suppression",
    "SuppressionError",
    "apply",
    "find",
    "find_all",
    "findings_of",
    "first_line",
    "held_by",
    "load",
    "render_exhaustion",
    "render_finding",
    "render_process_death",
    "render_summary",
    "sort_out",
    "to_json",
]
