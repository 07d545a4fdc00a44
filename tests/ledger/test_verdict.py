"""The word for a site: never LEAK for a healthy program, mostly for a leaking one."""

from __future__ import annotations

import dataclasses

import pytest
from support_workloads import HEALTHY, LEAKING, evidence

from safehandle_debug.ledger.verdict import Evidence, judge, merged

SEEDS = (*range(8), *range(1000, 1008))  # the latter were not looked at while it was made
LENGTHS = (60.0, 600.0)  # seconds


@pytest.mark.parametrize("name", HEALTHY)
def test_no_healthy_workload_is_called_a_leak(name: str) -> None:
    """Whatever a program keeps, serves or caches."""
    for length in LENGTHS:
        for seed in SEEDS:
            verdict = judge(evidence(HEALTHY[name], seed, length))
            assert verdict.word != "LEAK", (seed, length, verdict.why)


@pytest.mark.parametrize("name", LEAKING)
def test_leaks_are_called_so(name: str) -> None:
    """At least four in five after ten minutes, and nothing is called harmless."""
    words = [judge(evidence(LEAKING[name], seed, 600.0)).word for seed in SEEDS]
    assert words.count("LEAK") >= 0.8 * len(SEEDS)
    assert set(words) <= {"LEAK", "watch"}


@pytest.mark.parametrize(
    ("name", "word"),
    [
        ("pool", "cache"),
        ("pool and requests", "cache"),
        ("unfinished batch", "never closed"),
        ("growing thread pool", "never closed"),
        ("log rotation", "in use"),
        ("batches", "closed"),
    ],
)
def test_the_words_of_healthy_workloads(name: str, word: str) -> None:
    """What is kept is a cache; what only grows is told, and not as a leak."""
    assert {judge(evidence(HEALTHY[name], seed, 600.0)).word for seed in SEEDS} == {word}


def test_the_reason_has_the_numbers() -> None:
    """They are those that the word was chosen by."""
    numbers = evidence(LEAKING["one in eight"], 1, 600.0)
    verdict = judge(numbers)
    assert f"{numbers.closed:,} of {numbers.opened:,} were closed" in verdict.why
    assert f"{verdict.outliers:,} handles are open for more than" in verdict.why
    assert "about 1 in " in verdict.why


def test_a_leak_that_only_just_began_is_not_missed() -> None:
    """It is amber until there are windows enough to be sure."""
    word = judge(evidence(LEAKING["from three quarters on"], 0, 60.0)).word
    assert word in ("watch", "in use")


def test_what_the_end_found_open_is_a_leak() -> None:
    """And what imports keep is none."""
    one = Evidence(1, 0, 1, (1,), (1,), (), 1e9, 10**9, left=1)
    assert judge(one).word == "LEAK"
    kept = dataclasses.replace(one, left=0, importing=True)
    assert judge(kept).word == "cache"
    assert judge(dataclasses.replace(kept, importing=False)).word == "in use"
    assert judge(dataclasses.replace(one, left=0, live=0)).word == "closed"


def test_stacks_of_one_site_add_up() -> None:
    """Two halves of a workload are judged as the whole."""
    whole = evidence(LEAKING["one in eight"], 3, 600.0)
    half = dataclasses.replace(
        whole, births=(), survivors=(), lives=(), opened=0, closed=0, live=0
    )
    assert merged([whole, half]) == whole
    twice = merged([whole, whole])
    assert (twice.opened, twice.live) == (2 * whole.opened, 2 * whole.live)
    assert judge(twice).word == "LEAK"
