"""The filter language of the `/` line.

    gateway kind:file refs>1 age>5m !thread:MainThread detail:"my file"

Terms are separated by spaces and all must hold; `!` in front of a term turns
it round; `a|b` in a value means either.  A bare word is a substring of
anything that the table shows.  A filter that cannot be read raises
FilterError, whose text says what would be accepted.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from safehandle_tui.model.rows import HandleRow

__all__ = ["FIELDS", "Filter", "FilterError", "is_unfinished", "parse_filter"]


class FilterError(ValueError):
    """The filter cannot be read; the text is one sentence for the user."""


Test = Callable[[HandleRow, int], bool]  # (row, now_ns) -> does the row match

_UNITS: Final = {"us": 10**3, "ms": 10**6, "s": 10**9, "m": 60 * 10**9, "h": 3600 * 10**9}
_COMPARE: Final[dict[str, Callable[[int, int], bool]]] = {
    ">": operator.gt,
    "<": operator.lt,
    ">=": operator.ge,
    "<=": operator.le,
    "=": operator.eq,
    ":": operator.eq,
}

_TEXTS: Final[dict[str, Callable[[HandleRow], str]]] = {
    "kind": lambda row: row.kind,
    "detail": lambda row: row.detail,
    "site": lambda row: row.site,
    "file": lambda row: row.file,
    "function": lambda row: row.function,
    "thread": lambda row: row.thread,
    "task": lambda row: row.task,
    "owner": lambda row: row.owner,
    "ending": lambda row: row.ending,
    "test": lambda row: row.test,
}
_NUMBERS: Final[dict[str, Callable[[HandleRow], int]]] = {
    "value": lambda row: row.value,
    "refs": lambda row: row.refs,
    "pid": lambda row: row.pid,
    "serial": lambda row: row.serial,
    "line": lambda row: row.line,
}
_STATES: Final[dict[str, Callable[[HandleRow], bool]]] = {
    "open": lambda row: row.life != "ended",
    "ended": lambda row: row.life == "ended",
    "borrowed": lambda row: row.borrowed,
    "importing": lambda row: row.importing,
    "problem": lambda row: bool(row.problem),
}
_ALIASES: Final = {"fd": "value", "path": "detail", "id": "serial", "func": "function"}

FIELDS: Final = (*_TEXTS, *_NUMBERS, "age", "state")

_TERM: Final = re.compile(r"(?P<name>[A-Za-z_]+)(?P<op>>=|<=|:|=|>|<)(?P<value>.*)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Filter:
    """A parsed filter; the empty one matches everything."""

    text: str = ""
    tests: tuple[Test, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.tests)

    def matches(self, row: HandleRow, now_ns: int) -> bool:
        """True when all terms hold for the row; ages are as of `now_ns`."""
        return all(test(row, now_ns) for test in self.tests)


def parse_filter(text: str) -> Filter:
    """Reads a filter line.

    Raises:
        FilterError: a field, number, age or state is not known, a value is
            missing, or a quote is open.
    """
    return Filter(text.strip(), tuple(_parse_term(term) for term in _split(text)))


def is_unfinished(text: str) -> bool:
    """True while the last term may become a field with a value.

    `ag` is a word, but whoever types it letter by letter may go on to
    `age>5m` and does not want to see an empty table meanwhile."""
    word = text.rpartition(" ")[2].lstrip("!-").casefold()
    return bool(word) and any(name.startswith(word) for name in (*FIELDS, *_ALIASES))


def _split(text: str) -> list[str]:
    """Cuts at spaces outside double quotes; the quotes stay out."""
    terms: list[str] = []
    term = ""
    started = quoted = False
    for char in text:
        if char == '"':
            quoted = not quoted
            started = True
        elif char.isspace() and not quoted:
            if started:
                terms.append(term)
            term, started = "", False
        else:
            term += char
            started = True
    if quoted:
        raise FilterError('a quote is open: end the value with "')
    if started:
        terms.append(term)
    return [term for term in terms if term]


def _parse_term(term: str) -> Test:
    negated = term[0] in "!-" and len(term) > 1
    body = term[1:] if negated else term
    if body in {"!", "-"}:
        raise FilterError(f"{term!r} turns nothing round: write !word or !field:value")
    match = _TERM.fullmatch(body)
    name = match["name"].lower() if match else ""
    # `gateway.py:88` and `/etc:x` are words, not fields.
    test = _parse_field(name, match["op"], match["value"]) if match else _substring(body)
    if not negated:
        return test
    return lambda row, now_ns: not test(row, now_ns)


def _parse_field(name: str, sign: str, value: str) -> Test:
    name = _ALIASES.get(name, name)
    if name not in FIELDS:
        raise FilterError(f"no field {name!r}: use one of {', '.join(FIELDS)}")
    if not value:
        raise FilterError(f"{name}{sign} needs a value, as in {_example(name)}")
    if name in _TEXTS:
        if sign not in ":=":
            raise FilterError(f"{name} is text and has no order: write {_example(name)}")
        return _text_test(_TEXTS[name], value, exact=sign == "=")
    if name == "state":
        return _state_test(value)
    if name == "age":
        return _age_test(sign, value)
    return _number_test(name, sign, value)


def _example(name: str) -> str:
    if name in _TEXTS:
        return f"{name}:{'file' if name == 'kind' else 'word'}"
    return {"age": "age>5m", "state": "state:open"}.get(name, f"{name}>1")


def _text_test(field: Callable[[HandleRow], str], value: str, *, exact: bool) -> Test:
    choices = tuple(choice.casefold() for choice in value.split("|") if choice)
    if exact:
        return lambda row, now_ns: field(row).casefold() in choices
    return lambda row, now_ns: any(choice in field(row).casefold() for choice in choices)


def _substring(value: str) -> Test:
    choices = tuple(choice.casefold() for choice in value.split("|") if choice)
    return lambda row, now_ns: any(choice in row.words for choice in choices)


def _state_test(value: str) -> Test:
    choices = value.casefold().split("|")
    unknown = next((choice for choice in choices if choice not in _STATES), None)
    if unknown is not None:
        raise FilterError(f"no state {unknown!r}: use one of {', '.join(_STATES)}")
    tests = [_STATES[choice] for choice in choices]
    return lambda row, now_ns: any(test(row) for test in tests)


def _number_test(name: str, sign: str, value: str) -> Test:
    field = _NUMBERS[name]
    compare = _COMPARE[sign]
    numbers = [_number(name, part) for part in value.split("|")]
    return lambda row, now_ns: any(compare(field(row), number) for number in numbers)


def _number(name: str, text: str) -> int:
    try:
        return int(text.removeprefix("#"), 0)
    except ValueError:
        raise FilterError(
            f"{text!r} is not a number: write {name}:3, {name}>3 or {name}<3"
        ) from None


def _age_test(sign: str, value: str) -> Test:
    match = re.fullmatch(r"(\d{1,9}(?:\.\d{1,9})?)(us|ms|s|m|h)", value)
    if match is None:
        raise FilterError(f"{value!r} is not an age: write age>5m, age<200ms or age>1.5h")
    limit = int(float(match[1]) * _UNITS[match[2]])
    compare = operator.lt if sign in ("<", "<=") else operator.ge
    return lambda row, now_ns: compare(row.age_ns(now_ns), limit)
