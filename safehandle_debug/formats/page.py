"""What a page is made of: elements whose texts are escaped, and its style."""

from __future__ import annotations

import html
from typing import Final

__all__ = ["SCRIPT", "STYLE", "Markup", "element", "escaped"]


class Markup(str):
    """Text that is HTML already."""

    __slots__ = ()


def escaped(text: str) -> str:
    """Text as HTML, characters that cannot be shown written out."""
    shown = "".join(
        each
        if each.isprintable() or each == "\n"
        else each.encode("unicode_escape", "backslashreplace").decode()
        for each in text
    )
    return html.escape(shown)


def element(name: str, *content: str, **attributes: str | bool) -> Markup:
    """`<name attributes>content</name>`; plain text is escaped."""
    inside = "".join(each if isinstance(each, Markup) else escaped(each) for each in content)
    return Markup(f"<{name}{_written(attributes)}>{inside}</{name}>")


def _written(attributes: dict[str, str | bool]) -> str:
    text = ""
    for key, value in attributes.items():
        name = key.rstrip("_").replace("_", "-")
        if value is True:
            text += f" {name}"
        elif value is not False:
            text += f' {name}="{escaped(str(value))}"'
    return text


# Folded text is not printed: everything is unfolded first, and folded again.
SCRIPT: Final = """
addEventListener('beforeprint', () => document.querySelectorAll('details:not([open])')
  .forEach(each => { each.open = true; each.dataset.folded = ''; }));
addEventListener('afterprint', () => document.querySelectorAll('details[data-folded]')
  .forEach(each => { each.open = false; delete each.dataset.folded; }));
addEventListener('hashchange', unfold); unfold();
function unfold() {
  const target = document.getElementById(location.hash.slice(1));
  if (target && target.tagName === 'DETAILS') target.open = true;
}
"""

STYLE: Final = """
:root { color-scheme: light dark; --text: #1b1f24; --back: #ffffff; --soft: #f3f4f6;
  --line: #c9cdd3; --muted: #57606a; --error: #b3261e; --warning: #8a5300; --mark: #ffe9a8;
  --shape: #2f6fde; }
@media (prefers-color-scheme: dark) { :root { --text: #e6e8eb; --back: #14171b; --soft: #1e2329;
  --line: #3b424b; --muted: #a3acb7; --error: #ff9d94; --warning: #f0b45b; --mark: #5c4a12;
  --shape: #7fb0ff; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1rem 1.5rem 3rem; max-width: 70rem; color: var(--text);
  background: var(--back); font: 16px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.6rem; margin: .5rem 0 0; overflow-wrap: anywhere; }
h2 { font-size: 1.25rem; margin: 2rem 0 .5rem; }
h3 { font-size: 1rem; margin: 1rem 0 .25rem; overflow-wrap: anywhere; }
h4 { margin: .5rem 0; }
header p, footer p, figcaption { color: var(--muted); }
.skip { position: absolute; left: -100rem; }
.skip:focus { position: static; }
:focus-visible { outline: 3px solid var(--shape); outline-offset: 2px; }
.cards { list-style: none; display: flex; flex-wrap: wrap; gap: .75rem; padding: 0; }
.card { background: var(--soft); border-left: 4px solid var(--line); padding: .5rem 1rem; }
.card strong { display: block; font-size: 1.5rem; }
.card.error { border-color: var(--error); }
.card.warning { border-color: var(--warning); }
.finding { border: 1px solid var(--line); border-radius: 6px; margin: .75rem 0; padding: 0 1rem; }
.finding > summary { padding: .6rem 0; overflow-wrap: anywhere; }
summary { cursor: pointer; }
.kind { font-weight: 600; }
.kind.error { color: var(--error); }
.kind.warning { color: var(--warning); }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .15rem 1rem; margin: .5rem 0; }
dt { color: var(--muted); }
dd { margin: 0; overflow-wrap: anywhere; white-space: pre-line; }
figure { margin: .75rem 0; }
pre, .stack ol { font: 14px/1.5 ui-monospace, monospace; }
pre { background: var(--soft); padding: .6rem .8rem; margin: 0; overflow-x: auto; }
mark { background: var(--mark); color: inherit; }
.stack li { overflow-wrap: anywhere; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: .9rem; }
th, td { text-align: left; padding: .2rem .8rem .2rem 0; border-bottom: 1px solid var(--line); }
svg { width: 100%; height: auto; max-width: 45rem; }
svg line { stroke: var(--line); }
svg polygon { fill: var(--shape); fill-opacity: .35; stroke: var(--shape); }
svg text { fill: var(--muted); font-size: 11px; }
@media print { .finding { break-inside: avoid-page; } body { max-width: none; } }
"""
