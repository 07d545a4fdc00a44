"""Whose frame is it?"""

from __future__ import annotations

import json
import os

import pytest

import safehandle_debug.ledger as ledger_package
from safehandle_debug.ledger import Frame, is_library, is_ours, is_standard, site_of
from safehandle_debug.ledger.sites import place


def frame(file: str, function: str = "f") -> Frame:
    return Frame(file, 1, function)


@pytest.mark.parametrize(
    "file",
    [
        os.path.abspath(ledger_package.__file__),
        "/other/lib/python3.12/site-packages/safehandle_debug/handles/stream.py",
        "/other/lib/python3.12/site-packages/pytest_safehandle/plugin.py",
        "/src/plugins/pytest_safehandle/plugin.py",
        "/src/tui/safehandle_tui/app.py",
    ],
)
def test_ours(file: str) -> None:
    assert is_ours(file)
    assert is_library(file)


@pytest.mark.parametrize(
    "file",
    [
        json.__file__,
        os.__file__,
        "/usr/lib/python3.13/socket.py",
        "/usr/lib64/python3.11/asyncio/base_events.py",
        "/opt/lib/python3.14t/io.py",
        "/usr/lib/python311.zip/os.py",
        "<frozen importlib._bootstrap>",
    ],
)
def test_standard(file: str) -> None:
    assert is_standard(file)
    assert is_library(file)
    assert not is_ours(file)


@pytest.mark.parametrize(
    "file",
    [
        "/venv/lib/python3.11/site-packages/requests/api.py",
        "/usr/lib/python3/dist-packages/apt.py",
    ],
)
def test_installed(file: str) -> None:
    assert is_library(file)
    assert not is_standard(file)


@pytest.mark.parametrize(
    "file",
    [
        __file__,
        "app.py",
        "/srv/app/main.py",
        "<string>",
        "/home/me/safehandle_debug_demo/app.py",
        "/home/me/lib/app.py",
    ],
)
def test_the_programs_own(file: str) -> None:
    assert not is_library(file)
    assert not is_standard(file)
    assert not is_ours(file)


def test_site_skips_wrappers() -> None:
    """The innermost frame that is neither ours nor the standard library's."""
    stream = frame("/x/lib/python3.11/site-packages/safehandle_debug/stream.py")
    stack = (stream, frame(json.__file__), frame("/srv/app.py", "load"), frame("/srv/main.py"))
    site = site_of(stack)
    assert site is not None
    assert site.function == "load"


def test_site_of_an_installed_package() -> None:
    """A library that acquired it is the site: it has to close it."""
    stack = (frame("/v/lib/python3.11/site-packages/pool.py", "get"), frame("/srv/app.py"))
    site = site_of(stack)
    assert site is not None
    assert site.function == "get"


def test_site_without_own_frames() -> None:
    """`python -m http.server` is all standard library: its innermost frame."""
    stack = (frame("/usr/lib/python3.11/http/server.py", "serve"), frame("<frozen runpy>"))
    assert site_of(stack) == stack[0]
    assert site_of(()) is None


def test_places_are_relative_to_the_working_directory() -> None:
    frame = Frame(file="/home/me/app/x.py", line=3, function="f")

    assert place(frame, "/home/me") == "app/x.py:3 f"
    assert place(frame, "/home/m") == "/home/me/app/x.py:3 f"
    assert place(frame, "/") == "home/me/app/x.py:3 f"
    assert place(frame, "") == "/home/me/app/x.py:3 f"
    assert place(None, "/") == "?"
