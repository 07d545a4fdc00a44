"""Programs under the descriptor watch."""

from __future__ import annotations

import os
from pathlib import Path


def environment(sessions: Path, options: str = "full,fds=on") -> dict[str, str]:
    """This environment, with recordings into a folder."""
    clean = {name: text for name, text in os.environ.items() if not name.startswith("SAFEHANDLE")}
    return clean | {"SAFEHANDLE_DEBUG": options, "SAFEHANDLE_DEBUG_DIR": str(sessions)}
