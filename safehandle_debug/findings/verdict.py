"""What a rule says of one handle, before it becomes a finding."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from safehandle_debug.findings.model import FindingKind
from safehandle_debug.findings.wording import named, where
from safehandle_debug.ledger import Event, Frame, History


@dataclass(frozen=True, slots=True)
class Verdict:
    """One thing that is wrong with one handle."""

    kind: FindingKind
    message: str  # without the victim
    culprit: tuple[Frame, ...]
    about: Literal["ending", "events"]  # as in ledger.Suspicion
    event: Event | None = None  # the wrong act itself, where there was one
    victim_serial: int | None = None
    victim_follows: bool = False  # the message goes on with the victim's name
    prevented: bool = False

    def sentence(self, victim: History | None, cwd: str) -> str:
        """The message, with the victim where it belongs into it."""
        if not self.victim_follows:
            return self.message
        what = f"another handle (#{self.victim_serial})"
        if victim is not None:
            what = f"{named(victim, value=False)} opened at {where(victim.opened, cwd)}"
        return f"{self.message} {what}" + (
            " (prevented by the quarantine)" if self.prevented else ""
        )
