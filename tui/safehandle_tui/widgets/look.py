"""The palette that goes with the app's theme."""

from __future__ import annotations

from textual.widget import Widget

from safehandle_tui.palette import Palette, palette_for

__all__ = ["palette_of"]


def palette_of(widget: Widget) -> Palette:
    """The palette of the moment for a widget."""
    return palette_for(widget.app.current_theme)
