"""Sites in ini values and markers: what cannot be read is a usage error."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from safehandle_debug.testing import Site, SiteError


def parse_sites(source: str, texts: Iterable[str]) -> tuple[Site, ...]:
    """Reads the sites of an ini value or a marker.

    Raises:
        pytest.UsageError: one has neither form; names the `source`.
    """
    try:
        return tuple(site for site in map(Site.parse, texts) if site is not None)
    except SiteError as error:
        raise pytest.UsageError(f"{source}: {error}") from None
