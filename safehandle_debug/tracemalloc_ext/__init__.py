"""Handles in tracemalloc's terms.

    from safehandle_debug import tracemalloc_ext as tracemalloc

and what was written for `tracemalloc` tells of open handles where it told of
memory blocks: the classes are tracemalloc's own.  A trace is a handle; its
size is 1, so that sizes are counts, and the mapped bytes of a mapping.  Beyond
tracemalloc there are `statistics("kind")` and `statistics("owner")`, and
`Snapshot.from_recording`.

While tracemalloc itself traces, each handle is also in its snapshots, in the
domain DOMAIN with a size of 1 byte.
"""

from tracemalloc import BaseFilter as BaseFilter
from tracemalloc import DomainFilter as DomainFilter
from tracemalloc import Filter as Filter
from tracemalloc import Frame as Frame
from tracemalloc import Statistic as Statistic
from tracemalloc import StatisticDiff as StatisticDiff
from tracemalloc import Trace as Trace
from tracemalloc import Traceback as Traceback

from safehandle_debug.tracemalloc_ext.snapshot import DOMAIN as DOMAIN
from safehandle_debug.tracemalloc_ext.snapshot import Snapshot as Snapshot
from safehandle_debug.tracemalloc_ext.tracing import clear_traces as clear_traces
from safehandle_debug.tracemalloc_ext.tracing import get_object_traceback as get_object_traceback
from safehandle_debug.tracemalloc_ext.tracing import get_traceback_limit as get_traceback_limit
from safehandle_debug.tracemalloc_ext.tracing import get_traced_memory as get_traced_memory
from safehandle_debug.tracemalloc_ext.tracing import (
    get_tracemalloc_memory as get_tracemalloc_memory,
)
from safehandle_debug.tracemalloc_ext.tracing import is_tracing as is_tracing
from safehandle_debug.tracemalloc_ext.tracing import reset_peak as reset_peak
from safehandle_debug.tracemalloc_ext.tracing import start as start
from safehandle_debug.tracemalloc_ext.tracing import stop as stop
from safehandle_debug.tracemalloc_ext.tracing import take_snapshot as take_snapshot

__all__ = [
    "DOMAIN",
    "BaseFilter",
    "DomainFilter",
    "Filter",
    "Frame",
    "Snapshot",
    "Statistic",
    "StatisticDiff",
    "Trace",
    "Traceback",
    "clear_traces",
    "get_object_traceback",
    "get_traceback_limit",
    "get_traced_memory",
    "get_tracemalloc_memory",
    "is_tracing",
    "reset_peak",
    "start",
    "stop",
    "take_snapshot",
]
