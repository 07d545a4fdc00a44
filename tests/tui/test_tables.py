"""Rows, columns and sites: what stands in the tables, and where."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from safehandle_tui.model.columns import (
    Sort,
    column_at,
    header_line,
    lay_out,
    row_line,
)
from safehandle_tui.model.processes import PROCESS_COLUMNS
from safehandle_tui.model.row_columns import HANDLE_COLUMNS, SITE_COLUMNS
from safehandle_tui.model.rows import BUCKETS, HandleRow
from safehandle_tui.model.text import line_width, plain
from support_bunches import sites_of

from safehandle_debug.ledger import Frame, History

S = 1_000_000_000
START = 1_700_000_000 * S


def handle(serial: int, line: int = 88, *, at_s: float = 0, **changes: object) -> HandleRow:
    """A handle opened `at_s` after START by app/db.py."""
    fields: dict[str, object] = {
        "pid": 7,
        "serial": serial,
        "kind": "file",
        "owner": "SafeFileHandle",
        "space": "fd",
        "value": 5,
        "detail": None,
        "opened_at_ns": START + int(at_s * S),
        "opened": (Frame("/code/app/db.py", line, "connect"),),
        "thread": "MainThread",
        "task": None,
        "test": None,
        **changes,
    }
    return HandleRow(History(**fields), process="p", cwd="/code")  # type: ignore[arg-type]


@pytest.mark.parametrize("columns", [HANDLE_COLUMNS, SITE_COLUMNS, PROCESS_COLUMNS])
@given(cells=st.integers(60, 250))
def test_columns_fit_every_width(columns: tuple, cells: int) -> None:  # type: ignore[type-arg]
    """From the narrowest terminal on, no title runs out of the line."""
    layout = lay_out(columns, cells)
    assert layout
    assert line_width(header_line(layout, Sort("site", True))) <= cells


@pytest.mark.parametrize(
    ("cells", "missing"), [(80, {"owner", "thread", "pid", "state"}), (160, set())]
)
def test_the_least_important_columns_give_way(cells: int, missing: set[str]) -> None:
    """At 80 cells there is still everything that tells handles apart."""
    shown = {column.name for column, _ in lay_out(HANDLE_COLUMNS, cells)}
    assert {column.name for column in HANDLE_COLUMNS} - shown == missing


def test_the_survivors_strip_is_there_at_80_cells() -> None:
    """It is what tells a leak from a cache."""
    layout = lay_out(SITE_COLUMNS, 80, without=frozenset({"ended", "found"}))
    assert {"open", "births", "site"} <= {column.name for column, _ in layout}


def test_rows_and_titles_line_up() -> None:
    """A row takes the same cells as its header, whatever is in it."""
    for columns, row in (
        (HANDLE_COLUMNS, handle(1, detail="/a/very/long/path/日本語/" + "x" * 300)),
        (SITE_COLUMNS, sites_of([handle(1)], START, START + S)[0]),
    ):
        for cells in (60, 80, 120, 200):
            layout = lay_out(columns, cells)  # type: ignore[type-var]
            line = row_line(layout, row, START + S, cursor=False)
            assert line_width(line) == line_width(header_line(layout, Sort("", True)))


def test_the_sorted_column_has_an_arrow() -> None:
    """Also in one as narrow as its title."""
    layout = lay_out(HANDLE_COLUMNS, 80)
    assert "REFS" in plain(header_line(layout, Sort("age", True)))
    assert "AGE▼" in plain(header_line(layout, Sort("age", True)))
    assert "REF▲" in plain(header_line(layout, Sort("refs", False)))


def test_a_click_finds_its_column() -> None:
    """Each title answers in all of its cells, the gaps do not."""
    layout = lay_out(HANDLE_COLUMNS, 120)
    line = plain(header_line(layout, Sort("", True)))
    found = column_at(layout, line.index("SITE"))
    assert found is not None
    assert found.name == "site"
    assert column_at(layout, line.index("SITE") - 1) is None


def test_the_cursor_and_the_mark_are_signs() -> None:
    """They are seen without any colour."""
    row = handle(1)
    row.problem = "double-release"
    layout = lay_out(HANDLE_COLUMNS, 80)
    assert plain(row_line(layout, row, START, cursor=True)).startswith(" ▸✗ ")
    row.problem, row.life = "", "held"
    assert plain(row_line(layout, row, START, cursor=False)).startswith("  ! ")


def test_sites_count_and_remember_births() -> None:
    """One row a line of code: what is open there, since when, and its share."""
    rows = [handle(n, at_s=n * 10) for n in range(10)] + [handle(10, 99, at_s=95)]
    closed = handle(11, 99, at_s=1, ending="closed", closed_at_ns=START + 2 * S)
    closed.life = "ended"
    sites = {site.key[1]: site for site in sites_of([*rows, closed], START, START + 100 * S)}
    assert (sites[88].open, sites[99].open) == (10, 1)
    assert sites[88].share == pytest.approx(10 / 11)
    assert len(sites[88].births) == BUCKETS
    assert sum(sites[88].births) == 10
    assert sites[99].births[-2] == 1
    assert sum(sites[99].births) == 1
    assert sites[99].oldest_ns == START + 95 * S
    assert sites[88].site == "app/db.py:88 connect"


@pytest.mark.parametrize(
    ("births_s", "growing"),
    [
        (range(0, 100, 2), True),  # a leak: of all ages
        (range(10), False),  # a cache: from the start
        ([95 + n / 10 for n in range(50)], False),  # in use: just opened
        (range(0, 90, 10), False),  # too few to say
        ([*[1] * 20, *[99] * 20], False),  # a cache, and some in use
    ],
)
def test_growing_sites(births_s: list[float], growing: bool) -> None:
    """Only what piles up all the time is pointed at."""
    rows = [handle(n, at_s=at) for n, at in enumerate(births_s)]
    (site,) = sites_of(rows, START, START + 100 * S)
    assert site.is_growing is growing


def test_a_site_of_several_kinds_says_so() -> None:
    """And a handle without a stack has a site all the same."""
    mixed = sites_of([handle(1), handle(2, kind="pipe")], START, START)
    assert mixed[0].kind == "several"
    bare = sites_of([handle(3, opened=())], START, START)
    assert bare[0].site == "(no stack recorded)"


def test_an_ended_handle_stops_ageing() -> None:
    """Its age is its life; one that died with its process stops there."""
    row = handle(1, ending="closed", closed_at_ns=START + 3 * S)
    assert row.age_ns(START + 100 * S) == 3 * S
    held = handle(2, ending="lost")
    held.until_ns = START + 5 * S
    assert held.age_ns(START + 100 * S) == 5 * S
    assert handle(3).age_ns(START + 100 * S) == 100 * S
