"""Filters and orders over handles that have no Python object each.

What a filter asks of texts is asked once for each id and kept; numbers are
compared in C (`_index`).  A filter selects exactly the handles that
Filter.matches() is true for.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from types import SimpleNamespace
from typing import Any, Final, Literal, NamedTuple

from safehandle_debug.ledger import _index as index
from safehandle_debug.ledger._index import Question, Selection
from safehandle_debug.ledger.filter import Filter, Term, is_never_number, pattern_search
from safehandle_debug.ledger.histories import ENDINGS
from safehandle_debug.ledger.names import Names
from safehandle_debug.recording.format import Flag

__all__ = ["LIVES", "NUMBERS", "TEXTS", "Chooser", "Life", "State", "ordered", "selected"]

# open: now.  held: the process died with it.  left: nobody closed it before
# the interpreter ended.  ended: any other way.
Life = Literal["open", "held", "left", "ended"]
LIVES: Final[tuple[Life, ...]] = ("open", "held", "left", "ended")

_ASK, _COMPARE, _DIGITS, _SIGNED = 0, 1, 2, 3
_SIGNS: Final = {"<": 0, "<=": 1, "=": 2, ":": 2, ">=": 3, ">": 4}
_KEPT: Final = 256  # questions with their answers
_BORROWED: Final = int(Flag.BORROWED)
_IMPORTING: Final = int(Flag.IMPORTING)

_Atom = tuple[int, int, int, object]
_Tests = list[tuple[bool, list[list[_Atom]]]]
_Text = Callable[[Names, int, int], str]

# What a table can be ordered by, or a filter can ask: the two columns of ids
# that decide, and the text for them.
TEXTS: Final[dict[str, tuple[int, int, _Text]]] = {
    "kind": (index.TYPE, index.NONE, lambda names, type, _: names.kind(type)),
    "owner": (index.TYPE, index.STACK, lambda names, type, stack: names.owner(type, stack)),
    "site": (index.STACK, index.NONE, lambda names, stack, _: names.site(stack)),
    "file": (index.STACK, index.NONE, lambda names, stack, _: names.site_key(stack)[0]),
    "function": (index.STACK, index.NONE, lambda names, stack, _: names.site_key(stack)[2]),
    "detail": (index.DETAIL, index.NONE, lambda names, id, _: names.text(id)),
    "task": (index.TASK, index.NONE, lambda names, id, _: names.text(id)),
    "test": (index.TEST, index.NONE, lambda names, id, _: names.text(id)),
    "thread": (index.THREAD, index.NONE, lambda names, id, _: names.thread(id)),
    # Whichever says more of who did it.
    "actor": (
        index.THREAD,
        index.TASK,
        lambda names, thread, task: names.text(task) or names.thread(thread),
    ),
}
NUMBERS: Final = {
    "value": index.VALUE,
    "refs": index.REFS,
    "serial": index.SERIAL,
    "age": index.AGE,
    "pid": index.PID,
}
# What a bare word is looked for in, by the ids that decide.
_Texts = Callable[[Names, int, int], tuple[str, ...]]
_WORDS: Final[tuple[tuple[int, int, _Texts], ...]] = (
    (
        index.TYPE,
        index.STACK,
        lambda names, type, stack: (
            names.kind(type),
            names.owner(type, stack),
            names.site_key(stack)[0],
            names.site(stack),
        ),
    ),
    (
        index.THREAD,
        index.TASK,
        lambda names, thread, task: (names.thread(thread), names.text(task)),
    ),
    (index.DETAIL, index.NONE, lambda names, id, _: (names.text(id),)),
    (index.TEST, index.NONE, lambda names, id, _: (names.text(id),)),
)


class State(NamedTuple):
    """What became of a handle."""

    life: Life
    ending: str  # "" while it is open
    problem: str  # kind of the worst finding on it, "" for none
    borrowed: bool
    importing: bool

    @property
    def is_open(self) -> bool:
        """True while it is open, and when it was until its process ended."""
        return self.life != "ended"


class Chooser:
    """Answers for the handles of one process."""

    def __init__(self, names: Names, pid: int, problems: Sequence[str]) -> None:
        """
        Args:
            problems: kinds of findings by number, from 1; more may be added.
        """
        self.names = names
        self.pid = pid
        self._problems = problems
        self._questions: dict[object, Question] = {}
        self.state = cache(self._state)

    def _state(self, code: int) -> State:
        number = code >> 16 & 0xFF
        return State(
            life=LIVES[code & 3],
            ending=ENDINGS.get(code >> 8 & 0xFF, ""),
            problem=self._problems[number - 1] if 0 < number <= len(self._problems) else "",
            borrowed=bool(code >> 24 & _BORROWED),
            importing=bool(code >> 24 & _IMPORTING),
        )

    def question(self, key: object, answer: Callable[[int, int], int]) -> Question:
        """A question whose answers are kept; `key` tells it from others."""
        known = self._questions.get(key)
        if known is None:
            if len(self._questions) >= _KEPT:
                self._questions.clear()
            known = self._questions[key] = Question(answer)
        return known

    def asked(
        self, key: object, columns: tuple[int, int], answer: Callable[[int, int], int]
    ) -> _Atom:
        """A condition on two columns, as tests() has them."""
        return (_ASK, *columns, self.question(key, answer))

    def tests(self, terms: Sequence[tuple[Term, bytes]]) -> _Tests:
        """The terms as the index can test them, each with the signs of those
        handles that its number alone is enough for; b"": of none."""
        return [(term.negated, self._branches(term, signs)) for term, signs in terms]

    def _branches(self, term: Term, signs: bytes) -> list[list[_Atom]]:
        key = (term.name, term.sign, term.values, term.pattern)
        if not term.name:
            return self._word(key, term, signs)
        if term.name in ("age", "life"):
            sign = term.sign if term.sign in ("<", "<=", ">") else ">="
            branches = [[_compared("age", sign, limit)] for limit in term.limits]
            if term.name == "life":
                over = self._on_state((*key, "over"), lambda state: not state.is_open)
                branches = [[over, *branch] for branch in branches]
            return branches
        if term.name in ("value", "refs", "serial"):
            return [[_compared(term.name, term.sign, limit)] for limit in term.limits]
        if term.name in ("ending", "problem", "state"):
            return [[self._on_state(key, lambda state: term.test(_Part(state), 0))]]
        names = self.names
        if term.name == "pid":
            part: Any = SimpleNamespace(pid=self.pid)
            return [[self.asked(key, (index.NONE, index.NONE), lambda *_: term.test(part, 0))]]
        if term.name in ("line", "lib"):

            def at_site(stack: int, _: int) -> bool:
                file, line, _function = names.site_key(stack)
                site: Any = SimpleNamespace(file=file, line=line)
                return term.test(site, 0)

            return [[self.asked(key, (index.STACK, index.NONE), at_site)]]
        first, second, text = TEXTS[term.name]

        def answer(one: int, other: int) -> bool:
            handle: Any = SimpleNamespace(**{term.name: text(names, one, other)})
            return term.test(handle, 0)

        return [[self.asked(key, (first, second), answer)]]

    def _word(self, key: object, term: Term, signs: bytes) -> list[list[_Atom]]:
        """A bare word or a pattern is looked for in each text that is shown."""
        branches: list[list[_Atom]] = []
        for first, second, texts in _WORDS:

            def answer(one: int, other: int, texts: _Texts = texts) -> bool:
                found = (text.casefold() for text in texts(self.names, one, other) if text)
                handle: Any = SimpleNamespace(words=tuple(found))
                return term.test(handle, 0)

            branches.append([self.asked((key, first), (first, second), answer)])
        if signs:
            branches.append([(_SIGNED, 0, 0, signs)])
        elif not term.pattern:
            for choice in (value.casefold() for value in term.values):
                if not choice.strip("#0123456789"):
                    branches.append([(_DIGITS, 0, 0, choice.encode())])
        return branches

    def _on_state(self, key: object, test: Callable[[State], bool]) -> _Atom:
        question = self.question(key, lambda code, _: test(self.state(code)))
        return (_ASK, index.STATE, index.NONE, question)


class _Part:
    """What a filter can ask of a state."""

    def __init__(self, state: State) -> None:
        self.state = state

    def __getattr__(self, name: str) -> Any:
        return getattr(self.state, name)


def _compared(name: str, sign: str, limit: int) -> _Atom:
    most = (1 << 63) - 1
    if not -most < limit < most:
        # Nothing is so far out: only the side matters.
        always = ("<", "<=") if limit > 0 else (">", ">=")
        sign, limit = ("<=", most) if sign in always else (">", most)
    return (_COMPARE, NUMBERS[name], _SIGNS[sign], limit)


def selected(
    selection: Selection, choosers: Sequence[Chooser], wanted: Filter, now_ns: int
) -> Selection:
    """The handles of a selection that a filter matches; its order stays.

    Args:
        choosers: one for each of the selection's Handles.
    """
    if not wanted.terms:
        return selection
    signed = [(term, _signs(selection, term)) for term in wanted.terms]
    return selection.where([each.tests(signed) for each in choosers], now_ns)


def _signs(selection: Selection, term: Term) -> bytes:
    """A byte for each handle, not 0 where a pattern is found in its number;
    b"" where that cannot be."""
    if not term.pattern or is_never_number(term.values[0]):
        return b""
    search = pattern_search(term.values[0])
    serials = memoryview(selection.numbers(index.SERIAL)).cast("q")
    return bytes(search(f"#{serial}") is not None for serial in serials)


def ordered(
    selection: Selection,
    choosers: Sequence[Chooser],
    by: str,
    *,
    descending: bool,
    now_ns: int,
    state_key: Callable[[State], Any] = tuple,
) -> Selection:
    """The same handles by a number or a text (NUMBERS, TEXTS), or by what
    `state_key` makes of their states ("state"); equal ones by serial."""
    if by in NUMBERS:
        # Serials of several processes: by process first.
        number = index.PID if by == "serial" else NUMBERS[by]
        keys: list[Any] = [(number, 0, None)] * len(choosers)
        return selection.sorted(keys, descending, now_ns)
    columns, key = (index.STATE, index.NONE), _state_key(state_key)
    if by != "state":
        first, second, text = TEXTS[by]
        columns, key = (first, second), _text_key(text)
    seen: list[dict[tuple[int, int], Any]] = [{} for _ in choosers]
    tests: list[_Tests] = [
        [(False, [[(_ASK, *columns, Question(_collector(chooser, key, found)))]])]
        for chooser, found in zip(choosers, seen, strict=True)
    ]
    selection.where(tests, now_ns)
    values = sorted({value for found in seen for value in found.values()})
    ranks = {value: at for at, value in enumerate(values)}
    keys = [(*columns, Question(_ranker(ranks, found))) for found in seen]
    return selection.sorted(keys, descending, now_ns)


_Key = Callable[[Chooser, int, int], Any]


def _text_key(text: _Text) -> _Key:
    return lambda chooser, one, other: text(chooser.names, one, other)


def _state_key(key: Callable[[State], Any]) -> _Key:
    return lambda chooser, code, _: key(chooser.state(code))


def _collector(
    chooser: Chooser, key: _Key, found: dict[tuple[int, int], Any]
) -> Callable[[int, int], int]:
    def collect(one: int, other: int) -> int:
        found[one, other] = key(chooser, one, other)
        return 0

    return collect


def _ranker(ranks: dict[Any, int], found: dict[tuple[int, int], Any]) -> Callable[[int, int], int]:
    return lambda one, other: ranks[found[one, other]]
