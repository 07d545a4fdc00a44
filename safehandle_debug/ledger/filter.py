"""The filter language, one for the screen and for `--where`.

    gateway kind:file refs>1 age>5m !thread:MainThread detail:"my file"

Terms are separated by spaces and all must hold; `!` or `-` in front of a term
turns it round; `a|b` in a value means either.  A bare word is a substring of
anything that is shown of a handle, and `/word/` is a regular expression that is
found in any of those texts.  In double quotes nothing is special; there `\\"` is
a quote and `\\\\` a backslash.
Upper and lower case are the same.  A filter that cannot be read raises
FilterError, whose text says what would be accepted.
"""

from __future__ import annotations

import operator
import re
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from safehandle_debug.ledger.facts import Filterable
from safehandle_debug.ledger.sites import is_library, is_standard

__all__ = [
    "ALIASES",
    "FIELDS",
    "STATES",
    "Filter",
    "FilterError",
    "Term",
    "is_never_number",
    "parse_filter",
    "pattern_search",
]


class FilterError(ValueError):
    """The filter cannot be read; the text is one sentence for the user."""


Test = Callable[[Filterable, int], bool]  # (handle, now_ns) -> does it match

_UNITS: Final = {
    "us": 10**3,
    "ms": 10**6,
    "s": 10**9,
    "m": 60 * 10**9,
    "h": 3600 * 10**9,
    "d": 86400 * 10**9,
}
_SPAN: Final = re.compile(r"(\d{1,9}(?:\.\d{1,9})?)(us|ms|s|m|h|d)", re.ASCII)
_COMPARE: Final[dict[str, Callable[[int, int], bool]]] = {
    ">": operator.gt,
    "<": operator.lt,
    ">=": operator.ge,
    "<=": operator.le,
    "=": operator.eq,
    ":": operator.eq,
}

_TEXTS: Final[dict[str, Callable[[Filterable], str]]] = {
    "kind": lambda handle: handle.kind,
    "detail": lambda handle: handle.detail,
    "site": lambda handle: handle.site,
    "file": lambda handle: handle.file,
    "function": lambda handle: handle.function,
    "thread": lambda handle: handle.thread,
    "task": lambda handle: handle.task,
    "owner": lambda handle: handle.owner,
    "ending": lambda handle: handle.ending,
    "test": lambda handle: handle.test,
    "problem": lambda handle: handle.problem,
}
_NUMBERS: Final[dict[str, Callable[[Filterable], int]]] = {
    "value": lambda handle: handle.value,
    "refs": lambda handle: handle.refs,
    "pid": lambda handle: handle.pid,
    "serial": lambda handle: handle.serial,
    "line": lambda handle: handle.line,
}
_TIMES: Final = ("age", "life")  # life: of handles that ended only
# app: the program's own code.  site: installed packages.
_CHOICES: Final[dict[str, dict[str, Callable[[Filterable], bool]]]] = {
    "lib": {
        "app": lambda handle: bool(handle.file) and not is_library(handle.file),
        "site": lambda handle: is_library(handle.file) and not is_standard(handle.file),
        "stdlib": lambda handle: is_standard(handle.file),
    },
    "state": {
        "open": lambda handle: handle.is_open,
        "ended": lambda handle: not handle.is_open,
        "borrowed": lambda handle: handle.borrowed,
        "importing": lambda handle: handle.importing,
        "problem": lambda handle: bool(handle.problem),
    },
}

FIELDS: Final = (*_TEXTS, *_NUMBERS, *_TIMES, *_CHOICES)
STATES: Final = tuple(_CHOICES["state"])
ALIASES: Final = {
    "type": "kind",
    "path": "detail",
    "func": "function",
    "alarm": "problem",
    "fd": "value",
    "id": "serial",
}

_TERM: Final = re.compile(r"([A-Za-z_]+)(>=|<=|:|=|>|<)", re.ASCII)
_SPECIAL: Final = re.compile(r'[\s"|:=<>!/\\-]')
_A_LETTER: Final = re.compile(r"[A-Za-z](?![?*{])", re.ASCII)
_SPECIAL_IN_PATTERN: Final = re.compile(r'[\s"]+')

_Char = tuple[str, bool]  # a character, and whether it was quoted


@dataclass(frozen=True, slots=True)
class Term:
    """One condition; `str` gives it back as it can be written."""

    values: tuple[str, ...]  # either of them; at least one, none empty
    name: str = ""  # a field; "": a bare word
    sign: str = ""
    negated: bool = False
    pattern: bool = False  # a bare word that is a regular expression
    test: Test = field(default=lambda handle, now_ns: True, compare=False, repr=False)
    limits: tuple[int, ...] = field(default=(), compare=False, repr=False)  # as numbers, in ns

    def __str__(self) -> str:
        if self.pattern:
            (value,) = self.values
            text = f"/{_SPECIAL_IN_PATTERN.sub(lambda match: _quoted(match[0]), value)}/"
        else:
            text = "|".join(_quoted(v) if _SPECIAL.search(v) else v for v in self.values)
        return f"{'!' if self.negated else ''}{self.name}{self.sign}{text}"


@dataclass(frozen=True, slots=True)
class Filter:
    """A parsed filter; the empty one matches everything.

    Filters are equal when their terms are; `text` is how it was typed."""

    terms: tuple[Term, ...] = ()
    text: str = field(default="", compare=False)

    def __bool__(self) -> bool:
        return bool(self.terms)

    def __str__(self) -> str:
        return " ".join(map(str, self.terms))

    def matches(self, handle: Filterable, now_ns: int) -> bool:
        """True when all terms hold for the handle; ages are as of `now_ns`
        (wall clock)."""
        return all(term.test(handle, now_ns) is not term.negated for term in self.terms)

    @property
    def asks_for_problems(self) -> bool:
        """True when `problem` must be known to answer it."""
        return any(
            term.name == "problem" or (term.name == "state" and "problem" in term.values)
            for term in self.terms
        )


def parse_filter(text: str) -> Filter:
    """Reads a filter line.

    Raises:
        FilterError: a field, number, time, state or pattern cannot be read, a
            value is missing, or a quote is open.
    """
    return Filter(tuple(_term(chars) for chars in _split(text)), text.strip())


# --- reading ---


def _split(text: str) -> list[list[_Char]]:
    """Cuts at spaces outside double quotes; the quotes stay out."""
    terms: list[list[_Char]] = [[]]
    quoted = escaped = False
    for char in text:
        if escaped or (quoted and char not in '"\\'):
            terms[-1].append((char, True))
            escaped = False
        elif char == '"':
            quoted = not quoted
        elif quoted:
            escaped = True
        elif char.isspace():
            terms.append([])
        else:
            terms[-1].append((char, False))
    if quoted:
        raise FilterError('a quote is open: end the value with "')
    return [term for term in terms if term]


def _term(chars: list[_Char]) -> Term:
    negated = chars[0] in (("!", False), ("-", False))
    body = chars[1:] if negated else chars
    if not body or (negated and _plain(body) in ("!", "-")):
        written = "".join(char for char, _ in chars)
        raise FilterError(f"{written!r} turns nothing round: write !word or !field:value")
    # `gateway.py:88` and `/etc:x` are words, not fields.
    match = _TERM.match(_plain(body))
    if match is not None:
        return _field_term(match[1].lower(), match[2], body[match.end() :], negated)
    if len(body) > 2 and body[0] == body[-1] == ("/", False):
        value = "".join(char for char, _ in body[1:-1])
        return Term((value,), "", "", negated, True, _pattern_test(value))
    values = _values(body)
    if not values:
        raise FilterError("a bare | is no word: write a|b, or quote it")
    return Term(values, "", "", negated, False, _word_test(values))


def _plain(chars: Sequence[_Char]) -> str:
    """The characters, those quoted made such as nothing is read from."""
    return "".join("\0" if quoted else char for char, quoted in chars)


def _values(chars: Sequence[_Char]) -> tuple[str, ...]:
    """Cuts at bars outside quotes; empty parts are left out."""
    values = [""]
    for char in chars:
        if char == ("|", False):
            values.append("")
        else:
            values[-1] += char[0]
    return tuple(value for value in values if value)


def _quoted(value: str) -> str:
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _field_term(name: str, sign: str, chars: Sequence[_Char], negated: bool) -> Term:
    name = ALIASES.get(name, name)
    if name not in FIELDS:
        raise FilterError(f"no field {name!r}: use one of {', '.join(FIELDS)}")
    values = _values(chars)
    if not values:
        raise FilterError(f"{name}{sign} needs a value, as in {_example(name)}")
    limits: tuple[int, ...] = ()
    if name in _NUMBERS:
        limits = tuple(_number(name, value) for value in values)
        test = _number_test(name, sign, limits)
    elif name in _TIMES:
        limits = (_time(name, values),)
        test = _time_test(name, sign, limits[0])
    elif sign not in ":=":
        raise FilterError(f"{name} is text and has no order: write {_example(name)}")
    elif name in _CHOICES:
        test = _choice_test(name, values)
    else:
        test = _text_test(_TEXTS[name], values, exact=sign == "=")
    return Term(values, name, sign, negated, False, test, limits)


def _example(name: str) -> str:
    if name in _CHOICES:
        return f"{name}:{next(iter(_CHOICES[name]))}"
    if name in _TIMES:
        return f"{name}>5m"
    words = {"kind": "file", "ending": "dropped", "problem": "double-release"}
    return f"{name}:{words.get(name, 'word')}" if name in _TEXTS else f"{name}>1"


# --- tests ---


def _text_test(get: Callable[[Filterable], str], values: Sequence[str], *, exact: bool) -> Test:
    choices = tuple(value.casefold() for value in values)
    if exact:
        return lambda handle, now_ns: get(handle).casefold() in choices
    return lambda handle, now_ns: any(choice in get(handle).casefold() for choice in choices)


def _word_test(values: Sequence[str]) -> Test:
    choices = tuple(value.casefold() for value in values)
    return lambda handle, now_ns: any(
        choice in word for word in handle.words for choice in choices
    )


def _pattern_test(value: str) -> Test:
    search = pattern_search(value)
    return lambda handle, now_ns: any(map(search, handle.words))


def pattern_search(value: str) -> Callable[[str], object]:
    """Looks for a regular expression in a text that is case folded."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return re.compile(value, re.IGNORECASE | re.MULTILINE).search
    except (re.error, OverflowError, RecursionError) as error:
        raise FilterError(
            f"{value!r} is not a regular expression ({error}): quote it to look for a word"
        ) from None


def is_never_number(value: str) -> bool:
    """True when a regular expression can surely match no "#123".

    That is so where each alternative has a letter outside groups and classes
    that nothing makes optional."""
    if re.search(r"\(\?(?!:)", value):
        return False  # it may say anything of the rest
    plain = re.sub(r"\\.", ".", value, flags=re.DOTALL)
    plain = re.sub(r"\[\^?\]?[^\]]*\]", ".", plain)
    before = ""
    while plain != before:
        before, plain = plain, re.sub(r"\([^()]*\)", ".", plain)
    return all(_A_LETTER.search(part) for part in plain.split("|"))


def _choice_test(name: str, values: Sequence[str]) -> Test:
    known = _CHOICES[name]
    choices = [value.casefold() for value in values]
    unknown = next((choice for choice in choices if choice not in known), None)
    if unknown is not None:
        raise FilterError(f"no {name} {unknown!r}: use one of {', '.join(known)}")
    tests = [known[choice] for choice in choices]
    return lambda handle, now_ns: any(test(handle) for test in tests)


def _number_test(name: str, sign: str, numbers: Sequence[int]) -> Test:
    get = _NUMBERS[name]
    compare = _COMPARE[sign]
    return lambda handle, now_ns: any(compare(get(handle), number) for number in numbers)


def _number(name: str, text: str) -> int:
    try:
        return int(text.removeprefix("#"), 0)
    except ValueError:
        raise FilterError(
            f"{text!r} is not a number: write {name}:3, {name}>3 or {name}<3"
        ) from None


def _time(name: str, values: Sequence[str]) -> int:
    if len(values) > 1 or not re.fullmatch(f"(?:{_SPAN.pattern})+", values[0], re.ASCII):
        raise FilterError(
            f"{'|'.join(values)!r} is not {'an age' if name == 'age' else 'a time'}:"
            f" write {name}>5m, {name}<200ms or {name}>1.5h"
        )
    parts = _SPAN.findall(values[0])
    return sum(int(float(number) * _UNITS[unit]) for number, unit in parts)


def _time_test(name: str, sign: str, limit: int) -> Test:
    """Times are never equal to the nanosecond: `=` and `:` mean `>=`."""
    compare = _COMPARE[sign] if sign in ("<", "<=", ">") else operator.ge
    if name == "age":
        return lambda handle, now_ns: compare(handle.age_ns(now_ns), limit)
    return lambda handle, now_ns: not handle.is_open and compare(handle.age_ns(now_ns), limit)
