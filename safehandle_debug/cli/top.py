"""`safehandle top`: the most suspicious sites, printed, without a screen to work in."""

from __future__ import annotations

import json
import shutil
import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

import click

from safehandle_debug.cli.group import CliError
from safehandle_debug.cli.targets import recordings_of, targets_argument
from safehandle_debug.cli.where import where_option
from safehandle_debug.ledger import Filter

if TYPE_CHECKING:
    from safehandle_tui.model.feed import Feed, View
    from safehandle_tui.model.rows import SiteRow
    from safehandle_tui.model.spec import ViewSpec
    from safehandle_tui.model.text import Line

_COLORS: Final = {"bad": "red", "warn": "yellow", "good": "green", "own": "cyan", "accent": "cyan"}
_LEAST_WIDTH: Final = 60
_MOST_WIDTH: Final = 200
_PIPED_WIDTH: Final = 120
_UP: Final = "\x1b[{}A\r"
_CLEAR: Final = "\x1b[K"


@click.command()
@targets_argument
@where_option("handles")
@click.option("--once", is_flag=True, help="Print the table once; the default without a terminal.")
@click.option("--json", "as_json", is_flag=True, help="Print it once, as JSON.")
@click.option(
    "--inline", is_flag=True, help="Print it again in place until Ctrl-C; the default otherwise."
)
@click.option(
    "--rows", default=15, show_default=True, type=click.IntRange(1), help="Sites at most."
)
@click.option(
    "--interval", default=1.0, show_default=True, type=click.FloatRange(0.1), help="Seconds."
)
def top(
    targets: tuple[str, ...],
    where: Filter,
    once: bool,
    as_json: bool,
    inline: bool,
    rows: int,
    interval: float,
) -> None:
    """Prints the sites that open handles, the most suspicious first."""
    if once + as_json + inline > 1:
        raise click.UsageError("--once, --json and --inline exclude each other")
    recordings_of(targets)  # one clear sentence when there is nothing
    from safehandle_tui.model.feed import Feed
    from safehandle_tui.model.spec import ViewSpec

    feed, spec = Feed(targets), ViewSpec(filter=where)
    try:
        if as_json:
            click.echo(json.dumps(_document(_view(feed, spec), rows), indent=2))
        elif inline or not (once or not sys.stdout.isatty()):
            _follow(feed, spec, rows, interval)
        else:
            for line in _lines(_view(feed, spec), rows, _width()):
                click.echo(_styled(line))
    finally:
        feed.close()


def _view(feed: Feed, spec: ViewSpec) -> View:
    """Everything that is recorded by now."""
    view = feed.poll(spec)
    while view is None or any(each.reading and not each.error for each in view.processes):
        view = feed.poll(spec) or view
    if view.state == "disconnected":
        raise CliError("; ".join(each.error for each in view.processes if each.error))
    return view


def _follow(feed: Feed, spec: ViewSpec, rows: int, interval: float) -> None:
    view = _view(feed, spec)
    printed = 0
    try:
        while True:
            lines = _lines(view, rows, _width())
            if printed:
                click.echo(_UP.format(printed), nl=False)
            for line in lines:
                click.echo(_styled(line) + _CLEAR)
            for _ in range(printed - len(lines)):
                click.echo(_CLEAR)
            printed = max(printed, len(lines))
            if view.state != "live":
                return
            time.sleep(interval)
            view = feed.poll(spec) or view
    except KeyboardInterrupt:
        return


def _width() -> int:
    if not sys.stdout.isatty():
        return _PIPED_WIDTH
    return min(_MOST_WIDTH, max(_LEAST_WIDTH, shutil.get_terminal_size().columns))


def _lines(view: View, rows: int, cells: int) -> list[Line]:
    from safehandle_tui.model.columns import header_line, lay_out, row_line
    from safehandle_tui.model.row_columns import SITE_COLUMNS
    from safehandle_tui.model.states import badge
    from safehandle_tui.model.text import clip, count, plural

    first: Line = (badge(view.state, paused=False), ("  ", "text"), *view.headline)
    lines: list[Line] = [clip(first, cells)]
    if view.tally:
        lines.append(clip(view.tally, cells))
    if view.spec.filter:
        matching = f"{count(view.shown)} of {plural(view.total, 'handle')}"
        told = f"filter: {view.spec.filter.text}  ({matching})"
        lines.append(clip(((told, "accent"),), cells))
    layout = lay_out(SITE_COLUMNS, cells, without=view.hidden)
    lines.append(header_line(layout, view.spec.sort))
    lines += [row_line(layout, row, view.now_ns, cursor=False) for row in view.rows[:rows]]
    for row in view.rows[:1]:
        if row.verdict is not None:
            lines.append(clip((("    why  ", "head"), (row.verdict.why, "text")), cells))
    if len(view.rows) > rows:
        rest = plural(len(view.rows) - rows, "more site")
        lines.append(((f"    … {rest}", "muted"),))
    return lines


def _styled(line: Line) -> str:
    """For a terminal; click takes the colours out where there is none."""
    return "".join(
        click.style(
            text,
            fg=_COLORS.get(role),
            bold=role in ("bad", "strong", "title", "sorted") or None,
            dim=role in ("muted", "head") or None,
        )
        if text.strip()
        else text
        for text, role in line
    ).rstrip()


def _document(view: View, rows: int) -> dict[str, Any]:
    return {
        "version": 1,
        "session": view.title,
        "state": view.state,
        "processes": [
            {"pid": each.info.pid, "argv": list(each.info.argv), "ended": each.info.ended}
            for each in view.processes
            if each.info is not None
        ],
        "sites": [_site(row, view.now_ns) for row in _first(view.rows, rows)],
    }


def _first(rows: Sequence[SiteRow], most: int) -> Sequence[SiteRow]:
    return rows[:most]


def _site(row: SiteRow, now_ns: int) -> dict[str, Any]:
    file, line, function = row.key
    return {
        "file": file,
        "line": line,
        "function": function,
        "verdict": row.verdict.word if row.verdict is not None else None,
        "why": row.verdict.why if row.verdict is not None else None,
        "kinds": list(row.kinds),
        "open": row.open,
        "opened": row.opened,
        "closed": row.closed,
        "typical_s": row.typical_ns / 1e9 if row.typical_ns else None,
        "oldest_s": max(0, now_ns - row.oldest_ns) / 1e9,
        "importing": row.importing,
        "problems": row.problems,
        "survivors_by_birth": list(row.births),
    }
