"""The report as one page that needs nothing else: no network, no other file.

Findings are `<details>`, so that a keyboard and a screen reader can fold them
without a script; the one script unfolds them all for printing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime

from safehandle_debug.findings import Finding, held_by
from safehandle_debug.findings.source import around, excerpt
from safehandle_debug.findings.wording import named, numbered, place, plural, times
from safehandle_debug.formats.page import SCRIPT, STYLE, Markup, element, escaped
from safehandle_debug.formats.timeline import Timeline, timeline
from safehandle_debug.ledger import Event, Frame, History, Ledger, ProcessInfo, is_library, site_of

__all__ = ["to_html"]

_OPEN_AT_FIRST = 3  # findings that are unfolded
_SOURCES = 100  # findings whose frames have their source
_CONTEXT = 3  # lines of source on either side
_MOST_EVENTS = 100  # of one finding
_MOST_HELD = 100
_WIDTH, _HEIGHT, _LEFT, _BELOW = 720, 160, 44, 22


def to_html(ledgers: Sequence[Ledger], findings: Sequence[Finding], title: str = "") -> str:
    """The whole page."""
    heading = title or _heading(ledgers)
    what = plural(len(findings), "finding") if findings else "nothing found"
    body = [
        element("a", "To the findings", href="#findings", class_="skip"),
        element("header", element("h1", heading), element("p", _scope(ledgers, what))),
        element(
            "main",
            _summary(findings),
            *_findings(findings),
            *_processes(ledgers),
            id="main",
        ),
        element("footer", element("p", "Written by safehandle report.")),
    ]
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\';'
        " style-src 'unsafe-inline'; script-src 'unsafe-inline'\">\n"
        f"<title>{escaped(heading)}: {escaped(what)}</title>\n"
        f"<style>{STYLE}</style>\n</head>\n<body>\n"
        + "\n".join(body)
        + f"\n<script>{SCRIPT}</script>\n</body>\n</html>"
    )


def _heading(ledgers: Sequence[Ledger]) -> str:
    argv = ledgers[0].process.argv if ledgers else ()
    return f"Handles of {' '.join(argv[-1:]) or 'a program'}"


def _scope(ledgers: Sequence[Ledger], what: str) -> str:
    events = sum(ledger.process.events for ledger in ledgers)
    processes = plural(len(ledgers), "process", "processes")
    began = min((ledger.process.started_at_ns for ledger in ledgers), default=0)
    return f"{what} in {processes}, {plural(events, 'event')}, since {_moment(began)}"


def _summary(findings: Sequence[Finding]) -> Markup:
    counts: Counter[str] = Counter()
    severity: dict[str, str] = {}
    for finding in findings:
        counts[finding.kind] += finding.count
        severity[finding.kind] = finding.severity
    cards = [
        element(
            "li",
            element("strong", f"{count:,}"),
            element("span", kind),
            class_=f"card {severity[kind]}",
        )
        for kind, count in counts.items()
    ]
    if not cards:
        cards = [element("li", element("strong", "0"), element("span", "findings"), class_="card")]
    return element("ul", *cards, class_="cards", aria_label="Summary")


# --- findings ---


def _findings(findings: Sequence[Finding]) -> list[Markup]:
    parts = [element("h2", "Findings", id="findings", tabindex="-1")]
    if not findings:
        parts.append(element("p", "Nothing is wrong with the handles of this program."))
    parts += (_finding(finding, number) for number, finding in enumerate(findings))
    return parts


def _finding(finding: Finding, number: int) -> Markup:
    handle = finding.handle
    has_source = number < _SOURCES
    summary = element(
        "summary",
        element("span", finding.kind, class_=f"kind {finding.severity}"),
        " ",
        element("span", f"{finding.message}{times(finding.count)}"),
    )
    where = finding.thread if not finding.task else f"{finding.thread}, task {finding.task}"
    facts = [
        ("handle", f"{numbered(handle)}, of process {finding.pid}"),
        ("thread", where),
        ("opened", _moment(handle.opened_at_ns)),
        ("ended", handle.ending or "still open"),
        ("held by", "\n".join(finding.holders)),
        ("test", finding.test or ""),
        ("fingerprint", finding.fingerprint),
    ]
    parts = [
        summary,
        _source(finding),
        element("dl", *(e for name, text in facts if text for e in _fact(name, text))),
    ]
    if finding.culprit and finding.culprit != handle.opened:
        parts.append(_stack("The act", finding.culprit, finding.cwd, has_source))
    parts.append(_stack("Opened", handle.opened, finding.cwd, has_source))
    if finding.victim is not None:
        text = f"Its number belongs to {named(finding.victim)}, opened"
        parts.append(_stack(text, finding.victim.opened, finding.cwd, has_source))
    parts.append(_events(finding))
    return element(
        "details",
        *parts,
        open=number < _OPEN_AT_FIRST,
        class_="finding",
        id=f"f-{finding.fingerprint}",
    )


def _fact(name: str, text: str) -> tuple[Markup, Markup]:
    return element("dt", name), element("dd", text)


def _source(finding: Finding) -> Markup:
    """The user's own line, with the expression marked."""
    frame = site_of(finding.culprit) or finding.handle.site
    lines = Markup("") if frame is None else _lines(frame, finding.cwd)
    if frame is None or not lines:
        return Markup("")
    return element("figure", element("figcaption", place(frame, finding.cwd)), lines)


def _lines(frame: Frame, cwd: str) -> Markup:
    """A frame's line between its neighbours; nothing when it cannot be read."""
    line = excerpt(frame, cwd)
    if line is None:
        return Markup("")
    marked = (
        line.text[: line.start],
        element("mark", line.text[line.start : line.end]) if line.start < line.end else "",
        line.text[max(line.start, line.end) :],
    )
    first, lines = around(frame, cwd, _CONTEXT)
    rows: list[str] = []
    for number, text in enumerate(lines, first):
        indent = text[: len(text) - len(text.lstrip())].expandtabs(4)
        rows.append(f"{number:>5}{' ' if number != frame.line else '>'} ")
        rows += (indent, *marked) if number == frame.line else (text.expandtabs(4).rstrip(),)
        rows.append("\n")
    return element("pre", element("code", *rows), tabindex="0")


def _stack(title: str, stack: Sequence[Frame], cwd: str, has_source: bool) -> Markup:
    """The program's own frames; with those of libraries folded between."""
    if not stack:
        return element("p", f"{title}: the stack was not recorded.")
    has_own = any(not is_library(frame.file) for frame in stack)
    items: list[Markup] = []
    folded: list[Frame] = []

    def unfold() -> None:
        if folded:
            inner = element("ol", *(element("li", place(frame, cwd)) for frame in folded))
            count = plural(len(folded), "frame")
            items.append(
                element(
                    "li", element("details", element("summary", f"{count} of libraries"), inner)
                )
            )
            folded.clear()

    for frame in stack:
        if has_own and is_library(frame.file):
            folded.append(frame)
        else:
            unfold()
            items.append(element("li", _frame(frame, cwd, has_source)))
    unfold()
    return element("div", element("h3", title), element("ol", *items), class_="stack")


def _frame(frame: Frame, cwd: str, has_source: bool) -> Markup:
    """Where it is, with its source folded below."""
    lines = _lines(frame, cwd) if has_source else Markup("")
    if not lines:
        return Markup(escaped(place(frame, cwd)))
    return element("details", element("summary", place(frame, cwd)), lines)


def _events(finding: Finding) -> Markup:
    events = finding.events
    if not events:
        return Markup("")
    rows = [_event(event, events[0].at_ns, finding.cwd) for event in events[:_MOST_EVENTS]]
    head = ("after", "event", "references", "where", "thread")
    table = element(
        "table",
        element("thead", element("tr", *(element("th", name, scope="col") for name in head))),
        element("tbody", *rows),
    )
    more = len(events) - len(rows)
    return element(
        "details",
        element("summary", plural(len(events), "event")),
        element(
            "div",
            table,
            class_="wide",
            tabindex="0",
            role="region",
            aria_label=f"Events: {finding.message}",
        ),
        element("p", f"and {more:,} more") if more > 0 else "",
    )


def _event(event: Event, began_ns: int, cwd: str) -> Markup:
    cells = (
        f"{(event.at_ns - began_ns) / 1e9:.6f} s",
        event.kind if event.ending is None else f"{event.kind} ({event.ending})",
        str(event.refs),
        place(site_of(event.stack), cwd) if event.stack else "",
        event.thread,
    )
    return element("tr", *(element("td", cell) for cell in cells))


# --- processes ---


def _processes(ledgers: Sequence[Ledger]) -> list[Markup]:
    parts = [element("h2", "Processes")]
    for ledger in ledgers:
        process = ledger.process
        title = f"Process {process.pid}: {' '.join(process.argv) or '?'}"
        facts = [
            ("Python", process.python),
            ("started", _moment(process.started_at_ns)),
            ("ended", _ending(process)),
            ("events", f"{process.events:,}"),
            ("dropped", f"{process.dropped:,}" if process.dropped else ""),
            ("open at the end" if process.ended != "running" else "open", f"{process.live:,}"),
            ("level", process.level),
            ("note", process.error or ""),
        ]
        line = timeline(ledger)
        parts += [
            element("h3", title),
            element("dl", *(e for name, text in facts if text for e in _fact(name, text))),
            _picture(line) if line is not None else Markup(""),
            _held(held_by(ledger), process.cwd),
        ]
    return parts


def _ending(process: ProcessInfo) -> str:
    if process.ended == "running":
        return "it is running"
    return "killed" if process.ended == "signal" else f"exit code {process.exit_code}"


def _held(held: Sequence[History], cwd: str) -> Markup:
    if not held:
        return Markup("")
    items = [
        element("li", f"{numbered(each)}, opened at {place(each.site, cwd)}")
        for each in held[:_MOST_HELD]
    ]
    if len(held) > _MOST_HELD:
        items.append(element("li", f"and {len(held) - _MOST_HELD:,} more"))
    return element("div", element("h4", "It died holding"), element("ul", *items))


def _picture(line: Timeline) -> Markup:
    """Open handles over time, as a drawing with its numbers in words."""
    width, height = _WIDTH - _LEFT - 8, _HEIGHT - _BELOW - 8
    top = max(line.most, 1)
    points: list[tuple[float, float]] = [(_LEFT, 8 + height)]
    for number, count in enumerate(line.counts):
        x = _LEFT + width * number / (len(line.counts) - 1)
        points.append((x, 8 + height * (1 - count / top)))
    points.append((_LEFT + width, 8 + height))
    shape = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    seconds = (line.ended_ns - line.began_ns) / 1e9
    most, last = f"{line.most:,} at most", f"{line.counts[-1]:,} at the end"
    words = f"Open handles over {seconds:.3g} s: {most}, {last}."
    if not line.complete:
        words += " Some events were dropped."
    right = _LEFT + width
    drawing = (
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{escaped(words)}">'
        f'<line x1="{_LEFT}" y1="{8 + height}" x2="{right}" y2="{8 + height}"/>'
        f'<line x1="{_LEFT}" y1="8" x2="{_LEFT}" y2="{8 + height}"/>'
        f'<polygon points="{shape}"/>'
        f'<text x="{_LEFT - 6}" y="16" text-anchor="end">{top:,}</text>'
        f'<text x="{_LEFT - 6}" y="{8 + height}" text-anchor="end">0</text>'
        f'<text x="{_LEFT}" y="{_HEIGHT - 4}">0 s</text>'
        f'<text x="{right}" y="{_HEIGHT - 4}" text-anchor="end">{seconds:.3g} s</text></svg>'
    )
    return element("figure", Markup(drawing), element("figcaption", words))


def _moment(ns: int) -> str:
    return datetime.fromtimestamp(ns / 1e9, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
