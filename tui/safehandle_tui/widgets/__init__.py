"""Widgets that paint lines of text with roles."""

from __future__ import annotations
