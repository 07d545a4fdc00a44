"""The report in forms to hand on: a page, Markdown, SARIF.

All take what `find` found, and say it in the findings' own words.
"""

from safehandle_debug.formats.html import to_html as to_html
from safehandle_debug.formats.markdown import to_markdown as to_markdown
from safehandle_debug.formats.sarif import to_sarif as to_sarif
from safehandle_debug.formats.timeline import Timeline as Timeline
from safehandle_debug.formats.timeline import timeline as timeline

__all__ = ["Timeline", "timeline", "to_html", "to_markdown", "to_sarif"]
