"""Suspects by something else than the site: kind, thread, owner or module."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Final

from safehandle_debug.ledger.verdict import Evidence, judge, merged
from safehandle_tui.model.rows import HandleRow, SiteKey, SiteRow, group_by_site
from safehandle_tui.model.text import clean

__all__ = ["group_by"]

_NAMES: Final[dict[str, Callable[[HandleRow], str]]] = {
    "kind": lambda row: row.kind,
    "thread": lambda row: row.task or row.thread,
    "owner": lambda row: row.owner,
    "module": lambda row: clean(row.site.partition(":")[0]),
}


def group_by(
    what: str,
    rows: Iterable[HandleRow],
    numbers: Mapping[SiteKey, Evidence],
    *,
    start_ns: int,
    now_ns: int,
) -> list[SiteRow]:
    """Rows like those of sites; of a module with its verdict, as a module is
    the sum of its sites.  What the others opened was not counted."""
    name_of = _NAMES[what]
    groups: dict[str, list[HandleRow]] = {}
    for row in rows:
        groups.setdefault(name_of(row), []).append(row)
    alive = sum(1 for members in groups.values() for row in members if row.life != "ended")
    found: list[SiteRow] = []
    for name, members in groups.items():
        sites = group_by_site(members, start_ns=start_ns, now_ns=now_ns, numbers=numbers)
        together = _together(sites, members, start_ns, now_ns)
        group = replace(
            together,
            key=(what, 0, name),
            site=name,
            share=together.open / max(1, alive),
            mark=min((site.mark for site in sites), key=lambda mark: "✗!? ".index(mark[0])),
        )
        parts = [site.numbers for site in sites if site.numbers is not None]
        if what == "module" and parts:
            whole = merged(parts)
            group = replace(group, numbers=whole, verdict=judge(whole))
        found.append(group)
    return found


def _together(
    sites: list[SiteRow], members: list[HandleRow], start_ns: int, now_ns: int
) -> SiteRow:
    """One row for handles of several sites."""
    first = sites[0]
    return replace(
        first,
        kinds=tuple(sorted({kind for site in sites for kind in site.kinds})),
        rows=tuple(sorted(members, key=lambda row: row.opened_at_ns)),
        open=sum(site.open for site in sites),
        problems=sum(site.problems for site in sites),
        importing=all(site.importing for site in sites),
        births=tuple(map(sum, zip(*(site.births for site in sites), strict=True))),
        oldest_ns=min(site.oldest_ns for site in sites),
        newest_ns=max(site.newest_ns for site in sites),
        numbers=None,
        verdict=None,
    )
