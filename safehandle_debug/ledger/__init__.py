"""Replays a recording's events into the histories of its handles."""

from safehandle_debug.ledger.facts import HandleFacts as HandleFacts
from safehandle_debug.ledger.filter import Filter as Filter
from safehandle_debug.ledger.filter import FilterError as FilterError
from safehandle_debug.ledger.filter import parse_filter as parse_filter
from safehandle_debug.ledger.ledger import Counts as Counts
from safehandle_debug.ledger.ledger import Ledger as Ledger
from safehandle_debug.ledger.ledger import Suspicion as Suspicion
from safehandle_debug.ledger.model import Ending as Ending
from safehandle_debug.ledger.model import Event as Event
from safehandle_debug.ledger.model import EventKind as EventKind
from safehandle_debug.ledger.model import Exhaustion as Exhaustion
from safehandle_debug.ledger.model import Frame as Frame
from safehandle_debug.ledger.model import History as History
from safehandle_debug.ledger.model import ProcessInfo as ProcessInfo
from safehandle_debug.ledger.provenance import provenance as provenance
from safehandle_debug.ledger.sites import is_library as is_library
from safehandle_debug.ledger.sites import is_ours as is_ours
from safehandle_debug.ledger.sites import is_standard as is_standard
from safehandle_debug.ledger.sites import site_of as site_of

__all__ = [
    "Counts",
    "Ending",
    "Event",
    "EventKind",
    "Exhaustion",
    "Filter",
    "FilterError",
    "Frame",
    "HandleFacts",
    "History",
    "Ledger",
    "ProcessInfo",
    "Suspicion",
    "is_library",
    "is_ours",
    "is_standard",
    "parse_filter",
    "provenance",
    "site_of",
]
