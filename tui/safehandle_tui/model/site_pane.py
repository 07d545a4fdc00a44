"""The pane of a site: its stack, its verdict with the reasons, its handles."""

from __future__ import annotations

import textwrap
from typing import Final

from safehandle_tui.model.alarms import number_of
from safehandle_tui.model.detail import SiteDetail
from safehandle_tui.model.holders import kept_lines
from safehandle_tui.model.panes import SIDE_BY_SIDE, beside, stack_pane
from safehandle_tui.model.rows import HandleRow
from safehandle_tui.model.stacks import stack_lines
from safehandle_tui.model.text import Line, Role, Span, age, clean, clip, count, fit, plural

__all__ = ["site_lines", "site_title"]

_SAMPLE: Final = 40  # handles of a site that its picture lists


def site_title(detail: SiteDetail, now_ns: int) -> Line:
    """What the site has on its conscience, in one line."""
    site = detail.site
    ended = len(site.rows) - site.open
    spans: list[Span] = [(site.site, "own"), (f" · {count(site.open)} open", "strong")]
    if ended:
        spans.append((f" · {count(ended)} ended", "muted"))
    if detail.stacks > 1:
        spans.append((f" · by {plural(detail.stacks, 'different stack')}", "muted"))
    if site.importing:
        spans.append((" · by an import", "muted"))
    return tuple(spans)


def site_lines(detail: SiteDetail, now_ns: int, cells: int, rows: int) -> list[Line]:
    """The pane below the table of sites: the stack beside its handles."""
    stack = stack_pane(detail.stack, detail, rows)
    wide = cells >= SIDE_BY_SIDE
    handles = _why_lines(detail, cells * 11 // 20 - 4 if wide else cells)
    if detail.kept is not None:
        handles += kept_lines(detail.kept, now_ns, cells * 11 // 20 - 4 if wide else cells)
    handles.append((("its handles, oldest first", "head"),))
    members = detail.site.rows
    handles += [_member(row, now_ns) for row in members[:_SAMPLE]]
    if len(members) > _SAMPLE:
        handles.append(((f"  … and {count(len(members) - _SAMPLE)} more", "muted"),))
    if not wide:
        short = stack_lines(detail.stack, detail.source, detail.cwd)
        return [clip(line, cells) for line in (stack[0], *short[:4], *handles)]
    return beside(stack, handles, cells, cells * 9 // 20)


def _why_lines(detail: SiteDetail, cells: int) -> list[Line]:
    """Why it got its word, and where such handles are closed."""
    verdict = detail.site.verdict
    lines: list[Line] = []
    if verdict is not None:
        lines.append((("why ", "head"), (verdict.word, "strong")))
        lines += [
            ((f"  {text}", "text"),) for text in textwrap.wrap(verdict.why, max(20, cells - 4))
        ]
    for at, place in enumerate(detail.closes):
        lines.append((("           " if at else "closed at  ", "head"), (place, "own")))
    return lines


def _member(row: HandleRow, now_ns: int) -> Line:
    role: Role = "muted" if row.life == "ended" else "text"
    spans: list[Span] = [
        (f" {fit(f'#{row.serial}', 6, align='>')}  ", "muted"),
        (f"{clean(number_of(row.history)):<7} ", role),
        (fit(age(row.age_ns(now_ns)), 6, align=">"), role),
        (f"  refs {row.refs} ", "warn" if row.refs > 1 else role),
    ]
    if row.problem:
        spans.append((f" {row.problem} ", "bad"))
    elif row.life == "ended":
        spans.append((f" {row.ending} ", "muted"))
    spans.append((f" {row.detail}", "accent"))
    return tuple(spans)
