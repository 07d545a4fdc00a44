"""The report as SARIF 2.1.0, for code scanning.

A finding's place is the wrong act; where the handle was opened and, of a
recycled one, where its new owner came from, are related places.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from safehandle_debug.findings import Finding
from safehandle_debug.ledger import Frame, Ledger, site_of

__all__ = ["SCHEMA", "to_sarif"]

SCHEMA: Final = "https://json.schemastore.org/sarif-2.1.0.json"
_FINGERPRINT: Final = "safehandleFingerprint/v1"
_MOST_FRAMES: Final = 50
_BASE: Final = "SRCROOT"

RULES: Final = {
    "leak": "A handle is still open at the end of its scope.",
    "abandoned": "Nobody closed a handle: a finalizer did it.",
    "double-release": "A handle is released or closed again after it was closed.",
    "recycled": "A stale number is used after the system gave it to another handle.",
    "use-after-close": "A closed handle or number is used.",
    "closed-behind-owner": "Somebody else closed a number that an owner still held.",
    "double-owner": "A handle has two owners.",
    "unbalanced": "A reference was added and never released.",
    "release-failed": "A handle could not be given back.",
}


def to_sarif(ledgers: Sequence[Ledger], findings: Sequence[Finding]) -> dict[str, Any]:
    """One SARIF log with one run."""
    roots = dict.fromkeys(ledger.cwd for ledger in ledgers if ledger.cwd)
    root = next(iter(roots), "")
    run: dict[str, Any] = {
        "tool": {
            "driver": {
                "name": "safehandle-debug",
                "semanticVersion": _version(),
                "rules": [
                    {
                        "id": kind,
                        "shortDescription": {"text": text},
                        "defaultConfiguration": {
                            "level": "warning" if kind == "abandoned" else "error"
                        },
                    }
                    for kind, text in RULES.items()
                ],
            }
        },
        "columnKind": "unicodeCodePoints",
        "results": [_result(finding, root) for finding in findings],
    }
    if root:
        run["originalUriBaseIds"] = {_BASE: {"uri": f"{Path(root).as_uri().rstrip('/')}/"}}
    return {"$schema": SCHEMA, "version": "2.1.0", "runs": [run]}


def _result(finding: Finding, root: str) -> dict[str, Any]:
    kinds = list(RULES)
    handle = finding.handle
    result: dict[str, Any] = {
        "ruleId": finding.kind,
        "ruleIndex": kinds.index(finding.kind),
        "level": finding.severity,
        "message": {"text": finding.message},
        "occurrenceCount": finding.count,
        "partialFingerprints": {_FINGERPRINT: finding.fingerprint},
        "properties": {
            "pid": finding.pid,
            "thread": finding.thread,
            "serial": handle.serial,
            "owner": handle.owner,
            "holders": list(finding.holders),
        },
    }
    culprit = site_of(finding.culprit) or handle.site
    if culprit is not None:
        result["locations"] = [_location(culprit, root)]
    related = [("opened here", handle.site)]
    if finding.victim is not None:
        related.append(("its number belongs to what was opened here", finding.victim.site))
    places = [
        {**_location(frame, root), "id": number, "message": {"text": text}}
        for number, (text, frame) in enumerate(related, 1)
        if frame is not None and frame != culprit
    ]
    if places:
        result["relatedLocations"] = places
    stacks = [("the act", finding.culprit), ("opened", handle.opened)]
    told = {
        text: {
            "message": {"text": text},
            "frames": [{"location": _location(each, root)} for each in stack[:_MOST_FRAMES]],
        }
        for text, stack in stacks
        if stack and (text == "the act" or stack != finding.culprit)
    }
    if told:
        result["stacks"] = list(told.values())
    return result


def _location(frame: Frame, root: str) -> dict[str, Any]:
    physical: dict[str, Any] = {"artifactLocation": _artifact(frame.file, root)}
    if frame.line > 0:
        physical["region"] = {"startLine": frame.line}
    return {
        "physicalLocation": physical,
        "logicalLocations": [{"fullyQualifiedName": frame.function, "kind": "function"}],
    }


def _artifact(file: str, root: str) -> dict[str, Any]:
    if root and not os.path.isabs(file) and not file.startswith("<"):
        return {"uri": quote(file), "uriBaseId": _BASE}
    if root and file.startswith(root.rstrip("/") + "/"):
        return {"uri": quote(file[len(root.rstrip("/")) + 1 :]), "uriBaseId": _BASE}
    if os.path.isabs(file):
        return {"uri": Path(file).as_uri()}
    return {"uri": quote(file)}


def _version() -> str:
    try:
        return metadata.version("safehandle-debug")
    except metadata.PackageNotFoundError:
        return "0.0.0"
