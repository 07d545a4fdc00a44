"""The filter language."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from safehandle_tui.model.filters import FIELDS, FilterError, is_unfinished, parse_filter
from safehandle_tui.model.rows import HandleRow

from safehandle_debug.ledger import Frame, History

S = 1_000_000_000
NOW = 1000 * S


def row(**changes: object) -> HandleRow:
    """A handle opened 100 s before NOW by app/db.py:88."""
    fields: dict[str, object] = {
        "pid": 7,
        "serial": 12,
        "kind": "file",
        "owner": "SafeFileHandle",
        "space": "fd",
        "value": 5,
        "detail": "/srv/my file",
        "opened_at_ns": NOW - 100 * S,
        "opened": (Frame("/code/app/db.py", 88, "connect"),),
        "thread": "worker-1",
        "task": "fetch",
        "test": None,
        **changes,
    }
    return HandleRow(History(**fields), cwd="/code")  # type: ignore[arg-type]


def refusal(text: str) -> str:
    """Why the filter cannot be read; "" when it can, and can be used."""
    try:
        parse_filter(text).matches(row(), NOW)
    except FilterError as error:
        return str(error)
    return ""


@pytest.mark.parametrize(
    "text",
    [
        "",
        "   ",
        "db.py:88",
        "CONNECT",
        "kind:file",
        "kind=FILE",
        "kind:pipe|file",
        "nothing|connect",
        "fd:5",
        "value:5|9",
        "value>=5 value<=5",
        "refs<2",
        "id:12",
        "serial:#12",
        "age>99s",
        "age<2m",
        "age>1.5m",
        "path:srv",
        'detail:"my file"',
        '"my file"',
        "thread:worker task:fetch",
        "owner:Safe",
        "func:connect",
        "line:88",
        "file:/code",
        "state:open",
        "state:ended|open",
        "!kind:pipe",
        "connect|x -kind:pipe",
        "!ended !\"your file\"",
    ],
)  # fmt: skip
def test_matches(text: str) -> None:
    """Each of these terms is true of the handle."""
    assert parse_filter(text).matches(row(), NOW)


@pytest.mark.parametrize(
    "text",
    [
        "pipe",
        "kind=fil",
        "kind:pipe",
        "fd:6",
        "value>5",
        "age>2m",
        "age<1m",
        "!connect",
        "-kind:file",
        "state:ended",
        "state:problem",
        "connect kind:pipe",
        "test:x",
    ],
)
def test_does_not_match(text: str) -> None:
    """Each of these terms is false of the handle."""
    assert not parse_filter(text).matches(row(), NOW)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("colour:red", "no field 'colour': use one of kind, detail, site"),
        ("kind:", "kind: needs a value, as in kind:file"),
        ("kind>3", "kind is text and has no order"),
        ("refs:many", "'many' is not a number: write refs:3"),
        ("age>5", "'5' is not an age: write age>5m"),
        ("age>-3s", "not an age"),
        ("state:broken", "no state 'broken': use one of open, ended"),
        ('detail:"my fi', "a quote is open"),
        ("refs>", "refs> needs a value, as in refs>1"),
    ],
)
def test_bad_filters_say_what_to_do(text: str, says: str) -> None:
    """One sentence that names what would be accepted."""
    with pytest.raises(FilterError) as caught:
        parse_filter(text)
    assert says in str(caught.value)


@given(st.text(alphabet=st.sampled_from('kindrefsage:<>=!-|"# 0159smh.\\\x00é'), max_size=30))
def test_garbage_is_a_filter_or_a_sentence(text: str) -> None:
    """Nothing that can be typed raises anything else."""
    assert "\n" not in refusal(text)


@given(
    st.sampled_from(FIELDS), st.sampled_from([":", "=", ">", "<", ">=", "<="]), st.text(max_size=9)
)
def test_any_value_of_any_field(name: str, sign: str, value: str) -> None:
    """Each field with each sign and any value is a filter or a sentence."""
    assert "\n" not in refusal(f"{name}{sign}{value}")


def test_state_words_follow_the_life_of_a_handle() -> None:
    """What died with its process counts as open, what was closed does not."""
    held = row()
    held.life = "held"
    closed = row(ending="closed", closed_at_ns=NOW)
    closed.life = "ended"
    wrong = row()
    wrong.problem = "double-release"
    assert parse_filter("state:open").matches(held, NOW)
    assert parse_filter("state:ended ending:closed").matches(closed, NOW)
    assert parse_filter("state:problem").matches(wrong, NOW)


def test_a_field_without_its_value_is_unfinished() -> None:
    """While it is typed nothing should flash."""
    assert is_unfinished("ag")
    assert is_unfinished("age")
    assert is_unfinished("connect !fd")
    assert not is_unfinished("age>5m")
    assert not is_unfinished("connect")
    assert not is_unfinished("")


def test_a_filter_is_false_when_empty() -> None:
    """So that "is there a filter" reads well."""
    assert not parse_filter("  ")
    assert parse_filter("x")
