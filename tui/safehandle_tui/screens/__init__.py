"""The screens: the watch itself, a handle's page, the help."""

from __future__ import annotations
