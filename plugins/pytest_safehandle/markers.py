"""What the `handles` markers of a test say, checked at collection."""

from __future__ import annotations

import inspect
from dataclasses import dataclass

import pytest

from pytest_safehandle.growth import FEWEST_REPEATS
from pytest_safehandle.settings import OnLeak
from pytest_safehandle.sites import parse_sites
from safehandle_debug.testing import Site


@dataclass(frozen=True, slots=True)
class Marker:
    """What the `handles` markers of one test say; the closest one wins."""

    on_leak: OnLeak | None = None
    allow: tuple[Site, ...] = ()  # of all markers
    expect: int | None = None
    reason: str | None = None
    repeat: int | None = None  # how often the body runs


NO_MARKER = Marker()


def read_marker(item: pytest.Item) -> Marker:
    """The markers of `item` as one.

    Raises:
        pytest.UsageError: a marker has unknown or contradictory arguments.
    """
    marks = list(item.iter_markers("handles"))  # closest first
    if not marks:
        return NO_MARKER
    on_leak: OnLeak | None = None
    expect: int | None = None
    reason: str | None = None
    repeat: int | None = None
    allow: list[Site] = []
    for mark in marks:
        one = _read_mark(item.nodeid, mark)
        on_leak = one.on_leak if on_leak is None else on_leak
        expect = one.expect if expect is None else expect
        reason = one.reason if reason is None else reason
        repeat = one.repeat if repeat is None else repeat
        allow.extend(one.allow)
    return Marker(on_leak, tuple(allow), expect, reason, repeat)


def _arguments(
    on_leak: object = None,
    allow: object = (),
    expect: object = None,
    reason: object = None,
    repeat: object = None,
) -> tuple[object, object, object, object, object]:
    return on_leak, allow, expect, reason, repeat


def _read_mark(nodeid: str, mark: pytest.Mark) -> Marker:
    where = f"{nodeid}: @pytest.mark.handles"
    try:
        inspect.signature(_arguments).bind(*mark.args, **mark.kwargs)
    except TypeError as error:
        raise pytest.UsageError(
            f"{where}: {error}; it takes on_leak, allow, expect, reason and repeat"
        ) from None
    on_leak, allow, expect, reason, repeat = _arguments(*mark.args, **mark.kwargs)
    if on_leak not in (None, "error", "warn", "off"):
        raise pytest.UsageError(f"{where}: on_leak: use 'error', 'warn' or 'off', not {on_leak!r}")
    texts = (allow,) if isinstance(allow, str) else allow
    if not isinstance(texts, (tuple, list)) or not all(isinstance(text, str) for text in texts):
        raise pytest.UsageError(f"{where}: allow: use a site or a tuple of sites, not {allow!r}")
    if expect is not None and (type(expect) is not int or expect < 1):
        raise pytest.UsageError(f"{where}: expect: use a number from 1 up, not {expect!r}")
    if expect is not None and texts:
        raise pytest.UsageError(
            f"{where}: use either allow (may stay open) or expect (must leak), not both"
        )
    if expect is not None and on_leak == "off":
        raise pytest.UsageError(f"{where}: expect needs leaks to be judged: drop on_leak='off'")
    if reason is not None and not isinstance(reason, str):
        raise pytest.UsageError(f"{where}: reason: use a text, not {reason!r}")
    if repeat is not None and (type(repeat) is not int or repeat < FEWEST_REPEATS):
        raise pytest.UsageError(
            f"{where}: repeat: use a number from {FEWEST_REPEATS} up, not {repeat!r}"
        )
    if repeat is not None and (expect is not None or on_leak == "off"):
        other = "expect" if expect is not None else "on_leak='off'"
        raise pytest.UsageError(f"{where}: repeat judges the growth of leaks: drop {other}")
    sites = parse_sites(f"{where}: allow", texts)
    if (texts or on_leak == "off") and not (reason and reason.strip()):
        what = "allow" if texts else "on_leak='off'"
        raise pytest.UsageError(f"{where}: {what} needs a reason: add reason='...'")
    return Marker(
        on_leak,
        sites,
        expect,
        reason,
        repeat,
    )
