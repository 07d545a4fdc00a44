"""The title above the table, and what is said where there are no rows."""

from __future__ import annotations

from safehandle_tui.model.feed import View
from safehandle_tui.model.modes import MODES
from safehandle_tui.model.rows import HandleRow
from safehandle_tui.model.text import Line, Span, count, plural

__all__ = ["empty_lines", "table_title"]


def table_title(view: View, born: tuple[int, int | None] | None, *, follows: bool = False) -> Line:
    """What the rows are, and what narrows them."""
    spec = view.spec
    info = MODES[view.mode]
    noun = spec.group if view.mode == "sites" else info.noun
    several = "processes" if noun == "process" else ""
    spans: list[Span] = []
    if view.mode == "handles":
        spans.append((plural(view.shown, "handle"), "title"))
        if spec.site is not None and view.rows and isinstance(view.rows[0], HandleRow):
            spans += [(" of ", "text"), (view.rows[0].site, "own")]
    else:
        spans.append((plural(len(view.rows), noun, several), "title"))
    if view.mode in ("sites", "tree", "kinds"):
        spans.append((f", {plural(view.shown, 'handle')}", "text"))
    if view.mode == "events":
        spans.append((", following" if follows else ", standing still", "muted"))
    if spec.ended and view.mode in ("sites", "handles"):
        spans.append((", ended ones too", "text"))
    if born is not None:
        number = spec.marks.index(born[0]) + 1 if born[0] in spec.marks else 0
        name = f"mark {number}" if number else "the start"
        until = "" if born[1] is None else " and before the next"
        spans.append((f"  opened since {name}{until}", "accent"))
    if spec.filter:
        spans.append((f"  filter: {spec.filter.text}", "accent"))
        spans.append((f" ({count(view.shown)} of {count(view.total)})", "muted"))
    return tuple(spans)


def empty_lines(view: View) -> list[Line]:
    """Why there is nothing to see, and the key that helps."""
    spec = view.spec
    if spec.filter and view.total:
        return [
            (("No " + MODES[view.mode].noun + " matches  " + spec.filter.text, "title"),),
            (),
            (("Esc drops the filter", "muted"),),
        ]
    if spec.born is not None:
        return [
            (("Nothing that was opened since the mark is open", "title"),),
            (),
            (("d shows all again", "muted"),),
        ]
    if view.state == "disconnected":
        return [view.headline]
    if view.mode == "alarms":
        text, hint = "Nothing wrong was found", "1 shows what is open"
        if view.state == "live":
            # A leak is one once the program ends; until then it is suspected.
            text, hint = "Nothing was done wrong so far", "1 shows who is suspected of leaking"
        return [((text, "title"),), (), ((hint, "muted"),)]
    if view.mode == "events":
        return [(("No event yet", "title"),)]
    if view.mode == "sessions":
        return [(("No process has been recorded yet", "title"),)]
    counted = sum(each.info.bare for each in view.processes if each.info is not None)
    if counted:
        return [
            ((f"{plural(counted, 'descriptor')} were counted, not recorded", "title"),),
            (),
            (("SAFEHANDLE_DEBUG=full without arm= records each, with its stack", "muted"),),
        ]
    if view.state == "live":
        return [
            (("No handles open", "title"),),
            (),
            (("those that open will appear here; c shows the ended ones", "muted"),),
        ]
    return [
        (("Nothing was left open", "title"),),
        (),
        (("c shows the handles that ended", "muted"),),
    ]
