"""Fixtures of the screens' tests: an empty place for sessions, a leaky one."""

from __future__ import annotations

from pathlib import Path

import pytest
from support_screens import Leaky, leaky_session


@pytest.fixture(autouse=True)
def sessions_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder where sessions are looked for: empty, this test's own."""
    root = tmp_path / "sessions"
    root.mkdir(mode=0o700)
    monkeypatch.setenv("SAFEHANDLE_DEBUG_DIR", str(root))
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLORTERM", "truecolor")
    for name in ("NO_COLOR", "COLORFGBG", "TEXTUAL_THEME"):
        monkeypatch.delenv(name, raising=False)
    return root


@pytest.fixture
def leaky(sessions_root: Path) -> Leaky:
    """A running service with one line that leaks."""
    return leaky_session(sessions_root)
