"""What a search for holders finds."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final, Self

__all__ = ["Chain", "Holders", "Link"]

_LOCAL: Final = re.compile(r"((?:.*, )?local \w+)( of .+)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Link:
    """One step: how the next object is named, and its class."""

    text: str  # "app.CACHE", ".index", "['main']", ", closure pool"
    type: str  # class of the object that the step leads to


@dataclass(frozen=True, slots=True)
class Chain:
    """From a root to the handle's owner."""

    links: tuple[Link, ...]  # the root's first, the handle's last

    @property
    def text(self) -> str:
        """`app.CACHE['main'].index`, `local pool['x'] of main (app.py:3)`."""
        parts, where = [], ""
        for link in self.links:
            local = _LOCAL.fullmatch(link.text)
            if local is not None or link.text.startswith(", "):
                parts.append(where)
                where = ""
            # Where a variable is comes after what is in it.
            parts.append(link.text if local is None else local[1])
            where = where if local is None else local[2]
        return "".join([*parts, where])


@dataclass(frozen=True, slots=True)
class Holders:
    """What holds one handle."""

    serial: int
    chains: tuple[Chain, ...] = ()  # shortest first
    cycle: tuple[str, ...] = ()  # classes, the first again at the end
    cut: str | None = None  # why the search ended early, "after 0.2 s"
    beyond: str | None = None  # what is known when neither chain nor cycle is

    def lines(self) -> Iterator[str]:
        """In words, a line for each thing that holds it; at least one."""
        for chain in self.chains:
            yield chain.text
        if self.cycle:
            arrow = " \N{RIGHTWARDS ARROW} "
            yield f"in a cycle: {arrow.join(self.cycle)}"
        elif self.beyond:
            yield self.beyond
        if self.cut:
            found = "nothing found yet"
            if self.chains or self.beyond:
                found = "more may hold it" if self.chains else "it may stand elsewhere too"
            yield f"(the search was cut {self.cut}: {found})"
        elif not self.chains and not self.cycle and not self.beyond:
            yield "nothing that Python can see"

    def plain(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "serial": self.serial,
            "chains": [[[link.text, link.type] for link in chain.links] for chain in self.chains],
            "cycle": list(self.cycle),
            "cut": self.cut,
            "beyond": self.beyond,
        }

    @classmethod
    def from_plain(cls, plain: dict[str, Any]) -> Self:
        """The reverse of plain().

        Raises:
            KeyError, TypeError, ValueError: it is something else.
        """
        return cls(
            int(plain["serial"]),
            tuple(
                Chain(tuple(Link(str(text), str(type)) for text, type in links))
                for links in plain["chains"]
            ),
            tuple(map(str, plain["cycle"])),
            None if plain["cut"] is None else str(plain["cut"]),
            None if plain["beyond"] is None else str(plain["beyond"]),
        )
