"""The filter language."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from safehandle_debug.ledger import (
    Filter,
    FilterError,
    Frame,
    HandleFacts,
    History,
    parse_filter,
)
from safehandle_debug.ledger.filter import ALIASES, FIELDS, is_never_number, pattern_search

S = 1_000_000_000
NOW = 1000 * S
STDLIB = Frame("/usr/lib/python3.11/tempfile.py", 260, "mkstemp")
INSTALLED = Frame("/venv/lib/python3.11/site-packages/httpx/a.py", 1, "get")

HISTORY = History(
    pid=7,
    serial=12,
    kind="file",
    owner="SafeFileHandle",
    space="fd",
    value=5,
    detail="/srv/my file",
    opened_at_ns=NOW - 100 * S,  # 1m40s before NOW
    opened=(Frame("/code/app/db.py", 88, "connect"),),
    thread="worker-1",
    task="fetch",
    test=None,
)


def matches(text: str, problem: str = "", **changes: object) -> bool:
    """Does the filter match the handle of HISTORY, with changes?"""
    history = replace(HISTORY, **changes)  # type: ignore[arg-type]
    facts = HandleFacts(history, cwd="/code", problem=problem)
    return parse_filter(text).matches(facts, NOW)


def refusal(text: str) -> str:
    """Why the filter cannot be read; "" when it can, and can be used."""
    try:
        matches(text)
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
        "type:file",
        "kind=FILE",
        "Kind:file",
        "kind:pipe|file",
        "nothing|connect",
        "fd:5",
        "value:5|9",
        "value>=5 value<=5",
        "value:0x5",
        "refs<2",
        "id:12",
        "serial:#12",
        "age>99s",
        "age<2m",
        "age>1.5m",
        "age>1m39s",
        "age<1m41s",
        "age:5s",
        "path:srv",
        'detail:"my file"',
        '"my file"',
        'detail:my" "file',
        'site:"db.py:88"',
        "site:app/db.py:88",
        "thread:worker task:fetch",
        "thread=worker-1",
        "owner:Safe",
        "func:connect",
        "line:88",
        "file:/code/",
        "state:open",
        "state:ended|open",
        "lib:app",
        "!kind:pipe",
        "connect|x -kind:pipe",
        '!ended !"your file"',
        "/conn.ct/",
        "/^app/db/",
        r"/\.py:\d+/",
        '/my" "file/',
        "!/^connect/",
        "/srv/my",
    ],
)
def test_matches(text: str) -> None:
    """Each of these terms is true of the handle."""
    assert matches(text)


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
        "age>1m41s",
        "life>1s",
        "life<1000s",
        "!connect",
        "-kind:file",
        "state:ended",
        "state:problem",
        "lib:site|stdlib",
        "connect kind:pipe",
        "test:x",
        '"kind:file"',
        '"!pipe"',
        '"conn|file"',
        '"/conn.ct/"',
        "/connect.+/",
        "/^db/",
    ],
)
def test_does_not_match(text: str) -> None:
    """Each of these terms is false of the handle."""
    assert not matches(text)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("colour:red", f"no field 'colour': use one of {', '.join(FIELDS)}"),
        ("kind:", "kind: needs a value, as in kind:file"),
        ("kind:|", "kind: needs a value, as in kind:file"),
        ("kind>3", "kind is text and has no order"),
        ("state>open", "state is text and has no order: write state:open"),
        ("refs:many", "'many' is not a number: write refs:3"),
        ("age>5", "'5' is not an age: write age>5m"),
        ("age>5m|6m", "'5m|6m' is not an age"),
        ("life>-3s", "'-3s' is not a time: write life>5m"),
        ("state:broken", "no state 'broken': use one of open, ended"),
        ("lib:mine", "no lib 'mine': use one of app, site, stdlib"),
        ('detail:"my fi', "a quote is open"),
        ("refs>", "refs> needs a value, as in refs>1"),
        ("!", "'!' turns nothing round"),
        ("x -", "'-' turns nothing round"),
        ("|", "a bare | is no word"),
        ("/a(b/", "'a(b' is not a regular expression"),
        ('/a"\n"(/', "is not a regular expression"),
        ("/a{99999999999999999999}/", "is not a regular expression"),
    ],
)
def test_bad_filters_say_what_to_do(text: str, says: str) -> None:
    """One sentence that names what would be accepted."""
    assert says in refusal(text)
    assert "\n" not in refusal(text)


def test_life_is_of_handles_that_ended() -> None:
    """How long it was open, once that is known."""
    ended = {"ending": "closed", "closed_at_ns": NOW - 90 * S}
    assert matches("life>9s life<=10s age<11s state:ended", **ended)
    assert not matches("life<9s", **ended)


@pytest.mark.parametrize(
    ("stack", "lib"),
    [((STDLIB,), "stdlib"), ((STDLIB, INSTALLED), "site"), ((STDLIB, *HISTORY.opened), "app")],
)
def test_whose_code_opened_it(stack: tuple[Frame, ...], lib: str) -> None:
    others = {"app", "site", "stdlib"} - {lib}
    assert matches(f"lib:{lib}", opened=stack)
    assert not matches(f"lib:{'|'.join(others)}", opened=stack)


def test_without_a_stack() -> None:
    """It is nobody's code, and no error."""
    assert not matches("lib:app|site|stdlib", opened=())
    assert matches("!site:db.py line:0", opened=())


def test_states() -> None:
    """What died with its process was open."""
    assert matches("state:open ending:lost", ending="lost")
    assert matches("state:ended", ending="swept", closed_at_ns=NOW)
    assert matches("state:borrowed", borrowed=True)
    assert matches("state:importing", importing=True)
    assert matches("state:problem problem:double alarm=double-release", problem="double-release")


def test_problems_are_looked_for_only_when_asked() -> None:
    assert parse_filter("x alarm:double").asks_for_problems
    assert parse_filter("!state:open|problem").asks_for_problems
    assert not parse_filter("problem state:open").asks_for_problems


def test_a_filter_is_false_when_empty() -> None:
    """So that "is there a filter" reads well."""
    assert not parse_filter("  ")
    assert not Filter()
    assert parse_filter("x")


def test_filters_are_equal_when_they_mean_the_same() -> None:
    assert parse_filter("fd:5  'x'") == parse_filter("value:5 'x' ")
    assert parse_filter("fd:5") != parse_filter("fd:6")
    assert parse_filter("fd:5") != parse_filter("!fd:5")
    assert parse_filter("/x/") != parse_filter('"/x/"')


CHARS = 'kindrefsage:<>=!-|"/# 0159smh.\\\x00\té'


@given(st.text(alphabet=CHARS, max_size=30))
def test_garbage_is_a_filter_or_a_sentence(text: str) -> None:
    """Nothing that can be typed raises anything else."""
    assert "\n" not in refusal(text)


SIGNS = st.sampled_from([":", "=", ">", "<", ">=", "<="])


@given(st.sampled_from((*FIELDS, *ALIASES)), SIGNS, st.text(max_size=9))
def test_any_value_of_any_field(name: str, sign: str, value: str) -> None:
    """Each field with each sign and any value is a filter or a sentence."""
    assert "\n" not in refusal(f"{name}{sign}{value}")


def quoted(value: str) -> str:
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


@given(
    st.lists(
        st.one_of(
            st.text(alphabet=CHARS, min_size=1, max_size=9),
            st.builds(lambda name, text: f"{name}:{text}", st.sampled_from(FIELDS), st.text()),
            st.builds(
                lambda sign, name, text: f"{sign}{name}={quoted(text)}",
                st.sampled_from(["", "!", "-"]),
                st.sampled_from(["detail", "site", "owner"]),
                st.text(min_size=1, max_size=9),
            ),
            st.sampled_from(["age>1h30m", "refs>=2", "fd:3|4", "state:open|ended", "lib:app"]),
            st.sampled_from(["/a b/", '/a" "b/', r'/"\""|x/', "/[a-z]+/", "!/x|y/"]),
        ),
        max_size=4,
    )
)
def test_printed_it_is_the_same_filter(terms: list[str]) -> None:
    """What is printed reads back as what it was."""
    try:
        parsed = parse_filter(" ".join(terms))
    except FilterError:
        return
    again = parse_filter(str(parsed))
    assert again == parsed
    assert str(again) == str(parsed)


@given(st.text(min_size=1, max_size=12))
def test_anything_can_be_quoted(word: str) -> None:
    """In quotes nothing is special: it is a word to look for."""
    (term,) = parse_filter(quoted(word)).terms
    assert (term.values, term.name, term.negated, term.pattern) == ((word,), "", False, False)
    assert matches(quoted(word), detail=f"a{word}b")


@pytest.mark.parametrize(
    ("pattern", "never"),
    [("used", True), ("us[e]d", True), ("a|b", True), (r"(?:1|2)x", True), ("a+", True),
     (r"\d", False), ("a?", False), ("a|1", False), ("(a|1)", False), ("a{0,1}", False),
     ("(?i)a", False), ("[a-z]?", False), ("", False), ("#1", False)],
)  # fmt: skip
def test_patterns_that_no_number_matches(pattern: str, never: bool) -> None:
    """They are not tried on the number of each handle."""
    assert is_never_number(pattern) is never


@given(st.text(alphabet="ab1#.|()[]^$?*+{},\\d:!", max_size=10))
def test_no_number_matches_what_never_does(pattern: str) -> None:
    """Whatever the pattern: a letter that it needs is in no number."""
    try:
        search = pattern_search(pattern)
    except FilterError:
        return
    if is_never_number(pattern):
        assert not any(search(f"#{number}") for number in (1, 11, 100, 1111, 987_654_321))
