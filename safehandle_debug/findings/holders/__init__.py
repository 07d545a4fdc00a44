"""Who keeps a handle's owner alive: asked inside the process that has it.

- `search`   walks forward from the roots, breadth first, within bounds
- `roots`    modules, frames of all threads, tasks, context variables
- `links`    what a step of a chain is called
- `cycles`   why something lives that no root leads to
- `model`    the answer
- `told`     the answer in the recording, for those who read it later
- `picture`  the answer as DOT and SVG

The walk runs no code of the objects that it meets, changes none of them, and
keeps nothing: not even a frame's snapshot of its local variables.
"""

from safehandle_debug.findings.holders.model import Chain as Chain
from safehandle_debug.findings.holders.model import Holders as Holders
from safehandle_debug.findings.holders.model import Link as Link
from safehandle_debug.findings.holders.picture import PictureError as PictureError
from safehandle_debug.findings.holders.picture import backrefs as backrefs
from safehandle_debug.findings.holders.picture import to_dot as to_dot
from safehandle_debug.findings.holders.picture import to_svg as to_svg
from safehandle_debug.findings.holders.roots import Root as Root
from safehandle_debug.findings.holders.search import Target as Target
from safehandle_debug.findings.holders.search import holders_of as holders_of
from safehandle_debug.findings.holders.search import search as search
from safehandle_debug.findings.holders.told import read_holders as read_holders
from safehandle_debug.findings.holders.told import write_holders as write_holders

__all__ = [
    "Chain",
    "Holders",
    "Link",
    "PictureError",
    "Root",
    "Target",
    "backrefs",
    "holders_of",
    "read_holders",
    "search",
    "to_dot",
    "to_svg",
    "write_holders",
]
