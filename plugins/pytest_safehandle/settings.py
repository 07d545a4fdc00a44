"""What was asked for in options and ini values, read once and checked.

The more specific wins: marker, option, environment (level only), ini.
Whatever cannot be understood is a UsageError that names the accepted values.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Literal, cast

import pytest

if TYPE_CHECKING:
    from collections.abc import Sequence

    from safehandle_debug.testing import Site

OnLeak = Literal["error", "warn", "off"]
Abandoned = Literal["ignore", "warn", "error"]


class Settings:
    """The options and ini values of a session; nobody changes them.

    A plain class: making a dataclass would cost more than all else that is
    loaded to check a short session.

    Args:
        level: "sampled" or "full".
        level_given: by option: wins over SAFEHANDLE_DEBUG.
        fds: all descriptors and child processes are judged.
        recording: path with {worker} and {pid}.
        settle_s: longest wait for other threads, in seconds.
        json: path of the report to write.
        baseline: absolute path of the list of known leaks.
    """

    __slots__ = (
        "abandoned",
        "allow",
        "baseline",
        "fds",
        "json",
        "level",
        "level_given",
        "on_leak",
        "recording",
        "settle_s",
        "update_baseline",
    )

    def __init__(
        self,
        *,
        on_leak: OnLeak,
        level: str,
        level_given: bool,
        fds: bool,
        recording: str | None,
        allow: tuple[Site, ...],
        settle_s: float,
        abandoned: Abandoned,
        json: str | None,
        baseline: Path | None,
        update_baseline: bool,
    ) -> None:
        self.on_leak = on_leak
        self.level = level
        self.level_given = level_given
        self.fds = fds
        self.recording = recording
        self.allow = allow
        self.settle_s = settle_s
        self.abandoned = abandoned
        self.json = json
        self.baseline = baseline
        self.update_baseline = update_baseline


def read_settings(config: pytest.Config, options: object) -> Settings:
    """The settings of a session; `options` are those parsed so far.

    Raises:
        pytest.UsageError: an ini value cannot be understood.
    """
    _check_verbosity(config)
    level = getattr(options, "handles_level", None)
    on_leak = getattr(options, "handles_on_leak", None)
    fds: bool | None = getattr(options, "handles_fds", None)
    return Settings(
        on_leak=cast(OnLeak, on_leak or _one_of(config, "handles_on_leak", ("error", "warn"))),
        level=level or _one_of(config, "handles_level", ("sampled", "full")),
        level_given=level is not None,
        fds=_switch(config, "handles_fds") if fds is None else fds,
        recording=getattr(options, "handles_recording", None),
        allow=_sites(config, "handles_allow"),
        settle_s=_seconds(config, "handles_settle"),
        abandoned=cast(
            Abandoned, _one_of(config, "handles_abandoned", ("ignore", "warn", "error"))
        ),
        json=getattr(options, "handles_json", None),
        baseline=_baseline(config, options),
        update_baseline=bool(getattr(options, "handles_update_baseline", False)),
    )


def _baseline(config: pytest.Config, options: object) -> Path | None:
    given: str | None = getattr(options, "handles_baseline", None)
    if given is not None:
        return config.invocation_params.dir / given
    text = str(config.getini("handles_baseline")).strip()
    if text:
        return (config.inipath.parent if config.inipath else config.rootpath) / text
    if getattr(options, "handles_update_baseline", False):
        raise pytest.UsageError("--handles-update-baseline: name the file by --handles-baseline")
    return None


def _one_of(config: pytest.Config, name: str, accepted: Sequence[str]) -> str:
    value = str(config.getini(name)).strip()
    if value not in accepted:
        raise pytest.UsageError(f"ini option '{name}': use {_either(accepted)}, not '{value}'")
    return value


def _switch(config: pytest.Config, name: str) -> bool:
    words = {"true": True, "1": True, "yes": True, "on": True}
    words |= {"false": False, "0": False, "no": False, "off": False}
    value = str(config.getini(name)).strip()
    if value.lower() not in words:
        raise pytest.UsageError(f"ini option '{name}': use true or false, not '{value}'")
    return words[value.lower()]


def _check_verbosity(config: pytest.Config) -> None:
    # pytest reads it itself, when there is something to say.
    text = str(config.getini("verbosity_handles")).strip()
    try:
        if text != "auto":
            int(text)
    except ValueError:
        raise pytest.UsageError(
            f"ini option 'verbosity_handles': use auto or a whole number, not '{text}'"
        ) from None


def _seconds(config: pytest.Config, name: str) -> float:
    text = str(config.getini(name)).strip()
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 <= seconds <= 60:
        raise pytest.UsageError(f"ini option '{name}': use seconds from 0 to 60, not '{text}'")
    return seconds


def _sites(config: pytest.Config, name: str) -> tuple[Site, ...]:
    texts: list[str] = config.getini(name)
    if not texts:
        return ()
    from pytest_safehandle.sites import parse_sites

    return parse_sites(f"ini option '{name}'", texts)


def _either(words: Sequence[str]) -> str:
    return f"{', '.join(words[:-1])} or {words[-1]}"
