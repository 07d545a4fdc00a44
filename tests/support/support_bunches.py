"""Handles counted one by one in Python, for what the index counts in C."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from safehandle_tui.model.rows import BUCKETS, Bunch, HandleRow, SiteRow, group_by_site


def bunches(rows: Iterable[HandleRow], start_ns: int, now_ns: int) -> list[Bunch]:
    """Bunches of alike handles, as a shelf makes them."""
    groups: dict[tuple[object, ...], list[HandleRow]] = {}
    for row in rows:
        alike = (row.key[0], row.history.opened, row.kind, row.owner, row.life, row.problem)
        state = (row.importing, row.borrowed, row.ending)
        groups.setdefault((*alike, *state), []).append(row)
    span = max(1, now_ns - start_ns)
    return [_bunch(members, start_ns, span) for members in groups.values()]


def _bunch(rows: Sequence[HandleRow], start_ns: int, span: int) -> Bunch:
    births = [0] * BUCKETS
    for row in rows:
        bucket = (row.opened_at_ns - start_ns) * BUCKETS // span
        births[min(max(bucket, 0), BUCKETS - 1)] += 1
    first = rows[0]
    return Bunch(
        process=first.key[0],
        site_key=first.site_key,
        site=first.site,
        kind=first.kind,
        owner=first.owner,
        actor="",
        opened=first.history.opened,
        life=first.life,
        problem=first.problem,
        importing=first.importing,
        borrowed=first.borrowed,
        count=len(rows),
        oldest_ns=min(row.opened_at_ns for row in rows),
        newest_ns=max(row.opened_at_ns for row in rows),
        least=min(row.value for row in rows),
        greatest=max(row.value for row in rows),
        births=tuple(births),
    )


def sites_of(rows: Sequence[HandleRow], start_ns: int, now_ns: int) -> list[SiteRow]:
    """The sites of some handles."""

    def rows_of(site: object, count: int) -> Sequence[HandleRow]:
        members = [row for row in rows if row.site_key == site]
        members.sort(key=lambda row: (row.life == "ended", row.opened_at_ns))
        return members

    return group_by_site(bunches(rows, start_ns, now_ns), rows_of)
