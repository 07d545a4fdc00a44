"""What all tests share: an environment of their own.

Helpers live in `tests/support`, which pytest puts on the path; fixtures live
in the conftest of their topic.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest


@pytest.fixture(scope="session", autouse=True)
def _nobody_else_watches() -> Iterator[None]:
    """Keeps a developer's own SAFEHANDLE_DEBUG out of the programs that tests start."""
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("SAFEHANDLE_DEBUG")]:
            patch.delenv(name)
        yield


@pytest.fixture(scope="session", autouse=True)
def _signals_do_what_they_do() -> Iterator[None]:
    """Programs started in the background, as tests may be, ignore the keyboard's signals
    and the terminal's; the programs that tests start must not inherit that."""
    as_ever = {
        signal.SIGINT: signal.default_int_handler,
        signal.SIGHUP: signal.SIG_DFL,
        signal.SIGQUIT: signal.SIG_DFL,
        signal.SIGTERM: signal.SIG_DFL,
    }
    found = {
        number: signal.signal(number, action)
        for number, action in as_ever.items()
        if signal.getsignal(number) is signal.SIG_IGN
    }
    yield
    for number, action in found.items():
        signal.signal(number, action)
