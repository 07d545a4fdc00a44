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
from safehandle_debug.ledger.snapshot import Growth as Growth
from safehandle_debug.ledger.snapshot import Held as Held
from safehandle_debug.ledger.snapshot import Moment as Moment
from safehandle_debug.ledger.snapshot import SnapshotError as SnapshotError
from safehandle_debug.ledger.snapshot import compare as compare
from safehandle_debug.ledger.snapshot import read_moment as read_moment
from safehandle_debug.ledger.snapshot import take as take
from safehandle_debug.ledger.snapshot import write_moment as write_moment

__all__ = [
    "Counts",
    "Ending",
    "Event",
    "EventKind",
    "Exhaustion",
    "Filter",
    "FilterError",
    "Frame",
    "Growth",
    "HandleFacts",
    "Held",
    "History",
    "Ledger",
    "Moment",
    "ProcessInfo",
    "SnapshotError",
    "Suspicion",
    "compare",
    "is_library",
    "is_ours",
    "is_standard",
    "parse_filter",
    "provenance",
    "read_moment",
    "site_of",
    "take",
    "write_moment",
]
