"""What was asked for: options, ini values and markers, read once and checked.

The more specific wins: marker, option, environment (level only), ini.
Whatever cannot be understood is a UsageError that names the accepted values.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, cast

import pytest

from pytest_safehandle.sites import Site, SiteError

if TYPE_CHECKING:
    from collections.abc import Sequence

OnLeak = Literal["error", "warn", "off"]
Abandoned = Literal["ignore", "warn", "error"]


@dataclass(frozen=True, slots=True)
class Settings:
    """The options and ini values of a session."""

    on_leak: OnLeak
    level: str  # "sampled" or "full"
    level_given: bool  # by option: wins over SAFEHANDLE_DEBUG
    recording: str | None  # path with {worker} and {pid}
    allow: tuple[Site, ...]
    settle_s: float
    abandoned: Abandoned


def read_settings(config: pytest.Config, options: object) -> Settings:
    """The settings of a session; `options` are those parsed so far.

    Raises:
        pytest.UsageError: an ini value cannot be understood.
    """
    level = getattr(options, "handles_level", None)
    on_leak = getattr(options, "handles_on_leak", None)
    return Settings(
        on_leak=cast(OnLeak, on_leak or _one_of(config, "handles_on_leak", ("error", "warn"))),
        level=level or _one_of(config, "handles_level", ("sampled", "full")),
        level_given=level is not None,
        recording=getattr(options, "handles_recording", None),
        allow=tuple(_sites("ini option 'handles_allow'", config.getini("handles_allow"))),
        settle_s=_seconds(config, "handles_settle"),
        abandoned=cast(
            Abandoned, _one_of(config, "handles_abandoned", ("ignore", "warn", "error"))
        ),
    )


def _one_of(config: pytest.Config, name: str, accepted: Sequence[str]) -> str:
    value = str(config.getini(name)).strip()
    if value not in accepted:
        raise pytest.UsageError(f"ini option '{name}': use {_either(accepted)}, not '{value}'")
    return value


def _seconds(config: pytest.Config, name: str) -> float:
    text = str(config.getini(name)).strip()
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 <= seconds <= 60:
        raise pytest.UsageError(f"ini option '{name}': use seconds from 0 to 60, not '{text}'")
    return seconds


def _sites(source: str, texts: Iterable[str]) -> Iterable[Site]:
    for text in texts:
        try:
            site = Site.parse(text)
        except SiteError as error:
            raise pytest.UsageError(f"{source}: {error}") from None
        if site is not None:
            yield site


def _either(words: Sequence[str]) -> str:
    return f"{', '.join(words[:-1])} or {words[-1]}"


@dataclass(frozen=True, slots=True)
class Marker:
    """What the `handles` markers of one test say; the closest one wins."""

    on_leak: OnLeak | None = None
    allow: tuple[Site, ...] = ()  # of all markers
    expect: int | None = None
    reason: str | None = None


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
    allow: list[Site] = []
    for mark in marks:
        one = _read_mark(item.nodeid, mark)
        on_leak = one.on_leak if on_leak is None else on_leak
        expect = one.expect if expect is None else expect
        reason = one.reason if reason is None else reason
        allow.extend(one.allow)
    return Marker(on_leak, tuple(allow), expect, reason)


def _arguments(
    on_leak: object = None,
    allow: object = (),
    expect: object = None,
    reason: object = None,
) -> tuple[object, object, object, object]:
    return on_leak, allow, expect, reason


def _read_mark(nodeid: str, mark: pytest.Mark) -> Marker:
    where = f"{nodeid}: @pytest.mark.handles"
    try:
        inspect.signature(_arguments).bind(*mark.args, **mark.kwargs)
    except TypeError as error:
        raise pytest.UsageError(
            f"{where}: {error}; it takes on_leak, allow, expect and reason"
        ) from None
    on_leak, allow, expect, reason = _arguments(*mark.args, **mark.kwargs)
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
    return Marker(
        on_leak,
        tuple(_sites(f"{where}: allow", texts)),
        expect,
        reason,
    )
