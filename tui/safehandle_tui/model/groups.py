"""Suspects by something else than the site: kind, thread, owner or module."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Final

from safehandle_debug.ledger import _index as index
from safehandle_debug.ledger.names import Names
from safehandle_debug.ledger.verdict import Evidence, Verdict, merged
from safehandle_tui.model.rows import Bunch, HandleRow, SiteKey, SiteRow, group_by_site
from safehandle_tui.model.shelf import Shelf

__all__ = ["group_by", "in_group"]


def _module(site: str) -> str:
    return site.partition(":")[0]


_NAMES: Final[dict[str, Callable[[Bunch], str]]] = {
    "kind": lambda bunch: bunch.kind,
    "thread": lambda bunch: bunch.actor,
    "owner": lambda bunch: bunch.owner,
    "module": lambda bunch: _module(bunch.site),
}
_COLUMNS: Final[dict[str, tuple[int, int, Callable[[Names, int, int], str]]]] = {
    "kind": (index.TYPE, index.NONE, lambda names, type, _: names.kind(type)),
    "thread": (
        index.THREAD,
        index.TASK,
        lambda names, thread, task: names.text(task) or names.thread(thread),
    ),
    "owner": (index.TYPE, index.STACK, lambda names, type, stack: names.owner(type, stack)),
    "module": (index.STACK, index.NONE, lambda names, stack, _: _module(names.site(stack))),
}


def in_group(shelf: Shelf, what: str, name: str) -> Shelf:
    """The handles of one group."""
    first, second, text = _COLUMNS[what]
    return shelf.named(
        (what, name), (first, second), lambda names, one, other: text(names, one, other) == name
    )


def group_by(
    what: str,
    bunches: Iterable[Bunch],
    numbers: Mapping[SiteKey, Evidence],
    rows_of: Callable[[str, str, int], Sequence[HandleRow]],
) -> list[SiteRow]:
    """Rows like those of sites, each with the word of its worst site.

    What lies together need not be alike: a line that always closes and one
    that keeps on purpose would look like a leak in one sum.  A module is the
    sum of its sites; what the others opened was not counted.

    `rows_of` gives the rows of a group: what it is, its name, their number."""
    name_of = _NAMES[what]
    groups: dict[str, list[Bunch]] = {}
    for bunch in bunches:
        groups.setdefault(name_of(bunch), []).append(bunch)
    alive = sum(each.count for group in groups.values() for each in group if each.is_open)
    found: list[SiteRow] = []
    for name, members in groups.items():
        sites = group_by_site(members, lambda site, count: (), numbers=numbers)
        (together,) = group_by_site(
            [replace(bunch, site_key=(what, 0, name), site=name) for bunch in members],
            lambda site, count: rows_of(what, site[2], count),
        )
        group = replace(
            together,
            share=together.open / max(1, alive),
            verdict=_worst(sites),
            mark=min((site.mark for site in sites), key=lambda mark: "✗!? ".index(mark[0])),
        )
        parts = [site.numbers for site in sites if site.numbers is not None]
        if what == "module" and parts:
            group = replace(group, numbers=merged(parts))
        found.append(group)
    return found


def _worst(sites: list[SiteRow]) -> Verdict | None:
    """The verdict of the worst site, which says whose it is."""
    judged = [(site.verdict, site) for site in sites if site.verdict is not None]
    if not judged:
        return None
    verdict, site = min(judged, key=lambda each: (each[0].rank, -each[1].open, each[1].site))
    if len(sites) == 1:
        return verdict
    return replace(verdict, why=f"{site.site}: {verdict.why}")
