"""Findings as annotations of GitHub Actions: lines that its log viewer puts
beside the code.

The format is that of workflow commands:
https://docs.github.com/actions/reference/workflow-commands-for-github-actions
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import Any, Final

from pytest_safehandle.groups import Group, grouped
from pytest_safehandle.words import DONE, count

__all__ = ["MOST_ANNOTATIONS", "workflow_commands"]

MOST_ANNOTATIONS: Final = 10  # of one step; GitHub shows no more


def workflow_commands(found: Iterable[Mapping[str, Any]], workspace: str) -> list[str]:
    """One line for equal findings, the most frequent first.

    Args:
        found: findings of tests.
        workspace: absolute path that shown paths are relative to.
    """
    return [_annotation(group, workspace) for group in grouped(found)[:MOST_ANNOTATIONS]]


def _annotation(group: Group, workspace: str) -> str:
    first = group.first
    level = "error" if any(one["severity"] == "error" for one in group.found) else "warning"
    properties = {"title": f"handle {DONE[first['kind']]}"}
    if first["file"]:
        path = os.path.relpath(first["file"], workspace)
        if not path.startswith(os.pardir):
            properties = {"file": path, "line": str(first["line"]), **properties}
    others = len(group.tests) - 1
    more = f" and {count(others, 'other test')}" if others else ""
    message = f"{first['message']}, in {first['test']}{more}"
    listed = ",".join(f"{name}={_property(text)}" for name, text in properties.items())
    return f"::{level} {listed}::{_data(message)}"


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
