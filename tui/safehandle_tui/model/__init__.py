"""What the screens show, worked out without a screen.

Nothing here imports Textual: the model reads recordings, filters, sorts and
groups, and says everything as lines of (text, role) pairs.  A widget only
paints them.
"""

from __future__ import annotations
