"""Sites in words: which handles `handles_allow` and the marker's `allow` cover."""

from __future__ import annotations

import pytest

from safehandle_debug.ledger import Frame, History
from safehandle_debug.testing import Site, SiteError


def history(*frames: tuple[str, str], owner: str = "SafeFileHandle") -> History:
    """A handle opened by these (file, function), innermost first."""
    opened = tuple(Frame(file, 1, function) for file, function in frames)
    return History(
        pid=1,
        serial=1,
        kind="file",
        owner=owner,
        space="fd",
        value=3,
        detail=None,
        opened_at_ns=0,
        opened=opened,
        thread="MainThread",
        task=None,
        test=None,
    )


OPENED = history(("/srv/app/store.py", "Store.open"), ("/srv/tests/test_a.py", "test_a"))


@pytest.mark.parametrize(
    "text",
    [
        "store.py:open",
        "app/store.py:Store.open",
        "/srv/app/store.py:open",
        "./app/store.py:op*",
        "app/*:*",
        "test_?.py:test_a",
        "type:SafeFileHandle",
        "store.py:open  # closed at exit",
    ],
)
def test_site_covers(text):
    """Any frame of the acquire stack, by the end of its path."""
    site = Site.parse(text)
    assert site is not None
    assert site.covers(OPENED)


@pytest.mark.parametrize(
    "text", ["tore.py:open", "srv/store.py:open", "store.py:close", "type:File", "app:open"]
)
def test_site_does_not_cover(text):
    """Parts of names are not names."""
    site = Site.parse(text)
    assert site is not None
    assert not site.covers(OPENED)


@pytest.mark.parametrize("text", ["", "   ", "# only a comment"])
def test_nothing_is_no_site(text):
    """Empty lines of an ini value."""
    assert Site.parse(text) is None


@pytest.mark.parametrize("text", ["store.py", "store.py:", ":open", "type:"])
def test_half_a_site_is_an_error(text):
    """The error shows both accepted forms."""
    with pytest.raises(
        SiteError, match=r"is not a site: use path-glob:function-glob .* type:NAME"
    ):
        Site.parse(text)
