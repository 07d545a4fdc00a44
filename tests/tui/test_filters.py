"""The filter language on the table's rows; the language itself is the ledger's."""

from __future__ import annotations

import pytest
from safehandle_tui.model.filters import is_unfinished
from safehandle_tui.model.rows import HandleRow

from safehandle_debug.ledger import Frame, HandleFacts, History, parse_filter

S = 1_000_000_000
NOW = 1000 * S


def history(**changes: object) -> History:
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
    return History(**fields)  # type: ignore[arg-type]


def row(**changes: object) -> HandleRow:
    return HandleRow(history(**changes), cwd="/code")


def matches(text: str, handle: HandleRow) -> bool:
    return parse_filter(text).matches(handle, NOW)


@pytest.mark.parametrize(
    "text",
    [
        "CONNECT",
        "app/db.py:88",
        "site:app/db.py:88",
        "kind:file owner:Safe",
        'detail:"my file" fd:5 id:12 line:88',
        "thread:worker task:fetch func:connect",
        "age>99s age<2m",
        "state:open lib:app",
        "pipe",
        "age>2m",
        "lib:stdlib",
        "test:x",
        "!connect",
    ],
)
def test_a_row_matches_as_its_history_does(text: str) -> None:
    """The screen and the commands answer alike."""
    facts = HandleFacts(history(), cwd="/code")
    assert matches(text, row()) is parse_filter(text).matches(facts, NOW)


def test_state_words_follow_the_life_of_a_handle() -> None:
    """What died with its process counts as open, what was closed does not."""
    held = row()
    held.life = "held"
    closed = row(ending="closed", closed_at_ns=NOW)
    closed.life = "ended"
    wrong = row()
    wrong.problem = "double-release"
    assert matches("state:open", held)
    assert matches("state:ended ending:closed life>=100s", closed)
    assert matches("state:problem alarm:double", wrong)
    assert not matches("state:ended", held)
    assert not matches("state:problem", held)


def test_a_field_without_its_value_is_unfinished() -> None:
    """While it is typed nothing should flash."""
    assert is_unfinished("ag")
    assert is_unfinished("age")
    assert is_unfinished("connect !fd")
    assert not is_unfinished("age>5m")
    assert not is_unfinished("connect")
    assert not is_unfinished("")
