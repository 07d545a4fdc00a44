"""Options, markers and fixtures: all that is loaded when off.

The check itself is in `session`, imported when it is switched on.  This module
and what it imports must not load anything of safehandle_debug: the plugin is
installed in environments whose test runs never ask for it.
"""

from __future__ import annotations

from collections.abc import Iterator
from types import ModuleType
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pytest_safehandle.fixture import Handles, SessionHandles

MARKER = (
    "handles(on_leak=None, allow=(), expect=None, reason=None, repeat=None): how the test's open"
    " handles are judged. on_leak: 'error', 'warn' or 'off'; allow: a site"
    " ('path-glob:function-glob' or 'type:NAME') or several that may leave handles open or release"
    " them wrongly; reason: why, which allow and 'off' need; expect: the test must leak exactly so"
    " many; repeat: run the body so often, and fail only if it leaves more handles open each time."
)


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("handles", "leaked and wrongly released handles")
    group.addoption(
        "--handles",
        dest="handles",
        action="store_true",
        default=None,
        help="Fail the test or fixture that leaks a handle, releases it twice or unbalances it.",
    )
    group.addoption(
        "--no-handles",
        dest="handles",
        action="store_false",
        default=None,
        help="Do not check handles, whatever the ini file says.",
    )
    group.addoption(
        "--handles-on-leak",
        choices=("error", "warn"),
        default=None,
        help="What a leak is: an error at teardown (default), or a HandleLeakWarning.",
    )
    group.addoption(
        "--handles-level",
        choices=("sampled", "full"),
        default=None,
        help="Record the life of every handle (full, default), or of a sample.",
    )
    group.addoption(
        "--handles-fds",
        dest="handles_fds",
        action="store_true",
        default=None,
        help="Judge all descriptors and child processes too, whoever opened them (default).",
    )
    group.addoption(
        "--no-handles-fds",
        dest="handles_fds",
        action="store_false",
        default=None,
        help="Judge SafeHandles only.",
    )
    group.addoption(
        "--handles-recording",
        metavar="PATH",
        default=None,
        help="Keep the recording in this file; {worker} and {pid} are filled in.",
    )
    group.addoption(
        "--handles-json",
        metavar="FILE",
        default=None,
        help="Write what was found into this file, in the format of `safehandle report`.",
    )
    group.addoption(
        "--handles-baseline",
        metavar="FILE",
        default=None,
        help="Do not fail for the leaks that this file lists; name those that are gone.",
    )
    group.addoption(
        "--handles-update-baseline",
        action="store_true",
        default=False,
        help="Take what is gone out of the baseline; make it when there is none.",
    )
    parser.addini("handles_baseline", "Default of --handles-baseline.", default="")
    parser.addini("handles", "Check handles, as --handles does.", type="bool", default=False)
    parser.addini("handles_on_leak", "Default of --handles-on-leak: error, warn.", default="error")
    parser.addini("handles_level", "Default of --handles-level: sampled, full.", default="full")
    parser.addini("handles_fds", "Default of --handles-fds: true, false.", default="true")
    parser.addini(
        "handles_allow",
        "Sites whose handles may stay open, or that may release wrongly, one a line:"
        " path-glob:function-glob of a frame that does it, or type:NAME; comments after #.",
        type="linelist",
    )
    parser.addini(
        "handles_settle",
        "Longest time to wait for other threads to close their handles, in seconds.",
        default="0.1",
    )
    parser.addini(
        "handles_abandoned",
        "Handles closed by a finalizer instead of by code: ignore, warn, error.",
        default="ignore",
    )
    parser.addini(
        "verbosity_handles",
        "Verbosity of reports on handles; auto: as -v and -q say.",
        default="auto",
    )


def pytest_addhooks(pluginmanager: pytest.PytestPluginManager) -> None:
    from pytest_safehandle import hooks

    pluginmanager.add_hookspecs(hooks)


@pytest.hookimpl(tryfirst=True)
def pytest_load_initial_conftests(early_config: pytest.Config) -> None:
    # Before conftest files: the handles that they open have a history too.
    if _is_on(early_config, early_config.known_args_namespace):
        _session().start_early(early_config)


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", MARKER)
    if _is_on(config, config.option):
        _session().start(config)


def _session() -> ModuleType:
    try:
        from pytest_safehandle import session
    except ImportError as error:
        raise pytest.UsageError(
            f"--handles cannot be switched on: {error};"
            " install safehandle-debug for this Python anew"
        ) from None
    return session


def _is_on(config: pytest.Config, options: object) -> bool:
    if any(
        getattr(options, name, False)
        for name in ("collectonly", "setupplan", "help", "showfixtures", "markers")
    ):
        return False
    given: bool | None = getattr(options, "handles", None)
    if given is not None:
        return given
    try:
        return bool(config.getini("handles"))
    except (ValueError, pytest.UsageError):
        raise pytest.UsageError("ini option 'handles': use true or false") from None


@pytest.fixture
def handles(request: pytest.FixtureRequest) -> Iterator[Handles]:
    """What this test does with handles: .live, .opened(), .events, .check(), and more."""
    from pytest_safehandle.fixture import tracked

    with tracked(request) as handles:
        yield handles


@pytest.fixture(scope="session")
def handles_session(request: pytest.FixtureRequest) -> Iterator[SessionHandles]:
    """What the whole session does with handles: .live, .opened, .found."""
    from pytest_safehandle.fixture import tracked_session

    with tracked_session(request.config) as handles:
        yield handles
