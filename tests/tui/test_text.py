"""The small formats."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from safehandle_tui.model.text import (
    age,
    bar,
    cell_width,
    clean,
    clip,
    delta,
    fit,
    line_width,
    plural,
    short_path,
    strip_of,
)

MS = 1_000_000
S = 1000 * MS


@pytest.mark.parametrize(
    ("nanoseconds", "text"),
    [
        (-5, "0ms"),
        (0, "0ms"),
        (417 * MS, "417ms"),
        (2 * S + 340 * MS, "2.3s"),
        (59 * S, "59s"),
        (192 * S, "3m12s"),
        (3600 * S + 61 * S, "1h01m"),
        (26 * 3600 * S, "1d02h"),
    ],
)
def test_age(nanoseconds: int, text: str) -> None:
    """An age takes the two largest units that say something."""
    assert age(nanoseconds) == text


@given(st.integers(min_value=0, max_value=10**18))
def test_age_is_short(nanoseconds: int) -> None:
    """A column of six cells holds every age."""
    assert len(age(nanoseconds)) <= 6


@pytest.mark.parametrize(
    ("nanoseconds", "text"),
    [(0, "+0"), (700, "+1 us"), (12_000, "+12 us"), (800_000, "+800 us"), (1_500_000, "+1.5 ms"),
     (12 * MS, "+12 ms"), (3 * S, "+3.0s")],
)  # fmt: skip
def test_delta(nanoseconds: int, text: str) -> None:
    """Times since the acquire keep the unit that tells them apart."""
    assert delta(nanoseconds) == text


@given(
    st.text(max_size=40),
    st.integers(0, 30),
    st.sampled_from("<>"),
    st.sampled_from(["start", "end"]),
)
def test_fit_is_exact(text: str, cells: int, align: str, keep: str) -> None:
    """Whatever the text, it takes exactly its cells: columns stay columns."""
    assert cell_width(fit(clean(text), cells, align=align, keep=keep)) == cells


@given(
    st.lists(st.text(max_size=12).map(lambda text: (clean(text), "text")), max_size=6),
    st.integers(0, 40),
)
def test_clip_fits(line: list[tuple[str, str]], cells: int) -> None:
    """A clipped line never takes more cells, and is itself when it fits."""
    clipped = clip(line, cells)  # type: ignore[arg-type]
    assert line_width(clipped) <= cells
    if line_width(line) <= cells:  # type: ignore[arg-type]
        assert clipped == tuple(line)


def test_clip_shows_that_something_is_missing() -> None:
    """What is cut ends in an ellipsis, also when it is cut between spans."""
    line = (("one", "text"), ("two", "bad"))
    assert "".join(text for text, _ in clip(line, 3)) == "on…"
    assert "".join(text for text, _ in clip(line, 5)) == "onet…"


def test_clean_shows_what_a_terminal_would_obey() -> None:
    """A path with escape codes in it cannot write to the screen."""
    assert clean("a\x1b[31mb\n\u202ec\x00") == "a\\x1b[31mb\\n\\u202ec\\x00"
    assert clean("Übergröße 日本") == "Übergröße 日本"
    assert clean("\udcff") == "\\udcff"


def test_short_path() -> None:
    """Files of the program are relative to it; libraries keep their name."""
    assert short_path("/srv/app/db.py", "/srv") == "app/db.py"
    assert short_path("/srv2/db.py", "/srv") == "/srv2/db.py"
    assert short_path("/v/lib/python3.11/site-packages/httpx/_a.py") == "httpx/_a.py"
    assert short_path("/usr/lib/python3.11/tempfile.py") == "lib/tempfile.py"
    assert short_path("/a/b/c/d/e.py") == "…/c/d/e.py"


def test_strip_shows_every_number() -> None:
    """The tallest is full, the smallest is still seen, nothing is blank."""
    assert strip_of([0, 1, 50, 100]) == " ▁▄█"
    assert strip_of([]) == ""
    assert strip_of([0, 0]) == "  "


@given(st.floats(-1, 2), st.integers(1, 20))
def test_bar_is_exact(share: float, cells: int) -> None:
    """A bar takes its cells, and something is never shown as nothing."""
    text = bar(share, cells)
    assert len(text) == cells
    assert (text.strip() != "") == (share > 0)


def test_plural() -> None:
    """One handle, several handles."""
    assert [plural(1, "handle"), plural(1204, "process", "processes")] == [
        "1 handle",
        "1,204 processes",
    ]
