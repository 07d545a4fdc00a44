"""What all tests share: an environment of their own.

Helpers live in `tests/support`, which pytest puts on the path; fixtures live
in the conftest of their topic.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest


@pytest.fixture(scope="session", autouse=True)
def _nobody_else_watches() -> Iterator[None]:
    """Keeps a developer's own SAFEHANDLE_DEBUG out of the programs that tests start."""
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("SAFEHANDLE_DEBUG")]:
            patch.delenv(name)
        yield
