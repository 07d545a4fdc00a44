"""Programs under the descriptor watch."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from support_programs import Run


def environment(sessions: Path, options: str = "full,fds=on") -> dict[str, str]:
    """This environment, with recordings into a folder."""
    clean = {name: text for name, text in os.environ.items() if not name.startswith("SAFEHANDLE")}
    return clean | {"SAFEHANDLE_DEBUG": options, "SAFEHANDLE_DEBUG_DIR": str(sessions)}


def findings_of(run: Run) -> list[dict[str, Any]]:
    """What `safehandle report` finds in the first session of a run, as JSON."""
    done = subprocess.run(
        [sys.executable, "-m", "safehandle_debug", "report", "--format=json", run.sessions[0]],
        capture_output=True,
        text=True,
    )
    found: list[dict[str, Any]] = json.loads(done.stdout)["findings"]
    return found
